"""Editing a few lines of a file whose other lines are somebody else's, byte for byte, in whatever encoding."""

from __future__ import annotations

from collections.abc import Sequence

from agent.core.credential import Credential, part
from agent.core.errors import SinkError
from agent.sinks.interface import FileSink

BOM = b"\xef\xbb\xbf"


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


def required_part(sink: FileSink, credential: Credential, name: str) -> str:
    """Return a part that the format cannot do without.

    Raises:
        SinkError: the value has no such part; names the file and the part.
    """
    value = part(credential, name)
    if value is None:
        raise sink.refuse(
            f"the value is of kind {credential.kind} and has no {name}, which this file needs",
            f"choose a sink type that can hold {credential.kind}, or another provider",
        )
    return value


def unsafe(sink: FileSink, name: str) -> SinkError:
    """Make the error for a value that the format's readers would not read back: names the part, never the value."""
    return sink.refuse(
        f"the {name} holds a character that the readers of this format do not read back",
        "use a `json` sink for this value, or have it issued anew",
    )
