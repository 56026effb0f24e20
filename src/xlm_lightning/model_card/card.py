"""The text of a model card: the template of this folder, filled with what is known of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jinja2

from xlm_lightning import __version__
from xlm_lightning.errors import UserError
from xlm_lightning.huggingface.config import origin
from xlm_lightning.model_card.impact import impact
from xlm_lightning.model_card.metadata import corpus_name, metadata
from xlm_lightning.model_card.record import TRAINING, read_record, source_of
from xlm_lightning.model_card.tables import (
    data_table,
    language_name,
    result_table,
    suite_tables,
    table,
    training_table,
)
from xlm_lightning.text.text_model import TextModel
from xlm_lightning.trained import TrainedModel
from xlm_lightning.wording import listed

README = "README.md"
MARKER = "<!-- Written by xlm-export, which replaces this file when it writes the card again. -->"
TEMPLATE = Path(__file__).with_name("card.md.jinja")
FIRST_WORDS = "Wikipedia was used to"


def card_files(trained: TrainedModel, stated: Mapping[str, Any]) -> dict[str, str]:
    """Return the card, and the record that lets it be written again, by their files' names.

    `stated`: what the author says, by the keys of `card.*`; None for what is not said, where an
    exported folder may still know what was said at its first export.
    """
    record = read_record(trained)
    said = {**record.get("card", {}), **{k: v for k, v in stated.items() if v is not None}}
    if said:
        record["card"] = said
    try:
        card = _render(trained, trained.load_text_model(), record)
    except (AttributeError, KeyError, TypeError, ValueError, jinja2.UndefinedError) as error:
        raise UserError(f"{_source_files(trained)} ({type(error).__name__}: {error})") from error
    files = {README: card}
    if record:
        files[TRAINING] = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    return files


def _source_files(trained: TrainedModel) -> str:
    if trained.path.suffix == ".ckpt":
        run = trained.path.parent.parent
        return f"{run}: summary.json, provenance.json or an evaluation is not as it was written"
    return f"{trained.path.with_name(TRAINING)} is not as xlm-export writes it; remove it"


def _render(trained: TrainedModel, text_model: TextModel, record: Mapping[str, Any]) -> str:
    card = record.get("card", {})
    name = card.get("name", default_name(trained))
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown
    )
    text = environment.from_string(TEMPLATE.read_text("utf-8")).render(
        name=name,
        metadata=metadata(trained, record, card, name).to_yaml(),
        marker=MARKER,
        version=__version__,
        card=card,
        stated=partial(_stated, card),
        sentence=partial(_sentence, card),
        suite=suite_tables,
        first_words=FIRST_WORDS,
        **_model(trained, text_model),
        **_training(trained, record),
        **impact(record, card),
    )
    return "\n".join(_without_double_blanks(text.splitlines())) + "\n"


def default_name(trained: TrainedModel) -> str:
    """Named as the published models are: xlm-clm-ende-1024."""
    languages = trained.languages
    together = "".join(languages) if len(languages) < 5 else f"{len(languages)}-languages"
    return f"xlm-{trained.objective}-{together}-{trained.model.arguments['dim']}"


def _stated(card: Mapping[str, Any], key: str) -> str:
    return str(card.get(key, f"not stated by its author; set `card.{key}=...`"))


def _sentence(card: Mapping[str, Any], key: str) -> str:
    """The same where it stands alone."""
    return str(card.get(key, f"Not stated by its author; set `card.{key}=...`."))


def _without_double_blanks(lines: list[str]) -> list[str]:
    """Parts that a model lacks leave blank lines behind."""
    return [line for before, line in zip(["", *lines], lines, strict=False) if line or before]


def _model(trained: TrainedModel, text_model: TextModel) -> dict[str, Any]:
    """What the weights and the text model tell by themselves."""
    shape = trained.model.arguments
    names = [language_name(language) for language in trained.languages]
    ids = [f"{names[index]} (`{code}`, id {index})" for index, code in enumerate(trained.languages)]
    rows = [
        ["Layers", f"{shape['layers']}"],
        ["Width", f"{shape['dim']:,}"],
        ["Attention heads", f"{shape['heads']}"],
        ["Vocabulary", f"{shape['vocab_size']:,} tokens"],
        ["Positions", f"{shape['max_positions']:,}, {_positions(shape['position_init'])}"],
        ["Activation", shape["activation"]],
        ["Layer norms", "behind each part of a layer (post-norm)"],
        ["Output layer", "tied to the embeddings" if shape["tied_output"] else "of its own"],
        ["Attention", "to earlier positions only" if trained.causal else "to all positions"],
        ["Objective", trained.objective],
    ]
    return {
        "trained": trained,
        "text_model": text_model,
        "shape": shape,
        "causal": trained.causal,
        "objectives": trained.facts.get("objectives", trained.objective),
        "origin": origin(trained, text_model),
        "languages": listed(names),
        "languages_or": " or ".join(filter(None, [", ".join(names[:-1]), names[-1]])),
        "languages_with_ids": ", ".join(ids),
        "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
        "architecture": table(["", ""], rows),
    }


def _positions(init: str) -> str:
    return "fixed sinusoids" if init == "fixed_sinusoidal" else "learned"


def _training(trained: TrainedModel, record: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the run, its data, its scores and its software."""
    summary = record.get("summary", {})
    provenance = record.get("provenance", {})
    data = provenance.get("data", {})
    shares = summary.get("grammatical", {})
    return {
        "source": source_of(trained, record),
        "summary": summary,
        "evaluations": record.get("evaluations", {}),
        "other_weights": summary.get("scored_step"),
        "init_from": record.get("config", {}).get("model", {}).get("init_from"),
        "synthetic": corpus_name(record) == "sample",
        "data": data,
        "corpus": _corpus(data) if "splits" in data else "",
        "data_table": data_table(data) if "splits" in data else "",
        "training_table": training_table(trained, record),
        "result_table": result_table(trained, summary),
        "grammatical": listed(
            [f"{share:.0%} ({language_name(language)})" for language, share in shares.items()]
        )
        if shares
        else "",
        "software": _software(provenance),
    }


def _corpus(data: Mapping[str, Any]) -> str:
    corpus = data["corpus"]
    if corpus.get("name", "text") == "text":
        return "Text of the author's own (`xlm-prepare corpus=text`):\n"
    facts = [
        f"{key.replace('_', ' ')} {' '.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in corpus.items()
        if key != "name" and isinstance(value, str | int | float | list)
    ]
    told = f" ({', '.join(facts)})" if facts else ""
    return f"The corpus `{corpus['name']}` of xlm-lightning{told}:\n"


def _software(provenance: Mapping[str, Any]) -> str:
    if "packages" not in provenance:
        return ""
    packages = [f"{name} {number}" for name, number in provenance["packages"].items()]
    revision = provenance.get("git_revision")
    told = f", revision `{revision}`" if revision else ""
    return f"xlm-lightning{told}, on Python {provenance['python']} with {listed(packages)}."
