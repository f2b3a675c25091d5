"""A look at the sinks of a credential from another thread than the loop's, which publishes meanwhile."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.core.credential import Credential
from agent.core.errors import KeyturnError
from agent.sinks.interface import Sink
from agent.sinks.transaction import transaction
from agent.system.file_identity import FileIdentity

Identities = Mapping[str, FileIdentity | None]
Writers = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class SinkLook:
    """What the sinks of a credential shall hold; ten thousand of them are looked at within a second.

    Attributes:
        sinks: all of them.
        value: what they hold.
        generation: its number.
        left: the identities of their files as the newest publish or refresh left them: one that has it still, holds what it
            held, and is not read again.
    """

    sinks: Sequence[Sink]
    value: Credential
    generation: int
    left: Identities

    def compare(self) -> dict[str, bool]:
        """Return for each target whether it holds the value.

        A sink that cannot be read (somebody put a symlink there) hides no other credential: nothing is known then, and the
        next refresh says what is wrong.
        """
        if self.left and identities(self.sinks) == self.left:
            return {sink.target: True for sink in self.sinks}
        try:
            out = set(transaction.survey(self.sinks, self.value, self.generation).out_of_sync)
        except (KeyturnError, OSError):
            return {}
        return {sink.target: sink.target not in out for sink in self.sinks}


def identities(sinks: Sequence[Sink]) -> Identities:
    """Return the identity of each file that tells whether these sinks hold what they did; none where it cannot be told so."""
    if not all(sink.watched for sink in sinks):
        return {}
    return {path: FileIdentity.of_link(path) for sink in sinks for path in sink.watched}


def writers(sinks: Sequence[Sink]) -> Writers:
    """Return owner, group and mode of the directory of each sink: who may write there."""
    return tuple(_writers(os.path.dirname(sink.path)) for sink in sinks)


def _writers(directory: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return found.st_uid, found.st_gid, found.st_mode
