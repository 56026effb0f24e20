"""Rules for whole sentences and for units of one to three sentences that share their subject.

A document is a run of units on one topic: after each unit it goes on with the probability `CONTINUE
/ SCALE`. The line break between sentences of a unit is the word NEWLINE.
"""

import math
from functools import cache

from data_prep.sample.adverbials import add_adverbials, pairs
from data_prep.sample.clauses import add_clauses, add_verbs
from data_prep.sample.grammar import SCALE, Grammar, GrammarBuilder
from data_prep.sample.lexicon import TOPICS, zipf
from data_prep.sample.phrases import GOODS, KINDS, add_phrases, add_subjects, add_words

NEWLINE = "<newline>"
CONTINUE = SCALE * 5 // 6
LOG_CONTINUE = math.log(CONTINUE / SCALE)
LOG_STOP = math.log((SCALE - CONTINUE) / SCALE)
_SHARES = {"m": 30, "f": 30, "p": 18, "i": 10, "w": 8}
SENTENCES = (
    *(f"{symbol}.{kind}" for symbol in ("Sentence", "Followup") for kind in KINDS),
    "Description",
    "Speech",
)
_CONJUNCTIONS = """
weil = because
wenn = when
obwohl = although
sobald = as soon as
bevor = before
nachdem = after
bis = until
"""
_PREDICATES = ("is", "was")
_DEGREES = (("", "", 40), ("sehr", "very", 25), ("zu", "too", 12), ("nicht", "not", 15))
BE = {("is", "sg"): ("ist", "is"), ("is", "pl"): ("sind", "are"), ("was", "sg"): ("war", "was")}
BE[("was", "pl")] = ("waren", "were")
_BUILT = "gebaut=built renoviert=renovated eröffnet=opened geschlossen=closed verkauft=sold"


@cache
def sample_grammar() -> Grammar:
    """The grammar of the sample corpus."""
    build = GrammarBuilder(TOPICS)
    add_words(build)
    add_verbs(build)
    add_phrases(build)
    add_adverbials(build)
    add_subjects(build)
    add_clauses(build)
    _add_sentences(build)
    _add_descriptions(build)
    _add_speech(build)
    _add_units(build)
    return build.build()


def _add_sentences(build: GrammarBuilder) -> None:
    """`Sentence.KIND` and, with a pronoun for its subject, `Followup.KIND`."""
    for rank, (word_de, word_en) in enumerate(pairs(_CONJUNCTIONS)):
        build.rule("Conjunction", zipf(rank), de=word_de, en=word_en)
    for kind in KINDS:
        again = f"pronoun.{kind}"
        for symbol, subject in ((f"Sentence.{kind}", kind), (f"Followup.{kind}", again)):
            build.rule(symbol, 62, f"Statement.{subject}", de="$0 .", en="$0 .")
            reason = f"Statement.{subject} Conjunction Subordinate.{again}"
            build.rule(symbol, 16, reason, de="$0 , $1 $2 .", en="$0 $1 $2 .")
            build.rule(
                symbol,
                6,
                f"Conjunction Subordinate.{subject} Inverted.{again}",
                de="$0 $1 , $2 .",
                en="$0 $1 , $2 .",
            )
            both = f"Statement.{subject} Statement.{again}"
            build.rule(symbol, 6, both, de="$0 , und $1 .", en="$0 , and $1 .")


def _add_descriptions(build: GrammarBuilder) -> None:
    """`Description`: what things are like, cost, where they are, when something begins."""
    for kind in (*GOODS, "place", "event", "idea"):
        for number, share in (("sg", 3), ("pl", 1)):
            children = f"Phrase.{kind}.{number} Adjective.{kind}"
            for tense in _PREDICATES:
                be_de, be_en = BE[tense, number]
                for degree_de, degree_en, weight in _DEGREES:
                    build.rule(
                        "Description",
                        share * weight,
                        children,
                        de=f"$0.nom {be_de} {degree_de} $1.pred .",
                        en=f"$0 {be_en} {degree_en} $1 .",
                    )
    _add_prices_and_places(build)
    _add_beginnings(build)
    for verb in _BUILT.split():
        verb_de, _, verb_en = verb.partition("=")
        build.rule(
            "Description",
            60,
            "Phrase.place.sg Year",
            de=f"$0.nom wurde im Jahr $1 {verb_de} .",
            en=f"$0 was {verb_en} in $1 .",
        )


