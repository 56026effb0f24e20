"""Random numbers that are a pure function of what they are for: (seed, purpose, where).

They are raw 64-bit words of Philox4x64, a fixed algorithm (Salmon et al., 2011), and not the
methods of `numpy.random.Generator`, which may change between versions of numpy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# purposes
LANGUAGE, SHARDS, BLOCKS, MASKS, EVALUATION_MASKS, PAIRS, RETRIEVAL, BOOTSTRAP = range(8)
SENTENCES, NOISE, SOURCES, DIRECTIONS = range(8, 12)

Indices = NDArray[np.int64]


def random_words(count: int, seed: int, purpose: int, *stream: int) -> NDArray[np.uint64]:
    """Return `count` words of the stream named by (seed, purpose, *stream).

    The names fill the key and the upper three words of the 256-bit counter; the lowest word counts
    the draws. Two different names therefore never share a number.
    """
    counter = np.array([0, *stream, *[0] * (3 - len(stream))], np.uint64)
    generator = np.random.Philox(counter=counter, key=np.array([seed, purpose], np.uint64))
    words: NDArray[np.uint64] = generator.random_raw(count)
    return words


def permutation(count: int, seed: int, purpose: int, *stream: int) -> Indices:
    """Order of random words; equal words (count^2 / 2^65 pairs) keep their order."""
    return np.argsort(random_words(count, seed, purpose, *stream), kind="stable")


def uniforms(shape: tuple[int, ...], seed: int, purpose: int, *stream: int) -> NDArray[np.float64]:
    """Numbers in [0, 1), from the upper 53 bits of a word each."""
    words = random_words(int(np.prod(shape)), seed, purpose, *stream)
    numbers: NDArray[np.float64] = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers.reshape(shape)
