"""The shards of a mirror that training reads now and next, fetched in the background.

A plan goes through the shards of each language in windows. While one is read, the next is fetched
by a thread of the process that reads, a worker where there are workers; the processes of a machine
share the fetching out, since none waits for what another has begun.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from typing import Any

from xlm_lightning.errors import UserError
from xlm_lightning.streaming.mirror import Mirror
from xlm_lightning.streaming.plan import Plan, Slot
from xlm_lightning.streaming.shard_cache import NoRoomError
from xlm_lightning.streaming.shards import TokenShards
from xlm_lightning.streaming.turns import MT, TLM, TRANSLATION

SCORED_PAIRS = (TLM, *TRANSLATION)  # objectives whose figures are those of parallel text
LOOK_AGAIN_SECONDS = 1.0  # for shards that other processes were fetching, or that had no room


def fetch_at_start(mirror: Mirror, plan: Plan, objectives: Sequence[str]) -> None:
    """Fetch what is scored, and parallel text: it is grouped by length before training begins.

    Sentences (ae, bt) are read as blocks are, from shards in windows, and scored as translations.

    Raises `UserError` unless the windows that are read at the same time fit into the cache as well:
    those of two places in a language's text, where one rank is a little behind another.
    """
    manifest = mirror.manifest
    read = [
        (split, parallel)
        for split in manifest.splits
        for objective in objectives
        for parallel in [objective in (TLM, MT) if split == "train" else objective in SCORED_PAIRS]
        if split != "train" or parallel
    ]
    names = [
        name for split, parallel in read for name in manifest.read_files(split, parallel=parallel)
    ]
    places = 2 * sum(objective not in (TLM, MT) for objective in objectives)
    windows = [
        sorted(shard.bytes for shard in shards)[-places * plan.window_shards :]
        for shards in manifest.splits["train"].values()
        if places
    ]
    mirror.fetch_at_start(list(dict.fromkeys(names)), sum(map(sum, windows)))


class ReadAhead:
    """Told of each slot before it is read."""

    def __init__(self, shards: TokenShards, mirror: Mirror) -> None:
        self._shards = shards
        self._mirror = mirror
        # Objectives go through the same text, each at its own place: objective -> language -> names
        self._now: dict[str, dict[str, set[str]]] = {}
        self._next: dict[str, dict[str, set[str]]] = {}
        self._wanted: list[str] = []
        self._changed = threading.Event()
        self._process = 0  # in which the thread runs

    def __getstate__(self) -> dict[str, Any]:
        """A thread and what it waits for belong to one process."""
        return {**self.__dict__, "_changed": None, "_process": 0}

    def reaches(self, objective: str, plan: Plan, number: int, slot: Slot) -> None:
        """Close the shards of windows that are over, and fetch those of the next ones."""
        language = plan.languages[slot.language]
        here = {self._shards.name(language, shard) for shard in set(slot.shard.tolist())}
        if objective in self._now and here <= self._now[objective][language]:
            return
        now, later = self._now.setdefault(objective, {}), self._next.setdefault(objective, {})
        for name, (window, following) in plan.windows(number).items():
            now[name] = {self._shards.name(name, shard) for shard in window.tolist()}
            later[name] = {self._shards.name(name, shard) for shard in following.tolist()}
        self._mirror.needed = frozenset(_all(self._now))
        self._shards.keep(self._mirror.needed)
        self._wanted = [*_all({objective: now}), *_all(self._next)]
        self._start()
        self._changed.set()

    def _start(self) -> None:
        if self._process != os.getpid():
            self._process, self._changed = os.getpid(), threading.Event()
            threading.Thread(target=self._fetch_for_ever, daemon=True).start()

    def _fetch_for_ever(self) -> None:
        given_up: set[str] = set()  # who reads such a shard tries once more, and tells the user
        while True:
            if self._changed.is_set():
                given_up.clear()
            self._changed.clear()
            wanted = [name for name in dict.fromkeys(self._wanted) if name not in given_up]
            missing = [name for name in wanted if not self._mirror.has(name)]
            for name in missing:
                if self._changed.is_set():
                    break
                try:
                    with contextlib.suppress(NoRoomError):
                        self._mirror.fetch_ahead(name, frozenset(wanted))
                except (UserError, OSError):
                    given_up.add(name)
            self._changed.wait(LOOK_AGAIN_SECONDS if missing else None)


def _all(windows: dict[str, dict[str, set[str]]]) -> list[str]:
    """All shards of all languages and objectives, in an order that does not vary."""
    return [
        name
        for languages in windows.values()
        for names in languages.values()
        for name in sorted(names)
    ]
