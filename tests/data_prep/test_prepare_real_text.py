"""Real text in four languages: the ids in the shards are those of the plain chain, line by line."""

from __future__ import annotations
