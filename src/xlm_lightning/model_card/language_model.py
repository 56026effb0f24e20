"""What the card of a language model tells that no other card does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xlm_lightning.model_card.tables import (
    language_name,
    result_table,
    shape_rows,
    suite_tables,
    table,
)
from xlm_lightning.trained import TrainedModel
from xlm_lightning.wording import listed

FIRST_WORDS = "Wikipedia was used to"


def of_language_model(trained: TrainedModel, record: Mapping[str, Any]) -> dict[str, Any]:
    """The names of `language_model.md.jinja`."""
    summary = record.get("summary", {})
    names = [language_name(language) for language in trained.languages]
    shares = summary.get("grammatical", {})
    attention = "to earlier positions only" if trained.causal else "to all positions"
    rows = [
        *shape_rows(trained.model.arguments),
        ["Attention", attention],
        ["Objective", trained.objective],
    ]
    return {
        "causal": trained.causal,
        "objectives": trained.facts.get("objectives", trained.objective),
        "languages_or": " or ".join(filter(None, [", ".join(names[:-1]), names[-1]])),
        "architecture": table(["", ""], rows),
        "init_from": record.get("config", {}).get("model", {}).get("init_from"),
        "evaluations": record.get("evaluations", {}),
        "suite": suite_tables,
        "result_table": result_table(trained, summary),
        "grammatical": listed(
            [f"{share:.0%} ({language_name(language)})" for language, share in shares.items()]
        ),
        "first_words": FIRST_WORDS,
    }
