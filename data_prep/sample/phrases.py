"""Rules below the clause: names, noun phrases in four cases, pronouns, places, times, numbers,
prices.

Symbols carry what agreement needs: `Noun.food.f`, `Phrase.food.sg`, `Subject.m` ... The five kinds
of subject are m, f (he, she), p (they), i (I) and w (we).
"""

from collections.abc import Mapping

from data_prep.sample import english, german
from data_prep.sample.grammar import GrammarBuilder
from data_prep.sample.lexicon import Noun, adjectives, names, nouns, zipf

KINDS = ("m", "f", "p", "i", "w")
AGREEMENT = {"m": "3s", "f": "3s", "p": "p", "i": "1s", "w": "p"}
PRONOUN = {
    "m": ("er", "he"),
    "f": ("sie", "she"),
    "p": ("sie", "they"),
    "i": ("ich", "I"),
    "w": ("wir", "we"),
}
_OWN = {
    "m": ("sein", "his"),
    "f": ("ihr", "her"),
    "p": ("ihr", "their"),
    "i": ("mein", "my"),
    "w": ("unser", "our"),
}
NUMERALS = {
    2: ("zwei", "two"),
    3: ("drei", "three"),
    4: ("vier", "four"),
    5: ("fünf", "five"),
    6: ("sechs", "six"),
    7: ("sieben", "seven"),
    8: ("acht", "eight"),
    9: ("neun", "nine"),
    10: ("zehn", "ten"),
    12: ("zwölf", "twelve"),
    20: ("zwanzig", "twenty"),
    100: ("hundert", "a hundred"),
}
_GENDERS = ("m", "f", "n")
GOODS = ("thing", "food", "text", "vehicle", "animal")


def add_words(build: GrammarBuilder) -> None:
    """Nouns by class and gender, adjectives by class, names, numbers."""
    for noun in nouns():
        _add_noun(build, noun)
    ranks: dict[str, int] = {}
    for adjective in adjectives():
        endings = {e: adjective.stem + e for e in ("e", "en", "er", "es")}
        forms = endings | {"pred": adjective.german}
        for kind in adjective.kinds:
            rank = ranks[kind] = ranks.get(kind, -1) + 1
            build.rule(f"Adjective.{kind}", zipf(rank), de=forms, en=adjective.english)
    for name in names():
        rank = ranks[name.kind] = ranks.get(name.kind, -1) + 1
        forms = {"": name.german, "gen": name.german + "s"}
        build.rule(f"Name.{name.kind}", zipf(rank), de=forms, en=name.english)
    for rank, (number_de, number_en) in enumerate(NUMERALS.values()):
        build.rule("Numeral", zipf(rank), de=number_de, en=number_en)


def _add_noun(build: GrammarBuilder, noun: Noun) -> None:
    cases = german.singular(noun.german, noun.gender, noun.german_plural)
    symbol = f"Noun.{noun.kind}"
    build.rule(f"{symbol}.{noun.article_gender}", noun.weights, de=cases, en=noun.singular)
    several = german.plural_cases(noun.german_plural)
    build.rule(f"{symbol}.pl", noun.weights, de=several, en=noun.plural)


def add_phrases(build: GrammarBuilder) -> None:
    """`Phrase.CLASS.NUMBER`, `Indefinite.CLASS.NUMBER`, `Own.KIND.CLASS`, `Object.CLASS.KIND`."""
    for kind in sorted({noun.kind for noun in nouns()}):
        for symbol, articles in (("Phrase", ("the", "a", "this")), ("Indefinite", ("a",))):
            _add_singular(build, f"{symbol}.{kind}.sg", kind, articles)
        _add_plural(build, kind)
        for owner in KINDS:
            _add_owned(build, kind, owner)
            _add_object(build, kind, owner)


def _cases(article: list[str] | None, endings: tuple[str, ...] | None) -> dict[str, str]:
    """German yields of an article, an adjective ($1 when there is one) and a noun ($0)."""
    yields = {}
    for number, case in enumerate(german.CASES):
        words = [article[number]] if article else []
        words += [f"$1.{endings[number]}"] if endings else []
        yields[case] = " ".join([*words, f"$0.{case}"])
    return yields


def _scaled(mass: list[int], share: int) -> list[int]:
    return [weight * share for weight in mass]


_ARTICLES: Mapping[str, tuple[int, str]] = {"the": (50, "the"), "a": (34, "a"), "this": (8, "this")}
_WITH_ADJECTIVE = ((90, False), (10, True))


def _add_singular(build: GrammarBuilder, symbol: str, kind: str, articles: tuple[str, ...]) -> None:
    for gender in _GENDERS:
        mass = build.mass(f"Noun.{kind}.{gender}")
        if not any(mass):
            continue
        for article in articles:
            share, word = _ARTICLES[article]
            for part, described in _WITH_ADJECTIVE:
                forms = _article_forms(article, gender)
                endings = (german.MIXED if article == "a" else german.WEAK)[gender]
                build.rule(
                    symbol,
                    _scaled(mass, share * part),
                    f"Noun.{kind}.{gender}" + f" Adjective.{kind}" * described,
                    de=_cases(forms, endings if described else None),
                    en=f"{word} $1 $0" if described else f"{word} $0",
                )
        if "the" in articles:
            _add_possessed(build, symbol, kind, gender, mass)


def _article_forms(article: str, gender: str) -> list[str]:
    if article == "a":
        return german.ein_word("ein", gender)
    return (german.DEFINITE if article == "the" else german.DEMONSTRATIVE)[gender]


