"""What `xlm-translate` may be told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from xlm_lightning.legality import (
    Above,
    AtLeast,
    AtMost,
    Existing,
    NotEmpty,
    OnThisMachine,
    Verbatim,
)
from xlm_lightning.schema.kinds import Accelerator, Conflict, Count, FileToBe, Positive, Seed


@dataclass
class Translate:
    """xlm-translate."""

    checkpoint: Annotated[str, NotEmpty(), Existing("run folder or checkpoint"), Verbatim()]
    source: Annotated[str, NotEmpty()]  # language of the text
    target: Annotated[str, NotEmpty()]  # language of the translations
    text: Annotated[str | None, Verbatim()]
    text_file: Annotated[str | None, NotEmpty(), Existing("file"), Verbatim()]  # one a line
    beam: Positive  # hypotheses of a beam search; 1: the most probable token each time
    length_penalty: Annotated[float, AtLeast(0)]  # score = log-probability / tokens**this
    early_stopping: bool  # beam search: end when `beam` hypotheses have
    temperature: Annotated[float, AtLeast(0)]  # 0: nothing is drawn
    top_k: Count  # 0: all
    top_p: Annotated[float, Above(0), AtMost(1)]
    seed: Seed
    out: Annotated[
        str | None, NotEmpty(), OnThisMachine(), FileToBe(), Verbatim()
    ]  # a file for the translations, which are then not in the JSON
    batch_size: Positive  # rows at a time
    accelerator: Accelerator

    def conflicts(self) -> Iterator[Conflict]:
        """Yield what no single key shows to be wrong."""
        if self.source == self.target:
            yield f"target={self.target}", "is the language of the text; name another one"
        if self.text is not None and self.text_file is not None:
            yield f"text_file={self.text_file}", "give either text= or text_file=, not both"
        if self.beam == 1 and self.length_penalty != 1:
            yield (
                f"length_penalty={self.length_penalty}",
                "weighs the texts of a beam search; say beam=4, or leave it at 1",
            )
        if self.beam == 1 and self.early_stopping:
            yield "early_stopping=true", "ends a beam search; say beam=4, or leave it out"
        if self.beam > 1 and self.temperature:
            yield f"temperature={self.temperature}", f"beam={self.beam} draws nothing; say beam=1"
        for key, neutral in {"top_k": 0, "top_p": 1}.items():
            if not self.temperature and getattr(self, key) != neutral:
                yield f"{key}={getattr(self, key)}", "narrows a drawing; say temperature=1"
        given = self.out is not None and self.text_file is not None
        if given and Path(str(self.out)).resolve() == Path(str(self.text_file)).resolve():
            yield f"out={self.out}", "is the text itself; choose another file"
