"""Raw lines to token ids: megabytes per CPU second beside the plain chain of the same tools.

The peer is sacremoses (normalise, tokenise), fastBPE's Python module and a dictionary, one line
after the other. Ours starts with empty caches, on all of a language's text, a piece at a time;
after each piece the peer takes its part of an evenly spread sample of about 2 MB, so that both meet
the same moments of a busy machine. CPU seconds of one process. Codes are learned first, untimed.

Run: python bench/prepare.py [LANGUAGE=FILE ...]     (plain text or .gz; no arguments: the corpora
beside the checkout)
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fastBPE import fastBPE
from numpy.typing import NDArray
from sacremoses import MosesPunctNormalizer, MosesTokenizer

from xlm_lightning.text.bpe import BytePairEncoder, learn_bpe, read_codes, write_codes
from xlm_lightning.text.pipeline import TextPipeline, WordCounter
from xlm_lightning.text.vocabulary import EOS, FIRST_WORD_ID, UNK, Vocabulary

CORPORA = Path(__file__).resolve().parents[2] / "shared" / "corpora"
SAMPLE_BYTES = 2_000_000
PIECES = 14
MERGES = 8_000
LEARNING_LINES = 30_000  # of each language

Encode = Callable[[Sequence[str]], NDArray[np.uint16]]


def main() -> None:
    """Print one line for each language and one for the linearity of each."""
    files = chosen_files(sys.argv[1:])
    texts = {language: read(path) for language, path in files.items()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_text_model(folder, texts)
        for language, lines in texts.items():
            for line in compare(language, lines, folder):
                print(json.dumps(line), flush=True)


def chosen_files(arguments: Sequence[str]) -> dict[str, Path]:
    """Take the given files, or those beside the checkout."""
    if arguments:
        return {language: Path(path) for language, path in (a.split("=", 1) for a in arguments)}
    if not CORPORA.is_dir():
        sys.exit(
            "The corpora are not beside this checkout. Name text files of 25 MB or more:\n"
            "python bench/prepare.py en=FILE de=FILE"
        )
    return {language: CORPORA / f"train.{language}.txt.gz" for language in ("en", "de")}


def read(path: Path) -> list[str]:
    """All lines of a file."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return text.removesuffix("\n").split("\n")


def save_text_model(folder: Path, texts: dict[str, list[str]]) -> None:
    """Learn codes and vocabulary on a sample of all languages."""
    words: Counter[str] = Counter()
    for language, lines in texts.items():
        counter = WordCounter(language, mode="sacremoses", lowercase_and_remove_accent=False)
        words += counter.count(lines[:: len(lines) // LEARNING_LINES + 1])
    write_codes(folder / "codes", learn_bpe(words, MERGES))
    pieces: Counter[str] = Counter()
    rows = BytePairEncoder(read_codes(folder / "codes")).apply(list(words))
    for row, count in zip(rows, words.values(), strict=True):
        for piece in row.split(" "):
            pieces[piece] += count
    Vocabulary.from_counts(pieces).save(folder / "vocab")


def ours(language: str, folder: Path) -> Encode:
    """Our pipeline, its caches empty."""
    pipeline = TextPipeline(
        language,
        mode="sacremoses",
        lowercase_and_remove_accent=False,
        encoder=BytePairEncoder(read_codes(folder / "codes")),
        vocabulary=Vocabulary.load(folder / "vocab"),
    )
    return lambda lines: pipeline.encode_lines(lines).ids


def peer(language: str, folder: Path) -> Encode:
    """The chain that the documentation of these tools leads to."""
    normalizer = MosesPunctNormalizer(
        lang=language, pre_replace_unicode_punct=True, post_remove_control_chars=True
    )
    tokenizer = MosesTokenizer(lang=language)
    bpe = fastBPE(str(folder / "codes"))
    words = Vocabulary.load(folder / "vocab").words
    ids_of = {word: index for index, word in enumerate(words, start=FIRST_WORD_ID)}

    def encode(lines: Sequence[str]) -> NDArray[np.uint16]:
        ids: list[int] = []
        for line in lines:
            text = tokenizer.tokenize(normalizer.normalize(line), escape=False, return_str=True)
            pieces = bpe.apply([text])[0].split()
            ids += [ids_of.get(piece, UNK) for piece in pieces]
            ids.append(EOS)
        return np.array(ids, np.uint16)

    return encode


def compare(language: str, lines: list[str], folder: Path) -> list[dict[str, Any]]:
    """Time both on alternating pieces; the ids of the sample must be the same."""
    our_encode, peer_encode = ours(language, folder), peer(language, folder)
    step = max(1, size_of(lines) // SAMPLE_BYTES)
    our_bytes = peer_bytes = 0
    our_seconds = peer_seconds = 0.0
    marks: list[tuple[float, float]] = []  # megabytes so far, and their speed
    for index in range(PIECES):
        piece = lines[index * len(lines) // PIECES : (index + 1) * len(lines) // PIECES]
        sample = piece[::step]
        our_seconds += cpu_seconds(our_encode, piece)
        peer_seconds += cpu_seconds(peer_encode, sample)
        our_bytes += size_of(piece)
        peer_bytes += size_of(sample)
        marks.append((our_bytes / 1e6, our_bytes / 1e6 / our_seconds))
        if not np.array_equal(our_encode(sample), peer_encode(sample)):
            sys.exit(f"{language}: the ids differ from those of the plain chain")
    us, them = our_bytes / 1e6 / our_seconds, peer_bytes / 1e6 / peer_seconds
    result = {
        "name": f"prepare_{language}_raw_to_ids",
        "ours": round(us, 3),
        "peer": round(them, 3),
        "peer_name": "sacremoses + fastBPE (Python) + dictionary, line by line",
        "ratio": round(us / them, 3),
        "unit": "MB per CPU second",
        "ours_megabytes": round(our_bytes / 1e6, 2),
        "peer_megabytes": round(peer_bytes / 1e6, 2),
        "peer_sample": f"every {step}th line, after each of {PIECES} pieces of ours",
    }
    return [result, linearity(language, marks)]


def linearity(language: str, marks: list[tuple[float, float]]) -> dict[str, Any]:
    """Speed over the first quarter, half and all of the text; `ratio` is all to quarter."""
    quarter, half, whole = (marks[round(PIECES * part) - 1] for part in (0.25, 0.5, 1))
    return {
        "name": f"prepare_{language}_linearity",
        "ours": round(whole[1], 3),
        "peer": round(quarter[1], 3),
        "peer_name": "ours on the first quarter of the text",
        "ratio": round(whole[1] / quarter[1], 3),
        "unit": "MB per CPU second",
        "megabytes": [round(mark[0], 1) for mark in (quarter, half, whole)],
        "speeds": [round(mark[1], 3) for mark in (quarter, half, whole)],
    }


def cpu_seconds(encode: Encode, lines: Sequence[str]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    encode(lines)
    return time.process_time() - start


def size_of(lines: Sequence[str]) -> int:
    """Bytes of the lines with their newlines."""
    return len("\n".join(lines).encode("utf-8")) + 1


if __name__ == "__main__":
    main()
