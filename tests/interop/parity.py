"""Our own judge of an exported folder, with nothing of this project but the model's own scores.

`differences` asks transformers, with the words of the model card, and tells what is not as it must
be. The oracle that lies beside the checkout is another, independent judge.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import torch
from building import SENTENCES
from text.hostile import HOSTILE, fuzz
from torch import Tensor
from transformers import XLMTokenizer, XLMWithLMHeadModel

from xlm_lightning.text.vocabulary import FIRST_WORD_ID
from xlm_lightning.trained import TrainedModel

TOLERANCE = 1e-5
CARD_EXAMPLE = "Wikipedia was used to"


def differences(folder: Path, trained: TrainedModel, seed: int) -> Iterator[str]:
    """Yield what differs, scores first; an exception in transformers is a difference as well."""
    try:
        yield from _scores(folder, trained, seed)
        yield from _tokens(folder, trained, seed)
    except Exception as error:
        yield f"{type(error).__name__}: {error}"


def load_in_transformers(folder: Path) -> tuple[XLMWithLMHeadModel, list[str]]:
    """The model in fp32, and the tensors that it misses, does not know or finds misshapen."""
    model, report = XLMWithLMHeadModel.from_pretrained(folder, output_loading_info=True)
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")
    return model.float().eval(), [f"{kind} {report[kind]}" for kind in kinds if report[kind]]


def log_probabilities(trained: TrainedModel, input_ids: Tensor, langs: Tensor) -> Tensor:
    """Our own, (batch, time, vocabulary)."""
    with torch.no_grad():
        hidden = trained.model(input_ids, langs, causal=trained.causal)
        return trained.model.logits(hidden).log_softmax(-1)


def random_inputs(trained: TrainedModel, seed: int, time: int = 24) -> tuple[Tensor, Tensor]:
    """Ids and languages (batch, time); a row of each language, and one that changes it midway."""
    generator = torch.Generator().manual_seed(seed)
    size, count = trained.model.arguments["vocab_size"], len(trained.languages)
    langs = torch.arange(count + 1)[:, None].repeat(1, time) % count
    langs[-1] = torch.randint(count, (time,), generator=generator)
    input_ids = torch.randint(FIRST_WORD_ID, size, langs.shape, generator=generator)
    input_ids[:, 0] = 0
    return input_ids, langs


@torch.no_grad()
def _scores(folder: Path, trained: TrainedModel, seed: int) -> Iterator[str]:
    model, misloaded = load_in_transformers(folder)
    yield from misloaded
    input_ids, langs = random_inputs(trained, seed)
    theirs = model(input_ids, langs=langs)[0].log_softmax(-1)
    far = (theirs - log_probabilities(trained, input_ids, langs)).abs().max().item()
    if not far <= TOLERANCE:
        yield f"log-probabilities differ by {far:.2e}"
    if trained.causal:
        later = input_ids.clone()
        later[:, 12:] = later[:, 12:].flip(1)
        moved = (model(later, langs=langs)[0].log_softmax(-1) - theirs)[:, :12].abs().max().item()
        if not moved <= TOLERANCE:
            yield f"later tokens move earlier scores by {moved:.2e}"
    if model.config.causal is not trained.causal:
        yield f"config.json says causal={model.config.causal}"


def _tokens(folder: Path, trained: TrainedModel, seed: int) -> Iterator[str]:
    tokenizer = XLMTokenizer.from_pretrained(folder)
    text_model = replace(trained.load_text_model(), mode="sacremoses")
    ids = {language: index for index, language in enumerate(trained.languages)}
    if tokenizer.lang2id != ids:
        yield f"the tokenizer has lang2id {tokenizer.lang2id}"
    if XLMWithLMHeadModel.config_class.from_pretrained(folder).lang2id != ids:
        yield "config.json has another lang2id"
    if len(tokenizer) != len(text_model.vocabulary):
        yield f"the tokenizer has {len(tokenizer)} tokens"
    if list(tokenizer.bpe_ranks) != [code[:2] for code in text_model.codes]:
        yield f"the tokenizer has {len(tokenizer.bpe_ranks)} merges, or others"
    encoded = tokenizer.encode(CARD_EXAMPLE)  # by English rules, whatever the languages are
    if encoded != [
        0,
        *replace(text_model, languages=["en"]).pipelines()["en"].encode(CARD_EXAMPLE),
        1,
    ]:
        yield f"the card's example becomes {encoded}"
    for language, pipeline in text_model.pipelines().items():
        sentences = SENTENCES[language]
        for line in [*sentences, *fuzz([*HOSTILE, *sentences], 200, seed)]:
            if ids_in_transformers(tokenizer, line, language) != pipeline.encode(line):
                yield f"other ids for {line!r} in {language}"


def ids_in_transformers(tokenizer: XLMTokenizer, line: str, language: str) -> list[int]:
    """Ids without `<s>` and `</s>`, by the rules of `language`."""
    ids: list[int] = tokenizer.convert_tokens_to_ids(tokenizer._tokenize(line, lang=language))
    return ids


def ask_oracle(oracle: Path, folder: Path, *words: str) -> tuple[int, str]:
    """Exit code and line of the oracle, run in this process: transformers is imported once."""
    said = io.StringIO()
    arguments = [str(oracle), "--export", str(folder), "--logits", str(folder / "parity.npz")]
    with (
        patch.dict(os.environ),  # the oracle leaves switches in it
        patch.object(sys, "argv", [*arguments, *words]),
        contextlib.redirect_stdout(said),
    ):
        code = int(_module(oracle).main())
    return code, said.getvalue()


def _module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
