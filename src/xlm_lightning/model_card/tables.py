"""Rows and sentences of a model card, made of what its record holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xlm_lightning.model_card.metadata import SPLITS, first_objective, scores
from xlm_lightning.model_card.record import Trained, source_of
from xlm_lightning.trained import TrainedModel
from xlm_lightning.wording import duration, listed

_NAMES = {
    "ar": "Arabic",
    "bg": "Bulgarian",
    "cs": "Czech",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "hi": "Hindi",
    "it": "Italian",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sw": "Swahili",
    "th": "Thai",
    "tr": "Turkish",
    "ur": "Urdu",
    "vi": "Vietnamese",
    "zh": "Chinese",
}
Row = Sequence[str]


def table(head: Row, rows: Sequence[Row]) -> str:
    """A Markdown table; a bar inside a cell does not end it."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def language_name(language: str) -> str:
    """`German` for `de`; the code itself where no name is known here."""
    return _NAMES.get(language, f"`{language}`")


def data_table(data: Mapping[str, Any]) -> str:
    """Lines and tokens of each split, of texts and of pairs."""
    rows = [
        [split, language, f"{counts['lines']:,}", f"{counts['tokens']:,}"]
        for part in ("splits", "parallel")
        for split, languages in data[part].items()
        for language, counts in _flat(languages)
    ]
    return table(["Split", "Language", "Lines", "Tokens"], rows)


def _flat(languages: Mapping[str, Any], pair: str = "") -> Iterator[tuple[str, Mapping[str, int]]]:
    for name, counts in languages.items():
        if "lines" in counts:
            yield f"{name} of {pair}" if pair else name, counts
        else:
            yield from _flat(counts, name)


def shape_rows(shape: Mapping[str, Any]) -> list[Row]:
    """The architecture of a network, as far as all of them have it."""
    return [
        ["Layers", f"{shape['layers']}"],
        ["Width", f"{shape['dim']:,}"],
        ["Attention heads", f"{shape['heads']}"],
        ["Vocabulary", f"{shape['vocab_size']:,} tokens"],
        ["Positions", f"{shape['max_positions']:,}, {_positions(shape['position_init'])}"],
        ["Activation", shape["activation"]],
        ["Layer norms", "behind each part of a layer (post-norm)"],
        ["Output layer", "tied to the embeddings" if shape["tied_output"] else "of its own"],
    ]


def _positions(init: str) -> str:
    return "fixed sinusoids" if init == "fixed_sinusoidal" else "learned"


def result_table(trained: Trained, summary: Mapping[str, Any]) -> str:
    """Every text that the run has scored a language model on; empty where there is none."""
    rows = []
    limit = summary.get("limit", {})
    for split in SPLITS:
        for objective, language, row in scores(summary.get(split, {}), first_objective(trained)):
            if "bleu" in row:
                continue
            known = split == "valid" and objective == "clm" and language in limit
            rows.append(
                [
                    objective,
                    language,
                    split,
                    f"{row['perplexity']:.3f}",
                    f"{limit[language]['perplexity']:.3f}" if known else "",
                    f"{row['accuracy']:.1%}",
                    f"{row['bits_per_byte']:.4f}" if "bits_per_byte" in row else "",
                    f"{row['tokens']:,}",
                ]
            )
    head = ["Objective", "Language", "Split", "Perplexity", "Limit", "Accuracy", "Bits per byte"]
    return _without_empty_columns([*head, "Tokens scored"], rows) if rows else ""


def _without_empty_columns(head: Row, rows: Sequence[Row]) -> str:
    kept = [column for column in range(len(head)) if any(row[column] for row in rows)]
    return table([head[column] for column in kept], [[row[c] for c in kept] for row in rows])


def suite_tables(content: Mapping[str, Any]) -> str:
    """The tests of one suite of xlm-evaluate, each with its method and its table."""
    parts = []
    for test in content["tests"]:
        chance = test.get("chance")
        told = "" if chance is None else f" Chance is {chance:.3g}."
        parts.append(f"\n**{test['title']}.** {test['method']}{told}\n\n{_suite_table(test)}")
    limits = [f"- {limit}" for limit in content.get("limits", [])]
    if limits:
        parts.append("\nThe limits of these figures:\n\n" + "\n".join(limits))
    return "\n".join(parts)


