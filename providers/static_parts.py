"""Credentials whose parts come from files or environment variables: `PART_from_file_path`, `PART_from_env_variable`.

Secrets are never in the config itself. A file that holds one must be private; an AccessKey id is no secret
and its file need not be. Files are read again at each fetch, so a replaced value is found; variables are those
that keyturn was started with.

Replacing an id and its secret means replacing two files, and in between the id does not match the secret. So all files
are read together, only after nobody touched them for half a second, and again if one changed meanwhile. A longer pause
between the two cannot be noticed here: then the verification refuses the pair, the value in use stays, and the next fetch
finds both.
"""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from agent.core.credential import Credential
from agent.core.errors import (
    CredentialFileError,
    KeyturnError,
    NotPermittedError,
    SourceUnavailableError,
    UnsetVariableError,
)
from agent.core.finding import Finding
from agent.core.provider import Provider
from agent.core.settings import ProviderSettings
from agent.core.suspects import variable_name
from agent.system.clock import Clock
from agent.system.file_identity import FileIdentity
from agent.system.files import NotRegularError, TooLargeError, read_private, read_trusted, refuse_missing
from agent.system.systemd_credentials import remedy_for_missing, seen_at

PART_LIMIT_BYTES = 64 * 1024

QUIET_S = 0.5
"""Seconds for which the files of a credential must be unchanged before they are read."""

Stamps = list[FileIdentity | None]
"""The identity of each file; None where there is none."""


@dataclass(frozen=True, slots=True)
class Part:
    """The source of one part: a file or a variable, not both."""

    name: str
    file: str | None
    variable: str | None
    private: bool = True
    needed: bool = True

    @property
    def named(self) -> bool:
        """Whether the config names a source."""
        return bool(self.file or self.variable)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the config, as (key, sentence)."""
        if bool(self.file) == bool(self.variable) and (self.needed or self.named):
            said = "named twice" if self.file else "missing"
            yield (
                f"{self.name}_from_file_path",
                f"{said}; want exactly one of {self.name}_from_file_path and {self.name}_from_env_variable",
            )

    def read(self, environ: Mapping[str, str]) -> str:
        """Return the part without the line break at its end.

        Raises:
            CredentialFileError: the file or variable is missing, empty, or others can read the file.
            NotPermittedError: the agent's user may not read the file.
        """
        return self._from_file(environ) if self.file else from_variable(self.variable or "", environ)

    def _from_file(self, environ: Mapping[str, str]) -> str:
        path = self.file or ""
        content = (
            read_private(path, PART_LIMIT_BYTES, environ)
            if self.private
            else read_open(path, PART_LIMIT_BYTES, environ)
        )
        return text_of(path, content)


class StaticSettings(ProviderSettings):
    """The root of the settings of static values: `PART_from_file_path` and `PART_from_env_variable` for each part."""

    PARTS: ClassVar[tuple[str, ...]]
    OPEN: ClassVar[frozenset[str]] = frozenset({"access_key_id", "expiration"})
    """The parts that are no secret, whose file others may read."""
    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"expiration"})

    @property
    def parts(self) -> tuple[Part, ...]:
        """Each part with its source in the config."""
        return tuple(self._part(name) for name in self.PARTS)

    def _part(self, name: str) -> Part:
        file, variable = getattr(self, f"{name}_from_file_path"), getattr(self, f"{name}_from_env_variable")
        return Part(name, file, variable, private=name not in self.OPEN, needed=name not in self.OPTIONAL)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for what the types cannot rule out."""
        for part in self.parts:
            yield from part.problems()


