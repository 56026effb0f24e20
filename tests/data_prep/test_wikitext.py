"""Prose out of wikitext."""

from __future__ import annotations

import time

import pytest

from data_prep.wikitext import plain_lines

NAMESPACES = frozenset({"bestand"})


@pytest.mark.parametrize(
    ("wikitext", "lines"),
    [
        ("'''Bern''' is ''the'' capital.", ["Bern is the capital."]),
        ("One.\n\n== Heading ==\nTwo.\n=== Sub ===", ["One.", "Two."]),
        ("* item\n# item\n: indented\n; term\nText.\n----\n", ["Text."]),
        ("A [[Bern|capital]] and [[Berne]]s and [[:Category:X|a list]].", None),
        ("[[File:a.jpg|thumb|A [[town]] at ''night'']]Text.[[Category:Towns|B]]", ["Text."]),
        ("[[Bestand:a.jpg|x]][[Datei:b.jpg]]Text.\n[[de:Bern]]\n[[zh-min-nan:Bern]]", ["Text."]),
        ('A<ref>Note [[x]]</ref> b<ref name="n" /> c<REF>d</REF>.', ["A b c."]),
        ("<!-- hidden\n-->A &amp; b&nbsp;c &lt;.", ["A & b c <."]),
        ("{{Infobox|a={{b|{{c}}}}|d=[[e]]}}Text {{lang|fr|x}}here.", ["Text here."]),
        ("{| class=x\n| cell {{t|}}\n|-\n| {|\n| inner\n|}\n|}\nText.", ["Text."]),
        ("Bern ({{IPA|x}}; {{y}}) is, {{z}}, old.", ["Bern is, old."]),
        ("Bern ({{IPA|x}}, a town) .", ["Bern (a town)."]),
        ("See [https://a.b/c the page] and [//x.y] and https://z.", None),
        ('A<br/>b <b>c</b> <span class="x">d</span> 1 < 2.', ["A b c d 1 < 2."]),
        ("__TOC__A<math>x^2 {{</math> b.", ["A b."]),
        ("{{never closed\nText }} more", ["more"]),
        ("{{never closed\nText.", ["never closed", "Text."]),
        ("Text }} and |} more [[open", ["Text and more open"]),
        ("A <ref>never closed.\nB.", ["A never closed.", "B."]),
        ("123\n!!!\n", []),
        ("", []),
    ],
)
def test_prose_is_left(wikitext, lines):
    wanted = {
        "A [[Bern|": ["A capital and Bernes and a list."],
        "See [http": ["See the page and and https://z."],
    }
    assert plain_lines(wikitext, NAMESPACES) == (
        lines if lines is not None else wanted[wikitext[:9]]
    )


@pytest.mark.parametrize(
    "unit",
    ["{{", "}}", "{|", "{{ {| ", "[[", "]]", "[[a|", "<ref>", "<!--", "'''", "<", "(", "[http://a ",
     "{{a}}", "[[a]]", "<ref>a</ref>", "&amp;", " ,", "( ,"],
)  # fmt: skip
def test_time_is_linear_whatever_the_brackets(unit):
    def seconds(count: int) -> float:
        start = time.process_time()
        plain_lines(unit * count, NAMESPACES)
        return time.process_time() - start

    # the best of three: a busy moment is no property of the code
    small, large = (min(seconds(count) for _ in range(3)) for count in (2_000, 40_000))
    assert large < 80 * max(small, 0.002)  # quadratic would be 400
