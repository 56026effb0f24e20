"""The head of a model card, as the Hugging Face hub reads it: facts, `model-index`, carbon."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from xlm_lightning.model_card.record import Trained, begun_from, objectives_of
from xlm_lightning.trained import TrainedModel
from xlm_lightning.trained_translator import TrainedTranslator

SPLITS = {"valid": "validation", "test": "test"}  # -> the hub's name
METRICS = {"perplexity": "Perplexity", "accuracy": "Accuracy", "bits_per_byte": "Bits per byte"}
TRANSLATION_METRICS = {"bleu": "BLEU", "chrf": "chrF"}  # those that compare between programs
TASKS = {"clm": "text-generation", "mlm": "fill-mask", "tlm": "fill-mask", "mt": "translation"}
# Identifiers of general licences that the hub knows; any other licence is `other` with a name.
_HUB_LICENSES = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m openrail++ afl-3.0
    artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0
    cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
    cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0
    etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc
    lppl-1.3c ms-pl mpl-2.0 odc-by odbl osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr
    """
LICENSES = frozenset(_HUB_LICENSES.split())
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")  # OWNER/NAME; a folder may have more slashes


def metadata(
    trained: Trained, record: Mapping[str, Any], card: Mapping[str, str], name: str
) -> ModelCardData:
    """`card`: what the author has stated. What is not known is left out."""
    if isinstance(trained, TrainedModel):
        kind = _language_model(trained, record)
    else:
        kind = _translator(trained, record)
    return ModelCardData(
        model_name=name,
        language=trained.languages,
        eval_results=list(_eval_results(trained, record)) or None,
        **kind,
        **_license(card.get("license")),
        **_emissions(record),
    )


def _language_model(trained: TrainedModel, record: Mapping[str, Any]) -> dict[str, Any]:
    source = record.get("config", {}).get("model", {}).get("init_from")
    return {
        "library_name": "transformers",
        "pipeline_tag": TASKS[trained.objective],
        "tags": ["xlm", "cross-lingual", trained.objective],
        "base_model": next(iter(_hub_names([source])), None),
    }


def _translator(trained: TrainedTranslator, record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "library_name": "xlm-lightning",
        "pipeline_tag": TASKS["mt"],
        "tags": ["translation", "xlm", "cross-lingual", *objectives_of(trained)],
        "metrics": list(TRANSLATION_METRICS),
        "base_model": _hub_names(begun_from(record).values()) or None,
    }


def _hub_names(sources: Iterable[str | None]) -> list[str]:
    """Models that weights began from, as far as they have a page to link to: a folder has none."""
    given = {source for source in sources if source is not None and not Path(source).exists()}
    return sorted(filter(_HUB_NAME.fullmatch, given))


def scores(
    results: Mapping[str, Any], objective: str
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Objective, language and figures of each row of `summary.json`'s valid or test.

    `objective`: the first of the run, whose rows stand beside the names of the others.
    """
    for name, row in results.items():
        if "perplexity" not in row:
            yield from scores(row, name)
        elif name != "mean":
            yield objective, name, row


def first_objective(trained: Trained) -> str:
    """Whose rows stand first in `summary.json`: of a translator, those of translating."""
    if isinstance(trained, TrainedTranslator):
        return "mt"
    return str(trained.facts.get("objectives", trained.objective)).partition(",")[0]


def corpus_name(record: Mapping[str, Any]) -> str:
    """What the data were called when they were prepared; `text` are files of somebody's own."""
    data = record.get("provenance", {}).get("data", {})
    return str(data.get("corpus", {}).get("name", "text"))


def _eval_results(trained: Trained, record: Mapping[str, Any]) -> Iterator[EvalResult]:
    corpus = corpus_name(record)
    summary = record.get("summary", {})
    for split, hub_split in SPLITS.items():
        found = summary.get(split, {})
        for objective, language, row in scores(found, first_objective(trained)):
            for metric, title in (TRANSLATION_METRICS if "bleu" in row else METRICS).items():
                if metric in row and math.isfinite(row[metric]):
                    signature = found["mean"].get(f"{metric}_signature")
                    yield EvalResult(
                        task_type=TASKS[objective],
                        dataset_type=corpus,
                        dataset_name=f"{corpus} ({language})",
                        dataset_config=language,
                        dataset_split=hub_split,
                        metric_type=metric,
                        metric_name=title,
                        metric_value=row[metric],
                        metric_args={"signature": signature} if signature else None,
                    )


def _license(stated: str | None) -> dict[str, Any]:
    """The hub wants one of its own lower-case identifiers, or `other` and a name."""
    if stated is None:
        return {}
    identifier = stated.strip().lower()
    if identifier in LICENSES:
        return {"license": identifier}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.+]+", "-", identifier).strip("-")}


def _emissions(record: Mapping[str, Any]) -> dict[str, Any]:
    energy = record.get("summary", {}).get("energy")
    if energy is None:
        return {}
    return {
        "co2_eq_emissions": {
            "emissions": energy["kg_co2eq"] * 1000,  # in grams
            "source": f"codecarbon {energy['codecarbon']}",
            "training_type": "pre-training",
            "geographical_location": energy["country"],
        }
    }
