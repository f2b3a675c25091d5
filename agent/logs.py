"""Logs by structlog, set up once: plain for journald, JSON for collectors, colour for people.

Three habits keep secrets out. Values are `Secret`, which does not print itself. A traceback is written as
frames, without local variables and without the exception's own text, unless it is one of ours: libraries
put signed URLs and tokens into their exceptions (measured with aliyun-python-sdk-core 2.16.1, whose logger
writes the whole signed URL at ERROR on a refused connection, and with requests). And the loggers of those
libraries are shut. And for what others say and we only pass on, a hook's output above all: the secrets in
use are known (`mask`), and no line shows one of them as it is. One that was encoded, cut or spelt
backwards would not be found. tests/test_logs.py searches every renderer's output for a canary.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping, MutableMapping
from types import TracebackType
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor

from agent.core.errors import KeyturnError
from agent.masks import Masks, escaped

JOURNAL_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""sd-daemon(3): a line that begins with `<N>` gets that priority in the journal."""

TALKATIVE = ("aliyunsdkcore", "alibabacloud", "CacheClient", "requests", "urllib3", "apscheduler", "schedule")

OURS = ("agent", "providers")
"""Loggers of `logging` whose words are keyturn's own, and therefore safe to show."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("keyturn")
_masks = Masks()


def mask(values: Iterable[str], *, of: str = "") -> None:
    """Have no line show these secrets from now on.

    Args:
        values: the secrets that `of` uses now, all of them; those before them stay masked until the next change,
            because the old value may be valid for days, and a hook that runs now may have read it.
        of: whose they are, such as a credential's name; each has its own.
    """
    _masks.put(values, of)


def set_up(level: str, form: str, environ: Mapping[str, str], out: TextIO | None = None) -> None:
    """Install the one handler of the process.

    Args:
        level: "debug", "info", "warning", "error" or "critical".
        form: "auto", "json" or "plain"; auto is plain with journal priorities under systemd
            ($JOURNAL_STREAM), coloured on a tty unless $NO_COLOR is set, and plain elsewhere.
        environ: the environment that "auto" looks at.
        out: where lines go; standard error by default.
    """
    stream = out if out is not None else sys.stderr
    os.environ.pop("DEBUG", None)  # DEBUG=sdk makes Alibaba's SDKs print signed requests
    processors: list[Processor] = [structlog.stdlib.add_log_level, safe_exception]
    structlog.configure(
        processors=[*processors, _Masked(_renderer(form, environ, stream))],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _Patient(stream))),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Bridge()], level=logging.WARNING, force=True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    logging.captureWarnings(True)
    sys.excepthook = _report_uncaught
    threading.excepthook = lambda args: _report_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def safe_exception(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by the error's type and its frames; the text only where the error is ours."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()[1]
    elif isinstance(info, tuple):
        info = info[1]
    if isinstance(info, BaseException):
        event["error"] = describe(info)
        event["frames"] = frames(info)
    return event


def describe(error: BaseException) -> str:
    """Say what went wrong in a way that is safe to write down."""
    return str(error) if isinstance(error, KeyturnError) else type(error).__name__


def frames(error: BaseException) -> str:
    """The places the error came through, innermost last, without values."""
    places = traceback.extract_tb(error.__traceback__)
    return " > ".join(f"{os.path.basename(place.filename)}:{place.lineno}:{place.name}" for place in places[-8:])


def _renderer(form: str, environ: Mapping[str, str], stream: TextIO) -> Processor:
    if form == "json":
        return _Json()
    under_systemd = "JOURNAL_STREAM" in environ
    if form == "auto" and not under_systemd and stream.isatty():
        colours = "NO_COLOR" not in environ
        return structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)
    return _Plain(with_priority=under_systemd)


class _Patient:
    """A stream that may fail (a full disk, a reader that left): a line is lost then, and no work with it.

    Lines go past the stream's own buffer: what stays in it fails again later, and at the end of the process.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        try:
            self._fd = stream.fileno()
        except (OSError, ValueError, AttributeError):  # a test's, in memory
            self._fd = -1

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._fd < 0:
                self._stream.write(text)
            else:
                os.write(self._fd, text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        if self._fd < 0:
            self._stream.flush()


class _Masked:
    """Whatever renders a line, the secrets in use are not in it."""

    def __init__(self, render: Processor) -> None:
        self._render = render

    def __call__(self, logger: Any, method: str, event: EventDict) -> str:
        return _masks.hide(str(self._render(logger, method, event)))


def _quoted(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not set(text) & set(' "=\\'):
        return text
    return f'"{escaped(text)}"'


class _Plain:
    """One line per event: the event, then key=value, control characters escaped."""

    def __init__(self, *, with_priority: bool) -> None:
        self._with_priority = with_priority

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        level = str(event.pop("level", "info"))
        head = str(event.pop("event", "")).encode("unicode_escape").decode()
        fields = "".join(f" {key}={_quoted(value)}" for key, value in event.items() if value is not None)
        start = f"<{JOURNAL_PRIORITY.get(level, 6)}>" if self._with_priority else f"{level}: "
        return f"{start}{head}{fields}"


class _Json:
    """One JSON object per event, with the time in UTC."""

    def __init__(self) -> None:
        self._stamp = structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")
        self._render = structlog.processors.JSONRenderer(sort_keys=True, default=str)

    def __call__(self, logger: Any, method: str, event: EventDict) -> str | bytes:
        return self._render(logger, method, self._stamp(logger, method, event))


class _Bridge(logging.Handler):
    """Takes what is said through `logging`: our own words whole, of libraries no more than that they spoke."""

    def emit(self, record: logging.LogRecord) -> None:
        ours = record.name.partition(".")[0] in OURS  # made by `getLogger(__name__)`
        text = _one_line(record.getMessage()) if ours else f"a library reported a {record.levelname.lower()}"
        getattr(log, "error" if record.levelno >= logging.ERROR else "warning")(
            text, logger=record.name, place=f"{record.module}:{record.lineno}"
        )


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def _report_uncaught(kind: type[BaseException], value: BaseException | None, _tb: TracebackType | None) -> None:
    if value is None or issubclass(kind, KeyboardInterrupt):
        return
    log.critical("a fault of keyturn itself; please report it", error=describe(value), frames=frames(value))