class StaticProvider(Provider):
    """A provider of values that somebody else puts into files or variables; it publishes and watches them."""

    settings: StaticSettings
    watched: ClassVar[bool] = True

    @abstractmethod
    def _made_of(self, values: Mapping[str, str]) -> Credential:
        """Make the credential of the parts that the config names.

        Raises:
            KeyturnError: a part is malformed.
        """

    def _fetch(self, timeout_s: float) -> Credential:
        with told_as(f"credentials.{self.context.credential}"):
            return self._made_of(self._read_at_rest(time.monotonic() + timeout_s))

    def _read_at_rest(self, ends: float) -> dict[str, str]:
        """Read all parts while nobody changes a file; an error about a file that is being changed does not count."""
        while True:
            before = self._stamps()
            if _quiet(before):
                try:
                    values = {part.name: self._read(part) for part in self._named}
                    if self._stamps() == before:
                        return values
                except KeyturnError:
                    if self._stamps() == before:
                        raise
            self._wait(ends)

    @property
    def _named(self) -> tuple[Part, ...]:
        return tuple(part for part in self.settings.parts if part.named)

    def _stamps(self) -> Stamps:
        """Return the identity of each file; None for one that is missing or closed, which `_read` reports better."""
        return [FileIdentity.at(part.file) if part.file else None for part in self._named]

    def _read(self, part: Part) -> str:
        with told_as(part.name):
            return part.read(self.context.environ)

    def _wait(self, ends: float) -> None:
        if time.monotonic() + QUIET_S > ends:
            raise SourceUnavailableError(
                "the files of its parts are being changed all the time", "let them rest; it is tried again by itself"
            )
        time.sleep(QUIET_S / 2)

    def inspect(self) -> Iterator[Finding]:
        """Yield for each part whether it is there and private."""
        for part in self._named:
            place = f"credentials.{self.context.credential}.provider.{part.name}"
            try:
                part.read(self.context.environ)
            except KeyturnError as error:
                yield Finding.of("error", place, error.as_problem())
            else:
                yield Finding("ok", place, f"read from {part.file or 'the variable ' + str(part.variable)}")


def _quiet(stamps: Stamps) -> bool:
    """Return whether the last change was long enough ago. A time in the future counts as long ago: the clock was set."""
    newest_s = max((stamp.ctime_ns for stamp in stamps if stamp), default=0) / 1e9
    return not 0.0 <= Clock().now().timestamp() - newest_s < QUIET_S


@contextmanager
def told_as(place: str) -> Iterator[None]:
    """Put `place` before the problem of every KeyturnError that leaves the block.

    Raises:
        KeyturnError: of the same class, with the same remedy and code.
    """
    try:
        yield
    except KeyturnError as error:
        raise error.at(place) from None


def from_variable(name: str, environ: Mapping[str, str]) -> str:
    """Return the value of an environment variable that must be set.

    Raises:
        UnsetVariableError: it is not set, or empty.
    """
    value = environ.get(name, "").strip()
    if not value:
        shown = variable_name(name)
        if shown is None:
            raise UnsetVariableError(
                "what should name an environment variable looks like no variable's name, and is not repeated here",
                "write the variable's name there, never its value",
            )
        raise UnsetVariableError(
            f"the environment variable {shown} is not set", "set it for keyturn, or correct its name"
        )
    return value


def text_of(path: str, content: bytes) -> str:
    """Decode one value from a file, blanks and line breaks around it dropped.

    Raises:
        CredentialFileError: it is empty or not UTF-8 text.
    """
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        text = None
    if text is None:  # raised out here: the decoder's exception holds the content
        raise CredentialFileError(f"{path}: not UTF-8 text", "put the value there as text")
    if not text:
        raise CredentialFileError(f"{path}: the file is empty", "put the value there")
    return text


def read_open(path: str, limit: int, environ: Mapping[str, str] = os.environ) -> bytes:
    """Read a file that holds no secret; others may read it, and it may be reached through links.

    Others may not write it: it decides which key is used, and a properties file also to which endpoint it is sent.

    Args:
        path: the file, or a link to it.
        limit: bytes; a larger file is refused.
        environ: as for a private file, `agent.system.files.read_private`.

    Raises:
        CredentialFileError: it is missing, no regular file, too large, or somebody else can write it.
        NotPermittedError: the agent's user may not read it.
    """
    path = seen_at(path, environ)
    try:
        content = read_trusted(path, limit)
        refuse_missing(path, content, environ)
        return content
    except FileNotFoundError:
        raise CredentialFileError(f"{path}: this file is missing", remedy_for_missing(path)) from None
    except PermissionError:
        raise NotPermittedError(f"{path}: may not be read", f"let keyturn's user read it: chmod a+r {path}") from None
    except NotRegularError:
        raise CredentialFileError(f"{path}: not a regular file", "correct the path") from None
    except TooLargeError:
        raise CredentialFileError(f"{path}: larger than {limit} bytes", "correct the path") from None
    except OSError as error:
        raise CredentialFileError(f"{path}: {(error.strerror or 'unreadable').lower()}", "correct the path") from None
