"""The interface of a target on its way to the new generation, which the transaction switches and recovery finishes.

There are three ways, each in a module of its own with its recovery, because both must agree:

* a staged file takes the target's name (replace.py);
* a staged file is copied into the target's inode (in_place.py);
* a staged link, to a directory that was written whole, takes the target's name (directory_link.py).

`Target` is one path and the sinks that write it. `Plan` is what was found there and what is to be there. `Change` is a
plan that is staged. `Remains` is what a crash left of a change: another process made it, and nothing is known of it but
its entry in the journal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, ClassVar, Literal

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.settings import FileSinkSettings
from agent.sinks.transaction.target import refusal
from agent.system.trusted_directory import Directory, split

Difference = Literal["", "missing", "content", "written back", "attributes"]


class TargetChangedError(SinkError):
    """Somebody wrote a target between survey and commit. Nothing was switched, so begin again."""

    retryable = True


def changed(path: str, what: str) -> TargetChangedError:
    """Return the error for something that is not as it was a moment ago."""
    return TargetChangedError(f"{path}: somebody {what}", "it is tried again")


@dataclass(frozen=True, slots=True)
class SinkReport:
    """The comparison of one sink with the value.

    Attributes:
        differs: "" when it is in sync, else the first difference.
    """

    type_name: str
    target: str
    differs: Difference

    @property
    def in_sync(self) -> bool:
        """True when a publish would leave this sink alone."""
        return not self.differs


class Target(ABC):
    """One path and the sinks that write it. Every `directory` is the path's parent, held open."""

    __slots__ = ()
    settings: FileSinkSettings

    @property
    def name(self) -> str:
        """The target's name in its directory."""
        return split(self.settings.path)[1]

    @abstractmethod
    def plan(self, directory: Directory, credential: Credential, generation: int) -> tuple[Plan, list[SinkReport]]:
        """Compare with a value; a report per sink, in their order.

        Raises:
            SinkError: the target cannot be read, may not be written, or does not fit its format.
        """

    @abstractmethod
    def stands(self, directory: Directory, access_key_id: str) -> bool:
        """Return whether the target is as it was left, as far as that can be told without the secrets.

        Raises:
            SinkError: as `plan`.
        """

    @abstractmethod
    def examine(self, directory: Directory) -> None:
        """Check that the target may be written at all.

        Raises:
            SinkError: it may not.
        """

    @abstractmethod
    def sweep(self, directory: Directory, needed: Collection[str]) -> list[str]:
        """Remove what crashed runs left beside it, but for the names in `needed`; return the paths."""


class Plan(ABC):
    """The present and the new content of one target. Holds nothing open.

    Attributes:
        settings: of the sink, or of the first of those that share the target.
        parent: device and inode of the directory that the target was seen in.
    """

    __slots__ = ()
    settings: FileSinkSettings
    parent: tuple[int, int]

    @property
    def name(self) -> str:
        """The target's name in its directory."""
        return split(self.settings.path)[1]

    @property
    def path(self) -> str:
        """The target's path, for messages."""
        return str(self.settings.path)

    @property
    @abstractmethod
    def in_sync(self) -> bool:
        """True when nothing is to be done."""

    def stage(self, directory: Directory) -> Change:
        """Write the new content beside the target, which stays as it is. Nothing is flushed yet.

        Raises:
            TargetChangedError: it is another directory than the one that was surveyed.
            SinkError: it cannot be written; nothing is left behind.
        """
        if directory.identity != self.parent:
            raise changed(self.path, "replaced its directory during the publish")
        return self._stage(directory)

    @abstractmethod
    def _stage(self, directory: Directory) -> Change: ...


class Change(ABC):
    """One target, staged. Its maker ends it with `discard` unless it was switched, and always with `close`."""

    __slots__ = ()
    way: ClassVar[str]
    """The journal's word for this way of switching."""
    plan: Plan
    directory: Directory

    @abstractmethod
    def entry(self) -> dict[str, Any]:
        """Return the journal's entry for recovery: names and inode numbers, fit for JSON, never content.

        It always has "write" (the way), "directory", "target" and "temp" (the staged name beside the target).
        """

    def begin_flush(self) -> None:
        """Ask the kernel to start writing; `flush` follows when every target is staged."""

    @abstractmethod
    def flush(self) -> None:
        """Make what was staged durable.

        Raises:
            OSError: it is not.
        """

    @abstractmethod
    def refuse_changed(self) -> None:
        """Check once more that the target and what was staged are unchanged.

        Raises:
            TargetChangedError: somebody touched one of them.
            OSError: they cannot be looked at.
        """

    @abstractmethod
    def switch(self) -> None:
        """Switch the target to the new content; the caller flushes its directory.

        Raises:
            OSError: it is not, or only in part.
        """

    def tidy(self) -> None:
        """Clean up when all targets are switched and durable. Never fails."""

    @abstractmethod
    def discard(self) -> None:
        """Remove what was staged, as far as possible. Never fails, since the next start sweeps."""

    @abstractmethod
    def close(self) -> None:
        """Close what is held open."""

    def failed(self, error: OSError, doing: str) -> SinkError:
        """Return the error about the target for a failed operation."""
        return refusal(error, self.directory, self.plan.name, doing)


class Stage(Enum):
    """The progress of a change before the crash; recovery.py says what follows from it."""

    DONE = auto()
    READY = auto()
    BEGUN = auto()
    LOST = auto()
    CHANGED = auto()


class Remains(ABC):
    """The remains of one change after a crash, as they are now.

    Attributes:
        directory: that of the target, held open by the caller.
        temp: the staged name beside the target.
        target: the target's name.
        stage: how far it got.
        as_before: whether the target demonstrably is what it was before the publish.
    """

    __slots__ = ("as_before", "directory", "record", "stage", "target", "temp")

    def __init__(self, record: Mapping[str, Any], directory: Directory) -> None:
        """Look at what is there.

        Raises:
            OSError: it cannot be looked at.
        """
        self.record, self.directory = record, directory
        self.temp, self.target = str(record["temp"]), str(record["target"])
        self.stage, self.as_before = self._look()

    @property
    def path(self) -> str:
        """The target, for messages."""
        return self.directory.join(self.target)

    @property
    def unswitched(self) -> bool:
        """Whether the target can still be given up: without what was staged, only if it is as before."""
        return self.stage in (Stage.READY, Stage.CHANGED) or (self.stage is Stage.LOST and self.as_before)

    @property
    def may_be_begun(self) -> bool:
        """Whether the switch was begun, or a power cut may hide that it was: then there is no way back."""
        return self.stage in (Stage.DONE, Stage.BEGUN)

    @abstractmethod
    def _look(self) -> tuple[Stage, bool]:
        """Return `stage` and `as_before`."""

    def is_left(self) -> bool:
        """Return whether anything staged is still there."""
        return self.directory.stat(self.temp) is not None

    @abstractmethod
    def finish(self) -> None:
        """Switch a target that is ready or begun. May be interrupted and done again.

        Raises:
            OSError: it cannot be switched just now.
        """

    def clean(self) -> None:
        """Remove what was staged and not switched.

        Raises:
            OSError: it cannot be removed just now.
        """
        self.directory.remove(self.temp)
