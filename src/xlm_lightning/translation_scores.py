"""Translations of a split, made on several ranks: put in order, made readable, scored and kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xlm_lightning.atomic import write_text
from xlm_lightning.bleu import bootstrap, corpus_scores, interval, signatures, tokenised_bleu
from xlm_lightning.text.pipeline import TextPipeline
from xlm_lightning.text.vocabulary import SPECIALS, UNK


class _Sentence(NamedTuple):
    """A translation and what it should be, as text and as the words that BPE cut."""

    number: int  # its line in the text
    hypothesis: str
    reference: str
    hypothesis_words: list[str]
    reference_words: list[str]


class TranslationScores:
    """Collects what a model translates, a batch at a time, and scores all of it at the end."""

    def __init__(self, pipelines: Mapping[str, TextPipeline], folder: Path | None) -> None:
        """`pipelines`: of every language, by its name; `folder`: where texts are kept, if any."""
        self._pipelines = pipelines
        self._folder = folder
        self._found: dict[str, list[_Sentence]] = defaultdict(list)

    def add(
        self,
        direction: str,
        numbers: Sequence[int],
        hypotheses: Sequence[Sequence[int]],
        references: Sequence[Sequence[int]],
    ) -> None:
        """Take the ids of some sentences, without `</s>`.

        `direction`: `de-en` for translations from de into en. `numbers`: their lines in the text,
        each of which is one rank's business.
        """
        pipeline = self._pipelines[direction.partition("-")[2]]
        for number, hypothesis, reference in zip(numbers, hypotheses, references, strict=True):
            self._found[direction].append(
                _Sentence(
                    number,
                    pipeline.decode(hypothesis),
                    pipeline.decode(reference),
                    pipeline.words(hypothesis),
                    [_never_hit(word) for word in pipeline.words(reference)],
                )
            )

    def finish(
        self,
        gather: Callable[[Any], list[Any]],
        *,
        split: str,
        keep: bool = False,
        draws_from: int | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Return the scores of every direction, the same on all ranks, and be empty again.

        Every rank scores everything (0.5 s for 1,000 sentences, measured), so that none waits.

        `gather` returns what every rank gave it. Under a direction stand `bleu` and `chrf` of
        readable text, `bleu_tokenised` by the original's definition and the number of `sentences`;
        under `mean` the mean BLEU, and the signatures that make the figures comparable. `keep`, for
        one rank: write the texts, a line each in the order of the split, to `SPLIT.DIRECTION.txt`
        and, where they are not there, the references to `SPLIT.DIRECTION.ref.txt`. `draws_from`:
        the seed of a `bootstrap`, whose 95 % `bleu_interval` then stands beside each BLEU. The
        directions of a pair meet the same draws, so that their mean is of the same sentences.
        """
        everywhere: list[dict[str, list[_Sentence]]] = gather(dict(self._found))
        self._found.clear()
        scores: dict[str, dict[str, Any]] = {}
        drawn: list[NDArray[np.float64]] = []
        for direction in sorted(set().union(*everywhere)):
            rows = [row for found in everywhere for row in found.get(direction, [])]
            rows.sort(key=lambda row: row.number)
            scores[direction] = _scores(rows)
            if draws_from is not None:
                texts = [row.hypothesis for row in rows], [row.reference for row in rows]
                drawn.append(bootstrap([texts[0]], texts[1], seed=draws_from).drawn[0])
                scores[direction]["bleu_interval"] = list(interval(drawn[-1]))
            if keep:
                self._write(f"{split}.{direction}.txt", [row.hypothesis for row in rows])
                self._write(f"{split}.{direction}.ref.txt", [row.reference for row in rows])
        if scores:
            bleu = [one["bleu"] for one in scores.values()]
            told = {f"{name}_signature": text for name, text in signatures().items()}
            scores["mean"] = {"bleu": sum(bleu) / len(bleu), **told}
            if drawn:
                scores["mean"]["bleu_interval"] = list(interval(np.mean(drawn, axis=0)))
        return scores

    def _write(self, name: str, lines: Sequence[str]) -> None:
        """Write a line of each text, unless that is what the file holds."""
        assert self._folder is not None
        file, text = self._folder / name, "".join(f"{line}\n" for line in lines)
        if not file.is_file() or file.read_bytes() != text.encode():
            write_text(file, text)


def _scores(rows: Sequence[_Sentence]) -> dict[str, Any]:
    scores = corpus_scores([row.hypothesis for row in rows], [row.reference for row in rows])
    return {
        "bleu": scores["bleu"],
        "chrf": scores["chrf"],
        "bleu_tokenised": tokenised_bleu(
            [row.hypothesis_words for row in rows], [row.reference_words for row in rows]
        ),
        "sentences": len(rows),
    }


def _never_hit(word: str) -> str:
    """`<unk>` of a reference as the original writes it, so that no `<unk>` of a model hits it."""
    unknown = SPECIALS[UNK]
    return word.replace(unknown, f"<{unknown}>")
