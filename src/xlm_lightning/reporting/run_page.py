"""The report of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xlm_lightning.config_files import default_values
from xlm_lightning.reporting import plots
from xlm_lightning.reporting.page import Plot, render
from xlm_lightning.reporting.record import RunRecord
from xlm_lightning.wording import counted, duration, listed, number, typed

LABELLED_WORDS = 60
_OBJECTIVES = {"clm": "causal", "mlm": "masked", "tlm": "translation"}
_TRANSLATION = {"ae": "denoising", "bt": "back-translation", "mt": "parallel text"}


def run_page(run: RunRecord) -> str:
    """Return the HTML of a run's report."""
    return render(
        "run.html",
        title=run.name,
        run=run,
        sentence=_sentence(run),
        tiles=list(_tiles(run)),
        results=(results := list(_results(run))),
        translates=any("bleu" in row for row in results),
        courses=list(_courses(run)),
        throughput=_throughput(run),
        shares=_shares(run),
        words=_words(run),
        evaluations=[(each, _evaluation(each)) for each in run.evaluations],
        samples=run.samples[::-1],
        remarks=list(remarks(run)),
        configuration=_configuration(run),
        facts=list(_facts(run)),
    )


def _sentence(run: RunRecord) -> str:
    """What was trained on what, in words."""
    model, summary = run.config["model"], run.summary
    parts = [
        f"A {_kind(run)} of {listed(run.languages) or 'no language yet'}",
        f": {model['layers']} layers, {model['dim']} wide, {model['heads']} heads",
    ]
    if "parameters" in summary:
        parts.append(f", {counted(summary['parameters'])} parameters")
    parts.append(f"; trained on {run.config['data']['dir']}")
    tokens = run.summary.get("tokens_seen") or (run.rows and _last(run, "train/tokens_seen"))
    if tokens:
        parts.append(f" with {counted(tokens)} tokens")
    if "seconds" in summary:
        parts.append(f" in {duration(summary['seconds'])}")
    hardware = run.provenance.get("hardware", {})
    where = hardware.get("gpus") or [hardware.get("cpu")]
    if where[0]:
        parts.append(f" on {summary.get('world_size', 1)} x {where[0]}")
    return "".join(parts) + "."


def _kind(run: RunRecord) -> str:
    """What kind of model it is, by what it was trained for."""
    used = [
        name
        for name, weight in run.config["objective"].items()
        if not isinstance(weight, Mapping) and str(weight) not in ("0", "0.0")
    ]
    modelled = " and ".join(_OBJECTIVES[name] for name in _OBJECTIVES if name in used)
    learned = listed([_TRANSLATION[name] for name in _TRANSLATION if name in used])
    if not learned:
        return f"{modelled} language model"
    return f"translation model (from {learned}{modelled and f', and a {modelled} language model'})"


def _tiles(run: RunRecord) -> Iterator[tuple[str, str, str]]:
    """The figures that matter most: what, value, what to hold it against."""
    valid = run.summary.get("valid", {})
    for language in run.languages:
        bleu = valid.get(language, {}).get("bleu", _last(run, f"valid/{language}/bleu"))
        if bleu is not None:
            between = valid.get(language, {}).get("bleu_interval")
            sure = "; 95 %: {:.1f} to {:.1f}".format(*between) if between else ""
            yield f"BLEU {language}", f"{bleu:.1f}", f"valid text{sure}"
    for language in run.languages:
        perplexity = valid.get(language, {}).get("perplexity")
        shown = perplexity or _last(run, f"valid/{language}/perplexity")
        if shown is None:
            continue
        limit = run.limit(language)
        beside = f"{shown / limit:.3f} times the limit of {limit:.2f}" if limit else "valid text"
        yield f"perplexity {language}", number(shown), beside
    steps = run.summary.get("steps") or (run.rows[-1]["step"] if run.rows else 0)
    asked = run.config["trainer"]["max_steps"]
    yield "steps", f"{steps:,.0f}", f"of {asked:,}"
    speed = run.summary.get("tokens_per_second")
    if speed:
        yield "tokens per second", f"{speed:,.0f}", "mean over the training"
    utilisation = _last(run, "train/model_flop_utilisation")
    if utilisation is not None:
        yield (
            "of what the GPUs could do",
            f"{utilisation:.1%}",
            "model FLOP utilisation, at the end",
        )
    energy = run.summary.get("energy")
    if energy:
        yield (
            "energy",
            f"{1000 * energy['kwh']:,.1f} Wh",
            f"{1000 * energy['kg_co2eq']:,.1f} g CO₂eq",
        )


def _results(run: RunRecord) -> Iterator[dict[str, Any]]:
    """A row for each split and each language, or pair; an objective beside the first has more."""
    for split in ("valid", "test"):
        for name, figures in _flat_figures(run.summary.get(split, {})):
            limit = run.limit(name) if split == "valid" else None
            yield {"split": split, "language": name, "limit": limit, **figures}


