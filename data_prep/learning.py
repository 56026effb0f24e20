"""The text model of a corpus: BPE codes and vocabulary, learned from word counts or taken over.

Everything is learned from one table of word counts, all languages of the train split together: the
merges, and (by splitting each counted word) the vocabulary, without reading the text again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from data_prep.claims import one_at_a_time
from data_prep.inputs import Inputs, pair_of, stored_bytes
from data_prep.lines import TextPolicy, read_lines
from data_prep.pool import Workers
from data_prep.progress import note, show_progress
from data_prep.reading import Piece, sha256_of
from data_prep.settings import GivenTextModel, Settings
from data_prep.sharing import Place, Stage, Text, share_out
from data_prep.workspace import Session
from xlm_lightning.atomic import atomic_write, write_json
from xlm_lightning.text.bpe import BytePairEncoder, learn_bpe, write_codes
from xlm_lightning.text.pipeline import WordCounter
from xlm_lightning.text.rules import Mode
from xlm_lightning.text.vocabulary import Vocabulary

MAX_WORD_TYPES = 5_000_000  # about 0.6 GB; a web-sized corpus has more, nearly all seen once
WORDS_AT_ONCE = 100_000


@dataclass(frozen=True)
class TextModelFiles:
    """The codes and vocabulary files of a prepared folder."""

    codes: Path
    vocabulary: Path
    codes_sha256: str
    vocab_sha256: str

    @classmethod
    def of(cls, out: Path) -> TextModelFiles:
        codes, vocabulary = out / "codes", out / "vocab"
        return cls(codes, vocabulary, sha256_of(codes), sha256_of(vocabulary))


@dataclass(frozen=True)
class CountTask:
    """A piece of train text whose words are counted into a file of `folder`."""

    folder: Path
    session: Session
    place: Place
    piece: Piece
    mode: Mode
    lowercase_and_remove_accent: bool
    policy: TextPolicy
    key: str


def copy_given(given: GivenTextModel, out: Path) -> TextModelFiles:
    """Take over codes and vocabulary byte for byte."""
    for source, target in ((given.codes, out / "codes"), (given.vocabulary, out / "vocab")):
        with atomic_write(target) as file:
            file.write(source.read_bytes())
    return TextModelFiles.of(out)


def learn(
    out: Path, session: Session, settings: Settings, inputs: Inputs, pool: Workers
) -> TextModelFiles:
    """Count the train words of all languages, learn the merges, write codes and vocabulary.

    All processes of the session count and add up, one of them learns.
    """
    merges = settings.merges
    assert merges is not None, "checked by check_text_model: it is given or learned"
    words, key = _count_all(session, settings, inputs, pool)
    record = session.work / "learned.json"
    with one_at_a_time(session.work / "learning.lock", "learning the merges"):
        if record.is_file() and out.joinpath("codes").is_file() and out.joinpath("vocab").is_file():
            model = TextModelFiles.of(out)
            if json.loads(record.read_bytes()) == _learned(model, key):
                return model
        note(f"learn {merges:,} merges from {len(words):,} different words")
        codes = learn_bpe(words, merges)
        write_codes(out / "codes", codes)
        encoder = BytePairEncoder(codes)
        Vocabulary.from_counts(_count_pieces(words, encoder)).save(out / "vocab")
        model = TextModelFiles.of(out)
        write_json(record, _learned(model, key))
        return model


def count_words(task: CountTask) -> Path:
    """Write the counts of the words of a piece as JSON; the path of the record of it."""
    language = task.place.language
    digest = hashlib.sha256(f"{task.key} {language} {task.piece.sha256()}".encode())
    path = task.folder / f"{digest.hexdigest()}.json"  # its name says what was counted, and how
    if not path.is_file():
        text = read_lines(task.piece, task.policy)
        counter = _counter(language, task.mode, task.lowercase_and_remove_accent)
        write_json(path, counter.count(text.lines))
    raw_bytes = sum(len(segment.data) for segment in task.piece.segments)
    task.session.save(task.place.record, {"counts": path.name, "raw_bytes": raw_bytes})
    return task.place.record


@lru_cache(maxsize=1)  # building the rules of a language takes a good part of a second
def _counter(language: str, mode: Mode, lowercase_and_remove_accent: bool) -> WordCounter:
    return WordCounter(language, mode=mode, lowercase_and_remove_accent=lowercase_and_remove_accent)


def keep_frequent(words: Counter[str], max_types: int) -> None:
    """Drop the rarest words, one count after the other, until `max_types` or fewer are left.

    Done between pieces, in the order of the text, so the outcome is the same in every run. A word
    lost here starts again at zero; words that matter for merges are never near the threshold.
    """
    threshold = 1
    before = len(words)
    while len(words) > max_types:
        for word in [word for word, count in words.items() if count <= threshold]:
            del words[word]
        threshold *= 2
    if len(words) < before:
        note(f"dropped the {before - len(words):,} rarest of {before:,} different words")


def _count_all(
    session: Session, settings: Settings, inputs: Inputs, pool: Workers
) -> tuple[Counter[str], str]:
    """All words of the train split, and a key of what was counted."""
    # Words are counted in the text of each language alone: translations are often given twice.
    own = {name: paths for name, paths in inputs["train"].items() if not pair_of(name)}
    texts = [Text("train", language, paths) for language, paths in own.items()]
    stage = Stage(session, session.work / "counted", texts, settings.piece_bytes)
    folder, key = session.work / "counts", settings.key()

    def task(place: Place, piece: Piece) -> CountTask:
        casing = settings.lowercase_and_remove_accent
        return CountTask(folder, session, place, piece, settings.mode, casing, settings.policy, key)

    words: Counter[str] = Counter()
    counted = hashlib.sha256()
    with show_progress("count words", stored_bytes({"train": own})) as progress:
        for _, record in share_out(stage, task, count_words, pool, progress):
            words.update(_load_counts(folder / record["counts"]))
            keep_frequent(words, MAX_WORD_TYPES)
            counted.update(record["counts"].encode())
    return words, counted.hexdigest()


def _load_counts(path: Path) -> Mapping[str, int]:
    counts: dict[str, int] = json.loads(path.read_bytes())
    return counts


def _count_pieces(words: Mapping[str, int], encoder: BytePairEncoder) -> Counter[str]:
    """How often each BPE piece stands in the text."""
    pieces: Counter[str] = Counter()
    for batch in _batches(words):
        for word, encoded in zip(batch, encoder.apply(batch), strict=True):
            count = words[word]
            for piece in encoded.split(" "):
                pieces[piece] += count
    return pieces


def _batches(words: Iterable[str]) -> Iterable[list[str]]:
    batch: list[str] = []
    for word in words:
        batch.append(word)
        if len(batch) == WORDS_AT_ONCE:
            yield batch
            batch = []
    yield batch


def _learned(model: TextModelFiles, key: str) -> dict[str, str]:
    return {
        "key": key,
        "codes_sha256": model.codes_sha256,
        "vocab_sha256": model.vocab_sha256,
    }
