"""What `xlm-translate` may be told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from xlm_lightning.legality import AtLeast, Existing, NotEmpty, OnThisMachine, Verbatim
from xlm_lightning.schema.kinds import Accelerator, Conflict, FileToBe, Positive


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
        given = self.out is not None and self.text_file is not None
        if given and Path(str(self.out)).resolve() == Path(str(self.text_file)).resolve():
            yield f"out={self.out}", "is the text itself; choose another file"