def _flat_figures(
    results: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, figures in results.items():
        if "perplexity" in figures:
            yield prefix + name, figures
        else:
            yield from _flat_figures(figures, f"{prefix}{name} ")


def _courses(run: RunRecord) -> Iterator[Plot]:
    """What changed while the run went on."""
    bleu = {name: run.curve(f"valid/{name}/bleu") for name in run.languages}
    if any(bleu.values()):
        said = "Of translations of the valid text, by sacrebleu: higher is better."
        yield Plot("BLEU of each direction", said, plots.curves(bleu, "BLEU", form=".1f"))
    perplexities = {name: run.curve(f"valid/{name}/perplexity") for name in run.languages}
    limits = {name: limit for name in run.languages if (limit := run.limit(name))}
    if any(perplexities.values()):
        said = (
            "How many words the model hesitates between, on text it has not seen: lower is better."
        )
        if limits:
            said += " Dashed: the true entropy of the corpus, below which no model can come."
        yield Plot(
            "Perplexity of each language",
            said,
            plots.curves(perplexities, "perplexity", logarithmic=True, limits=limits),
        )
    clipped = run.config["trainer"]["gradient_clip_val"]
    single = [
        ("Training loss", "Nats per predicted token, mean between two loggings.", "loss", ",.3f"),
        ("Learning rate", "As the schedule has it.", "learning_rate", ".3~g"),
        (
            "Gradient norm",
            f"Before clipping at {clipped}; single peaks are normal, a steady rise is not.",
            "gradient_norm",
            ",.3f",
        ),
    ]
    for title, said, column, form in single:
        curve = run.curve(f"train/{column}")
        if curve:
            what = column.replace("_", " ")
            yield Plot(title, said, plots.curves({what: curve}, what, form=form))


def _throughput(run: RunRecord) -> Plot | None:
    speeds = run.curve("train/tokens_per_second")
    if not speeds:
        return None
    values = [point.value for point in speeds]
    low, middle, high = np.percentile(values, [5, 50, 95])
    said = (
        f"Between two loggings, validations left out. Median {middle:,.0f} tokens/s; "
        f"5 % were below {low:,.0f}, 5 % above {high:,.0f}."
    )
    return Plot("Throughput", said, plots.curves({"tokens/s": speeds}, "tokens/s", form=",.0f"))


def _shares(run: RunRecord) -> Plot | None:
    """Tokens of each language, drawn against asked for."""
    asked = run.provenance.get("language_shares") or run.summary.get("language_shares", {})
    tokens = {name: _last(run, f"train/{name}/tokens_seen") for name in asked}
    total = sum(count or 0 for count in tokens.values())
    if not total:
        return None
    rows = [
        {
            "language": name,
            "tokens": count or 0,
            "drawn": (count or 0) / total,
            "asked": asked[name],
        }
        for name, count in tokens.items()
    ]
    said = "Bars: what was drawn. Marks: what data.alpha asks for."
    return Plot("Tokens of each language", said, plots.shares(rows))


def _words(run: RunRecord) -> Plot | None:
    words = run.word_map.get("words")
    if not words:
        return None
    explained = sum(run.word_map["explained"])
    said = (
        f"The {len(words)} most frequent words, by the two main components of their embeddings "
        f"({explained:.0%} of the variance): what stands together is alike to the model."
    )
    return Plot("Word embeddings", said, plots.word_map(words, LABELLED_WORDS))


def _evaluation(suite: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], list[Plot]]]:
    """Each test with a plot for each of its groups."""
    shown = []
    for test in suite["tests"]:
        groups = dict.fromkeys(str(row["group"]) for row in test["rows"])
        shown.append((test, [Plot(group, "", plots.evaluation(test, group)) for group in groups]))
    return shown


def remarks(run: RunRecord) -> Iterator[str]:
    """What a reader should know before trusting the figures."""
    summary, provenance = run.summary, run.provenance
    if run.status == "unfinished":
        yield f"No summary: it still runs, or was killed; xlm-train run.dir={run.folder} goes on."
    if run.status == "stopped":
        yield "The run was stopped before its end: nothing was scored on all of valid and test."
    if "error" in summary:
        yield f"The run failed: {summary['error']}"
    if summary.get("skipped_steps"):
        yield f"{summary['skipped_steps']} steps were skipped for losses or gradients not finite."
    precision = provenance.get("precision", {})
    if precision.get("asked") not in (None, "auto", precision["used"], precision["used"][:-5]):
        yield f"Precision {precision['asked']} was asked for, {precision['used']} was used."
    if str(provenance.get("git_revision", "")).endswith("+"):
        yield "The code had changes that are in no commit."
    yield from summary.get("warnings", [])


def _configuration(run: RunRecord) -> list[tuple[str, list[tuple[str, str, str | None]]]]:
    """Group -> (key, value, default where it differs), as one would type them."""
    defaults = default_values("train")
    groups: dict[str, list[tuple[str, str, str | None]]] = {}
    for key, value in run.flat_config.items():
        group = key.partition(".")[0] if "." in key else "run"
        changed = None if _is_default(value, defaults.get(key, value)) else typed(defaults[key])
        groups.setdefault(group, []).append((key, typed(value), changed))
    return list(groups.items())


def _is_default(value: Any, default: Any) -> bool:
    if isinstance(value, str) and isinstance(default, str):
        return default in ("???", value) or Path(value).expanduser() == Path(default).expanduser()
    return bool(value == default)


def _facts(run: RunRecord) -> Iterator[tuple[str, str]]:
    """Provenance: what one needs to make the run again."""
    provenance = run.provenance
    yield "command", " ".join(provenance.get("command", []))
    yield "code", str(provenance.get("git_revision") or "installed package")
    for name, version in {
        "python": provenance.get("python"),
        **provenance.get("packages", {}),
    }.items():
        yield name, str(version)
    for name, value in provenance.get("hardware", {}).items():
        yield name, ", ".join(value) if isinstance(value, list) else str(value)
    yield "processes", str(provenance.get("world_size", 1))
    yield "seed", str(run.config["seed"])
    yield "precision", str(provenance.get("precision", {}).get("used"))
    data = provenance.get("data", {})
    yield "data", f"{data.get('dir')}, manifest sha256 {data.get('manifest_sha256')}"
    yield "weights", f"sha256 {run.summary.get('weights_sha256')}"


def _last(run: RunRecord, column: str) -> float | None:
    found = [row[column] for row in run.rows if column in row]
    return found[-1] if found else None
