"""Rows of ids that a model continues together, one token a step: of a prompt, or of a source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from xlm_lightning.layers import Source
from xlm_lightning.model import PAD_ID, XLM
from xlm_lightning.translator import Translator

EOS_ID = 1
FIRST_WORD_ID = 14  # ids below are special; of these only </s> ever occurs in a stream


class Rows(Protocol):
    """The scores of every row's next token, and the way to give it one."""

    device: torch.device
    limits: list[int]  # how many tokens each row may get; the last one is drawn, never read
    steps: int  # the largest of them
    scores: Tensor  # (rows, vocabulary)

    def advance(self, ids: Tensor) -> None:
        """Give each row its next token, `ids` (rows,)."""

    def select(self, rows: Tensor) -> None:
        """Go on with these rows (int64) in this order; one may come several times."""


class Decoder:
    """The scores of every row's next token, and the way to give it one.

    A text begins after `</s>`, as in training. Prompts end at the same place of the cache: shorter
    ones stand behind padding that no key shows, and count their positions from 0 as if alone.
    """

    def __init__(
        self,
        model: XLM,
        prompts: Sequence[Sequence[int]],
        *,
        language: int,
        max_new_tokens: int,
    ) -> None:
        """Read the prompts (ids without `</s>`, one row each); equal ones are read once.

        `limits` (rows): how many tokens each row may get, `max_new_tokens` or what the model's
        positions leave; the last one is drawn, never read. `steps` is the largest of them. Raises
        `ValueError` for a prompt that leaves no position to draw from.
        """
        self.model = model
        self.device = model.tokens.weight.device
        room = model.max_positions - max(map(len, prompts))
        if room < 1:
            raise ValueError(
                f"a prompt has {model.max_positions - room} tokens and </s> before them, but the "
                f"model has {model.max_positions} positions"
            )
        self.limits = [min(max_new_tokens, model.max_positions - len(p)) for p in prompts]
        self.steps = max(self.limits)
        self._language = torch.tensor([[language]], device=self.device)
        self._read(prompts)

    def _read(self, prompts: Sequence[Sequence[int]]) -> None:
        places: dict[tuple[int, ...], int] = {}
        rows = [places.setdefault(tuple(prompt), len(places)) for prompt in prompts]
        longest = 1 + max(map(len, places))
        padded = [[PAD_ID] * (longest - 1 - len(ids)) + [EOS_ID, *ids] for ids in places]
        ids = torch.tensor(padded, device=self.device)
        padding = torch.tensor([longest - 1 - len(ids) for ids in places], device=self.device)
        unequal = len(set(map(len, places))) > 1
        length = longest + self.steps - 1
        self._caches = self.model.new_caches(len(places), length, padding if unequal else None)
        # Without padding the model counts by itself, and needs no mask.
        self._position = longest - padding[:, None] if unequal else None
        positions = None
        if unequal:
            positions = (torch.arange(longest, device=self.device) - padding[:, None]).clamp_(0)
        self._feed(ids, positions)
        if len(places) < len(rows):
            self.select(torch.tensor(rows, device=self.device))

    def advance(self, ids: Tensor) -> None:
        """Give each row its next token, `ids` (rows,)."""
        positions = self._position
        if positions is not None:
            # A row that is full already is fed with the others, and its tokens are dropped.
            positions = positions.clamp(max=self.model.max_positions - 1)
            self._position = positions + 1
        self._feed(ids[:, None], positions)

    def _feed(self, ids: Tensor, positions: Tensor | None) -> None:
        hidden = self.model(ids, self._language, self._caches, positions=positions)
        self.scores = self.model.logits(hidden[:, -1]).float()  # (rows, vocabulary)

    def select(self, rows: Tensor) -> None:
        """Go on with these rows (int64) in this order; one may come several times."""
        for cache in self._caches:
            cache.select(rows)
        self.scores = self.scores[rows]
        if self._position is not None:
            self._position = self._position[rows]


class SourceDecoder:
    """The translations of sources, each from its `</s>`; rows of one source stand together."""

    def __init__(
        self, model: Translator, source: Source, *, language: int, limits: Sequence[int]
    ) -> None:
        """`limits`: tokens of each row at most, `</s>` included; cut to the model's positions."""
        self.device = source.hidden.device
        self.limits = [min(limit, model.max_positions) for limit in limits]
        self.steps = max(self.limits)
        self._model = model
        self._source = source
        self._language = torch.tensor([[language]], device=self.device)
        self._caches = model.decoder.new_caches(len(limits), self.steps)
        self.advance(torch.full((len(limits),), EOS_ID, device=self.device))

    def advance(self, ids: Tensor) -> None:
        """Give each row its next token, `ids` (rows,)."""
        decoder = self._model.decoder
        hidden = decoder(ids[:, None], self._language, self._caches, source=self._source)
        self.scores = decoder.logits(hidden[:, -1]).float()  # (rows, vocabulary)

    def select(self, rows: Tensor) -> None:
        """Go on with these rows (int64) in this order; one may come several times."""
        for cache in self._caches:
            cache.select(rows)
        self.scores = self.scores[rows]


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
