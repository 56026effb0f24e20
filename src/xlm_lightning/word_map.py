"""The most frequent words of each language as places in the plane, from a model's embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch

from xlm_lightning.text.bpe import CONTINUED
from xlm_lightning.text.vocabulary import SPECIALS, Vocabulary

WORDS = 300  # a language


def word_map(
    embeddings: torch.Tensor,
    vocabulary: Vocabulary,
    counts: Mapping[str, np.ndarray[Any, Any]],
) -> dict[str, Any]:
    """Return the two main components of the embeddings of frequent words, in plain containers.

    `embeddings` (vocabulary, dim); `counts`: language -> how often each id stands in a text. A word
    belongs to the language that uses it more often in as much text; pieces of words, and what has
    no letter, are left out. Empty where fewer than three words are left.
    """
    share = np.stack([count / max(count.sum(), 1) for count in counts.values()])
    owner = share.argmax(axis=0)  # share: (languages, vocabulary)
    chosen = []
    for index, (name, count) in enumerate(counts.items()):
        ranked = np.argsort(-share[index], kind="stable").tolist()
        own = (
            i for i in ranked if count[i] and owner[i] == index and _is_word(vocabulary.token(i))
        )
        chosen += [(i, name, int(count[i])) for i in islice(own, WORDS)]
    if len(chosen) < 3:
        return {}
    places, explained = _main_components(embeddings.detach()[[i for i, _, _ in chosen]])
    return {
        "explained": [round(part, 4) for part in explained],
        "words": [
            {
                "word": vocabulary.token(i),
                "language": name,
                "count": count,
                "x": round(x, 4),
                "y": round(y, 4),
            }
            for (i, name, count), (x, y) in zip(chosen, places, strict=True)
        ],
    }


def _is_word(piece: str) -> bool:
    is_whole = piece not in SPECIALS and not piece.endswith(CONTINUED)
    return is_whole and any(letter.isalpha() for letter in piece)


def _main_components(rows: torch.Tensor) -> tuple[list[list[float]], list[float]]:
    """Places (words, 2) and the share of the variance along each axis; signs are settled."""
    rows = rows.double().cpu()
    rows = rows - rows.mean(0)
    _, sizes, directions = torch.linalg.svd(rows, full_matrices=False)
    directions = directions[:2]
    # the sign of a component means nothing: let its largest weight be positive, always
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    variances = sizes**2
    explained: list[float] = (variances[:2] / variances.sum()).tolist()
    places: list[list[float]] = (rows @ (directions * largest.sign()).T).tolist()
    return places, explained
