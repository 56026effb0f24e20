"""What the commands on a trained model may be told: evaluate, generate, export."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from xlm_lightning.legality import (
    Above,
    AtLeast,
    AtMost,
    Existing,
    FolderToBe,
    NotEmpty,
    OneOf,
    Verbatim,
)
from xlm_lightning.schema.kinds import (
    Accelerator,
    Conflict,
    Count,
    Gigabytes,
    LocalPath,
    Minutes,
    Positive,
    Seed,
    address_conflicts,
)

# a run folder, a checkpoint, an exported or Hugging Face folder, a name on the hub
TrainedModelName = Annotated[
    str, NotEmpty(), Existing("run folder or checkpoint", hub=True), Verbatim()
]
# what it was trained for, where the source does not tell or is wrong; None: as it says
TrainedFor = Annotated[str | None, OneOf("clm", "mlm", "tlm")]
EVALUATION_PRECISIONS = ("auto", "32", "32-true", "bf16", "bf16-mixed", "16", "16-mixed")


@dataclass
class Evaluate:
    """xlm-evaluate."""

    checkpoint: TrainedModelName
    objective: TrainedFor
    data: EvaluationData
    split: Annotated[str, OneOf("valid", "test")]
    definition: Annotated[str, OneOf("ours", "xlm")]  # xlm: as the original counts
    text: Annotated[str | None, Verbatim()]  # score this sentence instead of a split
    text_file: Annotated[
        str | None, NotEmpty(), Existing("file"), Verbatim()
    ]  # or each line of this file
    language: str | None
    suite: Annotated[str | None, OneOf("crosslingual", "bias")]  # probes instead of a perplexity
    dictionary: Annotated[
        str | None, NotEmpty(), Existing("file"), Verbatim()
    ]  # crosslingual: a word, a tab and its translation a line, languages in alphabetical order
    sentences: Annotated[int, AtLeast(20)]  # crosslingual: among which a translation is looked for
    beam: Positive  # a translator: hypotheses of a beam search; 1: greedy
    length_penalty: Annotated[float, AtLeast(0)]  # score = log-probability / tokens**this
    seed: Seed  # of what a suite draws and its model with random weights; of intervals of BLEU
    batch_size: Annotated[int | None, AtLeast(1)]  # None: 16, or as in a translator's training
    accelerator: Accelerator
    precision: Annotated[str, OneOf(*EVALUATION_PRECISIONS)]

    def conflicts(self) -> Iterator[Conflict]:
        """Yield what no single key shows to be wrong."""
        yield from address_conflicts(self.data.dir)
        if self.text is not None and self.text_file is not None:
            yield f"text_file={self.text_file}", "give either text= or text_file=, not both"
        if self.suite is not None:
            for key in ("text", "text_file"):
                if getattr(self, key) is not None:
                    yield f"suite={self.suite}", f"has sentences of its own; leave {key}= out"
        if self.beam == 1 and self.length_penalty != 1:
            yield (
                f"length_penalty={self.length_penalty}",
                "weighs the translations of a beam search; say beam=4, or leave it at 1",
            )
        if self.dictionary is not None and self.suite != "crosslingual":
            yield f"dictionary={self.dictionary}", "is read by suite=crosslingual only"
        if (self.text or self.text_file) and self.language is None:
            yield "language=null", "scoring a text needs its language, such as language=de"


@dataclass
class EvaluationData:
    """What is scored."""

    dir: Annotated[str | None, NotEmpty(), Existing("folder", remote=True), Verbatim()]
    # None: the run's own
    cache_dir: LocalPath  # dir in an object store: where shards are kept on this machine
    cache_gb: Gigabytes
    retry_minutes: Minutes


@dataclass
class Generate:
    """xlm-generate."""

    checkpoint: TrainedModelName
    objective: TrainedFor
    prompt: Annotated[str, Verbatim()]
    prompt_file: Annotated[str | None, NotEmpty(), Existing("file"), Verbatim()]  # one a line
    language: str | None  # None: the first of the model's
    max_new_tokens: Positive
    temperature: Annotated[float, AtLeast(0)]  # 0: the most probable token
    top_k: Count  # 0: all
    top_p: Annotated[float, Above(0), AtMost(1)]
    seed: Seed
    num_samples: Positive  # texts of each prompt
    beam: Positive  # hypotheses of a beam search; 1: none, the texts are drawn
    length_penalty: Annotated[float, AtLeast(0)]  # score = log-probability / tokens**this
    batch_size: Positive  # rows that the model continues at a time
    accelerator: Accelerator

    def conflicts(self) -> Iterator[Conflict]:
        """Yield what no single key shows to be wrong."""
        if self.prompt and self.prompt_file is not None:
            yield f"prompt_file={self.prompt_file}", "give either prompt= or prompt_file=, not both"
        if self.beam == 1:
            if self.length_penalty != 1:
                yield (
                    f"length_penalty={self.length_penalty}",
                    "weighs the texts of a beam search; say beam=4, or leave it at 1",
                )
            return
        drawing = {"temperature": (0, 1), "top_k": (0,), "top_p": (1,)}
        for key, neutral in drawing.items():
            if getattr(self, key) not in neutral:
                yield f"{key}={getattr(self, key)}", f"beam={self.beam} draws nothing; say beam=1"
        if self.num_samples > self.beam:
            yield (
                f"num_samples={self.num_samples}",
                f"beam={self.beam} finds {self.beam} texts; say beam={self.num_samples}",
            )


Statement = Annotated[str | None, NotEmpty(), Verbatim()]


@dataclass
class Card:
    """What the author of a model says of it; None: nothing."""

    name: Statement
    developed_by: Statement
    funded_by: Statement
    license: Statement
    related_models: Statement
    resources: Statement
    direct_use: Statement
    downstream_use: Statement
    out_of_scope_use: Statement
    limitations: Statement
    training_data: Statement
    hardware: Statement
    hours_used: Annotated[float | None, AtLeast(0)]
    cloud_provider: Statement
    compute_region: Statement
    kg_co2eq: Annotated[float | None, AtLeast(0)]
    authors: Statement
    contact: Statement


@dataclass
class Export:
    """xlm-export."""

    checkpoint: TrainedModelName
    objective: TrainedFor
    out: Annotated[str | None, NotEmpty(), FolderToBe(), Verbatim()]
    card_only: bool  # no model, only its README.md; out=None: into the checkpoint's own folder
    push_to_hub: Annotated[str | None, NotEmpty()]  # OWNER/NAME of a model repository
    card: Card

    def conflicts(self) -> Iterator[Conflict]:
        """Yield what no single key shows to be wrong."""
        if self.out is None and not self.card_only:
            yield "out=null", "say out=DIR, the folder to write (card_only=true goes without)"
        if self.push_to_hub is not None and self.card_only:
            yield (
                f"push_to_hub={self.push_to_hub}",
                "sends a whole folder; leave card_only=true out",
            )
