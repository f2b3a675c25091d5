"""What the sinks of a credential offer their readers at this moment: the value, read back from the published files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.sinks.interface import Sink
from agent.sinks.transaction.target import MAX_FILE_BYTES
from agent.system import files

Read = Callable[[str], bytes | None]
"""Returns the content of a file by its path; None where there is none."""


def read_as_reader(path: str) -> bytes | None:
    """Return the content of a regular file as a reader gets it; the link of a `directory` sink on the way is followed.

    Raises:
        OSError: it cannot be read by this user, or is something else than a file of a bounded size.
    """
    place = Path(path)
    return files.read_regular(place.parent.resolve() / place.name, MAX_FILE_BYTES)


def offered(sink: Sink, read: Read = read_as_reader) -> Credential | None:
    """Return the value that one sink offers; None where it holds none, or cannot be read back (`template`).

    A session's expiry is known from a few formats only.

    Args:
        sink: the target; of a directory, the first of its files that can be read back.
        read: reads a file.

    Raises:
        OSError: the file cannot be read.
    """
    for one in sink.files_read:
        content = read(one.path)
        value = one.read_back(content) if content is not None else None
        if value is not None:
            return value
    return None


def can_be_read_back(sink: Sink) -> bool:
    """Return whether a sink has a file that holds a value, of a format that can be read back (`template` is none)."""
    return any(
        type(one).read_back is not Sink.read_back and not one.process_command and not one.settings.needs_endpoint
        for one in sink.files_read
    )


def first_offered(
    sinks: Iterable[Sink], fits: Callable[[Credential], bool] = lambda _value: True, read: Read = read_as_reader
) -> Credential | None:
    """Return the value of the first sink that can be read and whose value `fits`; None where none does."""
    for sink in sinks:
        try:
            value = offered(sink, read)
        except (OSError, SinkError):
            continue
        if value is not None and fits(value):
            return value
    return None
