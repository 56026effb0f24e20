"""How probable a model finds sentences: whole ones, or which of two it would rather say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xlm_lightning.cross_entropy import IGNORED
from xlm_lightning.model import PAD_ID, XLM
from xlm_lightning.objectives import predictions
from xlm_lightning.perplexity import score_tokens
from xlm_lightning.streaming.turns import CLM
from xlm_lightning.text.vocabulary import MASK

ROWS = 64  # that a model is given at once
Ids = Sequence[int]


def padded(
    sequences: Sequence[Ids], device: torch.device | str = "cpu", fill: int = PAD_ID
) -> Tensor:
    """Return (sequences, longest) int64, shorter ones filled up behind."""
    rows = torch.full((len(sequences), max(map(len, sequences))), fill)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = torch.tensor(sequence)
    return rows.to(device)


def score_sequences(model: XLM, sequences: Sequence[Ids], language: int) -> tuple[list[float], int]:
    """-ln p in nats of each sequence after its first token, and all tokens that were guessed.

    For a causal model. Shorter sequences are padded behind, where it does not look.
    """
    device = model.tokens.weight.device
    tokens = padded([sequence[:-1] for sequence in sequences], device)
    targets = padded([sequence[1:] for sequence in sequences], device, IGNORED)
    batch = {"tokens": tokens, "targets": targets, "language": language, "objective": CLM}
    nll, hits = score_tokens(model, *predictions(model, batch))
    per_row = torch.zeros(targets.shape, dtype=nll.dtype, device=device)
    per_row[targets != IGNORED] = nll
    return per_row.sum(1).tolist(), int(hits.sum())


def log_odds(
    model: XLM, pairs: Sequence[tuple[Ids, Ids]], language: int, *, causal: bool
) -> NDArray[np.float64]:
    """ln p(first) - ln p(second) of sentences that differ in one stretch of tokens, (pairs,).

    A causal model is asked for the whole sentences, from `</s>` to `</s>`. A masked one is asked
    for the tokens in which they differ, each from the rest of its sentence and the differing tokens
    before it; those after it are hidden (chain rule; Kauf & Ivanova 2023 say why not singly).
    """
    if causal:
        whole = [sequence for pair in pairs for sequence in pair]
        nll = np.empty(len(whole))
        for numbers in _batches([len(sequence) for sequence in whole]):
            nll[numbers] = score_sequences(model, [whole[n] for n in numbers], language)[0]
    else:
        nll = _score_differences(model, pairs, language)
    ratios: NDArray[np.float64] = nll[1::2] - nll[::2]
    return ratios


def _score_differences(
    model: XLM, pairs: Sequence[tuple[Ids, Ids]], language: int
) -> NDArray[np.float64]:
    """-ln p of the differing tokens of each sentence, (2 * pairs,)."""
    device = model.tokens.weight.device
    sentences, inputs, places, targets = [], [], [], []
    for number, pair in enumerate(pairs):
        for side, (sequence, (start, stop)) in enumerate(zip(pair, differing(*pair), strict=True)):
            for place in range(start, stop):
                sentences.append(2 * number + side)
                inputs.append([*sequence[:place], *[MASK] * (stop - place), *sequence[stop:]])
                places.append(place)
                targets.append(sequence[place])
    total = np.zeros(2 * len(pairs))
    for numbers in _batches([len(sequence) for sequence in inputs]):
        rows = [inputs[n] for n in numbers]
        lengths = torch.tensor([len(row) for row in rows], device=device)
        where = torch.tensor([[language]], device=device)
        with torch.no_grad():
            hidden = model(padded(rows, device), where, causal=False, lengths=lengths)
        asked = hidden[range(len(rows)), [places[n] for n in numbers]]
        wanted = torch.tensor([targets[n] for n in numbers], device=device)
        nll, _ = score_tokens(model, asked, wanted)
        np.add.at(total, [sentences[n] for n in numbers], nll.cpu().numpy())
    return total


def differing(first: Ids, second: Ids) -> tuple[tuple[int, int], tuple[int, int]]:
    """The stretch of each sequence outside of what both begin and end with, never empty."""
    shorter = min(len(first), len(second)) - 1
    start = 0
    while start < shorter and first[start] == second[start]:
        start += 1
    same = 0
    while same < shorter - start and first[-1 - same] == second[-1 - same]:
        same += 1
    return (start, len(first) - same), (start, len(second) - same)


def _batches(lengths: Sequence[int]) -> Iterable[list[int]]:
    """Numbers of sequences of like length, a batch at a time."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in range(0, len(order), ROWS):
        yield order[start : start + ROWS]
