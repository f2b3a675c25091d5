"""Logs by structlog, set up once: plain for journald, JSON for collectors, colour for people.

Three habits keep secrets out. Values are `Secret`, which does not print itself. A traceback is written as
frames, without local variables and without the exception's own text, unless it is one of ours: libraries
put signed URLs and tokens into their exceptions (measured with aliyun-python-sdk-core 2.16.1, whose logger
writes the whole signed URL at ERROR on a refused connection, and with requests). And the loggers of those
libraries are shut. And for what others say and we only pass on, a hook's output above all: the secrets in
use are known (`mask`), and no line shows one of them as it is. One that was encoded, cut or spelt
backwards would not be found. tests/test_logs.py searches every renderer's output for a canary.

Where standard error leads to systemd's journal, a record goes there by the native protocol, with a field for each key
(agent/system/journald.py); if the journal does not take it, it goes to standard error as the line that it would have been.

Standard output and error are keyturn's own (`StreamGuard`): a third party's provider or a library that prints would
garble `--json` and could print a secret, so what others write is dropped, and that they wrote is said once. Who
writes is known by the provider at work (agent/core/provider.py), else by the module that calls: a thread that a
library started has no provider at work. Not caught is what goes past Python's streams: os.write(1, …), C code, a child
process that inherits them. The guard prevents slips; it is no wall against code that runs in this process.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import stat
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from types import TracebackType
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor

from agent.core.errors import KeyturnError
from agent.core.provider import at_work
from agent.logs.redaction import Masks, escaped
from agent.system.journald import Journal, LineSocket, field_name, is_stream

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
        form: "auto", "json" or "plain"; auto is records with fields where `out` leads to systemd's journal
            ($JOURNAL_STREAM), coloured on a tty unless $NO_COLOR is set, and plain elsewhere. Plain lines that go to
            the journal begin with their priority.
        environ: the environment that "auto" looks at.
        out: where lines go; standard error by default.
    """
    global _is_set_up
    stream = _unguarded(out if out is not None else sys.stderr)
    os.environ.pop("DEBUG", None)  # DEBUG=sdk makes Alibaba's SDKs print signed requests
    patient, to_journal = _Patient(stream), is_stream(environ, stream)
    render: Processor = _Masked(_renderer(form, environ, stream, to_journal))
    factory: Callable[..., object] = structlog.WriteLoggerFactory(file=cast(TextIO, patient))
    if form == "auto" and to_journal:
        teller = _JournalTeller(Journal(), patient)
        render, factory = _Record(), lambda *_: teller
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, safe_exception, render],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=factory,
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Bridge()], level=logging.WARNING, force=True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    logging.captureWarnings(True)
    sys.excepthook = _report_uncaught
    threading.excepthook = lambda args: _report_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _report_unraisable(args.exc_value)
    _is_set_up = True
    _tell()


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


def journal_prefix(level: str, environ: Mapping[str, str], stream: TextIO) -> str:
    """What a line of this level begins with on this stream: its priority where the journal reads it, else ""."""
    return f"<{JOURNAL_PRIORITY[level]}>" if is_stream(environ, stream) else ""


def _renderer(form: str, environ: Mapping[str, str], stream: TextIO, to_journal: bool) -> Processor:
    if form == "json":
        return _Json()
    if form == "auto" and not to_journal and stream.isatty():
        colours = "NO_COLOR" not in environ
        return structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)
    return _Plain(with_priority=to_journal)


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
        self._socket = LineSocket(self._fd) if self._is_socket() else None

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._fd < 0:
                self._stream.write(text)
            elif self._socket is not None:
                self._socket.write(text.encode("utf-8", "backslashreplace"))
            else:
                os.write(self._fd, text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        if self._fd < 0:
            self._stream.flush()

    def _is_socket(self) -> bool:
        try:
            return self._fd >= 0 and stat.S_ISSOCK(os.fstat(self._fd).st_mode)
        except OSError:
            return False


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
        start = f"<{JOURNAL_PRIORITY.get(level, 6)}>" if self._with_priority else f"{level}: "
        return start + _line(event)


def _line(event: Mapping[str, Any], *, without: str = "") -> str:
    head = str(event.get("event", "")).encode("unicode_escape").decode()
    shown = {key: value for key, value in event.items() if key not in ("event", "level", without) and value is not None}
    return head + "".join(f" {key}={_quoted(value)}" for key, value in shown.items())


class _Record:
    """A record for the journal: the readable line without its frames, and a field for each key.

    A list is one field for each of its items, so that `journalctl SINKS=/etc/x` finds it.
    """

    def __call__(self, _logger: object, _method: str, event: EventDict) -> tuple[tuple[Any, ...], dict[str, Any]]:
        priority = JOURNAL_PRIORITY.get(str(event.pop("level", "info")), 6)
        fields = [
            ("MESSAGE", _masks.hide(_line(event, without="frames"))),
            ("PRIORITY", str(priority)),
            ("SYSLOG_IDENTIFIER", "keyturn"),
        ]
        for key, value in event.items():
            each = value if isinstance(value, list | tuple) else [value]
            fields += [(field_name(key), _masks.hide(str(one))) for one in each if one is not None]
        return (fields, f"<{priority}>{_masks.hide(_line(event))}"), {}


class _JournalTeller:
    """Where `_Record` goes: the journal, or standard error where that does not take it."""

    def __init__(self, journal: Journal, otherwise: _Patient) -> None:
        self._journal, self._otherwise = journal, otherwise

    def msg(self, fields: list[tuple[str, str]], line: str) -> None:
        if not self._journal.send(fields):
            self._otherwise.write(f"{line}\n")

    debug = info = warning = error = critical = msg


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
        whose = {"credential": record.__dict__["credential"]} if ours and "credential" in record.__dict__ else {}
        getattr(log, "error" if record.levelno >= logging.ERROR else "warning")(
            text, **whose, logger=record.name, place=f"{record.module}:{record.lineno}"
        )


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def _report_uncaught(kind: type[BaseException], value: BaseException | None, trace: TracebackType | None) -> None:
    if value is None or issubclass(kind, KeyboardInterrupt):
        return
    if _came_through_us(trace):
        log.critical("a fault of keyturn itself; please report it", error=describe(value), frames=frames(value))
    else:
        text = "a thread of a provider or a library ended with a fault; please report it to its author"
        log.warning(text, error=describe(value), frames=frames(value))


def _came_through_us(trace: TracebackType | None) -> bool:
    return any(str(each.f_globals.get("__name__")).startswith("agent.") for each, _line in traceback.walk_tb(trace))


def _report_unraisable(error: BaseException | None) -> None:
    """What `__del__` raises and nobody can catch; Python itself would print the exception's text."""
    if error is not None:
        log.warning("an exception in a clean-up was passed over", error=describe(error), frames=frames(error))


SPEAKERS = ("agent.", "providers.emulator.")
"""Modules whose words on standard output and error are keyturn's own."""

_heard: set[tuple[str, str]] = set()
_untold: deque[str] = deque()
_is_set_up = False


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
            if _is_set_up:  # before that, structlog's own logger would come back here, under a lock
                _tell()
        return bool(who)


def _tell() -> None:
    while _untold:
        log.warning(_untold.popleft())


def _unguarded(stream: TextIO) -> TextIO:
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
