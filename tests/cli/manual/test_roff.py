"""Markdown becomes man(7), each kind of block that our documents use."""

from __future__ import annotations

import pytest

from agent.cli.manual import roff

PIECES = {
    "a heading": ("## Exit status\n", '.SH "EXIT STATUS"\n'),
    "a key as a heading keeps its letters": ("## `[agent]`\n", '.SH "[agent]"\n'),
    "a paragraph": ("two\nlines\n", ".PP\ntwo lines\n"),
    "code, bold, a link": ("`a-b` **c** [d](e.md)\n", ".PP\n\\fBa\\-b\\fR \\fBc\\fR d\n"),
    "what roff would take for a request": ("`.TH`\n\n.x\n", ".PP\n\\fB.TH\\fR\n.PP\n\\&.x\n"),
    "a backslash": ("`\\n`\n", ".PP\n\\fB\\en\\fR\n"),
    "a list whose points go on": ("* a\n  b\n* c\n", ".IP \\(bu 3\na b\n.IP \\(bu 3\nc\n"),
    "code as it stands": ("```\n# x | y\n\n.z\n```\n", ".PP\n.in +4n\n.EX\n# x | y\n\n\\&.z\n.EE\n.in\n"),
    "a table of keys": (
        "| key | type | default | meaning |\n| --- | --- | --- | --- |\n| `a` | path | none | b \\| c |\n",
        ".TP\n\\fBa\\fR (path)\nb | c; default: none\n",
    ),
    "a table of groups": (
        "| type | key | type | default | meaning |\n| --- |\n| `t` | `a` | x | | m |\n| | `b` | y | `1` | |\n",
        ".PP\ntype \\fBt\\fR:\n.TP\n\\fBa\\fR (x)\nm\n.TP\n\\fBb\\fR (y)\ndefault: \\fB1\\fR\n",
    ),
    "letters outside of ASCII": ("±\n", ".PP\n\\[u00B1]\n"),
}


@pytest.mark.parametrize("name", PIECES)
def test_markdown_becomes_man(name):
    """Each kind of block that our documents use."""
    markdown, expected = PIECES[name]
    assert roff.document(markdown) == expected
