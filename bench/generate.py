"""Generation beside transformers' XLM with the same weights: new tokens per second, in turns.

    python bench/generate.py [--rounds 5] [--batches 16,1] [--threads 1]

4 layers x 256, 8 heads, 8192 words; 128 new tokens, greedy, after prompts of 16. Both run in fp32
on one thread: with more, every small operation waits for the busiest core. Ours runs as
`xlm-generate` runs it. The peer is called as a user would:
`generate()` in evaluation mode, which knows no cache for these models, with `config.lang_id` for
the language and no end before 128 tokens. It reads its predictions at a mask that it appends, so
the two texts differ (docs/generation.md). Prints one JSON object a line: `ours` and `peer`
are medians, `ratio` is the median of each round's ratio, whose two turns follow each other, so that
a machine whose speed drifts hits both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch

from xlm_lightning.generation import generate_batch, lay_out_for_decoding
from xlm_lightning.machine import keep_freed_memory
from xlm_lightning.model import XLM
from xlm_lightning.tensor_names import to_transformers

SHAPE = {"vocab_size": 8192, "layers": 4, "dim": 256, "heads": 8}
PROMPT, NEW = 16, 128


def in_transformers(model: XLM) -> Any:
    """transformers' XLM with the weights of `model`."""
    from transformers import XLMConfig, XLMWithLMHeadModel

    config = XLMConfig(
        vocab_size=SHAPE["vocab_size"],
        emb_dim=SHAPE["dim"],
        n_layers=SHAPE["layers"],
        n_heads=SHAPE["heads"],
        n_langs=2,
        causal=True,
        max_position_embeddings=model.max_positions,
        lang_id=0,
    )
    peer = XLMWithLMHeadModel(config)
    missing, unexpected = peer.load_state_dict(to_transformers(model), strict=False)
    assert missing == ["pred_layer.proj.weight"], missing  # the embeddings, tied
    assert not unexpected, unexpected
    peer.generation_config.eos_token_id = None
    evaluating: Any = peer
    return evaluating.eval()


def compare(ours: XLM, peer: Any, batch: int, rounds: int) -> dict[str, Any]:
    """Take turns, so that a busy moment hits both; small batches, which are short, more often."""
    rounds *= 4 if batch < 4 else 1
    prompts = torch.randint(14, SHAPE["vocab_size"], (batch, PROMPT - 1))
    ids = torch.cat([torch.ones(batch, 1, dtype=torch.long), prompts], dim=1)
    rows = prompts.tolist()

    def our_turn() -> None:
        texts = generate_batch(
            ours, rows, language=0, max_new_tokens=NEW, temperature=0, stop_at_eos=False
        )
        assert {len(text) for text in texts} == {NEW}

    def their_turn() -> None:
        with torch.inference_mode():
            texts = peer.generate(ids, max_new_tokens=NEW, do_sample=False, pad_token_id=2)
        assert texts.shape == (batch, PROMPT + NEW)

    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for round_ in range(rounds + 1):
        for name, turn in (("ours", our_turn), ("peer", their_turn)):
            started = time.perf_counter()
            turn()
            if round_:  # the first one warms up
                seconds[name].append(time.perf_counter() - started)
    speed = {name: batch * NEW / statistics.median(taken) for name, taken in seconds.items()}
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["peer"], strict=True)]
    return {
        "name": f"generate 4x256x8192 greedy batch {batch}, {NEW} new tokens",
        "ours": round(speed["ours"], 1),
        "peer": round(speed["peer"], 1),
        "peer_name": "transformers XLMWithLMHeadModel.generate()",
        "ratio": round(statistics.median(ratios), 2),
        "unit": "tokens/s",
        "ratio_of_each_round": [round(ratio, 2) for ratio in sorted(ratios)],
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", default="16,1")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    shape: dict[str, Any] = SHAPE
    ours = XLM(num_languages=2, **shape).eval()
    peer = in_transformers(ours)
    lay_out_for_decoding(ours)
    for batch in map(int, arguments.batches.split(",")):
        print(json.dumps(compare(ours, peer, batch, arguments.rounds)), flush=True)


if __name__ == "__main__":
    main()
