"""What docs/generation.md says of transformers' `generate()`: the trap, and the way out of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from test_model import in_transformers

from xlm_lightning.generation import EOS_ID, generate
from xlm_lightning.model import XLM

PAGE = Path(__file__).resolve().parent.parent / "docs" / "generation.md"
PROMPT = [20, 33, 41]
IDS = torch.tensor([[EOS_ID, *PROMPT]])


@pytest.fixture(scope="module")
def model() -> XLM:
    """A model whose texts change with the language and with a mask behind them."""
    torch.manual_seed(5)
    model = XLM(vocab_size=60, num_languages=2, layers=2, dim=16, heads=2, max_positions=40).eval()
    with torch.no_grad():
        for parameter in model.layers.parameters():
            parameter *= 2
        model.positions.weight *= 3
        model.output_bias[:14] = -50  # transformers would also write special words
    return model


@pytest.fixture(scope="module")
def folder(model: XLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported")
    theirs: Any = in_transformers(model)
    theirs.config.lang_id = 0
    theirs.save_pretrained(path)
    return path


@pytest.mark.parametrize("language", [0, 1])
def test_the_override_of_the_page_writes_our_greedy_text(
    model: XLM, folder: Path, language: int
) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert "langs=1, max_new_tokens=20" in block
    names = {"folder": folder, "input_ids": IDS}
    exec(block.replace("langs=1", f"langs={language}"), names)
    (ours,) = generate(model, PROMPT, language=language, max_new_tokens=20, temperature=0)
    text: Any = names["text"]
    assert text[0, IDS.shape[1] :].tolist() == ours


def test_without_it_a_mask_is_appended_and_langs_is_ignored(model: XLM, folder: Path) -> None:
    from transformers import XLMWithLMHeadModel

    theirs = XLMWithLMHeadModel.from_pretrained(folder).eval()
    options = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": 2}
    plain = theirs.generate(IDS, **options)
    with_langs = theirs.generate(IDS, langs=torch.ones_like(IDS), **options)
    assert torch.equal(plain, with_langs)
    ids = IDS
    for _ in range(20):
        masked = torch.cat([ids, torch.tensor([[theirs.config.mask_token_id]])], dim=1)
        hidden = model(masked, torch.tensor([[theirs.config.lang_id]]))
        ids = torch.cat([ids, model.logits(hidden)[:, -1].argmax(1, keepdim=True)], dim=1)
    assert torch.equal(plain, ids)
    (ours,) = generate(model, PROMPT, language=0, max_new_tokens=20, temperature=0)
    assert plain[0, IDS.shape[1] :].tolist() != ours
