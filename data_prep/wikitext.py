"""Wikitext to plain paragraphs, one a line: templates, tables, references, links, headings go.

Written here rather than taken from mwparserfromhell, which builds a tree of the whole page where
only the prose is wanted: 20 MB/s here, 2 MB/s there (0.7.2, one core), and a dump has 100 GB. As in
WikiExtractor, whose output the original trained on, lists and headings are left out. Every step
passes over the text once, also when its brackets do not match.
"""

from __future__ import annotations

import html
import re
from collections.abc import Set as AbstractSet

MEDIA_AND_CATEGORIES = frozenset(
    [
        "file",
        "image",
        "media",
        "category",
        "datei",
        "bild",
        "kategorie",
        "fichier",
        "catégorie",
        "fișier",
        "imagine",
    ]
)
_COMMENT = "<!--", "-->"
_DROPPED = (
    "ref|math|chem|gallery|timeline|score|syntaxhighlight|source|code|pre|references|imagemap|"
    "templatedata|style|hiero|graph|mapframe|maplink|inputbox|includeonly|noinclude|table"
)
_OPEN_TAG = re.compile(rf"<({_DROPPED})\b([^<>]*)>", re.IGNORECASE)
_CLOSE_TAGS = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in _DROPPED.split("|")}
_BRACES = re.compile(r"\{\{|\}\}|\{\||\|\}(?!\})")
_BRACKETS = re.compile(r"\[\[|\]\]")
_EXTERNAL = re.compile(r"\[(?:[a-z]+:)?//[^\s\[\]]+[^\S\n]*([^\[\]\n]*)\]")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_EMPHASIS = re.compile(r"'{2,}")
_SWITCH = re.compile(r"__[A-Z]{3,}__")
_INTERLANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z]+)*:\S")
_EMPTY_BRACKETS = re.compile(r"\((?:[\s,;:/–-]|&nbsp;)*\)")
_SPACE_BEFORE_MARK = re.compile(r" ([,.;:!?)])(?= |$)")
_COMMAS = re.compile(r",(?: ?,)+")
_LEADING_MARK = re.compile(r"\([\s,;]+")
_NO_PROSE = ("=", "*", "#", ":", ";", "|", "!", "{", "}", "----")


def plain_lines(wikitext: str, dropped_namespaces: AbstractSet[str]) -> list[str]:
    """The paragraphs of a page; links into `dropped_namespaces` (lower case) vanish whole."""
    text = _without_comments(wikitext)
    text = _without_elements(text)
    text = _without_templates_and_tables(text)
    text = _with_link_labels(text, dropped_namespaces)
    text = _EXTERNAL.sub(r"\1", text)
    text = _TAG.sub("", text.replace("<br", " <br"))
    text = _EMPHASIS.sub("", _SWITCH.sub("", text))
    text = html.unescape(text)
    lines = (_tidied(line) for line in text.split("\n") if not line.startswith(_NO_PROSE))
    return [line for line in lines if any(map(str.isalpha, line))]


def _without_comments(text: str) -> str:
    opening, closing = _COMMENT
    kept = []
    position = 0
    while (start := text.find(opening, position)) >= 0:
        kept.append(text[position:start])
        end = text.find(closing, start)
        position = end + len(closing) if end >= 0 else len(text)
    kept.append(text[position:])
    return "".join(kept)


def _without_elements(text: str) -> str:
    """Drop `<ref>...</ref>` and the like with their content; a tag never closed goes alone."""
    kept = []
    position = 0
    never_closed: set[str] = set()
    while match := _OPEN_TAG.search(text, position):
        kept.append(text[position : match.start()])
        position = match.end()
        name = match[1].lower()
        if match[2].endswith("/") or name in never_closed:
            continue
        closing = _CLOSE_TAGS[name].search(text, position)
        if closing is None:
            never_closed.add(name)
        else:
            position = closing.end()
    kept.append(text[position:])
    return "".join(kept)


def _without_templates_and_tables(text: str) -> str:
    """Drop matching `{{ }}` and `{| |}` with all they hold; a brace without partner goes alone."""
    open_braces: list[tuple[str, int]] = []
    spans: list[tuple[int, int]] = []
    waiting = {"{{": 0, "{|": 0}
    for match in _BRACES.finditer(text):
        brace = match[0]
        if brace in waiting:
            open_braces.append((brace, match.start()))
            waiting[brace] += 1
            continue
        partner = "{{" if brace == "}}" else "{|"
        while waiting[partner]:  # openings after the partner were never closed
            opening, start = open_braces.pop()
            waiting[opening] -= 1
            if opening == partner:
                spans.append((start, match.end()))
                break
    kept = []
    position = len(text)
    for start, end in reversed(spans):  # an outer span ends last: it comes before its inner ones
        if end <= position:
            kept.append(text[end:position])
            position = start
    kept.append(text[:position])
    return _BRACES.sub("", "".join(reversed(kept)))


def _with_link_labels(text: str, dropped_namespaces: AbstractSet[str]) -> str:
    """Replace `[[target|label]]` by what a reader sees, from the innermost link outwards."""
    levels: list[list[str]] = [[]]
    position = 0
    for match in _BRACKETS.finditer(text):
        levels[-1].append(text[position : match.start()])
        position = match.end()
        if match[0] == "[[":
            levels.append([])
        elif len(levels) > 1:
            content = "".join(levels.pop())
            levels[-1].append(_label(content, dropped_namespaces))
    levels[-1].append(text[position:])
    return "".join(part for level in levels for part in level)  # unclosed links: their text


def _label(content: str, dropped_namespaces: AbstractSet[str]) -> str:
    target, bar, label = content.partition("|")
    namespace = target.partition(":")[0].strip().lower() if ":" in target else ""
    if namespace and (namespace in dropped_namespaces or namespace in MEDIA_AND_CATEGORIES):
        return ""
    if not bar:
        return "" if _INTERLANGUAGE.match(target) else target.removeprefix(":")
    return label or target


def _tidied(line: str) -> str:
    """Close the gaps that templates leave: `Bern ( ; ) is` becomes `Bern is`."""
    line = _LEADING_MARK.sub("(", _EMPTY_BRACKETS.sub("", line))
    line = " ".join(line.split())  # before the rule below, whose time depends on runs of spaces
    return _COMMAS.sub(",", _SPACE_BEFORE_MARK.sub(r"\1", line))
