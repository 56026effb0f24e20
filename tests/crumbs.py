"""A few hundred lines of the sample corpus, so that scoring all of them takes no time."""

from __future__ import annotations

from pathlib import Path

from commands import run

LINES = {"train": 300, "valid": 20, "test": 20}


def crumbs_of(prepared: Path) -> Path:
    """Return a prepared folder of the first lines of `prepared`, made beside it when first asked.

    Its corpus is `text` and not `sample`: no limit, and no grammar to judge what the model wrote.
    """
    out = prepared.with_name("crumbs")
    if out.exists():
        return out
    words = []
    for split in LINES:
        own = {language: _first_lines(prepared, split, language) for language in ("de", "en")}
        pair = [_first_lines(prepared, split, language, "parallel.") for language in own]
        words += [f"corpus.{split}.{language}={file}" for language, file in own.items()]
        words.append(f"corpus.parallel.de-en.{split}=[{pair[0]},{pair[1]}]")
    given = (f"bpe.codes={prepared / 'codes'}", f"bpe.vocab={prepared / 'vocab'}")
    run("xlm-prepare", "corpus=text", *words, *given, "workers=1", f"out={out}").expect()
    return out


def _first_lines(prepared: Path, split: str, language: str, kind: str = "") -> Path:
    name = f"{kind}{split}.{language}.txt"
    lines = (prepared.with_name("tiny_raw") / name).read_text().splitlines(keepends=True)
    text = prepared.with_name(f"crumbs.{name}")
    text.write_text("".join(lines[: LINES[split]]))
    return text
