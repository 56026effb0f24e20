"""Who may import whom: read from the source, so that also imports inside functions count."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "xlm_lightning"
PACKAGE_FOLDER = ROOT / "src" / PACKAGE
DOOR = {"cli", "sweep", "compose", "overrides", "legality", "schema"}
LIGHTNING = {
    "train",
    "assembly",
    "run_callbacks",
    "task",
    "translation_task",
    "data",
    "callbacks",
    "loggers",
    "metrics_csv",
    "dashboards",
    "closing",  # scores through the Trainer
    "checkpoint_writer",  # is what Lightning writes through
}
LIGHT = {"text", "manifest", "atomic", "errors", "data_prep", "run_folder", "report", "reporting"}
HYDRA = {"hydra", "omegaconf"}
LIGHTNINGS = {"pytorch_lightning", "lightning", "lightning_fabric"}
HEAVY = {"torch", "wandb", "transformers", "tensorboard", "trackio"} | LIGHTNINGS

COMMAND_NAMES = ("train", "prepare", "evaluate", "generate", "translate", "export", "report")

# What each layer may import of the package itself; a name stands for the module or all below it.
ERRORS = {"errors"}
FILES = ERRORS | {"atomic"}
RUN = (
    ERRORS
    | {"checkpoint", "data", "generation", "manifest", "model", "pretrained"}
    | {*("run_folder", "schema", "task", "text")}
)
TRAINED = ERRORS | {"machine", "model", "pretrained", "schema", "text", "trained"}
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "atomic": set(),
    "manifest": FILES,
    "text": FILES | {"text"},
    "streaming": FILES | {"manifest", "streaming"},
    "dropout": set(),
    "cross_entropy": set(),
    "optim": set(),
    "energy_meter": ERRORS,
    "machine": ERRORS,
    "launch": ERRORS | {"slurm", ""},
    "slurm": ERRORS,
    "run_id": ERRORS | {"slurm", ""},
    "attention": {"dropout"},
    "cache": set(),
    "compilation": set(),
    "source": {"attention", "cache", "dropout"},
    "layers": {"attention", "cache", "compilation", "dropout", "source"},
    "model": {"attention", "cache", "compilation", "cross_entropy", "dropout", "layers", "source"},
    "translator": {"attention", "model", "source"},
    "generation": {"model", "source", "translator"},
    "objectives": {"cross_entropy", "model", "streaming", "translator"},
    "perplexity": {"model", "objectives", "translator"},
    "bleu": set(),
    "translation_scores": FILES | {"bleu", "text"},
    "sentence_scores": {"cross_entropy", "model", "objectives", "perplexity", "streaming", "text"},
    "tensor_names": ERRORS | {"model"},
    "trained": ERRORS | {"model", "text"},
    "original": ERRORS | {"model", "text", "tensor_names", "trained"},
    "trained_translator": ERRORS | {"checkpoint", "run_folder", "text", "trained", "translator"},
    "warm_start": ERRORS | {"model", "text", "trained"},
    "huggingface": ERRORS
    | {"layers", "model", "text", "tensor_names", "trained", "huggingface", ""},
    "model_card": ERRORS
    | {"huggingface", "model_card", "run_folder", "text", "trained", "trained_translator"}
    | {"wording", ""},
    "wording": set(),
    "recall": ERRORS,
    "config_files": {"recall"},
    "reporting": FILES
    | {"bleu", "config_files", "monitor", "recall", "run_folder", "wording", ""},  # "": the version
    "report": FILES | {"reporting", "schema"},
    "word_map": {"text"},
    "provenance": {"manifest"},
    "run_folder": FILES | {"manifest", "model", "recall", "text"},
    "checkpoint": FILES | {"model", "run_folder", "trained", "translator"},
    "checkpoint_writer": FILES | {"checkpoint"},
    "pretrained": ERRORS
    | {"checkpoint", "huggingface", "original", "trained", "trained_translator"},
    "scored_folder": ERRORS | {"manifest", "streaming", "text", "trained", "trained_translator"},
    "sharding": {"model", "translator"},
    "task": ERRORS
    | {"checkpoint", "flops", "model", "objectives", "optim", "perplexity", "sharding"}
    | {"monitor", "streaming", "translator"},
    "monitor": set(),
    "translation_task": {"generation", "monitor", "streaming", "task"}
    | {"translation_scores", "translator"},
    "beginning": RUN | {"compilation", "machine", "streaming", "translator", "warm_start"},
    "data": ERRORS | {"callbacks", "manifest", "streaming"},
    "metrics_csv": FILES,
    "flops": set(),
    "dashboards": ERRORS | {"dashboards", "monitor", "recall", "task"},
    "loggers": ERRORS | {"dashboards", "metrics_csv", "run_folder", "schema", "sweep"},
    "callbacks": ERRORS
    | {
        "atomic",
        "callbacks",
        "checkpoint",
        "checkpoint_writer",
        "energy_meter",
        "dashboards",
        "flops",
        "generation",
        "objectives",
        "perplexity",
    }
    | {"model", "run_folder", "sharding", "streaming", "task", "text", "translator"},
    "closing": RUN
    | {"data_prep", "perplexity", "recall", "sharding", "streaming", "translator", "word_map"},
    "assembly": RUN
    | {"checkpoint_writer", "launch", "machine", "streaming"}
    | {"translation_scores", "translation_task", "translator"},
    "run_callbacks": RUN
    | {"callbacks", "checkpoint_writer", "energy_meter", "monitor", "streaming"},
    "train": RUN
    | {"assembly", "beginning", "callbacks", "closing", "launch", "loggers", "machine"}
    | {"provenance", "report", "run_callbacks", "sharding", "slurm", "streaming"}
    | {"translation_scores"},
    "suites": ERRORS
    | {"data_prep", "model", "sentence_scores", "streaming", "suites"}
    | {"text", "trained", ""},
    "evaluate": TRAINED
    | {"generation", "perplexity", "run_folder", "scored_folder", "sentence_scores"}
    | {"streaming", "suites", "trained_translator", "translation_scores"},
    "batches": set(),
    "generate": TRAINED | {"batches", "generation"},
    "translate": FILES
    | {"batches", "generation", "machine", "schema", "text", "trained_translator"},
    "export": TRAINED | {"atomic", "huggingface", "model_card", "trained_translator"},
    "prepare": {"data_prep", "schema", "text"},
    "legality": ERRORS,
    "schema": {"legality", "schema"},
    "overrides": ERRORS | {"config_files", "legality", ""},
    "compose": ERRORS | {"config_files", "legality", "overrides", "run_id", "schema"},
    "sweep": FILES
    | {
        "compose",
        "launch",
        "legality",
        "monitor",
        "overrides",
        "report",
        "run_id",
        "schema",
        "slurm",
        "sweep",
    },
    "data_prep": FILES | {"manifest", "text", "data_prep", ""},  # "": the version
}
WITH_CONFIG = {"assembly", "beginning", "run_callbacks", "train", "closing", "loggers"} | {
    *COMMAND_NAMES
}
PLAIN = set(ALLOWED) - DOOR - WITH_CONFIG  # these know neither Hydra nor Lightning


def sources() -> list[Path]:
    files = [*PACKAGE_FOLDER.rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]
    return sorted(files)


def layer(file: Path) -> str:
    """`text` for text/bpe.py, `cli` for cli.py, `data_prep` for all of it."""
    if file.is_relative_to(ROOT / "data_prep"):
        return "data_prep"
    return file.relative_to(PACKAGE_FOLDER).parts[0].removesuffix(".py")


def imported(file: Path) -> Iterator[str]:
    """Dotted names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            assert node.level == 0, f"{file}: relative import"
            for alias in node.names:
                full = f"{module}.{alias.name}"
                yield full if is_ours(full) else module


