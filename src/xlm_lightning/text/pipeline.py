"""The whole way from raw lines to token ids and back, with a cache of what was seen before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sacremoses import MosesDetokenizer

from xlm_lightning.text.bpe import CONTINUED, Backend, BytePairEncoder
from xlm_lightning.text.chunks import LINE_END
from xlm_lightning.text.moses import Mode, MosesTokenizer, lower_and_remove_accents
from xlm_lightning.text.vocabulary import EOS, FIRST_WORD_ID, UNK, Vocabulary

BLOCK_LINES = 2_000
MAX_WORD_LENGTH = 2_000  # BPE takes more than linear time in the length of a word
MAX_CACHED = 1 << 19  # chunks or words remembered; about 100 bytes each


@dataclass(frozen=True)
class EncodedLines:
    """Ids of consecutive lines, each closed by `</s>`."""

    ids: NDArray[np.uint16]
    line_ends: NDArray[np.int64]  # line i is ids[line_ends[i - 1] : line_ends[i]], `</s>` included
    unknown: int  # how many of the ids are `<unk>`


class TextPipeline:
    """Raw lines of one language to ids: Moses, casing, BPE, vocabulary."""

    def __init__(
        self,
        language: str,
        *,
        mode: Mode,
        lowercase_and_remove_accent: bool,
        codes: Path,
        vocabulary: Path,
        backend: Backend = "auto",
        filter_vocabulary: bool = False,
        max_word_length: int = MAX_WORD_LENGTH,
    ) -> None:
        """Read codes and vocabulary; a word above `max_word_length` becomes one `<unk>`."""
        self.vocabulary = Vocabulary.load(vocabulary)
        kept = frozenset(self.vocabulary.words) if filter_vocabulary else None
        self._tokenizer = MosesTokenizer(language, mode)
        self._encoder = BytePairEncoder(codes, backend, kept)
        self._detokenizer = MosesDetokenizer(lang=language)
        self._lowercase = lowercase_and_remove_accent
        self._max_word_length = max_word_length
        self._chunk_ids: dict[str, list[int]] = {}
        self._word_ids: dict[str, list[int]] = {}

    def encode_lines(self, lines: Sequence[str]) -> EncodedLines:
        """Return the ids of all lines, `</s>` after each; a blank line is a lone `</s>`."""
        ids: list[int] = []
        ends: list[int] = []
        for start in range(0, len(lines), BLOCK_LINES):
            chunks = self._tokenizer.chunks(lines[start : start + BLOCK_LINES])
            self._learn(chunks)
            for chunk in chunks:
                if chunk == LINE_END:
                    ids.append(EOS)
                    ends.append(len(ids))
                else:
                    ids += self._chunk_ids[chunk]
        array = np.array(ids, dtype=np.uint16)
        return EncodedLines(array, np.array(ends, np.int64), int(np.count_nonzero(array == UNK)))

    def encode(self, text: str) -> list[int]:
        """Return the ids of one line, without `</s>`; a newline counts as a space."""
        ids: list[int] = self.encode_lines([text.replace("\n", " ")]).ids[:-1].tolist()
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return readable text: special words dropped, pieces joined, detokenised."""
        pieces = [self.vocabulary.token(token_id) for token_id in ids if token_id >= FIRST_WORD_ID]
        words = (" ".join(pieces) + " ").replace(CONTINUED + " ", "").split()
        return str(self._detokenizer.detokenize(words, unescape=False))

    def _learn(self, chunks: Sequence[str]) -> None:
        if len(self._chunk_ids) > MAX_CACHED:
            self._chunk_ids.clear()
        new = [c for c in dict.fromkeys(chunks) if c not in self._chunk_ids and c != LINE_END]
        tokens = self._tokenizer.tokenize_chunks(new)
        if self._lowercase:
            tokens = [lower_and_remove_accents(" ".join(words)).split() for words in tokens]
        self._learn_words({word for words in tokens for word in words})
        for chunk, words in zip(new, tokens, strict=True):
            self._chunk_ids[chunk] = [index for word in words for index in self._word_ids[word]]

    def _learn_words(self, words: set[str]) -> None:
        if len(self._word_ids) > MAX_CACHED:
            self._word_ids.clear()
        new = sorted(word for word in words if word not in self._word_ids)
        short = [word for word in new if len(word) <= self._max_word_length]
        self._word_ids.update((word, [UNK]) for word in new if len(word) > self._max_word_length)
        for word, pieces in zip(short, self._encoder.apply(short), strict=True):
            self._word_ids[word] = [self._id(piece) for piece in pieces.split(" ")]

    def _id(self, piece: str) -> int:
        """Never the id of a special word: `<s>` in raw text is text."""
        token_id = self.vocabulary.id(piece)
        return token_id if token_id >= FIRST_WORD_ID else UNK


class WordCounter:
    """Counts of tokenised, cased words, before any codes exist."""

    def __init__(self, language: str, *, mode: Mode, lowercase_and_remove_accent: bool) -> None:
        """Choose the rules; an unknown language or mode is a `UserError` with the list."""
        self._tokenizer = MosesTokenizer(language, mode)
        self._lowercase = lowercase_and_remove_accent

    def count(self, lines: Sequence[str]) -> Counter[str]:
        """Return how often each word occurs in `lines`."""
        words: Counter[str] = Counter()
        for start in range(0, len(lines), BLOCK_LINES):
            chunks = Counter(self._tokenizer.chunks(lines[start : start + BLOCK_LINES]))
            chunks.pop(LINE_END, None)
            tokens = self._tokenizer.tokenize_chunks(list(chunks))
            for count, chunk_words in zip(chunks.values(), tokens, strict=True):
                text = " ".join(chunk_words)
                cased = lower_and_remove_accents(text) if self._lowercase else text
                for word in cased.split():
                    words[word] += count
        return words
