"""A configuration runs no code, files are read as data, and keys stay out of what a run leaves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from crumbs import crumbs_of
from in_process import call
from training import WORDS

TARGETS = (
    "os.system",
    "os.popen",
    "os.execvp",
    "os.remove",
    "posix.system",
    "subprocess.run",
    "subprocess.Popen",
    "subprocess.check_output",
    "shutil.rmtree",
    "shutil.copy",
    "builtins.open",
    "builtins.eval",
    "builtins.exec",
    "builtins.__import__",
    "pathlib.Path.write_text",
    "logging.os.system",
    "webbrowser.open",
    "pickle.loads",
    "torch.load",
    "torch.hub.load",
)
PLANTED = "planted-key-0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("target", TARGETS)
def test_no_value_names_python_code(target: str, tmp_path: Path) -> None:
    """In every place where one can be said: a key, a new key, a dictionary, a sweep, a file."""
    touched = tmp_path / "touched"
    harm = f"touch {touched}"
    run = f"run.dir={tmp_path / 'run'}"
    own = tmp_path / "conf"
    (own / "experiment").mkdir(parents=True)
    (own / "experiment" / "mine.yaml").write_text(
        f"# @package _global_\nlogger:\n  wandb:\n    _target_: {target}\n    command: {harm}\n"
    )
    said = [
        [f"logger.wandb._target_={target}"],
        [f"+logger.csv._target_={target}", f"+logger.csv.command={harm}"],
        [f"++callbacks.mine={{_target_: {target}, command: '{harm}'}}"],
        [f"model._target_={target}", "-m"],
        ["--config-dir", str(own), "experiment=mine"],
        [f"hydra.launcher._target_={target}", "-m"],
    ]
    for words in said:
        refused = call("xlm-train", *words, run)
        assert refused.code == 2, words
        assert "Traceback" not in refused.stderr
        assert not (tmp_path / "run").exists()
    assert not touched.exists()


def sources() -> Iterator[tuple[Path, ast.AST]]:
    for file in [*(ROOT / "src").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]:
        yield file, ast.parse(file.read_text())


def test_files_are_read_as_data() -> None:
    """No call that could run what a file says; every `torch.load` says so itself."""
    loads = 0
    for file, tree in sources():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if name == "torch.load":
                loads += 1
                assert keywords.get("weights_only") == "True", f"{file}:{node.lineno}"
            assert name not in {"eval", "exec", "pickle.load", "pickle.loads", "yaml.load"}, file
            assert not name.endswith(("hub.load", "load_module", "instantiate")), file
            assert keywords.get("allow_pickle", "False") == "False", f"{file}:{node.lineno}"
            assert keywords.get("weights_only", "True") == "True", f"{file}:{node.lineno}"
            assert keywords.get("shell", "False") == "False", f"{file}:{node.lineno}"
    assert loads, "this test looked at nothing"


def test_keys_of_the_environment_are_written_nowhere(prepared: Path, tmp_path: Path) -> None:
    """Neither in the run folder nor in what wandb keeps of a run without a network."""
    words = [*WORDS, f"data.dir={crumbs_of(prepared)}", "trainer.max_steps=6"]
    words += ["trainer.val_check_interval=6", f"run.dir={tmp_path / 'run'}"]
    words += ["logger=[wandb,tensorboard]", "logger.wandb.mode=offline"]
    names = ("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    keys = dict.fromkeys(names, PLANTED)
    call("xlm-train", *words, **keys).expect()
    written = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert any("wandb" in file.parts for file in written)
    assert not [file for file in written if PLANTED.encode() in file.read_bytes()]


def test_the_planted_key_would_be_found(prepared: Path, tmp_path: Path) -> None:
    """A test of the one above: a name that is told to wandb does stand in its files."""
    words = [*WORDS, f"data.dir={crumbs_of(prepared)}", "trainer.max_steps=6"]
    words += ["trainer.val_check_interval=6", f"run.dir={tmp_path / 'run'}"]
    words += ["logger=wandb", "logger.wandb.mode=offline", f"logger.wandb.name={PLANTED}"]
    call("xlm-train", *words).expect()
    written = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert [file for file in written if PLANTED.encode() in file.read_bytes()]
