"""Sentences of the grammar beside copies in which one word breaks an agreement.

One word of a sentence is replaced by another form of the same word. Whether the result is wrong is
left to the grammar (`accepts`): a form that happens to be right there, too, makes no pair.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from random import Random

from data_prep.sample import german
from data_prep.sample.documents import accepts
from data_prep.sample.grammar import Language
from data_prep.sample.lexicon import adjectives, nouns, verbs
from data_prep.sample.orthography import write_line, written_words
from data_prep.sample.phrases import NUMERALS, verb_forms
from data_prep.sample.sampler import Sampler, Writer
from data_prep.sample.sentences import BE, sample_grammar

Words = Sequence[str]
Forms = Mapping[str, frozenset[str]]  # word -> forms that stand for another agreement
MOST_OF_A_SWAP = 20  # pairs of the same two forms: `alte` and `alten` alone would be most of all
_DOCUMENTS = 3_000  # drawn at most
_ADJECTIVE_ENDINGS = ("e", "en", "er", "es")
_TENSES = ("present", "past", "perfect", "can", "must", "will")


def minimal_pairs(phenomenon: str, language: Language, seed: int) -> Iterator[tuple[str, str]]:
    """Some hundred (right, wrong) sentences that show a phenomenon of `PHENOMENA[language]`.

    They come in twos: one where form a is right and b is wrong, and one the other way about. So who
    only knows which form is the more common one is right in half of them. No pair comes twice, and
    no two forms more than `MOST_OF_A_SWAP` times.
    """
    given: Counter[frozenset[str]] = Counter()
    waiting: dict[tuple[str, str], list[tuple[str, str]]] = {}
    seen: set[tuple[str, str]] = set()
    for right, wrong, place in _broken(phenomenon, language, seed):
        pair = write_line(right, language), write_line(wrong, language)
        if pair in seen:
            continue
        seen.add(pair)
        a, b = (written_words(words, language)[place] for words in (right, wrong))
        if given[frozenset((a, b))] == MOST_OF_A_SWAP:
            continue
        these, opposite = waiting.setdefault((a, b), []), waiting.setdefault((b, a), [])
        these.append(pair)
        if opposite:  # judged only now: most swaps never meet their opposite
            for pairs in (these, opposite):
                while pairs and accepts(pairs[-1][1], language):
                    pairs.pop()
        if these and opposite:
            given[frozenset((a, b))] += 2
            yield these.pop()
            yield opposite.pop()


def _broken(
    phenomenon: str, language: Language, seed: int
) -> Iterator[tuple[list[str], list[str], int]]:
    """Words of a sentence, the same with another form at a place, and that place."""
    forms_at = PHENOMENA[language][phenomenon]
    names = ("minimal pairs", language, phenomenon)
    sampler = Sampler(sample_grammar(), seed, *names)
    writer = Writer(sample_grammar(), language)
    digest = hashlib.sha256("/".join((str(seed), *names, "choice")).encode()).digest()
    bits = Random(int.from_bytes(digest, "big")).getrandbits
    for _ in range(_DOCUMENTS):
        for words in writer.sentences(sampler.document()):
            choices = [(p, form) for p in range(len(words)) for form in sorted(forms_at(words, p))]
            if choices:
                place, form = choices[bits(32) % len(choices)]
                yield words, [*words[:place], form, *words[place + 1 :]], place


def _verb_number(language: Language) -> Callable[[Words, int], frozenset[str]]:
    def forms_at(words: Words, place: int) -> frozenset[str]:
        return _verbs(language).get(words[place], frozenset())

    return forms_at


@cache
def _verbs(language: Language) -> Forms:
    """Finite forms of the third person, singular <-> plural.

    The first person is left out: `ich sehe` shares its form with the subjunctive of `er`.
    """
    pairs = {(BE[tense, "sg"], BE[tense, "pl"]) for tense in ("is", "was")}
    found = [(one[language == "en"], several[language == "en"]) for one, several in pairs]
    for verb in verbs():
        for tense in _TENSES:
            forms = verb_forms(verb.english, verb.german, tense)[language == "en"]
            for kind in {key.partition(".")[0] for key in forms} & {"fin", "sub", "aux"}:
                one, several = forms[f"{kind}.3s"].split(), forms[f"{kind}.p"].split()
                found += [(a, b) for a, b in zip(one, several, strict=True) if a != b]
    alternatives: dict[str, set[str]] = {}
    for one_form, several_form in found:
        alternatives.setdefault(one_form, set()).add(several_form)
        alternatives.setdefault(several_form, set()).add(one_form)
    return {word: frozenset(others) for word, others in alternatives.items()}


def _article_gender(words: Words, place: int) -> frozenset[str]:
    """Forms of the article that no case of the noun's gender has: `das Frau`."""
    gender = _gender_of_noun_after(words, place)
    paradigm = _articles().get(words[place])
    if gender is None or paradigm is None:
        return frozenset()
    return frozenset(form for forms in paradigm.values() for form in forms) - {*paradigm[gender]}


