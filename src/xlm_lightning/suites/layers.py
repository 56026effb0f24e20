"""What a sentence is to each layer of a model: the mean of its tokens' hidden states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from xlm_lightning.model import XLM
from xlm_lightning.sentence_scores import ROWS, Ids, padded


@torch.no_grad()
def sentence_vectors(
    model: XLM, sentences: Sequence[Ids], language: int, *, causal: bool
) -> Tensor:
    """(layers + 1, sentences, dim) float32 on the CPU, the embeddings first.

    Sentences go from `</s>` to `</s>`, which are seen but not averaged.
    """
    device = model.tokens.weight.device
    states: list[Tensor] = []
    watched = [model.embedding_norm, *model.layers]
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: states.append(output))
        for module in watched
    ]
    batches = []
    try:
        for start in range(0, len(sentences), ROWS):
            rows = sentences[start : start + ROWS]
            lengths = torch.tensor([len(row) for row in rows], device=device)
            states.clear()
            where = torch.tensor([[language]], device=device)
            model(padded(rows, device), where, causal=causal, lengths=None if causal else lengths)
            place = torch.arange(int(lengths.max()), device=device)
            inner = (place > 0) & (place < lengths[:, None] - 1)  # (batch, time)
            weights = inner.float() / inner.sum(dim=1, keepdim=True)
            pooled = [(weights[:, :, None] * state.float()).sum(dim=1) for state in states]
            batches.append(torch.stack(pooled).cpu())
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(batches, dim=1)
