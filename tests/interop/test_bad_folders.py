"""A folder or file that cannot be what it says: exit 2, and two lines that name the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from building import Exported, copy_of, edit_json, edit_tensors
from in_process import call
from original_files import original_content, write_original
from safetensors.torch import load_file


class Payload:
    """Unpickled the careless way, it creates a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.file), "w")


def refusal(source: Path, *words: str) -> str:
    """What xlm-evaluate says of `source`, which it must refuse as the user's mistake."""
    words = words or ("text=Hello", "language=en")
    said = call("xlm-evaluate", f"checkpoint={source}", *words).expect(2).stderr
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) <= 2, said
    return said


def config(**keys: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "config.json", lambda content: content.update(keys))


def without(key: str, file: str = "config.json") -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / file, lambda content: content.pop(key))


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(name: str, share: float) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return spoil


def written(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def language_ids(**ids: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for file in ("config.json", "tokenizer_config.json"):
            edit_json(folder / file, lambda content: content.update(lang2id=ids))

    return spoil


def one_word_less(folder: Path) -> None:
    edit_json(folder / "vocab.json", lambda ids: ids.popitem())
    (folder / "vocab").unlink()


def swapped_specials(folder: Path) -> None:
    edit_json(folder / "vocab.json", lambda ids: ids.update({"<s>": 1, "</s>": 0}))


WEIGHTS = "model.safetensors"
SPOILED: dict[str, tuple[Callable[[Path], None], str, str]] = {
    # what was done -> how, the file that must be named, a word that must be said
    "no vocabulary": (removed("vocab.json"), "vocab.json", "no such"),
    "empty vocabulary": (written("vocab.json", b""), "vocab.json", "empty"),
    "vocabulary that is no JSON": (written("vocab.json", b"{"), "vocab.json", "JSON"),
    "vocabulary of another size": (one_word_less, "vocab.json", "vocab_size"),
    "vocabulary with gaps": (
        lambda folder: edit_json(folder / "vocab.json", lambda ids: ids.update({"a b": 7000})),
        "vocab.json",
        "gap",
    ),
    "specials elsewhere": (swapped_specials, "vocab.json", "<s>"),
    "no merges": (removed("merges.txt"), "merges.txt", "no such"),
    "merges of one word": (written("merges.txt", b"th e 5\nalone\n"), "merges.txt", "line 2"),
    "no weights": (removed(WEIGHTS), "", "no weights"),
    "truncated weights": (cut(WEIGHTS, 0.7), WEIGHTS, "cannot be read"),
    "weights without a header": (cut(WEIGHTS, 0.0), WEIGHTS, "cannot be read"),
    "no config": (written("config.json", b"{}"), "config.json", "missing"),
    "config that is no JSON": (written("config.json", b"\xff\xfe"), "config.json", "JSON"),
    "no n_layers": (without("n_layers"), "config.json", "n_layers"),
    "no n_heads": (without("n_heads"), "config.json", "n_heads"),
    "no n_langs": (without("n_langs"), "config.json", "n_langs"),
    "layers in words": (config(n_layers="two"), "config.json", "n_layers"),
    "no layer": (config(n_layers=-1), "config.json", "n_layers"),
    "heads that do not fit": (config(n_heads=5), "config.json", "n_heads"),
    "one language of two": (config(n_langs=1), "config.json", "n_langs=1"),
    "an origin in words": (config(xlm_lightning="2.0"), "config.json", "xlm_lightning"),
    "another model": (config(model_type="bert"), "config.json", "bert"),
    "another epsilon": (config(layer_norm_eps=1e-5), "config.json", "layer_norm_eps"),
    "wider than its weights": (config(emb_dim=64), WEIGHTS, "(708, 32)"),
    "wider than any memory": (config(emb_dim=10_000_000), WEIGHTS, "(708, 32)"),
    "more layers than weights": (config(n_layers=3), WEIGHTS, "attentions.2"),
    "fewer layers than weights": (config(n_layers=1), WEIGHTS, "attentions.1"),
    "lang2id that disagree": (
        lambda folder: edit_json(
            folder / "tokenizer_config.json", lambda c: c.update(lang2id={"de": 1, "en": 0})
        ),
        "tokenizer_config.json",
        "lang2id",
    ),
    "lang2id with a gap": (language_ids(de=0, en=2), "config.json", "lang2id"),
    "lang2id of lists": (language_ids(de=[0], en=[1]), "config.json", "lang2id"),
    "lang2id in words": (language_ids(de=0, en="1"), "config.json", "lang2id"),
}


@pytest.mark.parametrize("way", SPOILED)
def test_the_file_is_named(exported: Exported, tmp_path: Path, way: str) -> None:
    spoil, file, word = SPOILED[way]
    folder = copy_of(exported.folder, tmp_path / "folder")
    spoil(folder)
    said = refusal(folder)
    assert str(folder / file) in said
    assert word in said


def test_tensors_are_named(exported: Exported, tmp_path: Path) -> None:
    """Missing, left over, of another shape."""
    name, bare = "transformer.ffns.0.lin2.bias", "ffns.0.lin2.bias"
    for number, (change, word) in enumerate(
        (
            (lambda tensors: tensors.pop(name), "missing"),
            (lambda tensors: tensors.update({name: tensors[name][:-1]}), "(31,)"),
            (lambda tensors: tensors.update({f"{name}.scale": tensors[name]}), "does not belong"),
        )
    ):
        folder = copy_of(exported.folder, tmp_path / str(number))
        edit_tensors(folder, change)
        said = refusal(folder)
        assert bare in said
        assert word in said
        assert str(folder / WEIGHTS) in said


def test_an_output_layer_of_its_own_is_an_error_where_it_is_tied(
    exported: Exported, tmp_path: Path
) -> None:
    folder = copy_of(exported.folder, tmp_path / "folder")
    head = torch.zeros(708, 32)
    edit_tensors(folder, lambda tensors: tensors.update({"pred_layer.proj.weight": head}))
    assert "pred_layer.proj.weight differs" in refusal(folder)


def foreign_pickle(folder: Path, file: Path) -> Path:
    """`pytorch_model.bin` that holds more than tensors."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save({**tensors, "more": Payload(file)}, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def test_no_pickle_is_run(exported: Exported, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    folder = copy_of(exported.folder, tmp_path / "folder")
    weights = foreign_pickle(folder, touched)
    said = refusal(folder)
    assert str(weights) in said
    assert "io.open" in said
    assert not touched.exists()
    torch.load(weights, weights_only=False)
    assert touched.exists()  # the payload is a real one


def test_a_language_without_rules_is_named(exported: Exported, tmp_path: Path) -> None:
    folder = copy_of(exported.folder, tmp_path / "folder")
    language_ids(de=0, qq=1)(folder)
    assert "'qq'" in refusal(folder, "text=Hallo", "language=de")


def test_no_pickle_of_the_original_is_run(exported: Exported, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    path = write_original(exported, tmp_path / "original")
    content = original_content(exported)
    content["params"]["more"] = Payload(touched)
    torch.save(content, path)
    assert str(path) in refusal(path)
    assert not touched.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_pickle(exported: Exported, tmp_path: Path, share: float, zipped: bool) -> None:
    folder = copy_of(exported.folder, tmp_path / "folder")
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    cut("pytorch_model.bin", share)(folder)
    assert "pytorch_model.bin cannot be read" in refusal(folder)


def test_a_truncated_file_of_the_original(exported: Exported, tmp_path: Path) -> None:
    path = write_original(exported, tmp_path / "original")
    whole = path.read_bytes()
    for share in (0.0, 0.1, 0.5, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        assert f"{path} cannot be read" in refusal(path)


@pytest.mark.parametrize("names", [[], ["codes", "codes_60k"]])
def test_codes_of_the_original_must_be_one_file_beside_it(
    exported: Exported, tmp_path: Path, names: list[str]
) -> None:
    path = write_original(exported, tmp_path / "original")
    codes = (path.parent / "codes").read_bytes()
    (path.parent / "codes").unlink()
    for name in names:
        (path.parent / name).write_bytes(codes)
    said = refusal(path)
    assert str(path) in said
    assert "codes" in said
    assert all(name in said for name in names)
