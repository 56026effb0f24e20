"""English word forms, by rule where the tables give none."""

from dataclasses import dataclass

_VOWELS = "aeiou"


def plural(noun: str) -> str:
    """The regular plural."""
    return noun + "s"


def third_person(base: str) -> str:
    """`go` -> `goes`, `carry` -> `carries`."""
    irregular = {"have": "has", "be": "is"}
    if base in irregular:
        return irregular[base]
    if base[-1] == "y" and base[-2] not in _VOWELS:
        return base[:-1] + "ies"
    return base + "es" if base.endswith(("s", "sh", "ch", "x", "o")) else base + "s"


def regular_past(base: str) -> str:
    """`bake` -> `baked`, `try` -> `tried`, `plan` -> `planned`."""
    if base.endswith("e"):
        return base + "d"
    if base[-1] == "y" and base[-2] not in _VOWELS:
        return base[:-1] + "ied"
    doubles = base in ("cancel", "plan", "stop", "travel")
    return base + base[-1] * doubles + "ed"


@dataclass(frozen=True, slots=True)
class EnglishVerb:
    """`call`, or with a particle `get up`: the particle follows every form."""

    base: str
    past: str
    participle: str
    particle: str

    @classmethod
    def parse(cls, entry: str) -> "EnglishVerb":
        """From `base[/past/participle] [particle]`."""
        head, _, particle = entry.partition(" ")
        forms = head.split("/")
        past = forms[1] if len(forms) > 1 else regular_past(head)
        return cls(forms[0], past, forms[2] if len(forms) > 2 else past, particle)

    def forms(self, tense: str) -> dict[str, str]:
        """`fin.AGR` for statements, `aux.AGR` and `main` for questions; AGR is 1s, 3s or p."""
        auxiliary = {
            "present": {"1s": "do", "3s": "does", "p": "do"},
            "past": dict.fromkeys(("1s", "3s", "p"), "did"),
            "perfect": {"1s": "have", "3s": "has", "p": "have"},
        }.get(tense, dict.fromkeys(("1s", "3s", "p"), tense))  # can, must, will
        main = self._join(self.participle if tense == "perfect" else self.base)
        forms = {"main": main}
        for agreement, word in auxiliary.items():
            forms[f"aux.{agreement}"] = word
            forms[f"fin.{agreement}"] = f"{word} {main}"
        if tense == "present":
            forms |= {"fin.1s": self._join(self.base), "fin.p": self._join(self.base)}
            forms["fin.3s"] = self._join(third_person(self.base))
        elif tense == "past":
            forms |= {f"fin.{agreement}": self._join(self.past) for agreement in auxiliary}
        return forms

    def _join(self, form: str) -> str:
        return f"{form} {self.particle}".strip()
