"""The lines of text in one language as sentences, in batches of like length.

A sentence is what stands between two `</s>`; a blank line, which is a lone `</s>`, is none. A shard
is cut into windows of tokens, and the sentences that begin in a window make up batches of about as
many tokens. How many batches a shard has follows from its size alone: a start reads no text, and a
`Plan` visits batches as it visits blocks. The sentences of a window are looked for when one of its
batches is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xlm_lightning.errors import UserError
from xlm_lightning.streaming.philox import SENTENCES, Indices, permutation
from xlm_lightning.streaming.plan import Recent
from xlm_lightning.streaming.rows import EOS, PAD, Rows
from xlm_lightning.streaming.shards import TokenShards

WINDOW = 65536  # tokens whose sentences are sorted by length together
TEXT_SHARE = 0.8  # of a batch; the rest is for the first </s> of each row, padding and uneven cuts
BALANCING = 4  # rounds; measured: the largest batch is 3 % above the mean then, 22 % after one
REMEMBERED = 64  # windows, of some 50 kB; a plan mixes those of four shards, 1,000 of large ones


@dataclass(frozen=True)
class _Batches:
    """The sentences of a window, by length, and where one batch ends and the next begins."""

    starts: Indices  # (sentences,) place of the first token in the shard
    lengths: Indices  # (sentences,) tokens, </s> left out
    cuts: Indices  # (batches + 1,)


class SentenceBatches:
    """All batches of a split: what a `Plan` calls blocks, in the shards that it calls shards."""

    def __init__(self, shards: TokenShards, seed: int, *, max_tokens: int, max_length: int) -> None:
        """`max_tokens` of a batch, padding included; about, since the text is not read before.

        Sentences of more than `max_length` tokens are left out.
        """
        self.shards = shards
        self.max_length = max_length
        self._text_tokens = max(1, int(TEXT_SHARE * max_tokens))  # of a batch
        self._per_window = -(-WINDOW // self._text_tokens)  # but for the last one of a shard
        self._seed = seed
        self._sizes = shards.sizes()
        self._windows = Recent[_Batches](REMEMBERED)

    def blocks(self) -> dict[str, list[int]]:
        """Batches of each shard of each language."""
        return {
            language: [
                (_windows(size) - 1) * self._per_window + self._count(size, _windows(size) - 1)
                for size in sizes
            ]
            for language, sizes in self._sizes.items()
        }

    def read(self, language: int, shard: int, batch: int) -> Rows:
        """The sentences of one batch."""
        size = self._sizes[self.shards.languages[language]][shard]
        window = min(batch // self._per_window, _windows(size) - 1)
        batches = self._windows.get(
            (language, shard, window), lambda: self._batches_of(language, shard, window)
        )
        number = batch - window * self._per_window
        chosen = slice(int(batches.cuts[number]), int(batches.cuts[number + 1]))
        return self._rows(language, shard, batches.starts[chosen], batches.lengths[chosen])

    def _count(self, size: int, window: int) -> int:
        """Batches of a window."""
        start, stop = _span(size, window)
        return -(-(stop - start) // self._text_tokens)

    def _batches_of(self, language: int, shard: int, window: int) -> _Batches:
        """Sort the sentences of a window by length, and share them out.

        A window without any (a long table, say) repeats those of the next one that has some: its
        number of batches was fixed before its text was read, and a long run should not end for it.
        """
        size = self._sizes[self.shards.languages[language]][shard]
        windows = _windows(size)
        for step in range(windows):
            starts, lengths = self._find(language, shard, *_span(size, (window + step) % windows))
            if len(starts):
                break
        else:
            name = self.shards.name(self.shards.languages[language], shard)
            raise UserError(
                f"{name}: no line has 1 to data.sentence_max_length={self.max_length} tokens; "
                "raise it, or prepare the corpus again from lines that are sentences"
            )
        order = permutation(len(starts), self._seed, SENTENCES, language, shard, window)
        order = order[np.argsort(lengths[order], kind="stable")]
        cuts, order = _cut(lengths, order, self._count(size, window))
        return _Batches(starts[order], lengths[order], cuts)

    def _find(self, language: int, shard: int, start: int, stop: int) -> tuple[Indices, Indices]:
        """Starts and lengths of the sentences that begin from `start` to `stop` in a shard.

        The last one may end beyond, in the shard; one that the end of the shard cuts off is none.
        """
        before = max(start - 1, 0)
        text = self.shards.read_part(language, shard, before, stop + self.max_length)
        ends = before + np.flatnonzero(text == EOS)
        if start == 0:
            ends = np.concatenate([[-1], ends])  # a shard begins with a line
        starts, lengths = ends[:-1] + 1, np.diff(ends) - 1
        usable = (starts < stop) & (lengths > 0) & (lengths <= self.max_length)
        return starts[usable], lengths[usable]

    def _rows(self, language: int, shard: int, starts: Indices, lengths: Indices) -> Rows:
        first, last = int(starts.min()), int((starts + lengths).max())
        text = self.shards.read_part(language, shard, first, last + 1)
        places = np.arange(int(lengths.max()) + 1)  # from the first token to </s>
        index = np.minimum(starts[:, None] - first + places, len(text) - 1)
        tokens = np.full((len(starts), len(places) + 1), EOS, np.uint16)
        tokens[:, 1:] = np.where(places <= lengths[:, None], text[index], PAD)
        return Rows(tokens, lengths + 2)


def _windows(size: int) -> int:
    """Windows of a shard of `size` tokens."""
    return max(1, size // WINDOW)


def _span(size: int, window: int) -> tuple[int, int]:
    """Where a window begins and ends; the last one of a shard takes in what is left.

    So a few tokens at a shard's end, in which no sentence may begin, are no window of their own.
    """
    is_last = window == _windows(size) - 1
    return window * WINDOW, size if is_last else (window + 1) * WINDOW


def _cut(lengths: Indices, order: Indices, count: int) -> tuple[Indices, Indices]:
    """Cut sentences that come in `order`, by length, into `count` batches of about equal size.

    Returns (count + 1,) places in the order, and the order. No batch is empty: with fewer
    sentences than batches, some are in two. Batches that are equal in tokens differ in padding,
    most of all the one with the longest sentence; so they are cut again by what each row took up.
    """
    if len(order) <= count:
        return np.arange(count + 1), np.resize(order, count)
    batches = np.arange(count + 1)
    rows = lengths[order] + 2  # with both </s>
    takes = rows
    for _ in range(BALANCING):
        ends = np.cumsum(takes)
        cuts = np.searchsorted(ends, batches * ends[-1] / count, side="right")
        cuts = batches + np.maximum.accumulate(cuts - batches)  # one at least in the first ones
        cuts = np.minimum(cuts, len(order) - count + batches)  # and in the last ones
        takes = np.repeat(rows[cuts[1:] - 1], np.diff(cuts))  # as long as the longest beside it
    return cuts, order