def _suite_table(test: Mapping[str, Any]) -> str:
    """The rows of one test as they are, intervals in brackets."""
    rows = [
        [
            _cell(row.get("series")),
            _cell(row.get("group")),
            _cell(row.get("x")),
            _cell(row.get("value")),
            f"[{_cell(row['low'])}, {_cell(row['high'])}]" if row.get("low") is not None else "",
            _cell(row.get("count")),
        ]
        for row in test["rows"]
    ]
    unit = f" ({test['unit']})" if test.get("unit") else ""
    head = ["Series", "Group", "x", f"{test['metric']}{unit}", "95 % interval", "Count"]
    return _without_empty_columns(head, rows)


def _cell(value: Any) -> str:
    if value is None or value != value:  # not a number
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    return str(value)


def training_table(trained: Trained, record: Mapping[str, Any]) -> str:
    """What decided the weights, and how fast it went; only what was recorded, maybe nothing."""
    summary, config = record.get("summary", {}), record.get("config", {})
    rows = [["Step of these weights", _count(trained.facts.get("steps"))]]
    rows += [
        ["Tokens seen", _count(summary.get("tokens_seen"))],
        *_length_rows(trained, record),
        *_batch_rows(summary),
        *_optimizer_rows(config),
        ["Precision", summary.get("precision", "")],
        ["Processes", _count(summary.get("world_size"))],
        ["Seed", str(summary.get("seed", ""))],
        ["Speed", _speed(summary)],
        ["Training time, validation left out", _training_time(summary)],
    ]
    known = [row for row in rows if row[1]]
    return table(["", ""], known) if known else ""


def _length_rows(trained: Trained, record: Mapping[str, Any]) -> list[list[str]]:
    """What the model was fed with at a time."""
    if isinstance(trained, TrainedModel):
        told = source_of(trained, record) != "foreign"  # else a length is only assumed
        return [["Tokens in a sequence", _count(trained.stream_length) if told else ""]]
    data = record.get("config", {}).get("data", {})
    return [
        ["Tokens in a micro-batch, at most", _count(data.get("sentence_tokens"))],
        ["Tokens in a sentence, at most", _count(data.get("sentence_max_length"))],
    ]


def _batch_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    if not summary.get("steps") or not summary.get("tokens_seen"):
        return []
    return [["Tokens in a step", _count(round(summary["tokens_seen"] / summary["steps"]))]]


def _optimizer_rows(config: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    if "optimizer" in config:
        chosen = config["optimizer"]
        rows.append(
            [
                "Optimiser",
                f"{chosen['name']}, learning rate {chosen['lr']:g}, betas "
                f"{listed([f'{beta:g}' for beta in chosen['betas']])}, epsilon {chosen['eps']:g}, "
                f"weight decay {chosen['weight_decay']:g}",
            ]
        )
    if "schedule" in config:
        name, warmup = config["schedule"]["name"], config["schedule"]["warmup_steps"]
        rows.append(["Learning rate over time", f"{name}, after {warmup:,} steps of warm-up"])
    if config.get("trainer", {}).get("gradient_clip_val"):
        rows.append(["Gradient clipping", f"norm {config['trainer']['gradient_clip_val']:g}"])
    if "model" in config:
        chosen = config["model"]
        dropout = f"{chosen['dropout']:g}, in attention {chosen['attention_dropout']:g}"
        rows.append(["Dropout", dropout])
    return rows


def training_seconds(summary: Mapping[str, Any]) -> float | None:
    """Of all starts of the run; `summary.seconds` would be of the last one."""
    if not summary.get("tokens_per_second"):
        return None
    return float(summary["tokens_seen"] / summary["tokens_per_second"])


def _training_time(summary: Mapping[str, Any]) -> str:
    seconds = training_seconds(summary)
    return "" if seconds is None else duration(seconds)


def _speed(summary: Mapping[str, Any]) -> str:
    speed = summary.get("tokens_per_second")
    return f"{speed:,.0f} tokens/s" if speed else ""


def _count(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else ""
