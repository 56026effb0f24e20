"""A masked model of the sample corpus, against the best guess that knows how frequent tokens are.

    python bench/masked.py [word for xlm-train ...]

Runs `xlm-train experiment=sample_mlm` (minutes; the sample corpus is prepared where it is missing)
and prints for each language of valid the perplexity of hidden tokens beside that of always giving
each token its share in the text, as one JSON object a line: `ratio` > 1 says how many times lower
the model's is. The seconds of training, validations included, stand beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml

from xlm_lightning.manifest import Manifest
from xlm_lightning.streaming.shards import TokenShards

TRAIN = "from xlm_lightning.cli import train; train()"


def unigram_perplexity(folder: Path, language: str) -> float:
    """exp of the entropy of single tokens: no guess without context does better on this text."""
    shards = TokenShards(folder, "valid", 2, Manifest.load(folder))
    counts = np.bincount(shards.read_span(language, 0, shards.length(language)))
    shares = counts[counts > 0] / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        words = ["experiment=sample_mlm", f"run.dir={folder}/run", *sys.argv[1:]]
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, *words], stdout=subprocess.PIPE, text=True, check=True
        )
        summary = json.loads(done.stdout.splitlines()[-1])
        config = yaml.safe_load((Path(summary["run_dir"]) / "config.yaml").read_text())
    data = Path(config["data"]["dir"])
    for language in Manifest.load(data).languages:
        ours, guess = summary["valid"][language]["perplexity"], unigram_perplexity(data, language)
        row = {
            "name": f"hidden tokens of the sample corpus, {language}",
            "ours": round(ours, 2),
            "peer": round(guess, 2),
            "peer_name": "the best guess without context",
            "ratio": round(guess / ours, 2),
            "unit": "perplexity",
            "seconds": round(summary["seconds"]),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
