"""Where a search for secrets has to look: whatever any logger says, and whatever an exception could show."""

from __future__ import annotations

import http.client
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


def shown(error: BaseException) -> str:
    """Everything that printing an error could show: str, repr, arguments, attributes, traceback, suppressed contexts too."""
    said, seen = "", set()
    queue: list[BaseException | None] = [error]
    while queue:
        each = queue.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        said += f"{each} {each!r} {each.args!r} {vars(each)!r} {''.join(traceback.format_exception(each))}"
        queue += [each.__cause__, each.__context__]
    return said


class Listener(logging.Handler):
    """Hears everything that is said, by whichever logger, at DEBUG."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep all of it: what a formatter could show, and what it was made of."""
        said = f"{record.getMessage()} {record.args!r} {vars(record)!r}"
        if record.exc_info and record.exc_info[1] is not None:
            said += shown(record.exc_info[1])
        self.records.append(said)

    @property
    def said(self) -> str:
        """All of it as one text."""
        logging.getLogger("some.library").debug("records are caught")
        assert "records are caught" in self.records[-1]
        return "".join(self.records)


@contextmanager
def listening() -> Iterator[Listener]:
    """Have every logger that there is speak at DEBUG, and http.client print what it sends wherever it is not stopped."""
    made = Listener()
    root = logging.getLogger()
    loggers = [root, *(each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http.client.HTTPConnection, "debuglevel", 1)
        for logger in loggers:
            patch.setattr(logger, "level", logging.DEBUG)
            logger._cache.clear()  # type: ignore[attr-defined]
            if logger is root or not logger.propagate:
                logger.addHandler(made)
        yield made
        for logger in loggers:
            logger.removeHandler(made)
