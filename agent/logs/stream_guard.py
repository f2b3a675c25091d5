"""Standard output and error, kept for keyturn's own words."""

from __future__ import annotations

import io
import sys
from collections import deque
from collections.abc import Iterable
from typing import Any, TextIO

from agent.core.provider_guard import at_work
from agent.logs.log import log

SPEAKERS = ("agent.", "providers.emulator.")
"""Modules whose words on standard output and error are keyturn's own."""


_heard: set[tuple[str, str]] = set()


_untold: deque[str] = deque()


_is_set_up = False  # before `log_heard`, structlog's own logger would come back here, under a lock


def heard(who: str) -> tuple[str, ...]:
    """Where somebody wrote and was not let through: "standard output", "standard error"."""
    return tuple(stream for speaker, stream in sorted(_heard) if speaker == who)


class StreamGuard:
    """Keeps sys.stdout and sys.stderr (and the originals that Python keeps) for keyturn's own words while installed."""

    NAMES = ("stdout", "stderr", "__stdout__", "__stderr__")

    def __init__(self) -> None:
        self._before: dict[str, Any] = {}

    def install(self) -> None:
        """Put the guarded streams in their place; those that are guarded already stay."""
        for name in self.NAMES:
            stream = getattr(sys, name)
            if stream is not None and not isinstance(stream, _Guarded):
                self._before[name] = stream
                where = "standard output" if "out" in name else "standard error"
                setattr(sys, name, _Guarded(stream, where))

    def remove(self) -> None:
        """Give the streams back."""
        for name, stream in self._before.items():
            setattr(sys, name, stream)
        self._before.clear()


class _Guarded:
    """A text stream on which only keyturn's own words are written."""

    def __init__(self, raw: TextIO, where: str) -> None:
        self.raw, self._where = raw, where

    def write(self, text: str) -> int:
        return len(text) if self._drops() else self.raw.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        if not self._drops():
            self.raw.writelines(lines)

    @property
    def buffer(self) -> Any:
        return io.BytesIO() if self._drops() else self.raw.buffer

    def close(self) -> None:
        """Nobody closes it but the end of the process."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)

    def _drops(self) -> bool:
        who = _stranger()
        if who and (who, self._where) not in _heard:
            _heard.add((who, self._where))
            _untold.append(f"{who} wrote to {self._where}; it was dropped")
            if _is_set_up:
                _tell()
        return bool(who)


def log_from_now_on() -> None:
    """Have the log say who was not let through, those before now too."""
    global _is_set_up
    _is_set_up = True
    _tell()


def _tell() -> None:
    while _untold:
        log.warning(_untold.popleft())


def unguarded(stream: TextIO) -> TextIO:
    """Return the stream itself, without its guard."""
    return stream.raw if isinstance(stream, _Guarded) else stream


def _stranger() -> str:
    """Who writes, "" where it is keyturn: the provider at work, else the module of the innermost frame."""
    if at_work():
        return f"provider {at_work()}"
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals is globals():
        frame = frame.f_back
    module = str(frame.f_globals.get("__name__"))
    return "" if module.startswith(SPEAKERS) else f"module {module}"
