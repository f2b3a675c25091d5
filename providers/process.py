"""`process`: a command that prints a credential as JSON, the external mode of Alibaba's CLI.

Format: alibabacloud-credentials 1.0.12, `provider/external.py`: `mode` ("AK" or "StsToken"), `access_key_id`,
`access_key_secret`, `sts_token`, `expiration` (RFC 3339, such as 2026-01-01T00:00:00Z; optional). A session without an
expiration is polled, as the SDK runs the command again for each call then. Nothing is written back to any file.

Decisions:

* No shell. The command runs as the agent's own user, in `/`, with a clean environment (agent/system/process.py) and of
  the agent's variables only CREDENTIALS_DIRECTORY, through which systemd hands secrets out. No ALIBABA_CLOUD_* variable
  is passed on: such a command could only find the agent's keys there. `["/usr/bin/env", "NAME=value", …]` sets others.
* A program that somebody besides root and the agent's user can write or replace is not run: it would run with the
  agent's rights. What counts is the file at the end of links, and who owns the way to it (agent/system/trusted_program.py).
  `check` warns of arguments that are such files (a script's path).
* Its output is taken for a secret, on standard error too, so an error tells only lengths and the exit status.
* `timeout` limits the command to 30 s at most, since a fetch is given up then. At the limit its group is killed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from agent.core.credential import Credential
from agent.core.errors import (
    BadAnswerError,
    CancelledError,
    CredentialFileError,
    KeyturnError,
    SourceUnavailableError,
)
from agent.core.finding import Finding
from agent.core.provider import FETCH_TIMEOUT_S, Provider, ProviderContext
from agent.core.settings import Duration, ProviderSettings
from agent.system.accounts import own_account, user_name
from agent.system.process import Completed, find_program, run_command
from agent.system.process_group import Ending
from agent.system.trusted_program import program_problem
from providers.session_json import EXTERNAL, bad_answer, credential_of, object_of
from providers.static_parts import told_as

OUTPUT_LIMIT_BYTES = 64 * 1024
"""Bytes of output from which a command's answer is refused."""


@dataclass(frozen=True, kw_only=True)
class ProcessSettings(ProviderSettings):
    """The settings of `type = "process"`."""

    command: tuple[str, ...]
    timeout: Duration = Duration(30)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for what the types cannot rule out."""
        if not self.command or not self.command[0]:
            yield "command", "is empty; give the program and its arguments"
        elif "/" in self.command[0] and not self.command[0].startswith("/"):
            yield "command", "want an absolute path, or a name without a directory"
        if any("\0" in word for word in self.command):
            yield "command", "holds a zero byte"
        if not 1 <= self.timeout <= FETCH_TIMEOUT_S:
            yield "timeout", f'want between "1s" and "{FETCH_TIMEOUT_S:g}s", after which a fetch is given up'


class Process(Provider):
    """The provider of `type = "process"`."""

    type_name: ClassVar[str] = "process"
    Settings: ClassVar[type[ProviderSettings]] = ProcessSettings
    settings: ProcessSettings

    def __init__(self, settings: Any, context: ProviderContext) -> None:
        super().__init__(settings, context)
        self._closed = threading.Event()

    def close(self) -> None:
        """End a command that is running."""
        self._closed.set()

    @property
    def _name(self) -> str:
        return self.settings.command[0]

    def _fetch(self, timeout_s: float) -> Credential:
        with told_as(f"credentials.{self.context.credential}"):
            done = run_command(
                (refuse_if_foreign(self._name), *self.settings.command[1:]),
                timeout_s=min(timeout_s, float(self.settings.timeout)),
                cancel=self._closed,
                env={name: self.context.environ[name] for name in PASSED_ON if name in self.context.environ},
                output_limit=OUTPUT_LIMIT_BYTES,
            )
            self._require_ok(done)
            return _credential_of(done.stdout, f"the command {self._name}")

    def _require_ok(self, done: Completed) -> None:
        if done.ending is Ending.CANCELLED:
            raise CancelledError(f"the command {self._name} {done.outcome}")
        if not done.ok:
            raise SourceUnavailableError(
                f"the command {self._name} {done.outcome}; it wrote {len(done.stderr)} bytes to standard error",
                f"run it by hand as user {user_name()} to see them",
            )
        if len(done.stdout) >= OUTPUT_LIMIT_BYTES:
            raise BadAnswerError(
                f"the command {self._name} printed {OUTPUT_LIMIT_BYTES} bytes or more", "have it print the JSON alone"
            )

    def inspect(self) -> Iterator[Finding]:
        """Yield whether the command is there and nobody else can change it. It is not run."""
        place = f"credentials.{self.context.credential}.provider.command"
        try:
            refuse_if_foreign(self._name)
        except KeyturnError as error:
            yield Finding.of("error", place, error.as_problem())
        else:
            yield Finding("ok", place, f"runs {find_program(self._name)}")
        for word in self.settings.command[1:]:
            problem = program_problem(word, own_account()) if word.startswith("/") and os.path.isfile(word) else None
            if problem:
                yield Finding.of("warning", place, problem)


PASSED_ON = ("CREDENTIALS_DIRECTORY",)
"""The agent's variables that the command gets."""


def refuse_if_foreign(program: str) -> str:
    """Return the path of a program, and refuse one that is missing or that somebody else can write or replace.

    Raises:
        CredentialFileError: the text names the program and who can change it.
    """
    path = find_program(program)
    if path is None or not os.path.exists(path):
        raise CredentialFileError(f"there is no program {program}", "install it, or correct the command in the config")
    problem = program_problem(path, own_account())
    if problem:
        raise CredentialFileError.of(problem)
    return path


def _credential_of(output: bytes, source: str) -> Credential:
    answer = object_of(output, source)
    mode = answer.get("mode")
    if mode not in ("AK", "StsToken"):
        raise bad_answer(source, 'has no mode "AK" or "StsToken"')
    found = credential_of(answer, EXTERNAL, source)
    if (found.security_token is not None) != (mode == "StsToken"):
        raise bad_answer(source, f"says mode {mode} {'without' if mode == 'StsToken' else 'with'} an sts_token")
    return found
