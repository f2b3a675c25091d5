"""The renderers, which make a line, a JSON object or a journal record of one event."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from agent.logs.redaction import escaped, redacted
from agent.system.journal_stream import JOURNAL_PRIORITY
from agent.system.journald import Journal, LineSocket, field_name


class LossyStream:
    """A stream that may fail, as on a full disk or without a reader: the line is lost then, and nothing else.

    Lines bypass the stream's own buffer, whose rest would fail again later, and at the end of the process.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        try:
            self._fd = stream.fileno()
        except (OSError, ValueError, AttributeError):  # a test's, in memory
            self._fd = -1
        self._socket = LineSocket(self._fd) if self._is_socket() else None

    def write(self, text: str) -> None:
        """Write a text, or lose it."""
        with contextlib.suppress(OSError, ValueError):
            if self._fd < 0:
                self._stream.write(text)
            elif self._socket is not None:
                self._socket.write(text.encode("utf-8", "backslashreplace"))
            else:
                os.write(self._fd, text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Flush a stream in memory; others have nothing to flush."""
        if self._fd < 0:
            self._stream.flush()

    def _is_socket(self) -> bool:
        try:
            return self._fd >= 0 and stat.S_ISSOCK(os.fstat(self._fd).st_mode)
        except OSError:
            return False


class Redacted:
    """A wrapper that masks the secrets in use in whatever another renderer makes."""

    def __init__(self, render: Processor) -> None:
        self._render = render

    def __call__(self, logger: Any, method: str, event: EventDict) -> str:
        """Render one event."""
        return redacted(str(self._render(logger, method, event)))


def _quoted(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not set(text) & set(' "=\\'):
        return text
    return f'"{escaped(text)}"'


class PlainLine:
    """One line per event: the event, then key=value, control characters escaped."""

    def __init__(self, *, with_priority: bool) -> None:
        self._with_priority = with_priority

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        """Render one event."""
        level = str(event.pop("level", "info"))
        start = f"<{JOURNAL_PRIORITY.get(level, 6)}>" if self._with_priority else f"{level}: "
        return start + _line(event)


def _line(event: Mapping[str, Any], *, without: str = "") -> str:
    head = str(event.get("event", "")).encode("unicode_escape").decode()
    shown = {key: value for key, value in event.items() if key not in ("event", "level", without) and value is not None}
    return head + "".join(f" {key}={_quoted(value)}" for key, value in shown.items())


class JournalRecord:
    """A record for the journal: the readable line without its frames, and a field for each key.

    A list is one field for each of its items, so that `journalctl SINKS=/etc/x` finds it.
    """

    def __call__(self, _logger: object, _method: str, event: EventDict) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Render one event."""
        priority = JOURNAL_PRIORITY.get(str(event.pop("level", "info")), 6)
        fields = [
            ("MESSAGE", redacted(_line(event, without="frames"))),
            ("PRIORITY", str(priority)),
            ("SYSLOG_IDENTIFIER", "keyturn"),
        ]
        for key, value in event.items():
            each = value if isinstance(value, list | tuple) else [value]
            fields += [(field_name(key), redacted(str(one))) for one in each if one is not None]
        return (fields, f"<{priority}>{redacted(_line(event))}"), {}


class JournalWriter:
    """The logger behind `JournalRecord`: it writes to the journal, or to standard error where that fails."""

    def __init__(self, journal: Journal, otherwise: LossyStream) -> None:
        self._journal, self._otherwise = journal, otherwise

    def msg(self, fields: list[tuple[str, str]], line: str) -> None:
        """Send one record."""
        if not self._journal.send(fields):
            self._otherwise.write(f"{line}\n")

    debug = info = warning = error = critical = msg


class JsonLine:
    """One JSON object per event, with the time in UTC."""

    def __init__(self) -> None:
        self._stamp = structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")
        self._render = structlog.processors.JSONRenderer(sort_keys=True, default=str)

    def __call__(self, logger: Any, method: str, event: EventDict) -> str | bytes:
        """Render one event."""
        return self._render(logger, method, self._stamp(logger, method, event))
