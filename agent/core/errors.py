"""One error family. Each leaf says how to exit and whether trying again can help.

An error's text is for the operator: one plain sentence that names the file and key or the credential
concerned, then a remedy. `agent.cli.main` holds the one `except` that prints it. Raise with `from err`
for the log's sake, and with `from None` where the cause may hold a secret or a signed URL. Whoever passes an
error on adds to it with `at` and `because`, which keep its class, code and remedy.

The tree; the number is the exit code where it is not 1, and `r` marks what is worth another try:

    KeyturnError
      UsageError                    2      the command line
      ConfigError                  78      the config, with every problem of the file
      NotPermittedError            77
      SourceUnavailableError       75  r   a source: down, throttling, too slow
      SourceRefusedError                   a source: no, until somebody changes something
        UntrustedServerError               (cloud.network) its certificate proves nothing
        RotationRunningError               (cloud.failures) KMS rotates already
      BadAnswerError                   r   a source: no credential in the answer
      CredentialFileError                  a file or variable that a provider reads
        UnsetVariableError         78
      VerifyRefusedError                   STS does not take the new value
      SinkError                            a target or its directory
        CommitInterruptedError         r   (sinks.transaction) the journal says how to finish
        PathRefusedError                   (system.trusted_directory) missing, or not to be trusted
          PathMissingError
          PathNotPermittedError    77      also a NotPermittedError
        SinkNotPermittedError      77      (sinks.transaction) also a NotPermittedError
        TargetChangedError, UnknownOwnerError  (sinks.transaction)
      NotifyError                      r   a dependent
        HookFailedError                r   (notifiers) it was reached, and failed
        NoProcessError                 r   (system.pidfile) nobody to signal
      CommandError                     r   (system.process) a command that cannot be started
      StateError                           the state directory
        ServicesStateError                 (state.store) it is the service's, and this is another user
        TooMuchError                       (systemd_setup) the unit would need root's rights
      AuditError                           the audit log
      BusyError                            another keyturn, or the same work, is under way
        RotatedByScheduleError             the schedule rotates a RAM user's keys, for seconds
      DaemonUnreachableError       69
        ConnectionLostError        69      (control.client) it went away before it had answered
      RemoteError                          (control.client) the daemon's own error, with its exit code
      NoSecretError                        (emergency) nothing to sign with as the old key
      CancelledError                   r   the agent is stopping
      DemoError                            (demo)
        ChildEndedError
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Self

from agent.core.problem import Mistake, Problem

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DAEMON_UNREACHABLE = 69
EXIT_SOURCE_UNAVAILABLE = 75
EXIT_NOT_PERMITTED = 77
EXIT_CONFIG = 78
EXITS = {
    EXIT_DONE: "done",
    EXIT_FAILED: "the operation failed, or what was looked at is not in order",
    EXIT_USAGE: "wrong usage: nothing was begun",
    EXIT_DAEMON_UNREACHABLE: "the daemon is not reachable",
    EXIT_SOURCE_UNAVAILABLE: "the source is temporarily unavailable",
    EXIT_NOT_PERMITTED: "not permitted",
    EXIT_CONFIG: "the config is invalid",
}
"""What each means, for helps and documents. Any other is a failure; there may be more one day."""

_VARYING = r"request [A-Za-z0-9-]{8,64}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|\b\d+(\.\d+)?\b"
"""The parts in which failures for the same reason differ: request ids, times, counts, seconds."""


def reason(text: str) -> str:
    """Return a failure's text without what varies from one to the next, so that a run of the same failure is reported once."""
    return re.sub(_VARYING, "#", text)


