"""Byte-pair encoding in fastBPE's format: reading and writing codes, applying them to words.

Two backends give the same pieces: fastBPE (C++, when it is installed) and Hugging Face tokenizers.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from tokenizers.models import BPE

from xlm_lightning.atomic import write_text
from xlm_lightning.errors import UserError
from xlm_lightning.text.bpe_learning import learn_bpe
from xlm_lightning.text.files import read_lines

__all__ = ["BytePairEncoder", "Code", "learn_bpe", "read_codes", "write_codes"]

Code = tuple[str, str, int]  # left, right, count; ranks are positions in the list
Backend = Literal["auto", "fastbpe", "tokenizers"]
END_OF_WORD = "</w>"
CONTINUED = "@@"
_REDIRECTING = threading.Lock()  # two threads at once would restore each other's redirection


def read_codes(path: Path) -> list[Code]:
    """Read `left right count` lines; fastBPE would crash on what is a `UserError` here."""
    codes: list[Code] = []
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(read_lines(path, "BPE codes"), start=1):
        code = _parse(path, number, line)
        if code[:2] in seen:
            raise UserError(f"{path}, line {number}: the pair {line!r} was already there.")
        seen.add(code[:2])
        codes.append(code)
    return codes


def _parse(path: Path, number: int, line: str) -> Code:
    fields = line.removesuffix("\r").split(" ")
    if len(fields) == 2 and fields[1].isdigit():
        raise UserError(
            f"{path}, line {number}: two fields (`token count`): this is a vocabulary, not a BPE "
            f"codes file (`left right count`). Are codes and vocabulary swapped?"
        )
    is_code = len(fields) == 3 and all(fields) and fields[2].isascii() and fields[2].isdigit()
    if not is_code:
        raise UserError(
            f"{path}, line {number}: {line[:40]!r} is not a BPE code. Each line of a codes file "
            f"holds `left right count`."
        )
    return fields[0], fields[1], int(fields[2])


def write_codes(path: Path, codes: Sequence[Code]) -> None:
    """Write codes in fastBPE's format, atomically."""
    write_text(path, "".join(f"{left} {right} {count}\n" for left, right, count in codes))


class BytePairEncoder:
    """Split words into pieces: `hello` -> `hel@@ lo`.

    There is no vocabulary filter, which the original applies to valid and test text: the ids are
    those of transformers' tokenizer, and the manifest says so.
    """

    def __init__(self, codes: Sequence[Code], backend: Backend = "auto") -> None:
        """Take the codes, as `read_codes` checks them."""
        if backend == "auto":
            backend = "fastbpe" if find_spec("fastBPE") else "tokenizers"
        self.backend = backend
        self._apply = _fastbpe(codes) if backend == "fastbpe" else _tokenizers(codes)

    def apply(self, words: Sequence[str]) -> list[str]:
        """Return the pieces of each word, joined by spaces; a word must not hold a space."""
        return self._apply(words)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keep what C++ code prints to file descriptor 2 from tearing up a progress bar."""
    with _REDIRECTING:
        sys.stderr.flush()
        stderr = os.dup(2)
        try:
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _fastbpe(codes: Sequence[Code]) -> Callable[[Sequence[str]], list[str]]:
    """fastBPE reads codes from a file only, and crashes on what `read_codes` refuses."""
    try:
        from fastBPE import fastBPE
    except ImportError:
        raise UserError(
            "the package fastBPE is not installed: install it as the Makefile does, or leave the "
            "backend at its default 'auto', which gives the same pieces without it"
        ) from None
    with tempfile.TemporaryDirectory() as folder, _silent_stderr():
        write_codes(Path(folder, "codes"), codes)
        program = fastBPE(str(Path(folder, "codes")))

    def apply(words: Sequence[str]) -> list[str]:
        return list(program.apply(list(words))) if words else []

    return apply


def _tokenizers(codes: Sequence[Code]) -> Callable[[Sequence[str]], list[str]]:
    symbols: dict[str, int] = {"": 0}  # the empty string stands for symbols outside the codes
    for left, right, _ in codes:
        for symbol in (left, right, left + right):
            symbols.setdefault(symbol, len(symbols))
    model = BPE(
        vocab=symbols,
        merges=[(left, right) for left, right, _ in codes],
        end_of_word_suffix=END_OF_WORD,
        unk_token="",
        fuse_unk=False,
    )

    def pieces(word: str) -> str:
        spans = [token.offsets for token in model.tokenize(word)]
        if word.isascii():
            return (CONTINUED + " ").join([word[start:end] for start, end in spans])
        encoded = word.encode("utf-8")  # offsets count bytes
        return (CONTINUED + " ").join([encoded[start:end].decode("utf-8") for start, end in spans])

    def apply(words: Sequence[str]) -> list[str]:
        return [pieces(word) for word in words]

    return apply
