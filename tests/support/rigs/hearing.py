"""Hears whatever is said, and shows whatever an exception could show: where a search for secrets has to look."""

from __future__ import annotations

import logging
import traceback


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


def shown(error: BaseException | None) -> str:
    """Everything that printing an error could show, suppressed contexts included."""
    if error is None:
        return ""
    said = f"{error} {error!r} {vars(error)!r} " + "".join(traceback.format_exception(error))
    return said + shown(error.__cause__) + shown(error.__context__)
