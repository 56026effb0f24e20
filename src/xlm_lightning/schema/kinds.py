"""Kinds of values that several commands share: their types and ranges."""

from __future__ import annotations

from typing import Annotated

from xlm_lightning.legality import (
    AtLeast,
    AtMost,
    Below,
    NotEmpty,
    OneOf,
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
Conflict = tuple[str, str]  # key=value, what is wrong with it
