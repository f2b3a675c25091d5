"""A target on its way to the new generation: the one interface that the transaction switches and recovery finishes.

There are three ways, each told in a module of its own, both halves together because they must agree:

* a staged file takes the target's name (replacing.py);
* a staged file is copied into the target's inode (inplace.py);
* a staged link, to a directory that was written whole, takes the target's name (directory_link.py).

`Target` is one path and the sinks that write it, `Plan` what was found there and what shall be, `Change` a plan that is
staged, `Remains` what a crash left of a change: another process made it, and all that is known of it is its entry in
the journal.
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

Difference = Literal["", "missing", "content", "attributes"]


class TargetChangedError(SinkError):
    """Somebody wrote a target between survey and commit. Nothing was switched: begin anew."""

    retryable = True


def changed(path: str, what: str) -> TargetChangedError:
    """Make the error for something that is not as it was a moment ago."""
    return TargetChangedError(f"{path}: somebody {what}", "it is tried again")


@dataclass(frozen=True, slots=True)
class SinkReport:
    """How one sink compares with the value.

    Attributes:
        differs: "" when it is in sync, else what is wrong first.
    """

    type_name: str
    target: str
    differs: Difference

    @property
    def in_sync(self) -> bool:
        """True when a publish would leave this sink alone."""
        return not self.differs


class Target(ABC):
    """One path and the sinks that write it. `directory` is everywhere the path's parent, pinned."""

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
        """Whether it is as it was left, as far as that can be said without the secrets.

        Raises:
            SinkError: as `plan`.
        """

    @abstractmethod
    def examine(self, directory: Directory) -> None:
        """Look whether it may be written at all.

        Raises:
            SinkError: it may not.
        """

    @abstractmethod
    def sweep(self, directory: Directory, needed: Collection[str]) -> list[str]:
        """Remove what crashed runs left beside it, but for the names in `needed`; return the paths."""


class Plan(ABC):
    """One target: what stands there, and what shall. Holds nothing open.

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
        """For messages."""
        return str(self.settings.path)

    @property
    @abstractmethod
    def in_sync(self) -> bool:
        """True when nothing is to be done."""

    def stage(self, directory: Directory) -> Change:
        """Write what shall be beside the target, which stays as it is; not flushed yet.

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
    """How the journal calls this way of switching."""
    plan: Plan
    directory: Directory

    @abstractmethod
    def entry(self) -> dict[str, Any]:
        """What recovery needs to know: names and inode numbers, JSON-able, never content.

        `way` stands in it as "write", `directory`, `target` and `temp` (the staged name beside the target) too.
        """

    def begin_flush(self) -> None:
        """Ask the kernel to begin; the flush comes when every target is staged."""

    @abstractmethod
    def flush(self) -> None:
        """Make what was staged durable.

        Raises:
            OSError: it is not.
        """

    @abstractmethod
    def refuse_changed(self) -> None:
        """Look once more at the target and at what was staged.

        Raises:
            TargetChangedError: somebody touched one of them.
            OSError: they cannot be looked at.
        """

    @abstractmethod
    def switch(self) -> None:
        """Let the target be the new one; the flush of its directory is the caller's.

        Raises:
            OSError: it is not, or only in part.
        """

    def tidy(self) -> None:
        """What is left to do when all targets are switched and durable. Never fails."""

    @abstractmethod
    def discard(self) -> None:
        """Remove what was staged, as far as that is possible; never fails, the next start sweeps."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is held open."""

    def failed(self, error: OSError, doing: str) -> SinkError:
        """Turn a failed operation into a sentence about the target."""
        return refusal(error, self.directory, self.plan.name, doing)


class Stage(Enum):
    """How far a change got before the crash; recovery.py says what follows from it."""

    DONE = auto()
    READY = auto()
    BEGUN = auto()
    LOST = auto()
    CHANGED = auto()


class Remains(ABC):
    """What a crash left of one change, looked at now.

    Attributes:
        directory: that of the target, held open by the caller.
        temp: the staged name beside the target.
        target: the target's name.
        stage: how far it got.
        as_before: whether the target demonstrably is what it was before the publish.
    """

    __slots__ = ("as_before", "directory", "record", "stage", "target", "temp")

    def __init__(self, record: Mapping[str, Any], directory: Directory) -> None:
        """Look.

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
        """Whether it was switched, or a power cut may hide that it was begun: then there is no way back."""
        return self.stage in (Stage.DONE, Stage.BEGUN)

    @abstractmethod
    def _look(self) -> tuple[Stage, bool]:
        """Return `stage` and `as_before`."""

    def is_left(self) -> bool:
        """Whether anything staged is still there."""
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
