"""Kinds of values that several commands share: their types and ranges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from xlm_lightning.legality import (
    Above,
    AtLeast,
    AtMost,
    Below,
    FolderToBe,
    NotEmpty,
    OneOf,
    OnThisMachine,
    Verbatim,
)

Positive = Annotated[int, AtLeast(1)]
Count = Annotated[int, AtLeast(0)]
Fraction = Annotated[float, AtLeast(0), Below(1)]
Accelerator = Annotated[str, OneOf("auto", "cpu", "gpu")]
PRECISIONS = {  # as the user may write it -> Lightning's name; `auto` is decided on the machine
    "auto": "auto",
    "16": "16-mixed",
    "16-mixed": "16-mixed",
    "16-true": "16-true",
    "bf16": "bf16-mixed",
    "bf16-mixed": "bf16-mixed",
    "bf16-true": "bf16-true",
    "32": "32-true",
    "32-true": "32-true",
    "64": "64-true",
    "64-true": "64-true",
}
Precision = Annotated[str, OneOf(*PRECISIONS)]
Seed = Annotated[int, AtLeast(0), AtMost(2**32 - 1)]
PathName = Annotated[str, NotEmpty(), Verbatim()]
LocalPath = Annotated[str, NotEmpty(), OnThisMachine(), Verbatim()]
Gigabytes = Annotated[float, Above(0)]  # of 1e9 bytes
Minutes = Annotated[float, AtLeast(0)]
Conflict = tuple[str, str]  # key=value, what is wrong with it
STORES = ("s3", "gs", "hf", "https", "http")


class FileToBe(FolderToBe):
    """A file that a command may write, over an older one too: its folder is there or can be made.
    See `check_files`."""

    def __str__(self) -> str:
        return "a file that can be written"

    def broken(self, value: Any) -> str:
        """See `Rule`."""
        if Path(value).is_dir():
            return "is a folder; name a file"
        return super().broken(str(Path(value).absolute().parent))


def address_conflicts(folder: str | None) -> Iterator[Conflict]:
    """Yield what is wrong with `data.dir` as an address; a secret in it is not repeated."""
    scheme, separator, rest = (folder or "").partition("://")
    if not separator:
        return
    host = rest.partition("/")[0]
    if "@" in host or "?" in rest:
        yield (
            f"data.dir={scheme}://...",
            "holds an account or a signature, which would be written into every run folder; leave "
            "it to the environment or the store's own configuration",
        )
    elif scheme not in STORES or not host:
        yield (
            f"data.dir={folder}",
            "must be a folder, or an address such as s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, "
            "hf://datasets/OWNER/NAME or https://HOST/FOLDER",
        )
