"""`rotate --report FILE`: the emergency as a document, written at its end, however that comes.

Whether the file can be written is seen before anything is asked for. What goes wrong at the end is said, and changes nothing
of the outcome. What makes the document is imported only then: it would hold up the emergency.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from agent.cli import output
from agent.cli.document_file import encoded
from agent.core.errors import KeyturnError
from agent.emergency.request import Request
from agent.evidence.formats import format_of
from agent.system.clock import Clock
from agent.system.reserved_file import ReservedFile
from agent.system.waiting import BEGUN, WAITING, Silence


@contextmanager
def ended_in_good_order() -> Iterator[None]:
    """Have SIGTERM and a closed terminal end the command as Ctrl-C does, so that its document is written; nohup stays nohup."""
    ours = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        if signal.SIGHUP in ours:  # a closed terminal says so twice: the kernel, and the shell
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


class RotateReport:
    """The document of one `rotate` that is under way."""

    def __init__(self, file: str, config: str) -> None:
        """See that it can be written.

        Raises:
            KeyturnError: it cannot, or its name does not say in which format.
        """
        self._config = config
        self._form = format_of(file, "--report")
        try:
            self._file = ReservedFile(file)
        except KeyturnError as error:
            raise error.at("--report").because("nothing was rotated") from None
        self._asked: Request | None = None
        self._began_at = Clock().now()
        self._steps: list[dict[str, Any]] = []
        self._result: dict[str, Any] = {}

    def asked(self, request: Request) -> None:
        """Note that the emergency begins."""
        self._asked, self._began_at = request, Clock().now()
        self._result = {"credential": request.credential}

    def step(self, step: dict[str, Any]) -> None:
        """Note a step that has ended."""
        if step.get("outcome") not in (BEGUN, WAITING):
            self._steps.append(step)

    def ended(self, result: dict[str, Any]) -> None:
        """Note what came of it."""
        self._result = result

    def failed(self, error: KeyturnError) -> None:
        """Note that nothing more came of it than this."""
        self._result["error"] = str(error)

    def write(self) -> None:
        """Write the document, if an emergency was asked for. What goes wrong is said, and raised to nobody."""
        try:
            if self._asked is not None:
                self._write(self._asked)
                _say(f"the report is in {self._file.path}")
        except KeyturnError as error:
            _say(f"the report is missing, which changes nothing of the above: {error}; {self._later()}")
        except Exception as error:
            fault = f"a fault of keyturn itself ({type(error).__name__})"
            _say(f"the report is missing: {fault}; please report it; {self._later()}")
        finally:
            self._file.close()

    def _write(self, request: Request) -> None:
        with Silence(lambda: "the report: the audit log is read, and proved", output.wait):
            from agent.cli.rotate_document import Told, document  # with all that makes documents

            told = Told(request, self._began_at, self._steps, self._result)
            text = document(told, self._config, self._form)
        self._file.write(encoded(text))

    def _later(self) -> str:
        return f"write it later with `keyturn audit incident --credential {self._result['credential']}`"


def _say(text: str) -> None:
    print(output.one_line(f"keyturn: {text}"), file=sys.stderr, flush=True)
