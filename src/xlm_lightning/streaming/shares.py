"""How much of each language's text a run is trained on: the first blocks of each of its shards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from xlm_lightning.errors import UserError, did_you_mean


class Shares:
    """Language -> share of its blocks; all of them where it is not named."""

    def __init__(self, given: Mapping[str, float], languages: Sequence[str]) -> None:
        """Raise `UserError` for a language that is none of `languages`, and where none is left."""
        for language in given:
            if language not in languages:
                raise UserError(
                    f"data.shares.{language}: the languages are {', '.join(languages)}."
                    + did_you_mean(language, languages)
                )
        if all(given.get(language) == 0 for language in languages):
            raise UserError("data.shares: every language is left out; give one of them a share")
        self.partial = {name: share for name, share in sorted(given.items()) if share != 1}

    def leaves_out(self, language: str) -> bool:
        """Whether nothing of a language is read: it is not trained on, and not scored."""
        return self.partial.get(language) == 0

    def of(self, language: str, blocks: int) -> int:
        """How many of the blocks of a shard; one at least, but for a language that is left out."""
        return math.ceil(blocks * self.partial.get(language, 1))
