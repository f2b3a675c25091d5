"""agent/evidence/page.py: an HTML file that stands alone. What a browser makes of it: tests/browser."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from agent.evidence.page import (
    Commands,
    Facts,
    Legend,
    Mark,
    Notice,
    Page,
    Paragraph,
    Pill,
    Section,
    Span,
    Step,
    Steps,
    Table,
    Timeline,
    render,
)
from agent.evidence.page_source import STYLE

EVIL = "<script>alert(1)</script>\" ' onload=x \u202etxt.exe\n<img src=https://example.com/>{{ 7 * 7 }}"
VOID = {"meta"}
MOODS = ("good", "bad", "so-so")


class Tree(HTMLParser):
    """The elements of a page, each closed in its turn; `text` is what is seen."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if "style" not in self.open else ""


def everything(text):
    """A page with each kind of block, and `text` wherever one can stand."""
    blocks = [
        Notice("bad", text, [text]),
        Legend([("span", "bad", text), ("diamond", "bad", text)]),
        Section(text, [
            Paragraph(text), Facts([(text, text), (text, [text, Pill(text, "good")])]),
            Table([text], [[text], [Pill(text, "bad")]], text), Steps([Step(text, text, text, "good")]), Commands(text),
            Timeline(text, [Span(0, 50, text)], [Mark(50, "cross", text, "bad")], [(0, text)]),
        ], Pill(text, "so-so")),
    ]  # fmt: skip
    return "".join(render(Page(text, text, blocks, [text])))


@pytest.fixture(scope="module")
def page():
    return everything(EVIL)


def test_no_text_becomes_markup(page):
    """Every element is one of the page's own, and so are its attributes, whatever the text wants to be."""
    evil, plain = Tree(page), Tree(everything("plain"))
    shape, expected = (
        [(tag, set(attrs)) for tag, attrs in tree.elements if attrs.get("class") != "word"] for tree in (evil, plain)
    )
    assert shape == expected
    assert not {"script", "img", "a", "link", "iframe", "form"} & {tag for tag, _attrs in evil.elements}


def test_text_is_shown_whole_and_cannot_turn_letters_around(page):
    """Nothing is left out, template code is text, and characters that a reader would not see are written out."""
    text = Tree(page).text
    assert "{{ 7 * 7 }}" in text and "<script>alert(1)</script>" in text and "\\u202e" in text
    assert "\u202e" not in page


def test_nothing_is_fetched(page):
    """No address stands in an attribute or in the style; the policy allows this style alone, by its hash."""
    tree = Tree(page)
    assert not any({"href", "src", "action", "style"} & set(attrs) for _tag, attrs in tree.elements)
    assert not re.search(r"url\(|@import|https?:", page[page.index("<style>") : page.index("</style>")])
    (policy,) = [attrs["content"] for _tag, attrs in tree.elements if "http-equiv" in attrs]
    style = page[page.index("<style>") + 7 : page.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


COLOUR = re.compile(r"--([a-z-]+): (#[0-9a-f]+)")


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_every_text_can_be_read(scheme):
    """Each colour of text stands out from each ground that it may stand on, by WCAG 2.1's 4.5 to 1."""
    begins = {"light": ":root {", "dark": "dark) { :root {", "print": "@media print"}[scheme]
    colours = dict(COLOUR.findall(STYLE[STYLE.index(begins) :].split("}", 2 if scheme == "print" else 1)[0]))
    pairs = [(text, ground) for text in ("text", "faint") for ground in ("ground", "raised")]
    pairs += [("text", f"{mood}-ground") for mood in MOODS]
    pairs += [(mood, ground) for mood in MOODS for ground in ("ground", f"{mood}-ground")]
    found = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in found.items() if ratio < 4.5} == {}


def contrast(one, other):
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_commands_can_be_copied():
    """Lines stay lines, with their blanks."""
    text = "".join(render(Page("t", "", [Commands("one 'two'\n  three")])))
    assert "one 'two'\n  three" in Tree(text).text
