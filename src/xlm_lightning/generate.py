"""`xlm-generate`: text from a trained model, in the language that is asked for."""

from __future__ import annotations

import time
from typing import Any

import torch

from xlm_lightning import schema
from xlm_lightning.errors import UserError
from xlm_lightning.generation import generate as generate_ids
from xlm_lightning.machine import device_and_autocast, keep_freed_memory
from xlm_lightning.pretrained import load_model


def generate(config: schema.Generate) -> dict[str, Any]:
    """Continue `prompt` `num_samples` times; the texts include the prompt."""
    keep_freed_memory()
    trained = load_model(config.checkpoint, config.objective)
    trained.require_causal()
    device, _ = device_and_autocast(config.accelerator, "32")
    model = trained.model.to(device)
    language = trained.language_id(config.language)
    pipeline = trained.load_text_model().pipelines()[trained.languages[language]]
    prompt = pipeline.encode(config.prompt) if config.prompt.strip() else []
    if len(prompt) >= model.max_positions:
        raise UserError(
            f"prompt has {len(prompt)} tokens, the model reads {model.max_positions} at most"
        )
    started = time.perf_counter()
    continuations = generate_ids(
        model,
        prompt,
        language=language,
        num_samples=config.num_samples,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_k=config.top_k or None,
        top_p=config.top_p if config.top_p < 1 else None,
        generator=torch.Generator(device).manual_seed(config.seed),
    )
    seconds = time.perf_counter() - started
    new_tokens = sum(len(ids) + 1 for ids in continuations)  # </s> was drawn as well
    return {
        "checkpoint": str(trained.path),
        "language": trained.languages[language],
        "texts": [pipeline.decode([*prompt, *ids]) for ids in continuations],
        "tokens_per_second": new_tokens / max(seconds, 1e-9),
    }
