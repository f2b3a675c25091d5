"""After a crash: finish a publish whose staged files are whole, undo one whose are not.

Why forward when that is possible: the value was verified, and its source may already have retired the old
one. A journal entry is one of

* done: the target is the staged inode (or, in place, the staged file is gone and the target has its size and time);
* ready: the staged file is whole, and the target is what it was when the publish began;
* begun: the same in place, but the target's size or time moved: it may be half written, so there is no way back;
* lost: the staged file is gone or damaged, as on a tmpfs after a reboot;
* changed: somebody wrote the target after the crash, and their lines must not be undone.

None lost or changed: finish. Some lost or changed, and none done or begun: undo, so that all sinks agree on the
old value. Otherwise there is no way back, because old content is kept nowhere: finish what can be, and name
the rest in `Recovery.left`. The next pass finds it out of sync and writes it.

The device number is not compared: it may change over a reboot (btrfs, device-mapper).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from agent.core.errors import SinkError
from agent.sinks.inplace import overwrite
from agent.sinks.interface import FileSink
from agent.sinks.target import MAX_FILE_BYTES, Attributes, pin, refusal, wanted_attributes
from agent.system import files
from agent.system.safepath import Directory, open_directory


class _Stage(Enum):
    DONE = auto()
    READY = auto()
    BEGUN = auto()
    LOST = auto()
    CHANGED = auto()


@dataclass(frozen=True, slots=True)
class Recovery:
    """What became of an interrupted publish.

    Attributes:
        rolled_forward: True when the new value counts, False when every target is as before.
        touched: paths that recovery itself switched, or whose staged file it removed.
        left: paths that could not be brought to the new value, though others were; the next pass repairs them.
    """

    rolled_forward: bool
    touched: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    """A journal entry, looked at."""

    directory: Directory
    temp: str
    target: str
    in_place: bool
    stage: _Stage
    inode: int
    as_before: bool

    @property
    def path(self) -> str:
        return self.directory.join(self.target)


def recover(journal: Iterable[Mapping[str, Any]]) -> Recovery:
    """Finish or undo an interrupted publish. May itself be interrupted and called again.

    Raises:
        SinkError: a target cannot be switched just now; the journal stays good, call again.
    """
    with ExitStack() as opened:
        entries: list[_Entry] = []
        unreachable: list[str] = []
        for record in journal:
            directory = _reach(record, opened)
            if directory is None:
                unreachable.append(f"{record['directory']}/{record['target']}")
            else:
                entries.append(_look(record, directory))
        return _settle(entries, unreachable)


def withdraw(journal: Iterable[Mapping[str, Any]]) -> bool:
    """Give a publish up, for good, while no target was switched: for the caller whom `recover` failed.

    Returns:
        True when every target holds what it held (one that is written in place may have its new owner and mode
        already); the staged files are gone, but for those that cannot be removed just
        now, which `sweep` takes. False when a target was switched or half written, or cannot be looked at:
        nothing was touched, and the journal stays good.
    """
    with ExitStack() as opened:
        try:
            entries = [_look(record, _open(record, opened)) for record in journal]
        except SinkError:
            return False
        if not all(_is_unswitched(entry) for entry in entries):
            return False
        for entry in entries:
            with suppress(OSError):
                entry.directory.remove(entry.temp)
        return True


def _is_unswitched(entry: _Entry) -> bool:
    """Without its staged file a target counts as before only if it demonstrably is."""
    return entry.stage in (_Stage.READY, _Stage.CHANGED) or (entry.stage is _Stage.LOST and entry.as_before)


def _reach(record: Mapping[str, Any], opened: ExitStack) -> Directory | None:
    """Open the directory of an entry; None where it is gone, as on a tmpfs after a reboot."""
    try:
        return _open(record, opened)
    except SinkError:
        return None


def _open(record: Mapping[str, Any], opened: ExitStack) -> Directory:
    return opened.enter_context(open_directory(record["directory"]))


def _look(record: Mapping[str, Any], directory: Directory) -> _Entry:
    in_place = record["write"] == "in_place"
    try:
        temp, target = directory.stat(record["temp"]), directory.stat(record["target"])
    except OSError as error:
        raise refusal(error, directory, record["target"], "cannot look at") from error
    found = _judge(record, temp, target, in_place)
    inode = target.st_ino if target else 0
    return _Entry(directory, record["temp"], record["target"], in_place, found, inode, _is_as_before(record, target))


def _judge(
    record: Mapping[str, Any], temp: os.stat_result | None, target: os.stat_result | None, in_place: bool
) -> _Stage:
    if temp is not None and _is_whole(record, temp):
        return _judge_target(record["before"], target, in_place)
    if target is None or temp is not None:
        return _Stage.LOST
    done = _was_overwritten(record, target) if in_place else _is_whole(record, target)
    return _Stage.DONE if done else _Stage.LOST


def _is_whole(record: Mapping[str, Any], found: os.stat_result) -> bool:
    whole = found.st_ino == record["inode"] and found.st_size == record["size"]
    return whole and stat.S_ISREG(found.st_mode)


def _was_overwritten(record: Mapping[str, Any], target: os.stat_result) -> bool:
    return [target.st_size, target.st_mtime_ns] == [record["size"], record["mtime_ns"]]


def _judge_target(before: Sequence[int] | None, target: os.stat_result | None, in_place: bool) -> _Stage:
    """Say what the target of a whole staged file is."""
    if target is None or before is None:
        return _Stage.READY if target is None and before is None else _Stage.CHANGED
    if _state_of(target) == list(before):
        return _Stage.READY
    return _Stage.BEGUN if in_place and target.st_ino == before[0] else _Stage.CHANGED


def _is_as_before(record: Mapping[str, Any], target: os.stat_result | None) -> bool:
    before = record["before"]
    return target is None if before is None else target is not None and _state_of(target) == list(before)


def _state_of(found: os.stat_result) -> list[int]:
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def _settle(entries: Sequence[_Entry], unreachable: Sequence[str]) -> Recovery:
    stages = {entry.stage for entry in entries}
    stuck = bool(unreachable) or bool(stages & {_Stage.LOST, _Stage.CHANGED})
    ready = [entry for entry in entries if entry.stage in (_Stage.READY, _Stage.BEGUN)]
    if stuck and not stages & {_Stage.DONE, _Stage.BEGUN}:
        leftover = tuple(entry.path for entry in entries if entry.directory.stat(entry.temp))
        _clean(entries)
        return Recovery(False, leftover)
    for entry in ready:
        _finish(entry)
    _clean(entries)
    left = [entry.path for entry in entries if entry.stage in (_Stage.LOST, _Stage.CHANGED)]
    return Recovery(True, tuple(entry.path for entry in ready), (*left, *unreachable))


def _finish(entry: _Entry) -> None:
    fd = entry.directory.fd
    try:
        if entry.in_place:
            _overwrite_from_temp(entry)
        else:
            os.rename(entry.temp, entry.target, src_dir_fd=fd, dst_dir_fd=fd)
    except OSError as error:
        raise refusal(error, entry.directory, entry.target, "cannot finish") from error


def _overwrite_from_temp(entry: _Entry) -> None:
    fd = files.open_regular(entry.temp, entry.directory.fd)
    try:
        staged = os.fstat(fd)
        content = files.read_fd(fd, MAX_FILE_BYTES, entry.temp)
    finally:
        os.close(fd)
    overwrite(entry.directory, entry.target, entry.inode, content, Attributes.of(staged), staged.st_mtime_ns)


def _clean(entries: Sequence[_Entry]) -> None:
    """Remove staged files that are no longer needed, and make renames and removals durable.

    The renames come first: until they are durable, a staged file that went in place may be needed again.
    """
    for directory, group in _by_directory(entries):
        try:
            directory.sync()
            for entry in group:
                directory.remove(entry.temp)
        except OSError as error:
            raise refusal(error, directory, group[0].target, "cannot finish") from error


def _by_directory(entries: Sequence[_Entry]) -> list[tuple[Directory, list[_Entry]]]:
    groups: dict[str, tuple[Directory, list[_Entry]]] = {}
    for entry in entries:
        groups.setdefault(entry.directory.path, (entry.directory, []))[1].append(entry)
    return list(groups.values())


def sweep(sinks: Iterable[FileSink], journal: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """Remove staged files of crashed runs from the directories of sinks, and return their paths.

    For the start of the agent, after `recover`. Files that `journal` still names stay, and so do those that
    another living keyturn holds. A directory that cannot be entered is left to the next publish's error.
    """
    keep = {str(record["temp"]) for record in journal}
    removed: list[str] = []
    for sink in sinks:
        try:
            owner = wanted_attributes(sink.settings).uid
            with pin(sink.settings) as directory:
                swept = files.sweep(directory, (owner, directory.uid), keep)
                removed.extend(directory.join(name) for name in swept)
        except (SinkError, OSError):
            continue
    return removed
