"""What a configuration may say: every key, its type and its range. What it says by default stands
in `conf/` and nowhere else, so no field has a default here.

Ranges stand in the annotations; rules between keys in `conflicts`. `compose.py` applies both.
"""

from xlm_lightning.schema.data import Data
from xlm_lightning.schema.kinds import PRECISIONS
from xlm_lightning.schema.objective import Masking, Noise, Objective
from xlm_lightning.schema.prepare import (
    CORPORA,
    Bpe,
    Corpus,
    Files,
    NewscrawlCorpus,
    Prepare,
    SampleCorpus,
    Text,
    TextCorpus,
    WikipediaCorpus,
)
from xlm_lightning.schema.report import Report
from xlm_lightning.schema.sweep import Slurm, Sweep, SweepPlan
from xlm_lightning.schema.train import (
    Callbacks,
    Checkpoint,
    Energy,
    Logger,
    Model,
    Optimizer,
    Run,
    Samples,
    Schedule,
    Tensorboard,
    Trackio,
    Train,
    Trainer,
    Wandb,
)
from xlm_lightning.schema.trained import Card, Evaluate, EvaluationData, Export, Generate
from xlm_lightning.schema.translate import Translate

__all__ = [
    "CORPORA",
    "PRECISIONS",
    "Bpe",
    "Callbacks",
    "Card",
    "Checkpoint",
    "Corpus",
    "Data",
    "Energy",
    "Evaluate",
    "EvaluationData",
    "Export",
    "Files",
    "Generate",
    "Logger",
    "Masking",
    "Model",
    "NewscrawlCorpus",
    "Noise",
    "Objective",
    "Optimizer",
    "Prepare",
    "Report",
    "Run",
    "SampleCorpus",
    "Samples",
    "Schedule",
    "Slurm",
    "Sweep",
    "SweepPlan",
    "Tensorboard",
    "Text",
    "TextCorpus",
    "Trackio",
    "Train",
    "Trainer",
    "Translate",
    "Wandb",
    "WikipediaCorpus",
]
