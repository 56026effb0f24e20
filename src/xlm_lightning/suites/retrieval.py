"""Sentence retrieval: is the nearest of many sentences of the other language the translation?

A name or a number that both sentences share may be all it takes. So the same is asked of copies in
which such words are hidden, with one mask for each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from xlm_lightning.streaming.pairs import PairShards
from xlm_lightning.streaming.philox import RETRIEVAL, permutation
from xlm_lightning.suites.layers import sentence_vectors
from xlm_lightning.suites.results import Findings, Measurement, share
from xlm_lightning.suites.subject import Subject
from xlm_lightning.text.bpe import CONTINUED
from xlm_lightning.text.vocabulary import EOS, MASK, Vocabulary

FEWEST = 20  # sentences
MASKED = ", names and digits masked"
SentencePair = tuple[list[int], list[int]]  # each from `</s>` to `</s>`
_METHOD = (
    "The mean of a sentence's hidden states against those of {count} sentences of the other "
    "language, its translation among them; a hit if that has the largest cosine. Layer 0 is the "
    "embeddings. Masked: words that both sentences share, names, and words with digits are hidden."
)


def add_sentence_retrieval(
    subject: Subject, text: PairShards, names: Collection[str], count: int, found: Findings
) -> None:
    """Every layer, both directions, for each pair of languages with parallel text."""
    for number, name in enumerate(text.pairs):
        plain, masked = draw_pairs(text, number, subject, names, count)
        if len(plain) < FEWEST:
            found.limits.append(
                f"Sentence retrieval {name}: only {len(plain)} pairs of sentences that differ; no "
                f"figure is given for fewer than {FEWEST}."
            )
            continue
        found.tests.append(_measure(subject, name, plain, masked))


def draw_pairs(
    text: PairShards, number: int, subject: Subject, names: Collection[str], count: int
) -> tuple[list[SentencePair], list[SentencePair]]:
    """At most `count` pairs, drawn by the seed, and their masked copies.

    No sentence, masked or not, comes twice in a language: there would be two right answers.
    """
    plain: list[SentencePair] = []
    masked: list[SentencePair] = []
    seen: set[tuple[int, ...]] = set()
    for line in permutation(text.lines(number), subject.seed, RETRIEVAL, number).tolist():
        first, second = ([EOS, *side] for side in text.sentences(number, line))
        hidden = mask_shared(first, second, names, subject.vocabulary)
        versions = [(side, *ids) for pair in ((first, second), hidden)
                    for side, ids in enumerate(pair)]  # fmt: skip
        readable = subject.can_read(first) and subject.can_read(second)
        empty = any(set(ids) <= {EOS, MASK} for ids in hidden)
        if not readable or empty or seen.intersection(versions):
            continue
        seen.update(versions)
        plain.append((first, second))
        masked.append(hidden)
        if len(plain) == count:
            break
    return plain, masked


def mask_shared(
    first: Sequence[int], second: Sequence[int], names: Collection[str], vocabulary: Vocabulary
) -> SentencePair:
    """Both sentences with one mask for each word that is a name, has a digit, or is in both."""
    sides = [list(_words(ids, vocabulary)) for ids in (first, second)]
    shared = set.intersection(*({word.casefold() for word, _ in side} for side in sides))

    def hide(words: list[tuple[str, list[int]]]) -> list[int]:
        ids: list[int] = []
        for word, pieces in words:
            tells = word in names or word.casefold() in shared or any(map(str.isdigit, word))
            ids += [MASK] if tells and pieces != [EOS] else pieces
        return ids

    return hide(sides[0]), hide(sides[1])


def _words(ids: Sequence[int], vocabulary: Vocabulary) -> Iterator[tuple[str, list[int]]]:
    """Words, and the pieces of each."""
    word, pieces = "", []
    for token in ids:
        piece = vocabulary.token(token)
        word += piece.removesuffix(CONTINUED)
        pieces.append(token)
        if not piece.endswith(CONTINUED):
            yield word, pieces
            word, pieces = "", []
    if pieces:
        yield word, pieces


def _measure(
    subject: Subject, name: str, plain: list[SentencePair], masked: list[SentencePair]
) -> Measurement:
    languages = name.split("-")
    rows = []
    for series, model in subject.models.items():
        for kind, pairs in (("", plain), (MASKED, masked)):
            first, second = (
                sentence_vectors(
                    model,
                    [pair[side] for pair in pairs],
                    subject.languages.index(language),
                    causal=subject.causal,
                )
                for side, language in enumerate(languages)
            )
            for direction, hits in (
                (f"{languages[0]}→{languages[1]}", hits_per_layer(first, second)),
                (f"{languages[1]}→{languages[0]}", hits_per_layer(second, first)),
            ):
                rows += [
                    share(series + kind, direction, found, len(pairs), layer)
                    for layer, found in enumerate(hits)
                ]
    return Measurement(
        name=f"sentence_retrieval_{name}",
        title=f"Sentence retrieval {name}, layer by layer",
        method=_METHOD.format(count=len(plain)),
        metric="precision_at_1",
        unit="share",
        chance=1 / len(plain),
        rows=rows,
        x_name="layer",
    )


def hits_per_layer(sources: Tensor, candidates: Tensor) -> list[int]:
    """Of each layer, the sentences whose nearest candidate is their own; (layers, count, dim)."""
    cosine = F.normalize(sources, dim=2) @ F.normalize(candidates, dim=2).transpose(1, 2)
    right = cosine.argmax(dim=2) == torch.arange(sources.shape[1])
    hits: list[int] = right.sum(dim=1).tolist()
    return hits