def _article_case(words: Words, place: int) -> frozenset[str]:
    """Forms of the article for other cases of the noun's gender: `Er sieht der Mann`."""
    gender = _gender_of_noun_after(words, place)
    paradigm = _articles().get(words[place])
    if gender is None or paradigm is None or words[place] not in paradigm[gender]:
        return frozenset()
    return frozenset(paradigm[gender]) - {words[place]}


@cache
def _articles() -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Article -> gender -> its forms in the singular."""
    paradigms: list[Mapping[str, Sequence[str]]] = [german.DEFINITE, german.DEMONSTRATIVE]
    paradigms += [
        {gender: german.ein_word(stem, gender) for gender in "mfn"}
        for stem in ("ein", "mein", "sein", "ihr", "unser")
    ]
    return {form: paradigm for paradigm in paradigms for g in "mfn" for form in paradigm[g]}


def _gender_of_noun_after(words: Words, place: int) -> str | None:
    """Gender of the noun that an article goes with, perhaps past an adjective; None where there is
    none, or where its form may be a plural."""
    following = words[place + 1 : place + 3]
    if following and following[0] in _adjectives():
        following = following[1:]
    return _genders().get(following[0]) if following else None


@cache
def _genders() -> Mapping[str, str]:
    found: dict[str, set[str]] = {}
    for noun in nouns():
        for form in german.singular(noun.german, noun.gender, noun.german_plural).values():
            found.setdefault(form, set()).add(noun.article_gender)
        for form in german.plural_cases(noun.german_plural).values():
            found.setdefault(form, set()).add("plural")
    return {
        form: next(iter(genders))
        for form, genders in found.items()
        if len(genders) == 1 and "plural" not in genders
    }


def _adjective_ending(words: Words, place: int) -> frozenset[str]:
    return _adjectives().get(words[place], frozenset())


@cache
def _adjectives() -> Forms:
    forms: dict[str, frozenset[str]] = {}
    for adjective in adjectives():
        family = {adjective.stem + ending for ending in _ADJECTIVE_ENDINGS}
        forms |= {word: frozenset(family - {word}) for word in family}
    return forms


def _determiner_number(words: Words, place: int) -> frozenset[str]:
    """`these house`, `two house`: a determiner or the noun right after it in the other number."""
    demonstratives = {"this": "these", "these": "this"}
    if words[place] in demonstratives:
        return frozenset({demonstratives[words[place]]})
    counted = {"a", *demonstratives, *(english for _, english in NUMERALS.values())}
    if place and words[place - 1] in counted:
        return _noun_numbers().get(words[place], frozenset())
    return frozenset()


@cache
def _noun_numbers() -> Forms:
    both = [(noun.singular, noun.plural) for noun in nouns()]
    return {
        word: frozenset({other})
        for one, several in both
        for word, other in ((one, several), (several, one))
        if " " not in word + other
    }


PHENOMENA: Mapping[Language, Mapping[str, Callable[[Words, int], frozenset[str]]]] = {
    "de": {
        "verb number": _verb_number("de"),
        "article gender": _article_gender,
        "article case": _article_case,
        "adjective ending": _adjective_ending,
    },
    "en": {
        "verb number": _verb_number("en"),
        "determiner number": _determiner_number,
    },
}
