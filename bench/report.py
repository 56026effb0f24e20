"""What the report of a sweep costs: six runs of 100,000 steps, beside matplotlib's same curves.

    python bench/report.py [--rows 5000]

One run of seconds is trained, and copied with `--rows` logged steps into a sweep of 3 x 2. Three
lines: CPU seconds of `xlm-report` as a whole command, beside those of a program that draws the same
three plots of six curves with matplotlib and puts them into a page; seconds until a Chromium has
drawn what is to be seen at first, beside that page; and the sizes of the two files. Without
Chromium the second line is left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path

from loop import prepare_tiny_corpus

CURVES = {
    "valid/mean/perplexity": "log",
    "train/loss": "linear",
    "train/tokens_per_second": "linear",
}
SCRIPTS = Path(sys.executable).parent
PEER = """
import base64, csv, html, io, sys
from pathlib import Path
import matplotlib
matplotlib.use("Agg")
from matplotlib import pyplot
sweep, out = Path(sys.argv[1]), Path(sys.argv[2])
curves = dict(pair.split("=") for pair in sys.argv[3:])
runs = {}
for metrics in sorted(sweep.glob("*/metrics.csv")):
    with metrics.open(newline="") as file:
        runs[metrics.parent.name] = list(csv.DictReader(file))
page = []
for column, scale in curves.items():
    figure, axes = pyplot.subplots(figsize=(10, 4), dpi=120)
    for name, rows in runs.items():
        points = [(int(row["step"]), float(row[column])) for row in rows if row[column]]
        axes.plot(*zip(*points), label=name)
    axes.set_yscale(scale)
    axes.set_title(column)
    axes.legend()
    image = io.BytesIO()
    figure.savefig(image)
    page.append(f'<img src="data:image/png;base64,{base64.b64encode(image.getvalue()).decode()}">')
out.write_text("<!doctype html>" + "".join(page))
"""


ALL_DRAWN = """() => {
    const seen = (place) => place.getBoundingClientRect().top < innerHeight;
    const plots = [...document.querySelectorAll(".plot, img")].filter(seen);
    return plots.length && plots.every((plot) => plot.complete || plot.querySelector("svg.marks"));
}"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=5_000, help="logged steps of a run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sweep = make_sweep(Path(scratch), options.rows)
        ours, theirs = sweep / "report.html", Path(scratch, "peer.html")
        words = [f"{name}={scale}" for name, scale in CURVES.items()]
        seconds = cpu_seconds([str(SCRIPTS / "xlm-report"), f"runs={sweep}"])
        peer = cpu_seconds([sys.executable, "-c", PEER, str(sweep), str(theirs), *words])
        told("report_of_3x2_runs", seconds, peer, "s")
        opened = [seconds_to_open(page) for page in (ours, theirs)]
        if opened[0] is not None and opened[1] is not None:
            told("opening_it", opened[0], opened[1], "s")
        told("its_size", ours.stat().st_size / 1e6, theirs.stat().st_size / 1e6, "MB")


def make_sweep(scratch: Path, rows: int) -> Path:
    """A sweep's folder as `xlm-train -m` leaves it, its runs being copies with long histories."""
    data, run, sweep = scratch / "data", scratch / "run", scratch / "sweep"
    prepare_tiny_corpus(data)
    words = ["experiment=debug", "trainer.accelerator=cpu", f"data.dir={data}", f"run.dir={run}"]
    call = [str(SCRIPTS / "xlm-train"), *words]
    subprocess.run(call, check=True, capture_output=True)
    table = []
    for job, (lr, seed) in enumerate(product((1e-3, 2e-3, 4e-3), (0, 1))):
        shutil.copytree(run, sweep / str(job))
        write_metrics(sweep / str(job) / "metrics.csv", rows, lr, seed)
        row = {"job": job, "optimizer.lr": lr, "seed": seed, "status": "finished", "exit_code": 0}
        row |= {"perplexity": 20 + job, "seconds": 1.0, "run_dir": str(sweep / str(job))}
        table.append(row | {"error": "", "command": f"xlm-train optimizer.lr={lr} seed={seed}"})
    with (sweep / "sweep.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return sweep


def write_metrics(path: Path, rows: int, lr: float, seed: int) -> None:
    """Curves with a trend; each twentieth row is a validation."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "train/tokens_seen", *CURVES], restval="")
        writer.writeheader()
        for number in range(1, rows + 1):
            step = 20 * number
            loss = 2 + 5 / (1 + lr * step) + ((number * 7919 + seed) % 100) / 500
            speed = 7000 + (number * 104729 + seed) % 1000
            tokens = {"train/tokens_seen": 8192 * step}
            writer.writerow(
                {"step": step, "train/loss": loss, "train/tokens_per_second": speed, **tokens}
            )
            if number % 20 == 0:
                writer.writerow({"step": step, "valid/mean/perplexity": 1.1 * 2.718**loss})


def cpu_seconds(command: Sequence[str]) -> float:
    """User and system time of a process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def seconds_to_open(page: Path) -> float | None:
    """From the address to the last plot that is to be seen at all; None without a Chromium."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        return None
    with suppress(ImportError):
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            options = ["--no-sandbox", "--disable-gpu"]
            browser = playwright.chromium.launch(executable_path=program, args=options)
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            started = time.perf_counter()
            tab.goto(page.as_uri())
            tab.wait_for_function(ALL_DRAWN)
            seconds = time.perf_counter() - started
            browser.close()
            return seconds
    return None


def told(name: str, ours: float, peer: float, unit: str) -> None:
    """One line of the contract's form; less is better in all of them."""
    line = {"name": name, "ours": round(ours, 3), "peer": round(peer, 3)}
    line |= {"peer_name": "matplotlib, the same curves", "ratio": round(peer / ours, 3)}
    print(json.dumps(line | {"unit": unit}), flush=True)


if __name__ == "__main__":
    main()
