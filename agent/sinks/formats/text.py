"""Helpers for editing a few lines of a file whose other lines stay byte for byte, in whatever encoding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from agent.core.credential import Credential, Kind, part
from agent.core.errors import SinkError
from agent.core.secret import Secret
from agent.sinks.interface import FileSink

BOM = b"\xef\xbb\xbf"

Part = Literal["access_key_id", "access_key_secret", "security_token", "bearer_token", "expiration"]
"""The parts of a value that a key or a variable of the config may hold."""

OPTIONAL = frozenset({"security_token", "expiration"})
"""The parts that a value may lack; their lines are then removed."""


_UNSAFE = frozenset("#;%$\"'`\\")


def is_plain(value: str) -> bool:
    """Return whether every format can hold a value: one word of ASCII without quotes, comments and interpolation.

    One rule for all formats, also for those that could hold more: whether a value is published must not depend on which
    file somebody wants beside it. Only a template, which quotes by its own filters, takes others.
    """
    return value.isascii() and value.isprintable() and " " not in value and not set(value) & _UNSAFE


def line_end(lines: Sequence[bytes]) -> bytes:
    """Return the line ending that a file uses: that of its first line, a line feed for an empty file."""
    return b"\r\n" if lines and lines[0].endswith(b"\r\n") else b"\n"


def split_end(line: bytes) -> tuple[bytes, bytes]:
    """Return a line without its ending, and that ending."""
    body = line.rstrip(b"\r\n")
    return body, line[len(body) :]


def terminate(lines: list[bytes], end: bytes = b"\n") -> None:
    """Give the last line an ending where it has none, so that another line can follow."""
    if lines and not lines[-1].endswith(b"\n"):
        lines[-1] += end


def split_mark(content: bytes) -> tuple[bytes, bytes]:
    """Return the byte order mark at a file's beginning, where there is one, and the rest."""
    return (BOM, content[len(BOM) :]) if content.startswith(BOM) else (b"", content)


def required_part(sink: FileSink, credential: Credential, name: str) -> str:
    """Return a part that the format needs.

    Raises:
        SinkError: the value has no such part, or it is not plain; names the file and the part.
    """
    value = part(credential, name)
    if value is None:
        raise sink.refuse(
            f"the value is of kind {credential.kind} and has no {name}, which this file needs",
            f"choose a sink type that can hold {credential.kind}, or another provider",
        )
    return _plain(sink, name, value)


def optional_part(sink: FileSink, credential: Credential, name: str) -> str | None:
    """Return a part that a value may lack, None where it does.

    Raises:
        SinkError: it is not plain; names the file and the part.
    """
    value = part(credential, name)
    return None if value is None else _plain(sink, name, value)


def _plain(sink: FileSink, name: str, value: str) -> str:
    if not is_plain(value):
        raise unsafe(sink, name)
    return value


def chosen_part(sink: FileSink, credential: Credential, name: str) -> str | None:
    """Return a part that the config asks for by name; None for one of `OPTIONAL` that the value lacks.

    Raises:
        SinkError: the value has no such part, and it is none that may be missing; or it is not plain.
    """
    return optional_part(sink, credential, name) if name in OPTIONAL else required_part(sink, credential, name)


def value_of(get: Callable[[str], object]) -> Credential | None:
    """Return the value whose parts a file holds; None where its id or its secret is missing, or one is no plain word.

    Args:
        get: returns a part by its name in `PARTS`; None or "" where the file has none.
    """
    found = [get(name) or "" for name in ("access_key_id", "access_key_secret", "security_token")]
    key_id, secret, token = (one if isinstance(one, str) and is_plain(one) else None for one in found)
    if not key_id or not secret or token is None:
        return None
    return Credential(
        access_key_id=key_id, access_key_secret=Secret(secret), security_token=Secret(token) if token else None
    )


def without_token(sink: FileSink, credential: Credential, held: Iterable[str], where: str) -> tuple[str, ...]:
    """Warn of a session that is published without its token, with which every request is refused.

    Args:
        sink: the target.
        credential: the value.
        held: the parts that are written.
        where: the config key that would name the token.
    """
    parts = frozenset(held)
    if credential.kind is not Kind.STS or "security_token" in parts or parts.isdisjoint({"access_key_secret"}):
        return ()
    return (
        f"{sink.target}: a session is refused without its token; "
        f'add a name for "security_token" to `{where}`, or publish a long-term key here',
    )


def unsafe(sink: FileSink, name: str) -> SinkError:
    """Make the error for a value that some reader would not read back: names the part, never the value."""
    return sink.refuse(
        f"the {name} holds a character that readers of files do not read back",
        "have it issued anew, or use a `template` sink, which can quote it",
    )
