"""Models from and to a hub: a real server on the loopback, real processes of the commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from building import Exported
from command_process import Run, command_process
from commands import Outcome
from hub_server import Hub, serve
from in_process import call
from old_folders import as_of_2019

LINE = ("text=Wikipedia was used to", "language=en")


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serve(Hub()) as hub:
        yield hub


@pytest.fixture(scope="module")
def run(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Commands of a process that knows no other hub, with a cache of its own."""
    with command_process(
        HF_ENDPOINT=hub.url,
        HF_HOME=str(tmp_path_factory.mktemp("hub") / "home"),
        HF_TOKEN=hub.token,
        HF_HUB_OFFLINE="0",
        TRANSFORMERS_OFFLINE="0",
    ) as run:
        yield run


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def evaluate(run: Run, name: str) -> Outcome:
    return run("xlm-evaluate", f"checkpoint={name}", *LINE)


def figures(source: Path) -> object:
    return call("xlm-evaluate", f"checkpoint={source}", *LINE).expect().result["en"]


def test_a_model_is_fetched_once(hub: Hub, run: Run, exported: Exported) -> None:
    hub.models["owner/xlm-clm"] = {**files_of(exported.folder), "tf_model.h5": b"not for us"}
    first = evaluate(run, "owner/xlm-clm").expect()
    assert first.result["en"] == figures(exported.folder)
    assert "GET /owner/xlm-clm/resolve/" in " ".join(hub.requests)
    assert not any("tf_model.h5" in request for request in hub.requests)
    asked = len(hub.requests)
    hub.models.clear()  # gone, or out of reach: what was fetched is enough
    assert evaluate(run, "owner/xlm-clm").result == first.result
    assert not any("resolve" in request for request in hub.requests[asked:])


def test_a_published_folder_of_2019(hub: Hub, run: Run, exported: Exported, tmp_path: Path) -> None:
    folder = as_of_2019(exported, tmp_path / "old")
    hub.models["owner/xlm-clm-ende"] = files_of(folder)
    outcome = evaluate(run, "owner/xlm-clm-ende").expect()
    assert "owner/xlm-clm-ende does not say causal" in outcome.stderr
    assert outcome.result["en"] == figures(exported.folder)


def test_what_the_hub_does_not_know_is_a_mistake(run: Run) -> None:
    refused = evaluate(run, "owner/nothing").expect(2)
    assert (
        "owner/nothing: neither a file or folder here, nor a model that the hub" in refused.stderr
    )
    assert len(refused.stderr.strip().splitlines()) <= 2
    assert "Traceback" not in refused.stderr


def test_an_incomplete_model_is_named(hub: Hub, run: Run, exported: Exported) -> None:
    hub.models["owner/half"] = files_of(exported.folder)
    del hub.models["owner/half"]["model.safetensors"]
    refused = evaluate(run, "owner/half").expect(2)
    assert "neither model.safetensors nor pytorch_model.bin" in refused.stderr


def export(run: Run, exported: Exported, out: Path, name: str, **variables: str) -> Outcome:
    words = (f"checkpoint={exported.folder}", f"out={out}", f"push_to_hub={name}")
    return run("xlm-export", *words, **variables)


def test_an_export_is_pushed_and_read_back(
    hub: Hub, run: Run, exported: Exported, tmp_path: Path
) -> None:
    outcome = export(run, exported, tmp_path / "out", "owner/new").expect()
    assert outcome.result["pushed"].startswith(f"{hub.url}/owner/new")
    assert hub.models["owner/new"] == files_of(tmp_path / "out")
    assert evaluate(run, "owner/new").expect().result["en"] == figures(exported.folder)


def test_a_push_into_what_is_there(hub: Hub, run: Run, exported: Exported, tmp_path: Path) -> None:
    hub.models["owner/old"] = {"config.json": b"{}", "mine.txt": b"stays"}
    export(run, exported, tmp_path / "out", "owner/old").expect()
    assert hub.models["owner/old"] == {**files_of(tmp_path / "out"), "mine.txt": b"stays"}


@pytest.mark.parametrize("fault", ["token", "name", "network"])
def test_a_push_that_fails_is_told(
    hub: Hub, run: Run, exported: Exported, tmp_path: Path, fault: str
) -> None:
    """The folder is there all the same: nothing has to be computed again."""
    name = "owner/a--b" if fault == "name" else f"owner/{fault}"
    variables = {"HF_TOKEN": "wrong"} if fault == "token" else {}
    hub.silent = fault == "network"
    refused = export(run, exported, tmp_path / "out", name, **variables).expect(2)
    hub.silent = False
    assert f"push_to_hub={name}: " in refused.stderr
    assert f"hf upload {name} {tmp_path / 'out'}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert len(refused.stderr.strip().splitlines()) <= 2
    assert (tmp_path / "out" / "config.json").is_file()
    assert name not in hub.models


def test_a_hub_that_does_not_answer_is_told(hub: Hub, run: Run) -> None:
    hub.silent = True
    refused = evaluate(run, "owner/never-seen").expect(2)
    hub.silent = False
    assert "owner/never-seen: neither a file or folder here" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) <= 2


def test_prepared_text_is_scored_from_the_hub(
    hub: Hub, run: Run, run_folder: Path, prepared_text: Path, tmp_path: Path
) -> None:
    """One request a file, however many there are; only those of the split."""
    hub.models["owner/text"] = {
        str(file.relative_to(prepared_text)): file.read_bytes()
        for file in prepared_text.rglob("*")
        if file.is_file()
    }
    hub.requests.clear()
    words = (f"checkpoint={run_folder}", "split=test", f"data.cache_dir={tmp_path}")
    scored = run("xlm-evaluate", *words, "data.dir=hf://owner/text").expect().result
    local = call("xlm-evaluate", *words, f"data.dir={prepared_text}").expect().result
    assert scored | {"data_dir": ""} == local | {"data_dir": ""}
    got = [request.partition("/main/")[2] for request in hub.requests if "resolve" in request]
    wanted = ["manifest.json", "codes", "vocab", "test/de-00000.bin", "test/en-00000.bin"]
    assert sorted(got) == sorted(wanted)
    assert not [request for request in hub.requests if "/tree/" in request]
    refused = run("xlm-evaluate", *words, "data.dir=hf://owner/nothing").expect(2)
    assert "data.dir=hf://owner/nothing: no manifest.json from there" in refused.stderr
