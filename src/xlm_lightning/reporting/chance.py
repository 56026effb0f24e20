"""Whether runs that have translated the same text differ by more than chance would make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xlm_lightning.bleu import bootstrap
from xlm_lightning.reporting.record import RunRecord
from xlm_lightning.run_folder import RunFolder


@dataclass(frozen=True)
class Judged:
    """BLEU of one direction with its 95 % interval, see `bootstrap`."""

    bleu: float
    low: float
    high: float
    p_value: float | None  # of the difference from the best run; None: this is the best one


@dataclass(frozen=True)
class Comparison:
    """Runs whose references are the same to the byte, the best one first, by mean BLEU."""

    split: str
    directions: list[str]
    rows: list[tuple[str, list[Judged]]]  # name of a run, and each direction


@dataclass(frozen=True)
class _Translated:
    """What a run has kept of a split: lines of each direction."""

    name: str
    split: str
    directions: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    translations: tuple[tuple[str, ...], ...]


def compared(runs: Sequence[tuple[str, RunRecord]]) -> list[Comparison]:
    """Compare finished runs, by name, on their test text, or on valid for those without.

    One that translated other text, or in other directions, is compared with its like only. It takes
    a second for 6,000 translated sentences.
    """
    alike: dict[object, list[_Translated]] = {}
    for name, run in runs:
        found = _translated(name, run) if run.status == "finished" else None
        if found is not None:
            key = (found.split, found.directions, found.references)
            alike.setdefault(key, []).append(found)
    return [_comparison(group) for group in alike.values() if len(group) > 1]


def _translated(name: str, run: RunRecord) -> _Translated | None:
    folder = RunFolder(run.folder).translations
    for split in ("test", "valid"):
        files = sorted(folder.glob(f"{split}.*.ref.txt"))
        if not files:
            continue
        directions = tuple(file.name.split(".")[1] for file in files)
        made = [folder / f"{split}.{direction}.txt" for direction in directions]
        references = tuple(_lines(file) for file in files)
        translations = tuple(_lines(file) for file in made if file.is_file())
        if [*map(len, references)] == [*map(len, translations)]:
            return _Translated(name, split, directions, references, translations)
    return None


def _lines(file: Path) -> tuple[str, ...]:
    """Lines end at newlines only: a translation may hold other separators."""
    return tuple(file.read_text("utf-8").split("\n")[:-1])


def _comparison(group: Sequence[_Translated]) -> Comparison:
    first = group[0]
    columns: list[list[Judged]] = []  # a direction each
    for number, references in enumerate(first.references):
        found = bootstrap([one.translations[number] for one in group], references)
        best = max(range(len(group)), key=lambda i: found.bleu[i])
        p_values: list[float] = found.p_values[best].tolist()
        columns.append(
            [
                Judged(bleu, *found.intervals[i], None if i == best else p_values[i])
                for i, bleu in enumerate(found.bleu)
            ]
        )
    rows = [(one.name, list(row)) for one, *row in zip(group, *columns, strict=True)]
    rows.sort(key=lambda row: -sum(judged.bleu for judged in row[1]))
    return Comparison(first.split, list(first.directions), rows)
