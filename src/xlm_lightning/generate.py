"""`xlm-generate`: text from a trained model, in the language that is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xlm_lightning import schema
from xlm_lightning.batches import batches
from xlm_lightning.errors import UserError
from xlm_lightning.generation import (
    beam_search,
    generate_batch,
    lay_out_for_decoding,
    seeded_noise,
)
from xlm_lightning.machine import device_and_autocast, keep_freed_memory
from xlm_lightning.model import XLM
from xlm_lightning.pretrained import load_model
from xlm_lightning.text.files import read_text_lines

Texts = dict[tuple[int, int], list[int]]  # (prompt, sample) -> ids that continue it


def generate(config: schema.Generate) -> dict[str, Any]:
    """Continue every prompt `num_samples` times; the texts include their prompts."""
    keep_freed_memory()
    trained = load_model(config.checkpoint, config.objective)
    trained.require_causal()
    device, _ = device_and_autocast(config.accelerator, "32")
    model = trained.model.to(device)
    lay_out_for_decoding(model)
    language = trained.language_id(config.language)
    pipeline = trained.load_text_model().pipelines()[trained.languages[language]]
    lines = [config.prompt]
    if config.prompt_file is not None:
        lines = read_text_lines(Path(config.prompt_file), "prompt_file")
    prompts = [pipeline.encode(line) if line.strip() else [] for line in lines]
    for number, prompt in enumerate(prompts, start=1):
        if len(prompt) >= model.max_positions:
            where = "prompt" if config.prompt_file is None else f"prompt_file, line {number}"
            raise UserError(
                f"{where}: has {len(prompt)} tokens, the model reads {model.max_positions - 1} at "
                "most; shorten it"
            )
    started = time.perf_counter()
    texts: Texts = {}
    for some in _drawn(config, model, language, prompts):
        texts |= some
    seconds = time.perf_counter() - started
    # </s> was drawn as well, unless the text was cut off
    new_tokens = sum(min(len(ids) + 1, config.max_new_tokens) for ids in texts.values())
    return {
        "checkpoint": str(trained.path),
        "language": trained.languages[language],
        "texts": [pipeline.decode([*prompts[i], *ids]) for (i, _), ids in sorted(texts.items())],
        "tokens_per_second": new_tokens / max(seconds, 1e-9),
    }


def _drawn(
    config: schema.Generate, model: XLM, language: int, prompts: Sequence[Sequence[int]]
) -> Iterator[Texts]:
    """Yield the continuations batch by batch, prompts of like length together."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    if config.beam > 1:
        for some in batches(order, max(1, config.batch_size // config.beam), "generating"):
            found = beam_search(
                model,
                [prompts[i] for i in some],
                language=language,
                beam=config.beam,
                length_penalty=config.length_penalty,
                max_new_tokens=config.max_new_tokens,
            )
            for i, hypotheses in zip(some, found, strict=True):
                best = hypotheses[: config.num_samples]
                yield {(i, sample): one.ids for sample, one in enumerate(best)}
        return
    samples = [(i, sample) for i in order for sample in range(config.num_samples)]
    for rows in batches(samples, config.batch_size, "generating"):
        ids = generate_batch(
            model,
            [prompts[i] for i, _ in rows],
            language=language,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            top_k=config.top_k or None,
            top_p=config.top_p if config.top_p < 1 else None,
            noise=seeded_noise(config.seed, rows, config.max_new_tokens),
        )
        yield dict(zip(rows, ids, strict=True))
