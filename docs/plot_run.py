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
    """Training and validation perplexity against tokens; the corpus's limit where it is known."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    tokens_per_step = summary["tokens_seen"] / summary["steps"] / 1e6
    figure, axes = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    train = [(row["step"], row["train/perplexity"]) for row in rows if row["train/perplexity"]]
    xs, ys = zip(*((int(s) * tokens_per_step, float(p)) for s, p in train), strict=True)
    axes.plot(xs, ys, color="0.75", linewidth=0.8, label="train, both languages")
    for language in sorted(set(summary["valid"]) - {"mean"}):
        column, colour = f"valid/{language}/perplexity", COLOURS.get(language)
        points = [(int(r["step"]) * tokens_per_step, float(r[column])) for r in rows if r[column]]
        (line,) = axes.plot(
            *zip(*points, strict=True), marker="o", ms=3, color=colour, label=f"valid {language}"
        )
        limit = summary.get("limit", {}).get(language)
        if limit:
            label = f"true entropy {language}"
            axes.axhline(limit["perplexity"], color=line.get_color(), ls=":", label=label)
    worst = max(row["perplexity"] for row in summary["valid"].values())
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
