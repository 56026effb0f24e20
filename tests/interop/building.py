"""Tiny models with random weights and learned text models, and the folders made of them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from text.hostile import HOSTILE
from torch import Tensor

from data_prep.sample.grammar import Language
from data_prep.sample.sampler import Sampler, Writer
from data_prep.sample.sentences import sample_grammar
from xlm_lightning.huggingface.writing import write_folder
from xlm_lightning.model import PAD_ID, XLM
from xlm_lightning.model_card.card import card_files
from xlm_lightning.text.bpe import BytePairEncoder, learn_bpe
from xlm_lightning.text.moses import Mode
from xlm_lightning.text.pipeline import WordCounter
from xlm_lightning.text.text_model import TextModel
from xlm_lightning.text.vocabulary import Vocabulary
from xlm_lightning.trained import TrainedModel

SENTENCES: dict[str, list[str]] = {
    "en": [
        "Wikipedia was used to find the names of two rivers.",
        "\"It's 3 % more,\" she said – wasn't it?",
        "Mr. O'Neill paid 1,234.50 dollars at No. 5, i.e. far too much.",
    ],
    "de": [
        "Zwei junge weiße Männer stehen im Freien in der Nähe vieler Büsche.",
        "„Grüße“, sagte er. Das sind z. B. 3,5 % mehr als im Jahr 2019.",
        'Sie rief: "Übermorgen um 8 Uhr." Dann ging sie über die Straße.',
    ],
}
TINY = {"layers": 2, "dim": 32, "heads": 4, "max_positions": 64, "dropout": 0.1}


@dataclass(frozen=True)
class Exported:
    """A model and the folder that `xlm-export` would write of it."""

    trained: TrainedModel
    folder: Path


def sample_lines(language: Language, count: int) -> list[str]:
    """Whole sentences of the embedded grammar."""
    sampler = Sampler(sample_grammar(), 5, "interop")
    writer = Writer(sample_grammar(), language)
    documents = (writer.lines(sampler.document()) for _ in range(count))
    return list(islice((line for lines in documents for line in lines), count))


def small_corpus() -> dict[str, list[str]]:
    """Lines of English and German in which every kind of character stands that is tested."""
    languages: tuple[Language, Language] = ("de", "en")
    return {
        language: [*SENTENCES[language] * 4, *sample_lines(language, 150), *HOSTILE]
        for language in languages
    }


def learn_text_model(
    lines: Mapping[str, Sequence[str]],
    *,
    lowercase_and_remove_accent: bool,
    mode: Mode = "moses",
    merges: int = 500,
    min_count: int = 2,
) -> TextModel:
    """Learn codes and vocabulary of all languages together; rare pieces have no id."""
    words: Counter[str] = Counter()
    for language, text in lines.items():
        words += WordCounter(
            language, mode=mode, lowercase_and_remove_accent=lowercase_and_remove_accent
        ).count(text)
    codes = learn_bpe(words, merges)
    pieces: Counter[str] = Counter()
    split = BytePairEncoder(codes).apply(list(words))
    for row, count in zip(split, words.values(), strict=True):
        for piece in row.split(" "):
            pieces[piece] += count
    known = {piece: count for piece, count in pieces.items() if count >= min_count}
    vocabulary = Vocabulary.from_counts(known)
    return TextModel(sorted(lines), mode, lowercase_and_remove_accent, codes, vocabulary)


def random_model(
    text_model: TextModel, *, seed: int = 0, objective: str = "clm", **shape: Any
) -> TrainedModel:
    """A model whose every tensor is random, so that no two can be taken for each other."""
    model = XLM(
        vocab_size=len(text_model.vocabulary),
        num_languages=len(text_model.languages),
        **{**TINY, **shape},
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                center = 1.0 if name.endswith("norm.weight") else 0.0
                parameter.copy_(center + _scale(name, parameter) * noise)
        model.tokens.weight[PAD_ID].zero_()
    return TrainedModel(
        model.eval(),
        languages=text_model.languages,
        objective=objective,
        stream_length=32,
        path=Path("random.ckpt"),
        load_text_model=lambda: text_model,
        data_dir=None,
        facts={"steps": 0},
    )


def _scale(name: str, parameter: Tensor) -> float:
    """Embeddings so small that the norms' epsilon matters; matrices that keep a vector's length."""
    if name in ("tokens.weight", "positions.weight", "languages.weight"):
        return 0.03
    return parameter.shape[1] ** -0.5 if parameter.dim() == 2 else 0.2


def export(trained: TrainedModel, folder: Path) -> Exported:
    """Write the folder that stands for `trained`."""
    folder.mkdir(parents=True)
    write_folder(trained, folder)
    for name, text in card_files(trained, {}).items():
        folder.joinpath(name).write_text(text, encoding="utf-8")
    return Exported(trained, folder)


def copy_of(folder: Path, target: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(folder, target)
    return target


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Let `change` alter the object that a JSON file holds."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def edit_tensors(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Let `change` alter the weights of a folder."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    whole = {name: tensor.clone() for name, tensor in tensors.items()}
    save_file(whole, path, metadata={"format": "pt"})


def same_weights(one: XLM, other: XLM) -> bool:
    """Whether all tensors are equal bit for bit."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def short_run(data: Path, folder: Path) -> list[str]:
    """Words of a training run of seconds."""
    return [
        "experiment=debug",
        "trainer.accelerator=cpu",
        "trainer.precision=32",
        "trainer.max_steps=10",
        f"data.dir={data}",
        f"run.dir={folder}",
    ]
