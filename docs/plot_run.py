"""Draw a run's perplexity curves, as in the README: python docs/plot_run.py RUN_FOLDER OUT.png"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

COLOURS = {"de": "#c1440e", "en": "#1f5f99"}


def draw(run: Path, target: Path) -> None:
    """Training and validation perplexity against tokens; the corpus's limit where it is known.

    A run that goes on, or was stopped, is drawn as far as it is; its summary, with the limit, comes
    at the end.
    """
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    summary = run / "summary.json"
    limits = json.loads(summary.read_text()).get("limit", {}) if summary.is_file() else {}
    train = [row for row in rows if row["train/perplexity"]]
    million_tokens = float(train[-1]["train/tokens_seen"]) / int(train[-1]["step"]) / 1e6
    figure, axes = plt.subplots(figsize=(7.2, 3.6), layout="constrained")

    def curve(column: str) -> tuple[list[float], list[float]]:
        points = [(int(row["step"]), float(row[column])) for row in rows if row[column]]
        return [step * million_tokens for step, _ in points], [value for _, value in points]

    axes.plot(*curve("train/perplexity"), color="0.75", linewidth=0.8, label="train, all languages")
    worst = 0.0
    for column in sorted(name for name in rows[0] if name.startswith("valid/")):
        _, language, figure_name = column.split("/")
        if figure_name != "perplexity" or language == "mean":
            continue
        tokens, values = curve(column)
        colour, label = COLOURS.get(language), f"valid {language}"
        (line,) = axes.plot(tokens, values, marker="o", ms=3, color=colour, label=label)
        worst = max(worst, values[-1])
        if language in limits:
            limit, label = limits[language]["perplexity"], f"true entropy {language}"
            axes.axhline(limit, color=line.get_color(), ls=":", label=label)
    axes.set(xlabel="million tokens seen", ylabel="perplexity per BPE token", yscale="log")
    axes.set_ylim(top=4 * worst)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 5, 6, 8)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=140)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
