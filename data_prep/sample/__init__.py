"""The sample corpus: English and German from one probabilistic grammar, with their true entropy."""

from data_prep.sample.corpus import GRAMMAR_VERSION, SampleCorpus, SampleFile, write_sample
from data_prep.sample.documents import accepts, log_probability

__all__ = [
    "GRAMMAR_VERSION",
    "SampleCorpus",
    "SampleFile",
    "accepts",
    "log_probability",
    "write_sample",
]