def _add_prices_and_places(build: GrammarBuilder) -> None:
    for kind in ("thing", "food", "text", "animal"):
        for number, cost_de, cost_en in (("sg", "kostet", "costs"), ("pl", "kosten", "cost")):
            children = f"Phrase.{kind}.{number} Price"
            de, en = f"$0.nom {cost_de} $1 .", f"$0 {cost_en} $1 ."
            build.rule("Description", 120, children, de=de, en=en)
    for kind in (*GOODS, "person"):
        for number in ("sg", "pl"):
            be = BE["is", number][1]
            children = f"Indefinite.{kind}.{number} Place"
            de, en = "$1 gibt es $0.acc .", f"there {be} $0 $1 ."
            build.rule("Description", 100, children, de=de, en=en)


def _add_beginnings(build: GrammarBuilder) -> None:
    for kind, verb, share in (("event", "held", 500), ("vehicle", "moving", 260)):
        for number, agreement, part in (("sg", "3s", 3), ("pl", "p", 1)):
            for when, when_de, when_en in (
                ("Date", "$2", "$2"),
                ("Day", "am $2", "on $2"),
                ("Hour", "um $2 Uhr", "at $2 o 'clock"),
            ):
                build.rule(
                    "Description",
                    share * part // 6,
                    f"Phrase.{kind}.{number} Verb.{verb} {when} Place",
                    de=f"$0.nom $1.fin.{agreement} {when_de} $3 $1.end .",
                    en=f"$0 $1.fin.{agreement} $3 {when_en} .",
                )


def _add_speech(build: GrammarBuilder) -> None:
    """`Speech`: quotations, questions, what somebody says that somebody does."""
    for tense_de, tense_en, weight in (("sagt", "says", 60), ("sagte", "said", 40)):
        for who in ("m", "f"):
            for speaker in ("i", "w"):
                children = f"Statement.{speaker} Subject.{who}"
                de = f'" $0 " , {tense_de} $1 .'
                build.rule("Speech", weight, children, de=de, en=f'" $0 , " {tense_en} $1 .')
            for whom in ("m", "f", "p"):
                children = f"Subject.{who} Subordinate.{whom}"
                de, en = f"$0 {tense_de} , dass $1 .", f"$0 {tense_en} that $1 ."
                build.rule("Speech", weight // 2, children, de=de, en=en)
    for tense_de, tense_en, weight in (("fragt", "asks", 40), ("fragte", "asked", 30)):
        for who in ("m", "f"):
            for whom in ("m", "f", "p"):
                for word_de, word_en, share in (
                    ("", "", 3),
                    ("warum", "why", 1),
                    ("wann", "when", 1),
                ):
                    children = f"Question.{whom} Subject.{who}"
                    de = f'" {word_de} $0 ? " , {tense_de} $1 .'
                    en = f'" {word_en} $0 ? " {tense_en} $1 .'
                    build.rule("Speech", weight * share // 5, children, de=de, en=en)


def _add_units(build: GrammarBuilder) -> None:
    for kind in KINDS:
        share = _SHARES[kind]
        sentence, followup = f"Sentence.{kind}", f"Followup.{kind}"
        build.rule("Unit", 5 * share, sentence, de="$0", en="$0")
        if kind not in ("i", "w"):  # "I ... I ..." would be one unit of two or two of one
            two = f"{sentence} {followup}"
            build.rule("Unit", 2 * share, two, de=f"$0 {NEWLINE} $1", en=f"$0 {NEWLINE} $1")
    build.rule("Unit", 230, "Description", de="$0", en="$0")
    build.rule("Unit", 110, "Speech", de="$0", en="$0")
