"""Texts and translations: greedy, sampled, or the best that a beam search finds."""

from __future__ import annotations

from xlm_lightning.generation.beam_search import Hypothesis, beam_search
from xlm_lightning.generation.decoder import EOS_ID, FIRST_WORD_ID, Decoder
from xlm_lightning.generation.layout import lay_out_for_decoding
from xlm_lightning.generation.sampling import draw, generate, generate_batch, seeded_noise
from xlm_lightning.generation.translation import (
    translate_batch,
    translate_pairs,
    translate_tensors,
)

__all__ = [
    "EOS_ID",
    "FIRST_WORD_ID",
    "Decoder",
    "Hypothesis",
    "beam_search",
    "draw",
    "generate",
    "generate_batch",
    "lay_out_for_decoding",
    "seeded_noise",
    "translate_batch",
    "translate_pairs",
    "translate_tensors",
]