def _add_possessed(
    build: GrammarBuilder, symbol: str, kind: str, gender: str, mass: list[int]
) -> None:
    """`Annas Buch`, `das Buch der Lehrerin`."""
    for sex in ("f", "m"):
        build.rule(
            symbol,
            _scaled(mass, 200),
            f"Noun.{kind}.{gender} Name.{sex}",
            de={case: f"$1.gen $0.{case}" for case in german.CASES},
            en="$1 's $0",
        )
        forms = german.DEFINITE[gender]
        build.rule(
            symbol,
            _scaled(mass, 150),
            f"Noun.{kind}.{gender} Noun.person.{sex}",
            de={
                case: f"{forms[number]} $0.{case} {german.DEFINITE[sex][3]} $1.gen"
                for number, case in enumerate(german.CASES)
            },
            en="the $0 of the $1",
        )


def _add_plural(build: GrammarBuilder, kind: str) -> None:
    noun, adjective = f"Noun.{kind}.pl", f"Adjective.{kind}"
    der, dies = german.DEFINITE["pl"], german.DEMONSTRATIVE["pl"]
    strong, weak = german.STRONG_PLURAL["pl"], german.WEAK["pl"]
    phrase, indefinite = f"Phrase.{kind}.pl", f"Indefinite.{kind}.pl"
    for share, described in _WITH_ADJECTIVE:
        children = f"{noun} {adjective}" if described else noun
        tail = "$1 $0" if described else "$0"
        de_weak, de_strong = (weak, strong) if described else (None, None)
        build.rule(phrase, 45 * share, children, de=_cases(der, de_weak), en=f"the {tail}")
        build.rule(phrase, 10 * share, children, de=_cases(dies, de_weak), en=f"these {tail}")
        for symbol in (phrase, indefinite):
            build.rule(symbol, 22 * share, children, de=_cases(None, de_strong), en=tail)
            counted = f"{noun} {adjective} Numeral" if described else f"{noun} Numeral"
            place = 2 if described else 1
            number = [f"${place}"] * 4
            build.rule(
                symbol, 20 * share, counted, de=_cases(number, de_strong), en=f"${place} {tail}"
            )


def _add_owned(build: GrammarBuilder, kind: str, owner: str) -> None:
    stem, word = _OWN[owner]
    for gender in (*_GENDERS, "pl"):
        mass = build.mass(f"Noun.{kind}.{gender}")
        forms = german.ein_word(stem, gender)
        for share, described in ((5, False), (1, True)) if any(mass) else ():
            build.rule(
                f"Own.{owner}.{kind}",
                _scaled(mass, share * (1 if gender == "pl" else 3)),
                f"Noun.{kind}.{gender}" + f" Adjective.{kind}" * described,
                de=_cases(forms, german.MIXED[gender] if described else None),
                en=f"{word} $1 $0" if described else f"{word} $0",
            )


def _add_object(build: GrammarBuilder, kind: str, owner: str) -> None:
    symbol = f"Object.{kind}.{owner}"
    same = {case: f"$0.{case}" for case in german.CASES}
    build.rule(symbol, 58, f"Phrase.{kind}.sg", de=same, en="$0")
    build.rule(symbol, 20, f"Phrase.{kind}.pl", de=same, en="$0")
    build.rule(symbol, 22, f"Own.{owner}.{kind}", de=same, en="$0")
    if kind == "person":
        for sex in ("f", "m"):
            build.rule(symbol, 18, f"Name.{sex}", de="$0", en="$0")


def add_subjects(build: GrammarBuilder) -> None:
    """`Subject.KIND`: names, persons, pairs; the pronouns for I and we."""
    for sex in ("f", "m"):
        build.rule(f"Subject.{sex}", 40, f"Name.{sex}", de="$0", en="$0")
        build.rule(f"Subject.{sex}", 6, f"Name.{sex} Name.surname", de="$0 $1", en="$0 $1")
        title = {"f": ("Frau", "Mrs"), "m": ("Herr", "Mr")}[sex]
        build.rule(f"Subject.{sex}", 8, "Name.surname", de=f"{title[0]} $0", en=f"{title[1]} $0")
        article = german.DEFINITE[sex][0]
        person = f"Noun.person.{sex}"
        build.rule(f"Subject.{sex}", 34, person, de=f"{article} $0.nom", en="the $0")
        described = f"{person} Adjective.person"
        build.rule(f"Subject.{sex}", 10, described, de=f"{article} $1.e $0.nom", en="the $1 $0")
        build.rule(
            f"Subject.{sex}",
            5,
            f"{person} Verb.alone Place",
            de=f"{article} $0.nom , {article} $2 $1.sub.3s ,",
            en="the $0 who $1.fin.3s $2",
        )
    build.rule("Subject.p", 50, "Phrase.person.pl", de="$0.nom", en="$0")
    build.rule("Subject.p", 20, "Name.f Name.m", de="$0 und $1", en="$0 and $1")
    build.rule("Subject.p", 12, "Name.m Name.f", de="$0 und $1", en="$0 and $1")
    for kind in KINDS:
        word_de, word_en = PRONOUN[kind]
        build.rule(f"Pronoun.{kind}", 1, de=word_de, en=word_en)
    for kind in ("i", "w"):
        build.rule(f"Subject.{kind}", 1, f"Pronoun.{kind}", de="$0", en="$0")


def verb_forms(english_entry: str, german_entry: str, tense: str) -> tuple[dict[str, str], ...]:
    """(German, English) yields of a verb in one tense."""
    verb_de, verb_en = (
        german.GermanVerb.parse(german_entry),
        english.EnglishVerb.parse(english_entry),
    )
    return verb_de.forms(tense), verb_en.forms(tense)
