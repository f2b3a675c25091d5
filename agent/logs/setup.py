"""Logs by structlog, set up once: plain for journald, JSON for collectors, colour for people.

Four habits keep secrets out of it:

* Values are `Secret`, which does not print itself.
* A traceback is written as frames, without local variables and without the exception's own text, unless it is one of
  ours: libraries put signed URLs and tokens into their exceptions (measured with aliyun-python-sdk-core 2.16.1, whose
  logger writes the whole signed URL at ERROR on a refused connection, and with requests).
* The loggers of those libraries are shut.
* For text of others that is only passed on, a hook's output above all, the secrets in use are known
  (agent/logs/redaction.py), and no line shows one of them as it is. One that was encoded, cut or reversed would not
  be found.

tests/logs/test_logs.py searches every renderer's output for a canary.

Where standard error leads to systemd's journal, a record goes there by the native protocol, with a field for each key
(agent/system/journald.py); if the journal does not take it, it goes to standard error as a plain line.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TextIO, cast

import structlog
from structlog.typing import Processor

from agent.core.text import blanked
from agent.logs.log import describe, frames, log, safe_exception
from agent.logs.renderers import (
    JournalRecord,
    JournalWriter,
    JsonLine,
    LossyStream,
    PlainLine,
    Redacted,
)
from agent.system.journal_stream import is_stream
from agent.system.journald import Journal
from agent.system.terminal import has_colour

TALKATIVE = ("aliyunsdkcore", "alibabacloud", "CacheClient", "requests", "urllib3", "apscheduler", "schedule")

OURS = ("agent", "providers")
"""Loggers of `logging` that are keyturn's own, so that their messages are safe to show."""


def set_up(level: str, form: str, environ: Mapping[str, str], out: TextIO | None = None) -> None:
    """Install the one handler of the process.

    Args:
        level: "debug", "info", "warning", "error" or "critical".
        form: "auto", "json" or "plain"; auto is records with fields where `out` leads to systemd's journal
            ($JOURNAL_STREAM), coloured on a tty that takes it (agent/system/terminal.py), and plain elsewhere.
            Plain lines that go to the journal begin with their priority.
        environ: the environment that "auto" looks at.
        out: where lines go; standard error by default.
    """
    stream = out if out is not None else sys.stderr
    os.environ.pop("DEBUG", None)  # DEBUG=sdk makes Alibaba's SDKs print signed requests
    patient, to_journal = LossyStream(stream), is_stream(environ, stream)
    render: Processor = Redacted(_renderer(form, environ, stream, to_journal))
    factory: Callable[..., object] = structlog.WriteLoggerFactory(file=cast(TextIO, patient))
    if form == "auto" and to_journal:
        teller = JournalWriter(Journal(), patient)
        render, factory = JournalRecord(), lambda *_: teller
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


def _renderer(form: str, environ: Mapping[str, str], stream: TextIO, to_journal: bool) -> Processor:
    if form == "json":
        return JsonLine()
    if form == "auto" and not to_journal and stream.isatty():
        colours = has_colour(stream, environ)
        return structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)
    return PlainLine(with_priority=to_journal)


class _Bridge(logging.Handler):
    """A handler for `logging`: it passes on our own messages whole, and of a library's no more than that there was one."""

    def emit(self, record: logging.LogRecord) -> None:
        ours = record.name.partition(".")[0] in OURS  # made by `getLogger(__name__)`
        text = blanked(record.getMessage()) if ours else f"a library reported a {record.levelname.lower()}"
        whose = {"credential": record.__dict__["credential"]} if ours and "credential" in record.__dict__ else {}
        getattr(log, "error" if record.levelno >= logging.ERROR else "warning")(
            text, **whose, logger=record.name, place=f"{record.module}:{record.lineno}"
        )


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
    """Log an exception of `__del__`, which nobody can catch. Python itself would print its text."""
    if error is not None:
        log.warning("an exception in a clean-up was passed over", error=describe(error), frames=frames(error))
