"""The palette: who decides whether there is colour, and that nothing but a terminal is driven."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from agent.system import terminal


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_at_the_start() -> Iterator[None]:
    yield
    terminal.choose_colour("auto")


XTERM = {"TERM": "xterm-256color"}
CASES = {
    "a terminal has colour": (Tty, XTERM, True),
    "a pipe has none": (io.StringIO, XTERM, False),
    "a dumb terminal has none": (Tty, {"TERM": "dumb"}, False),
    "a terminal without a name has none": (Tty, {}, False),
    "NO_COLOR forbids it": (Tty, {**XTERM, "NO_COLOR": "1"}, False),
    "an empty NO_COLOR says nothing": (Tty, {**XTERM, "NO_COLOR": ""}, True),
    "FORCE_COLOR asks for it in a pipe": (io.StringIO, {"FORCE_COLOR": "1"}, True),
    "CLICOLOR_FORCE asks for it in a pipe": (io.StringIO, {"CLICOLOR_FORCE": "1"}, True),
    "CLICOLOR_FORCE=0 does not": (io.StringIO, {"CLICOLOR_FORCE": "0"}, False),
    "NO_COLOR is stronger than FORCE_COLOR": (Tty, {**XTERM, "FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
}


@pytest.mark.parametrize("name", CASES)
def test_who_decides(name: str) -> None:
    make, environ, coloured = CASES[name]
    assert terminal.has_colour(make(), environ) is coloured
    for when in ("always", "never"):
        terminal.choose_colour(when)
        assert terminal.has_colour(make(), environ) is (when == "always"), "--color is stronger than all"


def test_a_cursor_is_moved_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was said of colour."""
    monkeypatch.setenv("TERM", "xterm")
    terminal.choose_colour("always")
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert terminal.cleared() == "" and terminal.paint("x", "bad") == "\x1b[31mx\x1b[0m"
    terminal.choose_colour("never")
    monkeypatch.setattr("sys.stdout", Tty())
    assert terminal.cleared() and terminal.paint("x", "bad") == "x"
    monkeypatch.setattr("sys.stdout", None)
    assert terminal.cleared() == "" and not terminal.has_colour()


@pytest.mark.parametrize(("columns", "found"), [("20", 20), ("0", 80), ("-5", 80), ("wide", 80), ("", 80)])
def test_a_width_that_is_none_is_not_believed(columns: str, found: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal says it itself, and 80 columns where there is none."""
    monkeypatch.setattr("sys.__stdout__", io.StringIO())
    monkeypatch.setenv("COLUMNS", columns)
    assert terminal.terminal_size().columns == found
