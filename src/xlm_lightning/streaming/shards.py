"""Reading the shards of a split: memory-mapped, so the system's page cache is the only buffer."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlm_lightning.errors import UserError
from xlm_lightning.manifest import Manifest, Shard
from xlm_lightning.streaming.mirror import Mirror
from xlm_lightning.streaming.shares import Shares

Tokens = NDArray[np.uint16]


class TokenShards:
    """The token ids of one split, cut into blocks of `stream_length`.

    Files are opened at the first read, hence once in each worker process. A language id is the
    index in the alphabetical list of the train languages.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        stream_length: int,
        manifest: Manifest | None = None,
        mirror: Mirror | None = None,
        shares: Shares | None = None,
    ) -> None:
        """Check that the files of `folder` are those of its manifest (given when already read).

        `mirror`: brings the files of a folder that is one, when they are first read. `shares`: a
        language that they leave out is absent, and of others there are fewer `blocks`. Raises
        `UserError` naming the file that is missing, truncated or not in the manifest.
        """
        self.folder = folder
        self.mirror = mirror
        self.split = split
        self.stream_length = stream_length
        manifest = manifest or Manifest.load(folder)
        if split not in manifest.splits:
            raise UserError(
                f"{folder} has no {split} split (it has {', '.join(sorted(manifest.splits))}); "
                f"prepare the corpus again with corpus.{split}.LANGUAGE=FILE"
            )
        self.languages = manifest.languages
        self._vocab_size = manifest.vocab_size
        self._shares = shares or Shares({}, manifest.languages)
        self._shards = {
            language: shards
            for language, shards in manifest.splits[split].items()
            if not self._shares.leaves_out(language)
        }
        self._known = {shard.name for shard in manifest.shards()}  # of parallel text, too
        self._maps: dict[str, Tokens] = {}
        self._refuse_unknown_languages()
        if mirror is None:
            self._refuse_extra_files()

    @property
    def names(self) -> list[str]:
        """All files of the split that are here, relative to the prepared folder."""
        names = [shard.name for shards in self._shards.values() for shard in shards]
        if self.mirror is None:
            return names
        present = self._present()
        return [name for name in names if name in present and self.mirror.has(name)]

    def name(self, language: str, shard: int) -> str:
        """Name of a shard that a `Plan` calls by its number."""
        return self._shards[language][shard].name

    def blocks(self) -> dict[str, list[int]]:
        """Whole blocks of each shard of each language: what a `Plan` is made of.

        Raises `UserError` naming a shard that is shorter than one block.
        """
        return {
            language: [
                self._shares.of(language, self._blocks_of(shard))
                for shard in self._shards.get(language, [])
            ]
            for language in self.languages
        }

    def sizes(self) -> dict[str, list[int]]:
        """Tokens of each shard of each language, as far as they are trained on."""
        return {
            language: [
                self._shares.of(language, shard.tokens) for shard in self._shards.get(language, [])
            ]
            for language in self.languages
        }

    def length(self, language: str) -> int:
        """Real tokens of `language`; 0 for a language that the split does not have."""
        return sum(shard.tokens for shard in self._shards.get(language, []))

    def read(self, language: int, shard: NDArray[Any], block: NDArray[Any]) -> Tokens:
        """Copy block `block[i]` of shard `shard[i]` into row i: uint16 (batch, time)."""
        shards = self._shards[self.languages[language]]
        length = self.stream_length
        tokens = np.empty((len(shard), length), np.uint16)
        for row, (index, start) in enumerate(
            zip(shard.tolist(), (block * length).tolist(), strict=True)
        ):
            tokens[row] = self._map(shards[index].name)[start : start + length]
        return tokens

    def read_part(self, language: int, shard: int, start: int, stop: int) -> Tokens:
        """Real tokens `start` to `stop` of one shard, as they lie in the map."""
        one = self._shards[self.languages[language]][shard]
        return self._map(one.name)[start : min(stop, one.tokens)]

    def read_span(self, language: str, start: int, stop: int) -> Tokens:
        """Copy the real tokens `start` to `stop` of a language, its shards taken as one text."""
        parts = []
        for shard in self._shards[language]:
            if start < shard.tokens and stop > 0:
                parts.append(self._map(shard.name)[max(start, 0) : min(stop, shard.tokens)])
            start -= shard.tokens
            stop -= shard.tokens
        return np.concatenate(parts)

    def counts(self, language: str, max_tokens: int) -> NDArray[np.int64]:
        """How often each id stands in the first `max_tokens` of a language: (vocabulary,)."""
        tokens = min(self.length(language), max_tokens)
        ids = self.read_span(language, 0, tokens) if tokens else np.zeros(0, np.uint16)
        return np.bincount(ids, minlength=self._vocab_size)

    def check(self, name: str) -> None:
        """Compare a shard with the hash in the manifest and its ids with the vocabulary's size.

        All shards are checked by `xlm-prepare verify=DIR`; a start of training checks one of them.
        """
        (shard,) = (s for shards in self._shards.values() for s in shards if s.name == name)
        path = self.folder / name
        with self._open(name) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            largest = int(np.memmap(file, "<u2", "r").max(initial=0))
        if digest != shard.sha256:
            cure = "restore it or prepare the corpus again"
            cure = cure if self.mirror is None else "remove it, and it will be fetched again"
            raise UserError(
                f"{path} is damaged: its sha256 is {digest[:12]}... instead of "
                f"{shard.sha256[:12]}...; {cure}"
            )
        if largest >= self._vocab_size:
            raise UserError(
                f"{path} holds token id {largest}, but the vocabulary ends at "
                f"{self._vocab_size - 1}; prepare the corpus again"
            )

    def keep(self, names: Collection[str]) -> None:
        """Close all files but `names`."""
        self._maps = {name: tokens for name, tokens in self._maps.items() if name in names}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the maps behind: a spawned worker would get copies of whole files."""
        return {**self.__dict__, "_maps": {}}

    def _map(self, name: str) -> Tokens:
        if name not in self._maps:
            # A plain array over the map: each slice of a memmap costs 1-2 us more. The map keeps a
            # descriptor of its own, and with it the lock under which a mirror opens a shard.
            with self._open(name) as file:
                self._maps[name] = np.asarray(np.memmap(file, "<u2", "r"))
        return self._maps[name]

    def _open(self, name: str) -> BufferedReader:
        return (self.folder / name).open("rb") if self.mirror is None else self.mirror.open(name)

    def _blocks_of(self, shard: Shard) -> int:
        blocks = shard.tokens // self.stream_length
        if blocks == 0:
            raise UserError(
                f"{self.folder / shard.name} has {shard.tokens} tokens, fewer than one block of "
                f"data.stream_length={self.stream_length}; use more text or a shorter stream_length"
            )
        return blocks

    def _present(self) -> set[str]:
        return {f"{self.split}/{path.name}" for path in (self.folder / self.split).glob("*.bin")}

    def _refuse_unknown_languages(self) -> None:
        for language in sorted(set(self._shards) - set(self.languages)):
            raise UserError(
                f"{self.folder}: the {self.split} split has language {language!r}, which the train "
                f"split lacks ({', '.join(self.languages)}); prepare the corpus again"
            )

    def _refuse_extra_files(self) -> None:
        for name in sorted(self._present() - self._known):
            raise UserError(
                f"{self.folder / name} is not in the manifest; remove the file or prepare the "
                "corpus again"
            )
