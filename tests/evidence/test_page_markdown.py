"""agent/evidence/page_markdown.py: good to read raw, and nothing that stands in a text changes the document."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.evidence.page import Commands, Facts, Notice, Page, Paragraph, Pill, Section, Table, Timeline
from agent.evidence.page_markdown import markdown


def document(text: str) -> str:
    """A document with a text wherever one can stand."""
    blocks = [
        Notice("bad", "Look", [text]),
        Section(
            "A section",
            [
                Paragraph(f"Of {text}: so it is."),
                Facts([("Reason", text), ("Several", [text, Pill(text, "bad")])]),
                Table(("One", "Two"), [(text, Pill("done", "good")), ("plain", text)], "caption"),
                Commands(text.replace("\n", " ")),
            ],
        ),
    ]
    return "".join(markdown(Page(f"Title {text}", "subtitle", blocks, ["The end."])))


def shape(text: str) -> list[str]:
    """What kind of line each is, which is what the document consists of."""
    kinds = {"#": "heading", "*": "bullet", "|": "row", "`": "fence", "-": "rule", "": "empty"}
    found, fence = [], ""
    for line in text.split("\n"):
        if fence:
            found.append("fence" if line == fence else "code")
            fence = "" if line == fence else fence
            continue
        found.append(kinds.get(line[:1], "text"))
        fence = line if found[-1] == "fence" else ""
    return found


NASTY = [
    "<script>alert(1)</script>",
    "a | b",
    "a \\| b \\",
    "`code` ``` and ```` more",
    "line\n# heading\n\n* bullet\n| a | b |",
    "[link](https://example.com) ![image](x) <https://example.com> www.example.com",
    "@alice #12 *bold* _it_ ~~gone~~ $x$ :smile: &amp; \u202e\x1b[31m",
    "]]> --> <!-- ",
    "\\",
    "`",
    "",
]


@pytest.mark.parametrize("text", NASTY)
def test_no_text_adds_a_line_or_a_cell(text: str) -> None:
    """The lines are of the same kinds as with a plain word, and each row of the table has as many cells."""
    found, plain = document(text), document("word")
    assert shape(found) == shape(plain)
    for row in (line for line in found.split("\n") if line.startswith("|")):
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 3


@given(st.text(max_size=40))
def test_whatever_the_text_it_adds_no_line(text: str) -> None:
    """As above, for anything that can be typed."""
    assert shape(document(text)) == shape(document("word"))


def test_what_is_plain_stays_plain() -> None:
    """Names, times, versions and sentences have no escapes in them: the raw text is what is read in a ticket."""
    for text in (
        "disable_old",
        "2026-11-30T03:00:04.123Z",
        "4.2 s",
        "refused with InvalidAccessKeyId.Inactive",
        "web.service",
    ):
        assert f"| {text} |" in document(text)
        assert f"* Reason: {text}\n" in document(text)


def test_what_is_not_plain_is_shown_as_it_is_in_a_code_span() -> None:
    """So a reason mentions nobody, links nowhere and is no emphasis; only beside a pipe in a table it is escaped."""
    assert "* Reason: `@alice *look*`\n" in document("@alice *look*")
    assert "* Reason: `` a `quoted` ``\n" in document("a `quoted`").replace("``a `quoted` ``", "`` a `quoted` ``")
    assert "| \\@a \\| b |" in document("@a | b")


def test_commands_are_copied_as_they_are() -> None:
    """Behind a fence that they cannot end, without an escape."""
    assert "\n```\nsystemctl restart 'a b' | cat > *_x\n```\n" in document("systemctl restart 'a b' | cat > *_x")
    assert "\n````\necho ```\n````\n" in document("echo ```")


def test_a_block_that_nobody_wrote_markdown_for_is_no_silence() -> None:
    """A new kind of block is a fault, not a hole in the document."""
    with pytest.raises(TypeError, match="Timeline"):
        list(markdown(Page("t", "s", [Timeline("drawn", [], [], [])])))
