"""Floating-point operations that a model asks for, however a machine does them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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


def translation_flops(
    *, layers: int, dim: int, vocab_size: int, source: int, tokens: int, time: int, generated: bool
) -> float:
    """The same for an encoder that reads `source` tokens and a decoder that predicts `tokens`.

    In each layer of the decoder attention to the source has 4 dim^2 weights, two of them for the
    tokens and two for the source. `generated`: the source was translated first, by the same
    model the other way round, which is a forward pass and a third of the whole.
    """
    shape = {"layers": layers, "dim": dim, "vocab_size": vocab_size, "time": time}
    reading = training_flops(**shape, tokens=source, scored=0)
    writing = training_flops(**shape, tokens=tokens, scored=tokens)
    looking = layers * (12 * dim**2 * (source + tokens) + 12 * dim * tokens * time)
    return (reading + writing + looking) * (4 / 3 if generated else 1)


def step_flops(model: Mapping[str, Any], batch: Mapping[str, Any]) -> float:
    """The operations of training a model of these arguments on a micro-batch."""
    shape = {name: model[name] for name in ("layers", "dim", "vocab_size")}
    tokens, time = batch["real_tokens"], batch["tokens"].shape[1]
    if "source_language" in batch:
        generated = "source" not in batch  # then it is about as long as the sentence
        source = tokens if generated else batch["source"].numel()
        return translation_flops(
            **shape, source=source, tokens=tokens, time=time, generated=generated
        )
    scored = len(batch["targets"]) if "targets" in batch else tokens
    return training_flops(**shape, tokens=tokens, scored=scored, time=time)
