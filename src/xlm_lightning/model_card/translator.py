"""What the card of a translation model tells that no other card does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xlm_lightning.model_card.metadata import SPLITS, scores
from xlm_lightning.model_card.record import begun_from, objectives_of
from xlm_lightning.model_card.tables import language_name, result_table, shape_rows, table
from xlm_lightning.trained_translator import TrainedTranslator
from xlm_lightning.wording import listed

_LEARNS = {
    "ae": "to restore a sentence from itself with noise",
    "bt": "to reach a sentence from the model's own translation of it",
    "mt": "to reach a sentence from its translation",
    "clm": "to predict each token of a text from those before it (decoder)",
    "mlm": "to predict hidden tokens of a text (encoder)",
    "tlm": "to predict hidden tokens of a sentence and its translation (encoder)",
}
_BEGINNINGS = {
    "none": "random weights",
    "clm": "a causal language model",
    "mlm": "a masked language model",
    "tlm": "a language model of sentences and their translations",
}


def of_translator(trained: TrainedTranslator, record: Mapping[str, Any]) -> dict[str, Any]:
    """The names of `translator.md.jinja`."""
    summary = record.get("summary", {})
    objectives = objectives_of(trained)
    rows = [
        ["Networks", "an encoder and a decoder, each of this shape"],
        *shape_rows(trained.model.arguments),
        ["Attention", "encoder: to all of the sentence; decoder: to what it has written, and in "
         "each layer to what the encoder has read"],
        ["Embeddings", "shared by both" if trained.model.arguments["shared_embeddings"] else
         "of each network its own"],
        ["Objectives", listed(objectives)],
    ]  # fmt: skip
    first = (trained.directions or ["-".join(trained.languages[:2])])[0]
    return {
        "objectives": ", ".join(objectives),
        "supervised": "mt" in objectives,
        "saw_pairs": "tlm" in [*objectives, *_start(record).values()],
        "directions": ", ".join(f"{_in_words(one)} (`{one}`)" for one in trained.directions),
        "first_direction": dict(zip(("source", "target"), first.split("-"), strict=True)),
        "starts": _starts(record),
        "longest": record.get("config", {}).get("data", {}).get("sentence_max_length"),
        "parallel_text": _parallel_text(objectives, record),
        "objective_table": _objective_table(objectives, record.get("config", {})),
        "architecture": table(["", ""], rows),
        "signatures": _signatures(summary),
        "result_table": _results(trained, summary),
    }


def _in_words(direction: str) -> str:
    """`German to English` for `de-en`."""
    return " to ".join(language_name(language) for language in direction.split("-"))


def _starts(record: Mapping[str, Any]) -> str:
    """What each network began with."""
    start = _start(record)
    told = []
    for network, source in begun_from(record).items():
        kind = _BEGINNINGS[start[network]] if network in start else "weights that are not recorded"
        name = f"`{source}`, " if source is not None else ""
        told.append(f"the {network} began with {name}{kind}")
    return "; ".join(told)


def _start(record: Mapping[str, Any]) -> dict[str, str]:
    """Network -> `none`, or what the model was trained for that it began with."""
    start: dict[str, str] = record.get("provenance", {}).get("start", {})
    return start


def _parallel_text(objectives: Sequence[str], record: Mapping[str, Any]) -> str:
    """Whether the model was trained on the parallel text that the table lists."""
    if not record.get("provenance", {}).get("data", {}).get("parallel", {}).get("train"):
        return ""
    used = [name for name in objectives if name in ("mt", "tlm")]
    if not used:
        return "The parallel text of `train` was not trained on."
    most = record.get("config", {}).get("data", {}).get("max_pairs")
    part = f"The first {most:,} lines" if most is not None else "All"
    return f"{part} of the parallel text of `train` served {listed([f'`{n}`' for n in used])}."


def _objective_table(objectives: Sequence[str], config: Mapping[str, Any]) -> str:
    written = config.get("objective", {})
    rows = [
        [f"`{name}`", _LEARNS[name] + _noise(name, written), _weight(written.get(name))]
        for name in objectives
    ]
    return table(["Objective", "Learns", "Weight of its loss"], rows)


def _noise(name: str, written: Mapping[str, Any]) -> str:
    if name != "ae" or "noise" not in written:
        return ""
    noise = written["noise"]
    return (
        f" ({noise['drop']:.0%} of the tokens left out, {noise['blank']:.0%} hidden, each moved by "
        f"up to {noise['shuffle']:g} places)"
    )


def _weight(written: Any) -> str:
    """A weight, or its points over the steps, as `objective.ae=0:1,1000:0.1` has them."""
    if written is None:
        return "not recorded"
    if ":" not in str(written):
        return str(written)
    points = [point.split(":") for point in written.split(",")]
    told = [f"{weight} at step {int(step):,}" for step, weight in points]
    return f"{', '.join(told)}; straight lines in between"


def _signatures(summary: Mapping[str, Any]) -> dict[str, str]:
    """sacrebleu's shorthand for what was scored, empty where a run did not record it."""
    mean = summary.get("valid", {}).get("mean", {})
    return {name: mean.get(f"{name}_signature", "") for name in ("bleu", "chrf")}


def _results(trained: TrainedTranslator, summary: Mapping[str, Any]) -> str:
    """Scores of each direction, and below them those of what else the run has scored."""
    rows = [
        [
            _in_words(direction),
            split,
            f"{row['bleu']:.2f}",
            f"{row['chrf']:.2f}",
            f"{row['bleu_tokenised']:.2f}",
            f"{row['perplexity']:.3f}",
            f"{row['sentences']:,}",
        ]
        for split in SPLITS
        for _, direction, row in scores(summary.get(split, {}), "mt")
        if "bleu" in row
    ]
    if not rows:
        return ""
    head = ["Direction", "Split", "BLEU", "chrF", "Tokenised BLEU", "Perplexity", "Sentences"]
    others = result_table(trained, summary)
    return table(head, rows) + (f"\n\n{others}" if others else "")