class KeyturnError(Exception):
    """The root of the family: an operation failed, and the text says what went wrong and how to mend it."""

    exit_code = EXIT_FAILED
    retryable = False
    place = ""
    """What `at` put before the problem last."""

    def __init__(
        self, problem: str, remedy: str = "", *, code: str = "", request_id: str = "", restricted_key: str = ""
    ) -> None:
        """Keep the parts of the text.

        Args:
            problem: one clause, without a full stop, that names the file and key or the credential.
            remedy: what the operator does about it; may be empty where nothing can be said.
            code: the error code of the service, where there is one, such as `Rejected.Throttling`.
            request_id: the service's name for the call that failed, where there was one.
            restricted_key: the AccessKey that signed, where Alibaba Cloud has restricted it as leaked.
        """
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy
        self.code = code
        self.request_id = request_id
        self.restricted_key = restricted_key

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """Make the error for a problem that a look found."""
        return cls(problem.text, problem.remedy)

    def as_problem(self) -> Problem:
        """Return what it says, for a line of `check` or an error of another class."""
        return Problem(self.problem, self.remedy)

    def at(self, place: str) -> Self:
        """Return the same error with `place` before its problem: the config key, file or call that it happened at."""
        told = self._reworded(lambda problem: f"{place}: {problem}")
        told.place = place
        return told

    def without_place(self) -> Self:
        """Return the same error without the place that `at` put last; as it is where there is none."""
        if not self.place:
            return self
        told = self._reworded(lambda problem: problem.removeprefix(f"{self.place}: "))
        told.place = ""
        return told

    def because(self, clause: str, remedy: str | None = None) -> Self:
        """Return the same error with a further clause after its problem, and another remedy where one is given."""
        told = self._reworded(lambda problem: f"{problem}; {clause}")
        if remedy is not None:
            told.remedy = remedy
            told.args = (told.problem, remedy)
        return told

    def _reworded(self, reword: Callable[[str], str]) -> Self:
        told = type(self).__new__(type(self))  # without __init__: subclasses take other arguments
        vars(told).update(vars(self))
        told.problem = reword(self.problem)
        told.args = (told.problem, told.remedy)
        return told

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem


class UsageError(KeyturnError):
    """The command line asks for something impossible."""

    exit_code = EXIT_USAGE


class ConfigError(KeyturnError):
    """The config is invalid. Holds every problem of the file, each already a sentence of one line with its place.

    Attributes:
        problems: the sentences.
        mistakes: the same with their parts; none where the file could not be read at all.
        summary: what a command says at the end of them; "" for nothing.
    """

    exit_code = EXIT_CONFIG

    def __init__(self, problems: Sequence[str], mistakes: Sequence[Mistake] = (), summary: str = "") -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
        self.mistakes = tuple(mistakes)
        self.summary = summary

    @classmethod
    def about(cls, mistakes: Sequence[Mistake]) -> Self:
        """Make the error for mistakes in the text of a config."""
        return cls(list(map(str, mistakes)), mistakes)

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """Make the error for the only problem of a config."""
        return cls([str(problem)])

    def _reworded(self, reword: Callable[[str], str]) -> Self:
        problems = tuple(map(reword, self.problems))
        told = super()._reworded(lambda _: "\n".join(problems))
        told.problems = problems
        return told


class NotPermittedError(KeyturnError):
    """The operating system or the source does not let this identity do it."""

    exit_code = EXIT_NOT_PERMITTED


class LeakedKeyError(NotPermittedError):
    """Alibaba Cloud has restricted the key that signed, because it takes it for leaked."""


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


class RotatedByScheduleError(BusyError):
    """The schedule is at work on the same keys, for seconds."""


class DaemonUnreachableError(KeyturnError):
    """No daemon answers on the control socket."""

    exit_code = EXIT_DAEMON_UNREACHABLE


class CancelledError(KeyturnError):
    """The work was not carried to its end: the agent is stopping, an answer took too long, or the operator said no."""

    retryable = True


def of_all(heading: str, errors: Sequence[KeyturnError]) -> KeyturnError:
    """Return one error for several tries that all failed, such as `no region answered: …; …`.

    It is the first one that is worth another try, or else the first, with the problems of all after `heading`.
    """
    leading = next((error for error in errors if error.retryable), errors[0])
    problems = "; ".join(dict.fromkeys(error.problem for error in errors))
    return leading._reworded(lambda _: f"{heading}: {problems}")
