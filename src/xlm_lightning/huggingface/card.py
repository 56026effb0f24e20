"""`README.md` of an exported folder: what the model is and how to use it."""

from __future__ import annotations

from typing import Any

from xlm_lightning.huggingface.config import origin
from xlm_lightning.text.text_model import TextModel
from xlm_lightning.trained import TrainedModel

_FIRST_WORDS = "Wikipedia was used to"


def model_card(trained: TrainedModel, text_model: TextModel) -> str:
    """Return the card: shape, languages, text rules, the snippet, and what to beware of."""
    shape = trained.model.arguments
    kind = (
        "a causal language model: each token is predicted from those before it"
        if trained.causal
        else "a masked language model: tokens are predicted from both sides"
    )
    casing = (
        "lower-cased, accents removed" if text_model.lowercase_and_remove_accent else "case kept"
    )
    ids = ", ".join(f"{name} {index}" for index, name in enumerate(trained.languages))
    quoted = ", ".join(f'"{name}"' for name in trained.languages)  # a bare `no` is false in YAML
    return f"""---
library_name: transformers
tags: [xlm, cross-lingual, {trained.objective}]
language: [{quoted}]
---

# XLM {trained.objective} {"-".join(trained.languages)}

This is {kind} (Lample and Conneau 2019), trained with xlm-lightning and written for the XLM classes
of transformers.

| | |
|---|---|
| shape | {shape["layers"]} layers, {shape["dim"]} wide, {shape["heads"]} heads |
| vocabulary | {shape["vocab_size"]:,} BPE pieces, {casing} |
| longest text | {shape["max_positions"]} tokens; trained on {trained.stream_length} |
| language ids | {ids} |
{_facts(origin(trained, text_model))}
```python
import torch
from transformers import XLMTokenizer, XLMWithLMHeadModel

tokenizer = XLMTokenizer.from_pretrained("PATH")
model = XLMWithLMHeadModel.from_pretrained("PATH")

input_ids = torch.tensor([tokenizer.encode("{_FIRST_WORDS}")])
language_id = tokenizer.lang2id["{trained.languages[-1]}"]
langs = torch.full_like(input_ids, language_id)
outputs = model(input_ids, langs=langs)
```

- Always pass `langs`: without it no language is added at all.
- `tokenizer(text)` applies English rules to every language; the rules of another one come from
  `tokenizer._tokenize(text, lang="{trained.languages[0]}")`.
- `model.generate` of transformers appends a mask token and predicts in its place, so it does not
  continue a text as this model was trained to; `xlm-generate checkpoint=PATH` does.
- The `loss` that transformers returns for `labels` is not shifted by one token.

`parity.npz` holds scores of random ids and ids of text, to prove that another program reads this
folder as it is meant. `merges.txt` and `vocab` are what `xlm-prepare bpe.codes= bpe.vocab=` takes,
to encode more text for this model.
"""


def _facts(facts: dict[str, Any]) -> str:
    return "".join(f"| {name.replace('_', ' ')} | {value} |\n" for name, value in facts.items())
