"""Lines that real corpora hold in the thousandth file, and fragments to mix new ones from."""

from __future__ import annotations

import random

MARKS = [
    "",
    " ",
    "   ",
    "\u00a0",
    "\u00a0 \u00a0",
    "\t",
    ".",
    "..",
    "...",
    "....",
    "'",
    "''",
    "' '",
    "' ' '",
    '"',
    ",",
    ",,",
    ", ,",
    "-",
    "--",
    "`",
    "``",
    "@@",
    "@-@",
    "?!",
    "«»",
    "„“",
    "()",
    "( )",
    "%",
    " %",
    "&amp; &lt; &#91;",
]
CONTROLS = [
    "nul\0here",
    "tab\there",
    "bell\x07and\x1b[31mescape",
    "\x01\x02\x03\x04\x05\x06",
    "a.\x03 b\x02,c '\x06' d.\x04 E.\x05 7",
    "vertical\x0btab form\x0cfeed",
    "separators \x1c\x1d\x1e\x1f of files",
    "next\x85line",
    "line\u2028and\u2029paragraph",
    "zero\u200bwidth \u200djoiner\u200c soft\u00adhyphen word\u2060joiner",
    "\ufeffmark of byte order",
    "right\u200eto\u200fleft \u202eoverride\u202c",
    "lone \ud800 surrogate",
    "private \ue000 use, unassigned \u0378",
    "carriage\rreturn\r",
    "delete\x7f and C1 \x80\x9f",
    "a\x01.\x01 b \x01'\x01 c",
]
SCRIPTS = [
    "emoji 😀👍🏽 👨‍👩‍👧‍👦 🇩🇪 ❤️ text",
    "NFD: e\u0301te\u0301, A\u030angstro\u0308m, n\u0303",
    "marks alone \u0301 \u0308\u0301 and a\u0301\u0327\u0323b",
    "ＦＵＬＬ　ｗｉｄｔｈ ０１２３４５６７８９，。！？：；（ａ）％～",
    "中文没有空格。「引号」《书》、你好！ end",
    "中。文． 。 ．x 。\u00a0y",
    "日本語のテキスト、カタカナ。 한국어 문장입니다.",
    "العربية: مرحبا، كيف الحال؟ ١٢٣٫٤٥",
    "हिन्दी में वाक्य। ไทย עברית",
    "Русский текст, Ελληνικά ΣΟΦΟΣ Σ. ΟΔΟΣ'",
    "İstanbul ıspanak ẞ ß ﬁne ﬀ ǅ Ǆ ŉ",
    "Ăâîșțşţ Ţ Ș ale țării, î'n",
    "x² ½ ⅓ Ⅳ ① ٣ ۴,۵ 1²,3",
    "€5 £6 ¥7 ₿8 °C ºC nº 7 nº\u00a07",
    "𝒳𝒴 𐍈 𝟘,𝟙 \U0010fffd",
]
WORDS = [
    "<s> </s> <pad> <unk> <special0> <special1> <special9> <mask>",
    "a<s>b </s>. '<unk>' @<special1>@",
    "@-@ a@-@b @@ x@@ @@y @@@ hel@@ lo",
    "DOTMULTI DOTDOTMULTI MULTI xDOTDOTDOTMULTIy DOTMULTI. ...MULTI DOTMULTI...",
    "THISISPROTECTED000 _ELLIPSIS_ </w> a</w> </w>b",
    "http://www.example.org/a_b-c?d=e&f=%20#g, mail@example.org; C:\\dir\\x.txt",
    "<b>bold.</b> <a href=\"x.html\" title='y'>z</a>",
    "[link](target) {brace} | pipe | a/b * ** _em_ ~x~ ^ $5 #tag",
    "def f(x): return x[\"a\"] + 'b' # ...",
]
DOTS = [
    "art.",
    "Er kam um 5 Uhr an. art.",
    "Dr. Smith met Mr. Jones, e.g. at No. 5, i.e. No. x in St. Louis.",
    "No. 5 no. 5 No. No. V pp. 12 pp. x Nr. 3 Nr. x z.B. d.h. usw. bzw. etc.",
    "vol. 3. vol. a. II. graminit.h.",
    "U.S.A. a.b. .a. ..a.. a..b a...b ....",
    "End. next End. Next End. 5 End. 'a End. \"b",
    "dot .' at end.'",
    "dot.' ",
    "dot. '",
    "dot.''",
    "f.' g.' h",
    "1.' 2.,' ,.' '.,",
    "a .. b ... c .... d",
    "...start and end...",
    "x...' y..\" z..,",
    "M. le comte; Mme. X; vgl. S. 5 ff.",
    "a. b. c. D. E. f.",
    ".",
    "a . b .",
    "a .\u00a0b .\u2003c",
]
QUOTES = [
    'Er sagte: "Ja."',
    'Er sagte: "Ja." ',
    'Er sagte: "Ja..."',
    'Er sagte "Ja.", dann "Nein.". ',
    '"Ja."<br> "Nein." <br> "Gut."  x',
    '"a," "b", "c.," "d,." "e",. "f".,',
    'a.""b ..". ."." ".',
    '."',
    '.."',
    '"',
    ".”",
    "„Ja.“ “Yes.” ‘so’ ‚so‘ «oui.» « non » ‹x›",
    "«\u00a0oui\u00a0» dit-il\u00a0: «\u00a0non\u00a0!\u00a0»\u00a0; fin\u00a0?",
    "»a« \u00a0»\u00a0b\u00a0«\u00a0",
    "´´ ´a´ `b` ``c'' ''d''",
    "it's don't I'd they'll we've o'clock rock'n'roll 'tis '90s 90's 5's a' 'b",
    "l'homme d'accord aujourd'hui qu'il j'ai s'il c'est-à-dire dell'arte",
    "' 'a ' b' ' 'c' '",
    "a' 'b c ' ' d",
    "a ' ' ' b' '",
    "'a", "a'", "'a'", "' a '", "',", ",'", "'.", ".'", "'1'", "1'1 1's 1' s",
    "«", "»a", "a«",
]  # fmt: skip
NUMBERS = [
    "1,234,567.89 1.234.567,89 3,14 ,5 5, 5,a a,5 ,a a,",
    "1,2,3, 4,,5 6,' 7',8",
    ",start and end,",
    "5 % 5% 5\u00a0% 1\u00a0000\u00a0000 1 000",
    "10:30 10 : 30 a :b ; c ;d",
    "( a ) (b) ) . ) , ( x ). [ y ] )! ) ?",
    "nº\u00a05 5\u00a0ºC 5\u00a0cm a,\u00a0b a\u00a0!",
    "-5 +5 5-6 5–6 5—6 — – -",
    "½,½ ²,² 1,² a²,5",
]
LONG = ["a" * 20_000, "." * 5_000, "'" * 3_000, "'a" * 2_000, ',"' * 2_000, "@@ " * 3_000]
HOSTILE = [*MARKS, *CONTROLS, *SCRIPTS, *WORDS, *DOTS, *QUOTES, *NUMBERS]
HOSTILE += [f"  {line}  " for line in DOTS + QUOTES]


def long_line() -> str:
    """200 kB of words and marks."""
    mixer = random.Random(7)
    words = [word for line in DOTS + QUOTES + NUMBERS for word in line.split()]
    return " ".join(mixer.choices([*words, "word", "of", "a", "Line"], k=50_000))[:200_000]


def fuzz(lines: list[str], count: int, seed: int) -> list[str]:
    """Lines made of fragments of `lines` and of single marks, glued with and without spaces."""
    mixer = random.Random(seed)
    marks = [*".,'\"-`()%:;!?«»„“ \u00a0\t…´’<>@&aAzß1²é中", "...", "..", "' '", "''", "Nr.", "s"]
    mixed = []
    for _ in range(count):
        parts = []
        for _ in range(mixer.randint(1, 8)):
            if mixer.random() < 0.4:
                parts += mixer.choices(marks, k=mixer.randint(1, 4))
            else:
                line = mixer.choice(lines)
                start = mixer.randint(0, len(line))
                parts.append(line[start : start + mixer.randint(1, 12)])
        mixed.append(mixer.choice(["", " "]).join(parts))
    return mixed
