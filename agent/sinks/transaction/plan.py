"""The survey of a credential's sinks: each target is read once, each sink is rendered once.

A plan holds nothing open: it identifies what it saw by inode, and that is compared again before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import cast

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.settings import FileSinkSettings
from agent.sinks.formats.directory import DirectorySink
from agent.sinks.interface import FileSink, Sink
from agent.sinks.transaction.change import Plan, SinkReport, Target
from agent.sinks.transaction.directory_plan import DirectoryTarget
from agent.sinks.transaction.file_plan import FileTarget
from agent.sinks.transaction.target import pin, read_present
from agent.system.trusted_directory import Directory, reopen_directory, split


class Directories:
    """The directories of a set of sinks, each checked and opened once."""

    def __init__(self) -> None:
        self._opened = ExitStack()
        self._known: dict[str, Directory] = {}

    def of(self, settings: FileSinkSettings, seen: tuple[int, int] | None = None) -> Directory:
        """Return the directory of a sink's file.

        Args:
            settings: the sink's.
            seen: the directory's identity, if it was checked a moment ago.

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
        """Close all of them."""
        self._opened.close()


def target_of(group: Sequence[Sink]) -> Target:
    """Return the target that these sinks share.

    Raises:
        SinkError: they cannot share it.
    """
    first = group[0]
    if not any(isinstance(sink, DirectorySink) for sink in group):
        return FileTarget(cast(Sequence[FileSink], group))
    if len(group) > 1 or not isinstance(first, DirectorySink):
        raise SinkError(f"{first.path}: a directory and another sink share this path", "give each a path of its own")
    return DirectoryTarget(first)


def plan(
    sinks: Sequence[Sink], credential: Credential, generation: int
) -> tuple[tuple[SinkReport, ...], tuple[Plan, ...]]:
    """Compare sinks with a value: a report per sink, in their order, and a plan per target.

    Raises:
        SinkError: a target cannot be read, may not be written, or does not fit its format.
    """
    reports: dict[int, SinkReport] = {}
    plans: list[Plan] = []
    with Directories() as directories:
        for group in _by_path(sinks):
            target = target_of(group)
            one, found = target.plan(directories.of(target.settings), credential, generation)
            plans.append(one)
            reports.update(zip(map(id, group), found, strict=True))
    return tuple(reports[id(sink)] for sink in sinks), tuple(plans)


def stand(sinks: Sequence[Sink], access_key_id: str) -> bool:
    """Return whether every target is as it was left, as far as that can be told without the secrets of its value.

    At a start this means: the files have their owner and mode, and hold this AccessKey's id ("" for a bearer token).
    """
    try:
        with Directories() as directories:
            targets = map(target_of, _by_path(sinks))
            return all(target.stands(directories.of(target.settings), access_key_id) for target in targets)
    except SinkError:
        return False


def examine(sink: Sink, directory: Directory) -> None:
    """Check that a sink's target may be written at all. Reads only.

    Args:
        sink: alone, without those that share its target.
        directory: that of the target, pinned.

    Raises:
        SinkError: it may not.
    """
    target_of([sink]).examine(directory)


def content_of(sink: FileSink) -> bytes | None:
    """Return what a sink's file holds now, if it may be trusted; None where there is none.

    Raises:
        SinkError: it, or its directory, cannot be trusted or read.
    """
    with pin(sink.settings) as directory:
        return read_present(directory, split(sink.path)[1], in_place=sink.settings.write == "in_place").content


def _by_path(sinks: Sequence[Sink]) -> list[list[Sink]]:
    groups: dict[tuple[str, str], list[Sink]] = {}
    for sink in sinks:
        groups.setdefault(split(sink.path), []).append(sink)
    return list(groups.values())
