"""Rules for clauses: who does what to whom, in the four word orders that German and English tell
apart.

`Statement` has the finite verb second in German, after the subject or after a fronted adverbial;
`Subordinate` has it last; `Inverted` and `Question` have it first. English keeps subject, verb,
object and asks with an auxiliary. `.KIND` is the kind of subject; the `Own` phrases below it agree
with it.
"""

from dataclasses import dataclass

from data_prep.sample.grammar import GrammarBuilder
from data_prep.sample.lexicon import verbs
from data_prep.sample.phrases import AGREEMENT, KINDS, verb_forms

_TENSES = {"present": 62, "past": 30, "perfect": 4, "can": 2, "must": 1, "will": 1}


@dataclass(frozen=True, slots=True)
class Frame:
    """A verb class with its complements; `{k}` stands for the kind of subject."""

    verb: str
    share: int
    complements: tuple[str, ...]
    cases: tuple[str, ...]


_FRAMES = (
    Frame("alone", 22, (), ()),
    Frame("thing", 24, ("Object.thing.{k}",), ("acc",)),
    Frame("food", 14, ("Object.food.{k}",), ("acc",)),
    Frame("person", 16, ("Object.person.{k}",), ("acc",)),
    Frame("text", 8, ("Object.text.{k}",), ("acc",)),
    Frame("idea", 5, ("Object.idea.{k}",), ("acc",)),
    Frame("event", 3, ("Object.event.{k}",), ("acc",)),
    Frame("animal", 4, ("Object.animal.{k}",), ("acc",)),
    Frame("vehicle", 3, ("Object.vehicle.{k}",), ("acc",)),
    Frame("helped", 5, ("Object.person.{k}",), ("dat",)),
    Frame("goal", 8, ("Goal",), ("",)),
    Frame("give", 6, ("Object.person.{k}", "Object.thing.{k}"), ("dat", "acc")),
)
_ADJUNCTS = (("", 40), ("T", 25), ("L", 20), ("TL", 7))  # time, place
_FRONTED = (("T", 14), ("L", 5))


def add_verbs(build: GrammarBuilder) -> None:
    """`Verb.CLASS`: each verb in each tense, with every form that a word order needs."""
    for verb in verbs():
        for tense, share in _TENSES.items():
            forms_de, forms_en = verb_forms(verb.english, verb.german, tense)
            weights = [weight * share for weight in verb.weights]
            build.rule(f"Verb.{verb.kind}", weights, de=forms_de, en=forms_en)


def add_clauses(build: GrammarBuilder) -> None:
    """Clauses with a full subject (`Statement.m`) and with a pronoun (`Statement.pronoun.m`)."""
    for kind in KINDS:
        for frame in _FRAMES:
            for prefix, subject in (("", f"Subject.{kind}"), ("pronoun.", f"Pronoun.{kind}")):
                _add_frame(build, frame, kind, prefix, subject)
                _add_fronted(build, frame, kind, prefix, subject)


def _add_frame(build: GrammarBuilder, frame: Frame, kind: str, prefix: str, subject: str) -> None:
    agreement = AGREEMENT[kind]
    complements = [complement.format(k=kind) for complement in frame.complements]
    for adjuncts, share in _ADJUNCTS:
        children, time, place = _children(subject, frame, complements, adjuncts)
        weight = frame.share * share
        objects_de = _objects_de(frame, time)
        objects_en = " ".join(f"${2 + number}" for number in range(len(complements)))
        finite, end, late = f"$1.fin.{agreement}", "$1.end", f"$1.sub.{agreement}"
        tail_en = f"{objects_en} {place} {time}"
        straight = f"$0 {finite} {tail_en}"
        ending = f"{prefix}{kind}"
        build.rule(
            f"Statement.{ending}",
            weight,
            children,
            de=f"$0 {finite} {objects_de} {place} {end}",
            en=straight,
        )
        build.rule(
            f"Subordinate.{ending}",
            weight,
            children,
            de=f"$0 {objects_de} {place} {late}",
            en=straight,
        )
        first = f"{finite} $0 {objects_de} {place} {end}"
        build.rule(f"Inverted.{ending}", weight, children, de=first, en=straight)
        asked = f"$1.aux.{agreement} $0 $1.main {tail_en}"
        build.rule(f"Question.{ending}", weight, children, de=first, en=asked)


def _add_fronted(build: GrammarBuilder, frame: Frame, kind: str, prefix: str, subject: str) -> None:
    """Statements that begin with their adjunct: German then has the verb before the subject."""
    agreement = AGREEMENT[kind]
    complements = [complement.format(k=kind) for complement in frame.complements]
    for adjunct, share in _FRONTED:
        children, time, place = _children(subject, frame, complements, adjunct)
        objects_de = _objects_de(frame, "")
        objects_en = " ".join(f"${2 + number}" for number in range(len(complements)))
        front = time or place
        build.rule(
            f"Statement.{prefix}{kind}",
            frame.share * share,
            children,
            de=f"{front} $1.fin.{agreement} $0 {objects_de} $1.end",
            en=f"{front} $0 $1.fin.{agreement} {objects_en}",
        )


def _children(
    subject: str, frame: Frame, complements: list[str], adjuncts: str
) -> tuple[str, str, str]:
    """Child symbols, and how the yields call the time and the place ('' when absent)."""
    children = [subject, f"Verb.{frame.verb}", *complements]
    time = place = ""
    if "T" in adjuncts:
        time = f"${len(children)}"
        children.append("Time")
    if "L" in adjuncts:
        place = f"${len(children)}"
        children.append("Place")
    return " ".join(children), time, place


def _objects_de(frame: Frame, time: str) -> str:
    """German complements with the time before the last of them (or alone)."""
    words = [f"${2 + number}.{case}".rstrip(".") for number, case in enumerate(frame.cases)]
    return " ".join([*words[:-1], time, *words[-1:]])
