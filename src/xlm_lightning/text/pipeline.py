"""The whole way from raw lines to token ids and back, with a cache of what was seen before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sacremoses import MosesDetokenizer

from xlm_lightning.text.bpe import CONTINUED, BytePairEncoder
from xlm_lightning.text.chunks import LINE_END
from xlm_lightning.text.id_rows import IdRows, Ids, IntArray, Numbering
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
        encoder: BytePairEncoder,
        vocabulary: Vocabulary,
        max_word_length: int = MAX_WORD_LENGTH,
    ) -> None:
        """Choose the rules of `language`; a word above `max_word_length` becomes one `<unk>`."""
        self.vocabulary = vocabulary
        self._tokenizer = MosesTokenizer(language, mode)
        self._encoder = encoder
        self._detokenizer = MosesDetokenizer(lang=language)
        self._lowercase = lowercase_and_remove_accent
        self._max_word_length = max_word_length
        self._forget()

    def encode_lines(self, lines: Sequence[str]) -> EncodedLines:
        """Return the ids of all lines, `</s>` after each; a blank line is a lone `</s>`."""
        ids: list[Ids] = [np.empty(0, np.uint16)]
        ends: list[IntArray] = [np.empty(0, np.int64)]
        size = 0
        for start in range(0, len(lines), BLOCK_LINES):
            block_ids, block_ends = self._encode_block(lines[start : start + BLOCK_LINES])
            ids.append(block_ids)
            ends.append(block_ends + size)
            size += block_ids.size
        array = np.concatenate(ids)
        return EncodedLines(array, np.concatenate(ends), int(np.count_nonzero(array == UNK)))

    def encode(self, text: str) -> list[int]:
        """Return the ids of one line, without `</s>`; a newline counts as a space."""
        ids: list[int] = self.encode_lines([text.replace("\n", " ")]).ids[:-1].tolist()
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return readable text: special words dropped, pieces joined, detokenised."""
        words = self.words(token_id for token_id in ids if token_id >= FIRST_WORD_ID)
        return str(self._detokenizer.detokenize(words, unescape=False))

    def words(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens that BPE cut, joined again; special words stand as they are called."""
        pieces = [self.vocabulary.token(token_id) for token_id in ids]
        return (" ".join(pieces) + " ").replace(CONTINUED + " ", "").split()

    def _encode_block(self, lines: Sequence[str]) -> tuple[Ids, IntArray]:
        chunks = self._tokenizer.chunks(lines)
        if len(self._chunks) > MAX_CACHED or len(self._words) > MAX_CACHED:
            self._forget()
        numbers = self._chunks.numbers(chunks)
        new = self._chunks.take_new()
        if new:
            self._learn(new)
        ids, ends = self._chunk_rows.gather(numbers)
        return ids, ends[numbers == 0]

    def _forget(self) -> None:
        """Start the caches anew: number 0 is the end of a line, or that of a chunk."""
        self._chunks, self._chunk_rows = Numbering(LINE_END), IdRows([EOS])
        self._words, self._word_rows = Numbering(LINE_END), IdRows([])

    def _learn(self, chunks: Sequence[str]) -> None:
        """Append the rows of new chunks."""
        try:
            words = _cased_words(self._tokenizer.tokenize_chunks(chunks), self._lowercase)
            numbers = self._words.numbers(words)
            self._learn_words(self._words.take_new())
        except BaseException:
            self._forget()  # the rows would no longer stand where their numbers say
            raise
        ids, ends = self._word_rows.gather(numbers)
        self._chunk_rows.extend(ids, np.diff(ends[numbers == 0], prepend=0))

    def _learn_words(self, words: Sequence[str]) -> None:
        """Append the rows of new words."""
        longest = self._max_word_length
        encoded = self._encoder.apply([word if len(word) <= longest else "" for word in words])
        pieces = " ".join(encoded).split(" ") if encoded else []
        ids = np.fromiter(map(self._id, pieces), np.uint16, len(pieces))
        self._word_rows.extend(ids, np.array([row.count(" ") + 1 for row in encoded], np.int64))

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
        chunks: Counter[str] = Counter()
        for start in range(0, len(lines), BLOCK_LINES):
            chunks.update(self._tokenizer.chunks(lines[start : start + BLOCK_LINES]))
            if len(chunks) > MAX_CACHED:
                self._move(chunks, words)
        self._move(chunks, words)
        return words

    def _move(self, chunks: Counter[str], words: Counter[str]) -> None:
        """Empty `chunks` into `words`."""
        del chunks[LINE_END]
        counts = np.fromiter(chunks.values(), np.int64, len(chunks))
        tokenized = self._tokenizer.tokenize_chunks(list(chunks))
        chunks.clear()
        numbering = Numbering(LINE_END)
        numbers = numbering.numbers(_cased_words(tokenized, self._lowercase))
        is_end = numbers == 0
        chunk_of_word = np.cumsum(is_end) - is_end
        totals = np.zeros(len(numbering), np.int64)
        np.add.at(totals, numbers[~is_end], counts[chunk_of_word[~is_end]])
        for word, count in zip(numbering.take_new(), totals[1:].tolist(), strict=True):
            words[word] += count


def _cased_words(tokenized: Sequence[str], lowercase: bool) -> list[str]:
    """Return the words of all chunks, `LINE_END` after each chunk."""
    text = "\n".join(tokenized)
    if lowercase:
        text = lower_and_remove_accents(text)
    return f"{text}\n".replace("\n", f" {LINE_END} ").split() if tokenized else []
