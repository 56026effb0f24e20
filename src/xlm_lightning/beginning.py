"""The model of a run, and what its weights start from."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

from xlm_lightning import schema
from xlm_lightning.compilation import can_compile
from xlm_lightning.data import StreamingDataModule
from xlm_lightning.machine import uses_gpu
from xlm_lightning.model import XLM
from xlm_lightning.pretrained import load_model
from xlm_lightning.streaming.turns import TRANSLATION
from xlm_lightning.text.vocabulary import Vocabulary
from xlm_lightning.translator import Translator
from xlm_lightning.warm_start import warm_start

NETWORKS = ("encoder", "decoder")
NO_START = "none"  # random weights


@dataclass(frozen=True)
class Beginning:
    """A model, and what its weights start from."""

    model: XLM | Translator
    start: dict[str, str]  # model, or encoder and decoder -> none, or what a trained one is for


def build_model(options: schema.Model, accelerator: str, data: StreamingDataModule) -> Beginning:
    """Make the model for the words and languages of the data; say what a warm start matched."""
    arguments = asdict(options)
    everywhere = arguments.pop("init_from")
    sources = {name: arguments.pop(f"{name}_from") or everywhere for name in NETWORKS}
    shared = arguments.pop("shared_embeddings")
    arguments["compile_on_gpu"] = arguments.pop("compile") and can_compile()
    if options.compile and uses_gpu(accelerator) and not can_compile():
        note = (
            "model.compile: needs Triton and a C compiler (gcc); without them a step takes longer"
        )
        print(note, file=sys.stderr)
    manifest = data.manifest
    arguments |= {"vocab_size": manifest.vocab_size, "num_languages": len(manifest.languages)}
    if not set(TRANSLATION) & set(data.turns.objectives):
        model = XLM(**arguments)
        return Beginning(model, {"model": _start(model, everywhere, data)})
    translator = Translator(shared_embeddings=shared, **arguments)
    networks = {"encoder": translator.encoder, "decoder": translator.decoder}
    starts = {name: _start(networks[name], sources[name], data) for name in NETWORKS}
    return Beginning(translator, starts)


def _start(network: XLM, source: str | None, data: StreamingDataModule) -> str:
    """Copy what a trained model knows; return what that was trained for."""
    if source is None:
        return NO_START
    trained = load_model(source)
    vocabulary = Vocabulary.load(data.folder / "vocab")
    print(warm_start(network, vocabulary, data.manifest.languages, trained), file=sys.stderr)
    return trained.objective
