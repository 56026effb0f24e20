"""Start from the weights of another model: rows are matched by word, language and position."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from xlm_lightning.errors import UserError
from xlm_lightning.model import XLM
from xlm_lightning.text.vocabulary import SPECIALS, Vocabulary
from xlm_lightning.trained import TrainedModel

_BY_WORD = ("tokens.weight", "output_bias", "output_weight")
_MUST_AGREE = ("layers", "dim", "heads", "activation", "tied_output")


@torch.no_grad()
def warm_start(
    model: XLM, vocabulary: Vocabulary, languages: Sequence[str], source: TrainedModel
) -> str:
    """Copy what `source` knows; other words and languages keep their first draw.

    A decoder must hear from the start in which language it is to write. Beside words that training
    has enlarged, a first draw is too faint for that: from a causal model that was told no language
    2 of 3 translators learned to copy their source, 0 of 3 since new languages are half as large as
    words there (as large: 0 of 3, but 0.4 and 6.6 BLEU less). An encoder can do without.

    Returns a line that tells how much was matched. Raises `UserError` with the keys that differ
    when the two have not the same shape.
    """
    _check_shape(model, source)
    theirs = source.load_text_model().vocabulary
    words = _matches([*SPECIALS, *vocabulary.words], [*SPECIALS, *theirs.words])
    own, given = model.state_dict(), source.model.state_dict()
    known = _matches(languages, source.languages)
    if "languages.weight" in own and "languages.weight" not in given:
        known = {}  # a model of one language, or one that is told none, has no rows for them
    new = [row for row in range(len(languages)) if row not in known]
    positions = list(range(min(model.max_positions, source.model.max_positions)))
    for name, tensor in own.items():
        if name in _BY_WORD:
            _copy_rows(tensor, given[name], words)
        elif name == "languages.weight":
            if known:
                _copy_rows(tensor, given[name], known)
            if new and model.arguments.get("reads_source"):
                size = given["tokens.weight"][len(SPECIALS) :].std() / 2
                tensor[new] *= size / tensor[new].std()
        elif name == "positions.weight":
            _copy_rows(tensor, given[name], {place: place for place in positions})
        elif name in given:  # not the attention of a decoder to its source, which is new
            tensor.copy_(given[name])
    return (
        f"{len(words):,} of {len(own['tokens.weight']):,} words and {len(known)} of "
        f"{len(languages)} languages start from {source.path}"
        + (f"; new: {', '.join(languages[row] for row in new)}" if new else "")
    )


def _check_shape(model: XLM, source: TrainedModel) -> None:
    ours, theirs = model.arguments, source.model.arguments
    differing = [
        f"{key} {ours[key]} / {theirs[key]}" for key in _MUST_AGREE if ours[key] != theirs[key]
    ]
    if theirs["language_embeddings"] and not ours["language_embeddings"]:  # it relies on them
        differing.append("language_embeddings False / True")
    fixed = "fixed_sinusoidal"
    if ours["position_init"] == fixed and theirs["position_init"] != fixed:  # frozen: of no use
        differing.append(f"position_init {fixed} / {theirs['position_init']}")
    if differing:
        raise UserError(
            f"model.init_from={source.path} has another shape (this model / that one): "
            f"{', '.join(differing)}"
        )


def _matches(ours: Sequence[str], theirs: Sequence[str]) -> dict[int, int]:
    """Our row -> theirs, for what both have."""
    rows = {name: row for row, name in enumerate(theirs)}
    return {row: rows[name] for row, name in enumerate(ours) if name in rows}


def _copy_rows(target: Tensor, source: Tensor, rows: dict[int, int]) -> None:
    target[torch.tensor(list(rows), dtype=torch.long)] = source[
        torch.tensor(list(rows.values()), dtype=torch.long)
    ]
