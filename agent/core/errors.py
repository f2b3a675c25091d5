"""One error family. Each leaf says how to exit and whether trying again can help.

An error's text is for the operator: one plain sentence that names the file and key or the credential
concerned, then a remedy. `agent.cli.main` holds the one `except` that prints it. Raise with `from err`
for the log's sake, and with `from None` where the cause may hold a secret or a signed URL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DAEMON_UNREACHABLE = 69
EXIT_SOURCE_UNAVAILABLE = 75
EXIT_NOT_PERMITTED = 77
EXIT_CONFIG = 78


_VARYING = re.compile(r"request [A-Za-z0-9-]{8,64}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|\b\d+(\.\d+)?\b")
"""The parts in which failures for the same reason differ: request ids, times, counts, seconds."""


def reason(text: str) -> str:
    """Return a failure's text without what varies from one to the next, so that a run of the same failure is reported once."""
    return _VARYING.sub("#", text)


class KeyturnError(Exception):
    """The root of the family: an operation failed, and the text says what went wrong and how to mend it."""

    exit_code = EXIT_FAILED
    retryable = False

    def __init__(self, problem: str, remedy: str = "", *, code: str = "") -> None:
        """Keep the parts of the text.

        Args:
            problem: one clause, without a full stop, that names the file and key or the credential.
            remedy: what the operator does about it; may be empty where nothing can be said.
            code: the error code of the service, where there is one, such as `Rejected.Throttling`.
        """
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy
        self.code = code

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem


class UsageError(KeyturnError):
    """The command line asks for something impossible."""

    exit_code = EXIT_USAGE


class ConfigError(KeyturnError):
    """The config is invalid. Holds every problem of the file, each already a sentence with its place."""

    exit_code = EXIT_CONFIG

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class NotPermittedError(KeyturnError):
    """The operating system or the source does not let this identity do it."""

    exit_code = EXIT_NOT_PERMITTED


class SourceUnavailableError(KeyturnError):
    """The source cannot answer just now: network, throttling, a 5xx, a deadline. Trying again can help."""

    exit_code = EXIT_SOURCE_UNAVAILABLE
    retryable = True


class SourceRefusedError(KeyturnError):
    """The source answered no, and will say so again until somebody changes something."""


class BadAnswerError(KeyturnError):
    """The source answered with something that is not a credential. It may mend itself, so it is retried."""

    retryable = True


class CredentialFileError(KeyturnError):
    """A local file that a provider needs is missing, malformed or readable by others."""


class UnsetVariableError(CredentialFileError):
    """The config names an environment variable that is not set: the config and its environment do not fit."""

    exit_code = EXIT_CONFIG


class VerifyRefusedError(KeyturnError):
    """The new value was refused by STS for as long as `verify_timeout` allows; it is not published."""


class SinkError(KeyturnError):
    """A sink cannot be written; every file is as it was."""


class NotifyError(KeyturnError):
    """A dependent could not be told."""

    retryable = True


class StateError(KeyturnError):
    """The state directory cannot be used."""


class AuditError(KeyturnError):
    """The audit log cannot be written, or is not whole."""


class BusyError(KeyturnError):
    """Another keyturn works on the same state directory, or the same work is already under way."""


class DaemonUnreachableError(KeyturnError):
    """No daemon answers on the control socket."""

    exit_code = EXIT_DAEMON_UNREACHABLE


class CancelledError(KeyturnError):
    """The work was not carried to its end: the agent is stopping, an answer took too long, or the operator said no."""

    retryable = True
