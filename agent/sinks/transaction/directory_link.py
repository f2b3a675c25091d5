"""The switch of a `directory` sink: a directory written whole, and a link to it that is renamed over the old link.

Before the journal everything is durable: the files, their names, the directory's own name, and the store's. The staged
link need not be: recovery makes it again, for the journal knows the directory by its inode number and each file by its
inode number and size.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import stat
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Self

from agent.core.errors import SinkError
from agent.sinks.formats.directory import DirectorySettings
from agent.sinks.transaction.change import Change, Plan, Remains, Stage, changed
from agent.sinks.transaction.directory_store import Store, new_name
from agent.sinks.transaction.target import Attributes, kind_of
from agent.system import files
from agent.system.file_identity import FileIdentity
from agent.system.mounts import disordered
from agent.system.trusted_directory import Directory, names


@dataclass(frozen=True, slots=True)
class Link:
    """The link at the path of a directory sink; both fields are None where there is nothing."""

    generation: str | None = None
    identity: FileIdentity | None = None

    @classmethod
    def look(cls, store: Store) -> Self:
        """Read the link.

        Raises:
            SinkError: it is no link, or leads elsewhere than into the store.
            OSError: it cannot be looked at.
        """
        directory, name = store.parent, store.link
        found = directory.stat(name)
        if found is None:
            return cls()
        generation, path = store.leads_to(name), directory.join(name)
        if generation is None:
            elsewhere = " that leads elsewhere" if stat.S_ISLNK(found.st_mode) else ""
            raise SinkError(
                f"{path}: {kind_of(directory, name)}{elsewhere}, and keyturn's own link, into {store.name}, goes there",
                f"move it away (`mv {shlex.quote(path)} {shlex.quote(path)}.old`), or correct `path`",
            )
        return cls(generation, FileIdentity.of(found))


def directory_attributes(wanted: Attributes) -> Attributes:
    """Return the owner and mode of a generation: whoever may read its files may enter and list it."""
    may_read = wanted.mode & 0o444
    return Attributes(wanted.uid, wanted.gid, 0o200 | may_read | may_read >> 2)


def owners(wanted: Attributes) -> frozenset[int]:
    """Return the users to whom links and directories of ours may belong."""
    return frozenset({0, os.geteuid(), wanted.uid})


@dataclass(frozen=True, slots=True)
class LinkPlan(Plan):
    """The plan of one directory: where its link leads, and what the next generation holds.

    Attributes:
        generation: the number that its name begins with.
        wanted: owner and mode of the files.
        differs: "" when the generation that the link leads to is up to date.
    """

    settings: DirectorySettings
    parent: tuple[int, int]
    link: Link
    generation: int
    contents: Mapping[str, bytes] = field(repr=False)
    wanted: Attributes
    differs: str

    @property
    def in_sync(self) -> bool:
        """True when nothing is to be done."""
        return not self.differs

    def _stage(self, directory: Directory) -> Change:
        return StagedLink(self, directory)


class StagedLink(Change):
    """A generation on the disk, locked, and a link to it that is to take the target's name."""

    way = "link"
    plan: LinkPlan
    _held: Directory  # the store, opened
    _whole: Directory  # the generation
    _identity: FileIdentity  # of the generation

    def __init__(self, plan: LinkPlan, directory: Directory) -> None:
        """Write the generation.

        Raises:
            SinkError: it cannot be written; nothing is left behind.
        """
        self.plan, self.directory = plan, directory
        self.temp, self._name = files.temp_name(plan.name), new_name(plan.generation)
        self._store, self._opened = Store(directory, plan.name), ExitStack()
        self._files: dict[str, tuple[int, FileIdentity]] = {}  # name -> descriptor, and what was written
        try:
            self._write()
        except BaseException as error:
            self.discard()
            self.close()
            if isinstance(error, OSError):
                raise self.failed(error, "cannot write") from error
            raise

    def _write(self) -> None:
        """Write first the link, as a mark (directory_store.py), then a directory that only we can enter, then its files.

        Every file has its owner and mode before any content. The directory gets its own last, when nothing in it will
        change any more.
        """
        self._store.point(self.temp, self._name)
        for directory in disordered([self.directory]):  # or a power cut could take the mark and leave what it marks
            directory.sync()
        self._held, self._made = self._store.make()
        self._opened.callback(self._held.close)
        os.mkdir(self._name, 0o700, dir_fd=self._held.fd)
        self._whole = self._opened.enter_context(self._held.open_below(self._name))
        fcntl.flock(self._whole.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name, content in self.plan.contents.items():
            self._write_file(name, content)
        wanted = directory_attributes(self.plan.wanted)
        files.give(self._whole.fd, wanted.mode, (wanted.uid, wanted.gid))
        self._identity = FileIdentity.of(os.fstat(self._whole.fd))

    def _write_file(self, name: str, content: bytes) -> None:
        wanted = self.plan.wanted
        fd = files.create(name, wanted.mode, self._whole.fd, (wanted.uid, wanted.gid))
        self._opened.callback(os.close, fd)
        files.write_all(fd, content)
        self._files[name] = fd, FileIdentity.of(os.fstat(fd))

    def entry(self) -> dict[str, Any]:
        """Return the journal's entry; see `Change.entry`."""
        return {
            "directory": self.directory.path,
            "temp": self.temp,
            "target": self.plan.name,
            "write": self.way,
            "generation": self._name,
            "inode": self._identity.inode,
            "files": {name: [written.inode, written.size] for name, (_, written) in self._files.items()},
            "before": self.plan.link.generation,
        }

    def begin_flush(self) -> None:
        """Ask the kernel to start writing all files, so that one commit of the file system serves them."""
        for fd, _ in self._files.values():
            files.begin_flush(fd)

    def flush(self) -> None:
        """Flush the files, then the names that lead to them, from the inside out."""
        for fd, _ in self._files.values():
            os.fsync(fd)
        self._whole.sync()
        self._held.sync()
        if self._made:
            self.directory.sync()

    def refuse_changed(self) -> None:
        """Look at the link, and at every file of the generation; see `Change.refuse_changed`."""
        path = self.plan.path
        try:
            link = Link.look(self._store)
        except SinkError:  # a file, or a link of somebody else's
            link = None
        if link != self.plan.link:
            raise changed(path, "changed this link during the publish")
        if self._store.leads_to(self.temp) != self._name or not self._is_untouched():
            raise changed(path, "changed the staged directory beside it")

    def _is_untouched(self) -> bool:
        store, whole = self.directory.stat(self._store.name), self._held.stat(self._name)
        if store is None or (store.st_dev, store.st_ino) != self._held.identity:
            return False
        if whole is None or FileIdentity.of(whole) != self._identity:
            return False
        return all(self._holds(name, written) for name, (_, written) in self._files.items())

    def _holds(self, name: str, written: FileIdentity) -> bool:
        found = self._whole.stat(name)
        return found is not None and FileIdentity.of(found) == written

    def switch(self) -> None:
        """Rename the link; see `Change.switch`."""
        os.rename(self.temp, self.plan.name, src_dir_fd=self.directory.fd, dst_dir_fd=self.directory.fd)

    def tidy(self) -> None:
        """Remove generations that are older than the config keeps."""
        plan = self.plan
        self._store.prune(plan.settings.keep, owners(plan.wanted), plan.link.generation)

    def discard(self) -> None:
        """Remove the generation, then the link that marks it."""
        with suppress(OSError):
            if self._store.forget(self._name):
                self.directory.remove(self.temp)

    def close(self) -> None:
        """Close the directory, with its lock, and its files."""
        self._opened.close()


class LinkRemains(Remains):
    """A staged generation after a crash, and the link that should lead to it."""

    __slots__ = ("_generation", "_store")

    def _look(self) -> tuple[Stage, bool]:
        self._store, self._generation = Store(self.directory, self.target), str(self.record["generation"])
        leads_to = self._store.leads_to(self.target)
        as_before = leads_to == self.record["before"] and (leads_to is not None or not self._is_taken())
        if leads_to == self._generation:
            return Stage.DONE, False  # what its directory lacks by now, the next pass finds
        if not self._is_whole():
            return Stage.LOST, as_before
        return Stage.READY if as_before else Stage.CHANGED, as_before

    def _is_taken(self) -> bool:
        return self.directory.stat(self.target) is not None

    def _is_whole(self) -> bool:
        """Return whether the generation is the very one that was staged, with all of its files."""
        try:
            store = self._store.open()
        except SinkError:
            return False
        if store is None:
            return False
        with store:
            try:
                whole = store.open_below(self._generation)
            except (FileNotFoundError, NotADirectoryError):
                return False
            with whole:
                return (whole.identity[1], _files_of(whole)) == (self.record["inode"], self.record["files"])

    def is_left(self) -> bool:
        """Return whether the link or the generation is still there, unswitched."""
        return self.directory.stat(self.temp) is not None or self._is_whole()

    def finish(self) -> None:
        """Rename the link, which is made again where the crash took it; see `Remains.finish`."""
        if self._store.leads_to(self.temp) != self._generation:
            self._store.point(self.temp, self._generation)
        os.rename(self.temp, self.target, src_dir_fd=self.directory.fd, dst_dir_fd=self.directory.fd)

    def clean(self) -> None:
        """Remove the generation unless the link leads to it, then the staged link.

        A generation that cannot be removed does not stop a recovery, or its owner could block every one; it keeps its mark.
        """
        if self._store.forget(self._generation):
            self.directory.remove(self.temp)


def _files_of(generation: Directory) -> dict[str, list[int]]:
    """Return name -> inode number and size of every file; [0, 0] for what is no regular file."""
    found = {name: generation.stat(name) for name in names(generation)}
    return {
        name: [each.st_ino, each.st_size] if each and stat.S_ISREG(each.st_mode) else [0, 0]
        for name, each in found.items()
    }
