"""Rules for places, directions, times, dates and prices."""

from data_prep.sample import german
from data_prep.sample.grammar import GrammarBuilder
from data_prep.sample.lexicon import zipf

_TIMES = """
heute = today
jeden Tag = every day
am Abend = in the evening
oft = often
am Morgen = in the morning
jetzt = now
bald = soon
am Wochenende = at the weekend
diese Woche = this week
wieder = again
am Nachmittag = in the afternoon
manchmal = sometimes
in der Nacht = at night
am Mittag = at noon
nach der Arbeit = after work
zum ersten Mal = for the first time
nach dem Essen = after the meal
trotz des Regens = in spite of the rain
wegen der Kälte = because of the cold
"""
_DAYS = """
Montag = Monday
Freitag = Friday
Samstag = Saturday
Sonntag = Sunday
Dienstag = Tuesday
Mittwoch = Wednesday
Donnerstag = Thursday
"""
_MONTHS = """
Mai = May
Juni = June
März = March
Juli = July
Dezember = December
April = April
August = August
Oktober = October
Januar = January
September = September
November = November
Februar = February
"""
_HOURS = (
    "acht=eight neun=nine zehn=ten sieben=seven sechs=six drei=three vier=four fünf=five zwei=two"
)
_PREPOSITIONS = (  # share, German with the dative, contracted with `dem`, English
    (70, "in", "im", "in"),
    (12, "vor", "vor dem", "in front of"),
    (10, "hinter", "hinter dem", "behind"),
    (9, "neben", "neben dem", "next to"),
    (7, "bei", "beim", "near"),
)
_EUROS = (2, 5, 3, 10, 20, 4, 8, 15, 12, 50, 30, 25, 6, 40, 9, 100, 7, 18, 60, 80, 35, 200, 500)
_CENTS = ("50", "99", "20", "80", "95")


def pairs(table: str) -> list[tuple[str, str]]:
    """Lines of `German = English`."""
    rows = [line.partition(" = ") for line in table.strip().split("\n")]
    return [(row[0], row[2]) for row in rows]


def add_adverbials(build: GrammarBuilder) -> None:
    """`Place`, `Goal`, `Time`, `Date`, `Year`, `Price`."""
    _add_places(build)
    _add_goals(build)
    _add_times(build)
    _add_prices(build)


def _add_places(build: GrammarBuilder) -> None:
    for share, preposition, contracted, word in _PREPOSITIONS:
        for gender in ("m", "f", "n"):
            mass = build.mass(f"Noun.place.{gender}")
            noun = f"Noun.place.{gender}"
            head = f"{preposition} der" if gender == "f" else contracted
            weights = [share * weight for weight in mass]
            build.rule("Place", weights, noun, de=f"{head} $0.dat", en=f"{word} the $0")
            article = german.ein_word("ein", gender)[2]
            build.rule(
                "Place",
                [weight * share // 6 for weight in mass],
                f"{noun} Adjective.place",
                de=f"{preposition} {article} $1.en $0.dat",
                en=f"{word} a $1 $0",
            )
    total = build.mass("Place")
    build.rule("Place", [weight // 7 for weight in total], "Name.city", de="in $0", en="in $0")
    build.rule("Place", [weight // 12 for weight in total], de="zu Hause", en="at home")
    build.rule("Place", [weight // 30 for weight in total], de="dort", en="there")


def _add_goals(build: GrammarBuilder) -> None:
    for kind, share in (("place", 5), ("person", 1)):
        for gender in ("m", "f", "n"):
            noun = f"Noun.{kind}.{gender}"
            mass = build.mass(noun)
            head = "zur" if gender == "f" else "zum"
            if any(mass):
                weights = [share * weight for weight in mass]
                build.rule("Goal", weights, noun, de=f"{head} $0.dat", en="to the $0")
    total = build.mass("Goal")
    build.rule("Goal", [weight // 5 for weight in total], "Name.city", de="nach $0", en="to $0")
    build.rule("Goal", [weight // 10 for weight in total], de="nach Hause", en="home")


def _add_times(build: GrammarBuilder) -> None:
    for rank, (word_de, word_en) in enumerate(pairs(_DAYS)):
        build.rule("Day", zipf(rank), de=word_de, en=word_en)
    for rank, (word_de, word_en) in enumerate(pairs(_MONTHS)):
        build.rule("Month", zipf(rank), de=word_de, en=word_en)
    for rank, hour in enumerate(_HOURS.split()):
        word_de, _, word_en = hour.partition("=")
        build.rule("Hour", zipf(rank), de=word_de, en=word_en)
    for day in range(1, 32):
        build.rule("DayOfMonth", zipf(day), de=f"{day}.", en=str(day))
    for rank, year in enumerate(range(2019, 1979, -1)):
        build.rule("Year", zipf(rank), de=str(year), en=str(year))
    build.rule("Date", 1, "DayOfMonth Month", de="am $0 $1", en="on $1 $0")
    for rank, (word_de, word_en) in enumerate(pairs(_TIMES)):
        build.rule("Time", zipf(rank), de=word_de, en=word_en)
    build.rule("Time", 60_000, "Day", de="am $0", en="on $0")
    build.rule("Time", 30_000, "Month", de="im $0", en="in $0")
    build.rule("Time", 30_000, "Hour", de="um $0 Uhr", en="at $0 o 'clock")
    build.rule("Time", 20_000, "Date", de="$0", en="$0")


def _add_prices(build: GrammarBuilder) -> None:
    for rank, euros in enumerate(_EUROS):
        build.rule("Price", zipf(rank), de=f"{euros} Euro", en=f"{euros} euros")
        for place, cents in enumerate(_CENTS) if euros <= 10 else ():
            weight = zipf(rank) // (4 + 4 * place)
            build.rule("Price", weight, de=f"{euros},{cents} Euro", en=f"{euros}.{cents} euros")
