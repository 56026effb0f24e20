"""Floating-point operations that a model asks for, however a machine does them."""

from __future__ import annotations


def training_flops(
    *, layers: int, dim: int, vocab_size: int, tokens: int, scored: int, time: int
) -> float:
    """Return the operations of a forward and a backward pass over `tokens` in rows of `time`.

    Chowdhery et al. 2022 (PaLM), appendix B: a token takes 6 for each weight of a matrix, and
    12 x layers x dim x time for attention, which counts all of the row, of which a causal model
    needs half. A layer has 12 dim^2 such weights; the output layer works on the `scored` tokens
    only, few in a masked model. Looking up embeddings costs nothing, nor do dropout, norms, and
    what gradient checkpointing does twice.
    """
    body = tokens * (72 * layers * dim**2 + 12 * layers * dim * time)
    return float(body + 6 * scored * dim * vocab_size)
