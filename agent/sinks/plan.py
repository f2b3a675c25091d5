"""What is, and what shall be: each file of a credential's sinks read once, each sink rendered once.

Several sinks may share one file (two profiles, two sets of variables). Their renders are chained, so that
the file is staged and switched once, and a sink is in sync when its own link of the chain changed nothing.
A plan holds nothing open: what it saw is identified by inode, and looked at again before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.settings import FileSinkSettings
from agent.sinks.interface import FileSink
from agent.sinks.target import Attributes, Present, pin, read_present, wanted_attributes
from agent.system.safepath import Directory, reopen_directory, split

Difference = Literal["", "missing", "content", "attributes"]


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


@dataclass(frozen=True, slots=True)
class FilePlan:
    """One file: what stands there, and what shall."""

    settings: FileSinkSettings
    parent: tuple[int, int]  # device and inode of the directory
    present: Present
    content: bytes = field(repr=False)
    wanted: Attributes

    @property
    def name(self) -> str:
        """The file's name in its directory."""
        return split(self.settings.path)[1]

    @property
    def path(self) -> str:
        """For messages."""
        return str(self.settings.path)

    @property
    def in_sync(self) -> bool:
        """True when nothing is to be done."""
        return self.content == self.present.content and self.wanted == self.present.attributes

    @property
    def in_place(self) -> bool:
        """True when the target keeps its inode; a missing target has none to keep."""
        return self.settings.write == "in_place" and self.present.identity is not None


class Directories:
    """The directories of a set of sinks, each walked to and opened once."""

    def __init__(self) -> None:
        self._opened = ExitStack()
        self._known: dict[str, Directory] = {}

    def of(self, settings: FileSinkSettings, seen: tuple[int, int] | None = None) -> Directory:
        """Return the directory of a sink's file.

        Args:
            settings: of the sink.
            seen: the directory's identity when it was walked to a moment ago.

        Raises:
            SinkError: it is missing or cannot be trusted.
        """
        parent = split(settings.path)[0]
        if parent not in self._known:
            again = reopen_directory(parent, seen) if seen is not None else None
            self._known[parent] = self._opened.enter_context(again or pin(settings))
        return self._known[parent]

    def __iter__(self) -> Iterator[Directory]:
        return iter(self._known.values())

    def __enter__(self) -> Directories:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all of them."""
        self._opened.close()


def plan(
    sinks: Sequence[FileSink], credential: Credential, generation: int
) -> tuple[tuple[SinkReport, ...], tuple[FilePlan, ...]]:
    """Compare sinks with a value: a report per sink, in their order, and a plan per file.

    Raises:
        SinkError: a file cannot be read, may not be written, or does not fit its format.
    """
    reports: dict[int, SinkReport] = {}
    plans: list[FilePlan] = []
    with Directories() as directories:
        for group in _by_file(sinks):
            one, found = _plan_file(group, directories.of(group[0].settings), credential, generation)
            plans.append(one)
            reports.update(zip(map(id, group), found, strict=True))
    return tuple(reports[id(sink)] for sink in sinks), tuple(plans)


def stand(sinks: Sequence[FileSink], access_key_id: str) -> bool:
    """Whether every file is there as it was left, as far as that can be said without the secrets of its value.

    For a start: the files have their owner and mode, and name this AccessKey ("" for a bearer token, which has none).
    """
    try:
        with Directories() as directories:
            return all(_stands(group[0].settings, directories, access_key_id) for group in _by_file(sinks))
    except SinkError:
        return False


def _stands(settings: FileSinkSettings, directories: Directories, access_key_id: str) -> bool:
    name, in_place = split(settings.path)[1], settings.write == "in_place"
    present = read_present(directories.of(settings), name, in_place=in_place)
    content = present.content or b""
    return bool(content) and access_key_id.encode() in content and present.attributes == wanted_attributes(settings)


def _by_file(sinks: Iterable[FileSink]) -> Iterable[list[FileSink]]:
    groups: dict[tuple[str, str], list[FileSink]] = {}
    for sink in sinks:
        groups.setdefault(split(sink.path), []).append(sink)
    return groups.values()


def _plan_file(
    group: Sequence[FileSink], directory: Directory, credential: Credential, generation: int
) -> tuple[FilePlan, list[SinkReport]]:
    """Chain the renders of all sinks that share one file."""
    settings = group[0].settings
    wanted = wanted_attributes(settings)
    _refuse_disagreement(group, wanted)
    present = read_present(directory, split(settings.path)[1], in_place=settings.write == "in_place")
    reports, content = [], present.content
    for sink in group:
        rendered = sink.render(content, credential, generation)
        reports.append(SinkReport(sink.type_name, sink.target, _difference(present, wanted, content, rendered)))
        content = rendered
    return FilePlan(settings, directory.identity, present, content or b"", wanted), reports


def _difference(present: Present, wanted: Attributes, before: bytes | None, after: bytes) -> Difference:
    if present.content is None:
        return "missing"
    if before != after:
        return "content"
    return "" if present.attributes == wanted else "attributes"


def _refuse_disagreement(group: Sequence[FileSink], wanted: Attributes) -> None:
    """Two sinks of one file must want the same owner, mode and way of writing."""
    for sink in group[1:]:
        if wanted_attributes(sink.settings) != wanted or sink.settings.write != group[0].settings.write:
            raise SinkError(
                f"{sink.path}: two sinks share this file and differ in owner, group, mode or write",
                "give both the same values",
            )
