"""The recovery after a crash: finish a publish whose staged files are whole, undo one whose are not.

Forward is preferred because the value was verified, and its source may already have retired the old one. A journal
entry is one of

* done: the target is the staged inode (in place: the staged file is gone and the target has its size and time; a link:
  it leads to the staged directory);
* ready: the staged file is whole, and the target is what it was when the publish began;
* begun: in place, the same, but the target's size or time moved: it may be half written, so there is no way back; nor is
  there where such a target is ready, for a power cut can leave some of the new pages under the old size and time;
* lost: the staged file or directory is gone or damaged, as on a tmpfs after a reboot;
* changed: somebody wrote the target after the crash, and their lines must not be undone.

None lost or changed: finish. Some lost or changed, and none done or begun: undo, so that all sinks agree on the
old value. Otherwise there is no way back, because old content is kept nowhere: finish what can be, and name
the rest in `Recovery.left`. The next pass finds it out of sync and writes it.

Each way of switching knows how to see that, and how to finish it (change.py, `Remains`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from agent.core.errors import SinkError
from agent.sinks.interface import Sink
from agent.sinks.transaction.change import Remains, Stage
from agent.sinks.transaction.directory_link import LinkRemains
from agent.sinks.transaction.in_place import InPlaceRemains
from agent.sinks.transaction.plan import target_of
from agent.sinks.transaction.replace import FileRemains
from agent.sinks.transaction.target import pin, refusal
from agent.system.trusted_directory import Directory, PathMissingError, open_directory

WAYS: Mapping[str, type[Remains]] = {"replace": FileRemains, "in_place": InPlaceRemains, "link": LinkRemains}
"""The journal's words for the ways of switching."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """The result for an interrupted publish.

    Attributes:
        rolled_forward: True when the new value counts, False when every target is as before.
        touched: paths that recovery itself switched, or whose staged file it removed.
        left: paths that could not be brought to the new value, though others were; the next pass repairs them.
    """

    rolled_forward: bool
    touched: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def recover(journal: Iterable[Mapping[str, Any]]) -> Recovery:
    """Finish or undo an interrupted publish. May itself be interrupted and called again.

    Raises:
        SinkError: a target cannot be reached or switched just now; the journal stays good, call again.
    """
    with ExitStack() as opened:
        entries: list[Remains] = []
        unreachable: list[str] = []
        for record in journal:
            directory = _reach(record, opened)
            if directory is None:
                unreachable.append(f"{record['directory']}/{record['target']}")
            else:
                entries.append(_look(record, directory))
        return _settle(entries, unreachable)


def withdraw(journal: Iterable[Mapping[str, Any]]) -> bool:
    """Give a publish up for good, provided that no target was switched; for a caller for whom `recover` failed.

    Returns:
        True when every target holds what it held (one that is written in place may have its new owner and mode
        already); what was staged is gone, but for what cannot be removed just now, which `sweep` takes.
        False when a target was switched or half written, or cannot be looked at: nothing was touched, and the
        journal stays good.
    """
    with ExitStack() as opened:
        try:
            entries = [_look(record, _open(record, opened)) for record in journal]
        except SinkError:
            return False
        if not all(entry.unswitched for entry in entries):
            return False
        for entry in entries:
            with suppress(OSError):
                entry.clean()
        return True


def _reach(record: Mapping[str, Any], opened: ExitStack) -> Directory | None:
    """Open the directory of an entry; None where it is gone, as on a tmpfs after a reboot.

    Raises:
        SinkError: it may be there and cannot be reached just now (too many open files, no right, a failing disk): no
            reason to give up what is staged in it.
    """
    try:
        return _open(record, opened)
    except PathMissingError:
        return None


def _open(record: Mapping[str, Any], opened: ExitStack) -> Directory:
    return opened.enter_context(open_directory(record["directory"]))


def _look(record: Mapping[str, Any], directory: Directory) -> Remains:
    try:
        return WAYS[record["write"]](record, directory)
    except OSError as error:
        raise refusal(error, directory, record["target"], "cannot look at") from error


def _settle(entries: Sequence[Remains], unreachable: Sequence[str]) -> Recovery:
    stages = {entry.stage for entry in entries}
    stuck = bool(unreachable) or bool(stages & {Stage.LOST, Stage.CHANGED})
    ready = [entry for entry in entries if entry.stage in (Stage.READY, Stage.BEGUN)]
    # No target has the new value yet, and one cannot get it: all of them keep the old one.
    if stuck and not any(entry.may_be_begun for entry in entries):
        leftover = tuple(entry.path for entry in entries if entry.is_left())
        _clean(entries)
        return Recovery(False, leftover)
    # All can get it, or one has it already and there is no way back: finish those that can be finished.
    for entry in ready:
        try:
            entry.finish()
        except OSError as error:
            raise refusal(error, entry.directory, entry.target, "cannot finish") from error
    _clean(entries)
    left = [entry.path for entry in entries if entry.stage in (Stage.LOST, Stage.CHANGED)]
    return Recovery(True, tuple(entry.path for entry in ready), (*left, *unreachable))


def _clean(entries: Sequence[Remains]) -> None:
    """Remove what was staged and is no longer needed, and make renames and removals durable.

    The renames come first: until they are durable, a staged file that went in place may be needed again.
    """
    for directory, group in _by_directory(entries):
        try:
            directory.sync()
            for entry in group:
                entry.clean()
        except OSError as error:
            raise refusal(error, directory, group[0].target, "cannot finish") from error


def _by_directory(entries: Sequence[Remains]) -> list[tuple[Directory, list[Remains]]]:
    groups: dict[str, tuple[Directory, list[Remains]]] = {}
    for entry in entries:
        groups.setdefault(entry.directory.path, (entry.directory, []))[1].append(entry)
    return list(groups.values())


def sweep(sinks: Iterable[Sink], journal: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """Remove what crashed runs staged from the directories of sinks, and return the paths.

    For the start of the agent, after `recover`. What `journal` still names stays, and so does what another
    living keyturn holds. A directory that cannot be entered is left to the next publish's error.
    """
    needed = {str(record[key]) for record in journal for key in ("temp", "generation") if key in record}
    removed: list[str] = []
    for sink in sinks:
        try:
            with pin(sink.settings) as directory:
                removed.extend(target_of([sink]).sweep(directory, needed))
        except (SinkError, OSError):
            continue
    return removed
