"""A part of a credential that the config names by file or by environment variable: `PART_from_file_path` and so on.

Secrets are never in the config itself. A file that holds one must be private; an AccessKey id is no secret
and its file need not be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.core.errors import CredentialFileError, NotPermittedError
from agent.system.files import NotRegularError, TooLargeError, read_private, read_trusted

PART_LIMIT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """Where one part comes from: a file or a variable, not both."""

    name: str
    file: str | None
    variable: str | None
    private: bool = True

    def problems(self) -> Iterator[tuple[str, str]]:
        """Say what is wrong with the config, as (key, sentence)."""
        if bool(self.file) == bool(self.variable):
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
        content = read_private(path, PART_LIMIT_BYTES, environ) if self.private else read_open(path, PART_LIMIT_BYTES)
        return text_of(path, content)


def from_variable(name: str, environ: Mapping[str, str]) -> str:
    """Return the value of an environment variable that must be set.

    Raises:
        CredentialFileError: it is not set, or empty.
    """
    value = environ.get(name, "").strip()
    if not value:
        raise CredentialFileError(
            f"the environment variable {name} is not set", "set it for keyturn, or correct its name"
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


def read_open(path: str, limit: int) -> bytes:
    """Read a file that holds no secret; others may read it, and it may be reached through links.

    Others may not write it: it says which key is used, and a properties file also to which endpoint it is sent.

    Raises:
        CredentialFileError: it is missing, no regular file, too large, or somebody else can write it.
        NotPermittedError: the agent's user may not read it.
    """
    try:
        return read_trusted(path, limit)
    except FileNotFoundError:
        raise CredentialFileError(f"{path}: this file is missing", "put it there, or correct the path") from None
    except PermissionError:
        raise NotPermittedError(f"{path}: may not be read", f"let keyturn's user read it: chmod a+r {path}") from None
    except NotRegularError:
        raise CredentialFileError(f"{path}: not a regular file", "correct the path") from None
    except TooLargeError:
        raise CredentialFileError(f"{path}: larger than {limit} bytes", "correct the path") from None
    except OSError as error:
        raise CredentialFileError(f"{path}: {(error.strerror or 'unreadable').lower()}", "correct the path") from None
