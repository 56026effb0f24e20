"""`xlm-translate`: lines of one language into another, in their order."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from xlm_lightning import schema
from xlm_lightning.atomic import write_text
from xlm_lightning.batches import batches
from xlm_lightning.errors import UserError
from xlm_lightning.generation import lay_out_for_decoding, seeded_noise, translate_batch
from xlm_lightning.machine import device_and_autocast, keep_freed_memory
from xlm_lightning.text.files import read_text_lines, text_lines
from xlm_lightning.trained_translator import TrainedTranslator, load_translator

STANDARD_INPUT = "standard input (neither text= nor text_file= is given)"


def translate(config: schema.Translate) -> dict[str, Any]:
    """Translate every line; a line without words stays empty."""
    keep_freed_memory()
    trained = load_translator(config.checkpoint)
    device, _ = device_and_autocast(config.accelerator, "32")
    source = trained.language_id("source", config.source)
    target = trained.language_id("target", config.target)
    direction = f"{config.source}-{config.target}"
    if trained.directions and direction not in trained.directions:
        known = ", ".join(trained.directions)
        print(f"the model was trained for {known}, not for {direction}", file=sys.stderr)
    pipelines = trained.load_text_model().pipelines()
    lines, where = _lines(config)
    sources = [pipelines[config.source].encode(line) if line.strip() else [] for line in lines]
    _require_positions(sources, trained.model.max_positions, where)
    trained.model.to(device)
    lay_out_for_decoding(trained.model)
    started = time.perf_counter()
    found = _translations(config, trained, sources, source, target)
    seconds = time.perf_counter() - started
    texts = [pipelines[config.target].decode(found.get(i, [])) for i in range(len(lines))]
    result: dict[str, Any] = {
        "checkpoint": str(trained.path),
        "source": config.source,
        "target": config.target,
    }
    if config.out is None:
        result["texts"] = texts
    else:
        write_text(Path(config.out), "".join(f"{text}\n" for text in texts))
        result["out"] = config.out
    new_tokens = sum(len(ids) + 1 for ids in found.values())  # </s> was found as well
    return {**result, "lines": len(texts), "tokens_per_second": new_tokens / max(seconds, 1e-9)}


def _lines(config: schema.Translate) -> tuple[list[str], str]:
    """The lines to translate, and what they are called in errors."""
    if config.text is not None:
        return [config.text], "text"
    if config.text_file is not None:
        return read_text_lines(Path(config.text_file), "text_file"), "text_file, line {number}"
    return _standard_input(config.source), "standard input, line {number}"


def _standard_input(language: str) -> list[str]:
    """The lines of standard input, to its end."""
    if sys.stdin is None:  # closed by whoever started the command
        raise UserError(f"{STANDARD_INPUT} is closed; say text=... or text_file=FILE")
    if sys.stdin.isatty():
        told = f"type sentences of language {language}, one a line; Ctrl-D ends them"
        print(told, file=sys.stderr, flush=True)
    return text_lines(sys.stdin.buffer.read(), STANDARD_INPUT)


def _require_positions(sources: Sequence[Sequence[int]], positions: int, where: str) -> None:
    """Raise `UserError` for a line that the model has no places for: `</s>` stands around it."""
    for number, ids in enumerate(sources, start=1):
        if len(ids) + 2 > positions:
            raise UserError(
                f"{where.format(number=number)}: has {len(ids)} tokens, the model reads "
                f"{positions - 2} at most; shorten it"
            )


def _noise(config: schema.Translate, lines: Sequence[int], steps: int) -> Tensor | None:
    """Of each line its own, whatever is translated beside it."""
    if not config.temperature:
        return None
    return seeded_noise(config.seed, [(line, 0) for line in lines], steps)


def _translations(
    config: schema.Translate,
    trained: TrainedTranslator,
    sources: Sequence[Sequence[int]],
    source: int,
    target: int,
) -> dict[int, list[int]]:
    """Line -> ids of its translation, for lines that are not empty; those of like length go
    together."""
    order = sorted((i for i, ids in enumerate(sources) if ids), key=lambda i: len(sources[i]))
    found: dict[int, list[int]] = {}
    for some in batches(order, max(1, config.batch_size // config.beam), "translating"):
        ids = translate_batch(
            trained.model,
            [sources[i] for i in some],
            source_language=source,
            language=target,
            beam=config.beam,
            length_penalty=config.length_penalty,
            early_stopping=config.early_stopping,
            temperature=config.temperature,
            top_k=config.top_k or None,
            top_p=config.top_p if config.top_p < 1 else None,
            noise=_noise(config, some, trained.model.max_positions),
        )
        found |= dict(zip(some, ids, strict=True))
    return found
