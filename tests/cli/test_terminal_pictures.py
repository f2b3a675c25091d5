"""The pictures of commands in the docs: what stands on a terminal, with its columns and colours."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

from tests.support.terminal_pictures import LETTER, MARGIN, on_a_terminal, settled, svg

SVG = "{http://www.w3.org/2000/svg}"


def test_a_picture_has_the_text_where_the_terminal_has_it() -> None:
    """Wide letters take two columns, a long line goes on in the next row, markup is text, colours are kept."""
    picture = ElementTree.fromstring(svg(["a \x1b[31m<密钥>\x1b[0m & b", "x" * 90], "a title"))
    texts = [(one.text, float(one.get("x", 0)), one.get("fill")) for one in picture.iter(f"{SVG}text")]
    red = texts[1][2]
    assert red is not None
    found = [(text, round((x - MARGIN) / LETTER), fill == red) for text, x, fill in texts]
    assert found == [
        ("a ", 0, False), ("<", 2, True), ("密钥", 3, True), (">", 7, True), (" & b", 8, False), ("x" * 80, 0, False),
        ("x" * 10, 0, False),
    ]  # fmt: skip
    assert picture.findtext(f"{SVG}title") == "a title"


def test_the_screen_is_what_stays_on_it() -> None:
    """A program sees a terminal of 80 columns; what it erased is gone."""
    program = "import os, sys; print(sys.stdout.isatty(), os.environ['COLUMNS'])"
    erased = program + r"; print('1 of 2', end='\r\x1b[K'); print('2 of 2')"
    assert settled(on_a_terminal([sys.executable, "-c", erased], {})) == ["True 80", "2 of 2", ""]
