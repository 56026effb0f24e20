"""The text of a model card: a template of this folder, filled with what is known of a model.

`card.md.jinja` is what all cards tell; the template of a kind of model fills its blocks.
"""

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
from xlm_lightning.model_card.language_model import of_language_model
from xlm_lightning.model_card.metadata import corpus_name, metadata
from xlm_lightning.model_card.record import TRAINING, Trained, read_record, source_of
from xlm_lightning.model_card.tables import (
    data_table,
    language_name,
    training_table,
)
from xlm_lightning.model_card.translator import of_translator
from xlm_lightning.text.text_model import TextModel
from xlm_lightning.trained import TrainedModel
from xlm_lightning.wording import listed

README = "README.md"
MARKER = "<!-- Written by xlm-export, which replaces this file when it writes the card again. -->"
TEMPLATES = Path(__file__).parent


def card_files(trained: Trained, stated: Mapping[str, Any]) -> dict[str, str]:
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


def _source_files(trained: Trained) -> str:
    if trained.path.suffix == ".ckpt":
        run = trained.path.parent.parent
        return f"{run}: summary.json, provenance.json or an evaluation is not as it was written"
    return f"{trained.path.with_name(TRAINING)} is not as xlm-export writes it; remove it"


def _render(trained: Trained, text_model: TextModel, record: Mapping[str, Any]) -> str:
    card = record.get("card", {})
    name = card.get("name", default_name(trained))
    if isinstance(trained, TrainedModel):
        template, facts = "language_model.md.jinja", of_language_model(trained, record)
    else:
        template, facts = "translator.md.jinja", of_translator(trained, record)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown
    )
    text = environment.get_template(template).render(
        name=name,
        metadata=metadata(trained, record, card, name).to_yaml(),
        marker=MARKER,
        version=__version__,
        card=card,
        stated=partial(_stated, card),
        sentence=partial(_sentence, card),
        **facts,
        **_model(trained, text_model),
        **_training(trained, record),
        **impact(record, card),
    )
    return "\n".join(_without_double_blanks(text.splitlines())) + "\n"


def default_name(trained: Trained) -> str:
    """Named as the published models are: xlm-clm-ende-1024."""
    languages = trained.languages
    together = "".join(languages) if len(languages) < 5 else f"{len(languages)}-languages"
    kind = trained.objective if isinstance(trained, TrainedModel) else "translator"
    return f"xlm-{kind}-{together}-{trained.model.arguments['dim']}"


def _stated(card: Mapping[str, Any], key: str) -> str:
    return str(card.get(key, f"not stated by its author; set `card.{key}=...`"))


def _sentence(card: Mapping[str, Any], key: str) -> str:
    """The same where it stands alone."""
    return str(card.get(key, f"Not stated by its author; set `card.{key}=...`."))


def _without_double_blanks(lines: list[str]) -> list[str]:
    """Parts that a model lacks leave blank lines behind."""
    return [line for before, line in zip(["", *lines], lines, strict=False) if line or before]


def _model(trained: Trained, text_model: TextModel) -> dict[str, Any]:
    """What the weights and the text model tell by themselves."""
    names = [language_name(language) for language in trained.languages]
    ids = [f"{names[index]} (`{code}`, id {index})" for index, code in enumerate(trained.languages)]
    return {
        "trained": trained,
        "text_model": text_model,
        "shape": trained.model.arguments,
        "origin": origin(trained.facts, text_model),
        "languages": listed(names),
        "languages_with_ids": ", ".join(ids),
        "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
    }


def _training(trained: Trained, record: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the run, its data and its software."""
    summary = record.get("summary", {})
    provenance = record.get("provenance", {})
    data = provenance.get("data", {})
    return {
        "source": source_of(trained, record),
        "summary": summary,
        "other_weights": summary.get("scored_step"),
        "synthetic": corpus_name(record) == "sample",
        "data": data,
        "corpus": _corpus(data) if "splits" in data else "",
        "data_table": data_table(data) if "splits" in data else "",
        "training_table": training_table(trained, record),
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
    facts += [
        f"{pair} {split} {test_set}"
        for pair, splits in corpus.get("parallel", {}).items()
        for split, test_set in splits.items()
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
