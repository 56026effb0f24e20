"""The sample corpus: English and German from one probabilistic grammar, with their true entropy.

Tables of words (`lexicon/`) and rules over shared meanings (`phrases`, `adverbials`, `clauses`,
`sentences`) make a synchronous grammar (`grammar`); `sampler` draws documents from it, `scorer` and
`documents` compute the probability of text, `corpus` writes the files and `record` remembers them.

Why the figures are exact. A text is a row of independent documents; a document is a hidden topic, a
run of units (sentences, or two that share a subject) and the choice to stop. The generator takes
the product of the choices it made, under every topic, and sums over the topics. That is P(text) if
the words of a unit have one derivation and a document one cut into units. The rules are made so:
no word form stands for two meanings in the same place (the tables hold no `read` or `cut`, whose
past is their present), I and we begin no unit of two sentences, and each list of alternatives
differs in its words. The claim is checked, not trusted: the scorer sums over all derivations and
all cuts from the words alone, and the tests hold it against the generator, and both against brute
force. `orthography` says why Moses' tokens lose nothing.
"""

from data_prep.sample.corpus import GRAMMAR_VERSION, write_sample
from data_prep.sample.documents import accepts, log_probability
from data_prep.sample.record import SampleCorpus, SampleFile

__all__ = [
    "GRAMMAR_VERSION",
    "SampleCorpus",
    "SampleFile",
    "accepts",
    "log_probability",
    "write_sample",
]
