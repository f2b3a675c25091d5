"""The line at the bottom of the terminal that says what `check` waits for."""

from __future__ import annotations

import os
import sys

import pytest

from agent.cli.check_live import Live
from agent.system.columns import columns


class Terminal:
    """What a terminal is sent."""

    def __init__(self):
        self.sent = ""

    def write(self, text):
        self.sent += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_what_is_waited_for_fits_into_one_line(monkeypatch: pytest.MonkeyPatch):
    """Chinese letters take two columns: a line that wraps would not be taken away whole."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    for name, value in {"TERM": "xterm", "COLUMNS": "40", "NO_COLOR": "1"}.items():
        monkeypatch.setitem(os.environ, name, value)
    live = Live()
    live.begins("/etc/密钥/" * 10)
    assert 30 < columns(terminal.sent) < 40
    live.clear()
    assert terminal.sent.endswith("\r\x1b[K")