def is_ours(module: str) -> bool:
    """Whether a dotted name is a file of this project."""
    path = Path(*module.split("."))
    files = (path.with_suffix(".py"), path / "__init__.py")
    return any((base / file).is_file() for base in (ROOT, ROOT / "src") for file in files)


def inner(name: str) -> str | None:
    """The layer that an imported name belongs to, None for foreign modules."""
    root, _, rest = name.partition(".")
    if root == "data_prep":
        return "data_prep"
    return rest.partition(".")[0] if root == PACKAGE else None


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_down_only(file: Path) -> None:
    own, names = layer(file), set(imported(file))
    foreign = {name.partition(".")[0] for name in names}
    inside = {found for name in names if (found := inner(name)) is not None}
    if own != "cli":
        assert inside <= ALLOWED[own] | {own}
    if own in PLAIN:
        assert not inside & DOOR
    assert not foreign & {"transformers", "lightning"}
    assert own in DOOR or not foreign & HYDRA
    assert own in LIGHTNING or not foreign & LIGHTNINGS
    assert own == "dashboards" or not foreign & {"wandb", "tensorboard", "trackio"}
    light = {
        "text",
        "manifest",
        "atomic",
        "errors",
        "data_prep",
        "run_folder",
        "report",
        "reporting",
    }
    if own in light | DOOR:
        assert "torch" not in foreign


@pytest.mark.parametrize("module", ["streaming/plan.py", "streaming/shards.py"])
def test_the_plan_needs_numpy_only(module: str) -> None:
    foreign = {name.partition(".")[0] for name in imported(PACKAGE_FOLDER / module)}
    assert not foreign & (HEAVY | HYDRA)


def test_the_door_opens_the_commands_late() -> None:
    """What cli imports at its top is light; each command's module comes in its own function."""
    tree = ast.parse((PACKAGE_FOLDER / "cli.py").read_text())
    top = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    everywhere = set(imported(PACKAGE_FOLDER / "cli.py"))
    commands = {f"{PACKAGE}.{name}" for name in COMMAND_NAMES}
    assert commands <= everywhere
    assert not commands & top


def test_no_import_runs_in_a_circle() -> None:
    edges = {
        _module(file): {name for name in imported(file) if inner(name) is not None}
        for file in sources()
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for name in edges.get(module, ()):
                visit(name, (*path, module))
            done.add(module)

    for module in edges:
        visit(module, ())


def _module(file: Path) -> str:
    base = ROOT if file.is_relative_to(ROOT / "data_prep") else ROOT / "src"
    return ".".join(file.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
