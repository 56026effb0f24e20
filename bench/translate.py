"""Translation beside transformers' Marian of the same size: sentences per second, in turns.

    python bench/translate.py [--rounds 5] [--beams 1,5] [--threads 1]

6 + 6 layers x 256, 8 heads, 8192 words, random weights; 32 sentences of 20 words, 24 new tokens of
each, greedy and with a beam of 5. Both run in fp32 on one thread: with more, every small operation
waits for the busiest core. The peer is called as a user would: `generate()` in evaluation mode,
with its caches of both attentions. Neither can end before 24 tokens: the bias of `</s>` is so low
that it is never drawn. Prints one JSON object a line: `ours` and `peer` are medians, `ratio` is the
median of each round's ratio, whose two turns follow each other, so that a machine whose speed
drifts hits both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch

from xlm_lightning.generation import EOS_ID, lay_out_for_decoding, translate_batch
from xlm_lightning.machine import keep_freed_memory
from xlm_lightning.model import PAD_ID
from xlm_lightning.translator import Translator

SHAPE = {"vocab_size": 8192, "layers": 6, "dim": 256, "heads": 8}
SENTENCES, WORDS, NEW = 32, 20, 24
NEVER = -1e9


def marian() -> Any:
    """transformers' MarianMT of the same size, which never draws `</s>`."""
    from transformers import MarianConfig, MarianMTModel

    config = MarianConfig(
        vocab_size=SHAPE["vocab_size"],
        decoder_vocab_size=SHAPE["vocab_size"],
        d_model=SHAPE["dim"],
        encoder_layers=SHAPE["layers"],
        decoder_layers=SHAPE["layers"],
        encoder_attention_heads=SHAPE["heads"],
        decoder_attention_heads=SHAPE["heads"],
        encoder_ffn_dim=4 * SHAPE["dim"],
        decoder_ffn_dim=4 * SHAPE["dim"],
        max_position_embeddings=512,
        pad_token_id=PAD_ID,
        eos_token_id=EOS_ID,
        forced_eos_token_id=None,
        decoder_start_token_id=EOS_ID,
    )
    peer: Any = MarianMTModel(config)
    peer.final_logits_bias[0, EOS_ID] = NEVER
    peer.generation_config.forced_eos_token_id = None
    return peer.eval()


def compare(ours: Translator, peer: Any, beam: int, rounds: int) -> dict[str, Any]:
    """Take turns, so that a busy moment hits both."""
    words = torch.randint(14, SHAPE["vocab_size"], (SENTENCES, WORDS))
    ends = torch.full((SENTENCES, 1), EOS_ID)
    ids = torch.cat([ends, words, ends], dim=1)
    rows = words.tolist()

    def our_turn() -> None:
        texts = translate_batch(
            ours,
            rows,
            source_language=0,
            language=1,
            beam=beam,
            max_new_tokens=[NEW] * SENTENCES,
        )
        assert {len(text) for text in texts} == {NEW}

    def their_turn() -> None:
        with torch.inference_mode():
            texts = peer.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                min_new_tokens=NEW,
                max_new_tokens=NEW,
                num_beams=beam,
                do_sample=False,
            )
        assert texts.shape == (SENTENCES, 1 + NEW)

    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for round_ in range(rounds + 1):
        for name, turn in (("ours", our_turn), ("peer", their_turn)):
            started = time.perf_counter()
            turn()
            if round_:  # the first one warms up
                seconds[name].append(time.perf_counter() - started)
    speed = {name: SENTENCES / statistics.median(taken) for name, taken in seconds.items()}
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["peer"], strict=True)]
    how = "greedy" if beam == 1 else f"beam {beam}"
    return {
        "name": f"translate 6+6x256x8192 {how}, {SENTENCES} sentences of {WORDS} -> {NEW} tokens",
        "ours": round(speed["ours"], 1),
        "peer": round(speed["peer"], 1),
        "peer_name": "transformers MarianMTModel.generate()",
        "ratio": round(statistics.median(ratios), 2),
        "unit": "sentences/s",
        "ratio_of_each_round": [round(ratio, 2) for ratio in sorted(ratios)],
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beams", default="1,5")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    shape: dict[str, Any] = SHAPE
    ours = Translator(num_languages=2, **shape).eval()
    with torch.no_grad():
        ours.decoder.output_bias[EOS_ID] = NEVER
    lay_out_for_decoding(ours)
    peer = marian()
    for beam in map(int, arguments.beams.split(",")):
        print(json.dumps(compare(ours, peer, beam, arguments.rounds)), flush=True)


if __name__ == "__main__":
    main()
