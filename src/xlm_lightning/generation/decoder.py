"""Rows of ids that a causal model continues together, one token a step; of a source or of none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from xlm_lightning.model import PAD_ID, XLM
from xlm_lightning.source import Source

EOS_ID = 1
FIRST_WORD_ID = 14  # ids below are special; of these only </s> ever occurs in a stream


class Decoder:
    """The scores of every row's next token, and the way to give it one.

    A text begins after `</s>`, as in training. Prompts end at the same place of the cache: shorter
    ones stand behind padding that no key shows, and count their positions from 0 as if alone. A
    translation is a text that begins with nothing and reads a source.
    """

    def __init__(
        self,
        model: XLM,
        prompts: Sequence[Sequence[int]],
        *,
        language: int,
        max_new_tokens: int | Sequence[int],
        source: Source | None = None,
    ) -> None:
        """Read the prompts (ids without `</s>`, one row each); equal ones are read once.

        `source` has a row for each prompt. `limits` (rows): how many tokens each row may get,
        `max_new_tokens` (of all, or of each) or what the model's positions leave; the last one is
        drawn, never read. `steps` is the largest of them. `empty`: bool (rows,), where there is no
        word yet. Raises `ValueError` for a prompt that leaves no position to draw from.
        """
        self.model = model
        self.device = model.tokens.weight.device
        room = model.max_positions - max(map(len, prompts))
        if room < 1:
            raise ValueError(
                f"a prompt has {model.max_positions - room} tokens and </s> before them, but the "
                f"model has {model.max_positions} positions"
            )
        wished = max_new_tokens
        if isinstance(wished, int):
            wished = [wished] * len(prompts)
        rooms = [model.max_positions - len(prompt) for prompt in prompts]
        self.limits = [min(pair) for pair in zip(wished, rooms, strict=True)]
        self.steps = max(self.limits)
        self.empty = torch.tensor([not prompt for prompt in prompts], device=self.device)
        self._language = torch.tensor([[language]], device=self.device)
        if source is None:
            places: dict[tuple[int, ...], int] = {}
            rows = [places.setdefault(tuple(prompt), len(places)) for prompt in prompts]
            self._read(list(places), None)
            if len(places) < len(rows):
                self.select(torch.tensor(rows, device=self.device))
        else:
            self._read(prompts, source)

    def _read(self, prompts: Sequence[Sequence[int]], source: Source | None) -> None:
        longest = 1 + max(map(len, prompts))
        padded = [[PAD_ID] * (longest - 1 - len(ids)) + [EOS_ID, *ids] for ids in prompts]
        ids = torch.tensor(padded, device=self.device)
        padding = torch.tensor([longest - 1 - len(ids) for ids in prompts], device=self.device)
        unequal = len(set(map(len, prompts))) > 1
        length = longest + self.steps - 1
        self._caches = self.model.new_caches(length, padding if unequal else None)
        rows = torch.arange(len(prompts), device=self.device)
        self._source_of = None if source is None else rows  # which of the sources a row reads
        # Without padding the model counts by itself, and needs no mask.
        self._position = longest - padding[:, None] if unequal else None
        positions = None
        if unequal:
            positions = (torch.arange(longest, device=self.device) - padding[:, None]).clamp_(0)
        self._feed(ids, positions, source)

    def advance(self, ids: Tensor) -> None:
        """Give each row its next token, `ids` (rows,)."""
        positions = self._position
        if positions is not None:
            # A row that is full already is fed with the others, and its tokens are dropped.
            positions = positions.clamp(max=self.model.max_positions - 1)
            self._position = positions + 1
        self._feed(ids[:, None], positions)

    def _feed(self, ids: Tensor, positions: Tensor | None, source: Source | None = None) -> None:
        hidden = self.model(ids, self._language, self._caches, positions=positions, source=source)
        self.scores = self.model.logits(hidden[:, -1]).float()  # (rows, vocabulary)

    def select(self, rows: Tensor) -> None:
        """Go on with these rows (int64) in this order; one may come several times."""
        for cache in self._caches:
            cache.select(rows)
        self.scores = self.scores[rows]
        if self._position is not None:
            self._position = self._position[rows]
        if self._source_of is not None:
            self._select_sources(self._source_of[rows])

    def _select_sources(self, wanted: Tensor) -> None:
        """Go on with the sources that the rows want, `wanted` (rows,).

        The beams of a search stand side by side and share theirs; as long as no search ends, a
        step of them copies none.
        """
        kept = wanted[F.pad(wanted.diff() != 0, (1, 0), value=True)]
        if not torch.equal(kept.repeat_interleave(len(wanted) // len(kept)), wanted):
            kept = wanted  # not as many rows for each: a copy for each row
        places = torch.arange(len(kept), device=self.device)
        for cache in self._caches:
            assert cache.source is not None
            if len(cache.source.mask) != len(kept) or not torch.equal(kept, places):
                cache.source.select(kept)
        self._source_of = places.repeat_interleave(len(wanted) // len(kept))


def forbid(scores: Tensor, empty: Tensor | None) -> Tensor:
    """Set to -inf, in place, what never continues a text in `scores` (rows, vocabulary).

    That is every special id but `</s>`, which never occur in a stream, and `</s>` itself in the
    rows `empty` (bool): a text without a word (a blank line, the end of a document).
    """
    scores[:, :EOS_ID] = -torch.inf
    scores[:, EOS_ID + 1 : FIRST_WORD_ID] = -torch.inf
    if empty is not None:
        scores[:, EOS_ID].masked_fill_(empty, -torch.inf)
    return scores
