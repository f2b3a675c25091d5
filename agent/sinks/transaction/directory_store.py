"""The store of a `directory` sink's generations, and the safe removal of old ones.

    /run/uploader/credentials                -> .credentials.keyturn/000007-…   the link that readers follow
    /run/uploader/.credentials.keyturn/      the store: the agent's own, 0711, so that nobody else can put names in it
        000006-…/  000007-…/  000008-…/      a directory per generation, let in who may read its files
    /run/uploader/.credentials.keyturn-…     -> .credentials.keyturn/000008-…   a staged link

A staged link is made before its generation and removed after it. So the next sweep finds whatever a crash left
unswitched by such a link, and never takes an old generation that a reader may still be in for one. The directory is
locked (flock) while it is staged, which tells a living keyturn's from a crashed one's. The same lock serves a reader
who needs longer than `keep` generations: a directory that somebody has locked is not pruned.

Removal works relative to open directories, follows no link, enters no directory below a generation and no mount, and
spares what the link leads to, which is read again each time.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shlex
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass

from agent.core.errors import SinkError
from agent.logs.log import log
from agent.sinks.transaction.target import kind_of
from agent.system import files
from agent.system.accounts import user_name
from agent.system.trusted_directory import Directory, names

GENERATION = re.compile(r"[0-9]{6,20}-[0-9a-f]{16}")
_GONE = ".gone"
"""The suffix of a generation that is being removed, so that a crash half-way leaves nothing that looks like a whole one."""

STORE_MODE = 0o711
"""Everybody may pass through and nobody but us may list it: readers are other users, and each generation has its own mode."""


def new_name(generation: int) -> str:
    """Return a name for a generation's directory; random, because drift is mended under the same number."""
    return f"{generation:06}-{secrets.token_hex(8)}"


@dataclass(frozen=True, slots=True)
class Store:
    """The store that belongs to one link. Holds nothing open but its parent, which is the caller's."""

    parent: Directory
    link: str

    @property
    def name(self) -> str:
        """The store's name beside the link."""
        return f".{self.link}.keyturn"

    def leads_to(self, name: str) -> str | None:
        """Return the generation to which a link of ours beside the store leads; None for anything else.

        Raises:
            OSError: it cannot be looked at.
        """
        try:
            store, _, generation = os.readlink(name, dir_fd=self.parent.fd).rpartition("/")
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):
                return None
            raise
        return generation if store == self.name and GENERATION.fullmatch(generation) else None

    def point(self, name: str, generation: str) -> None:
        """Make a link to a generation.

        Raises:
            OSError: it cannot be made; EEXIST where the name is taken.
        """
        os.symlink(f"{self.name}/{generation}", name, dir_fd=self.parent.fd)

    def open(self) -> Directory | None:
        """Open the store; None where there is none.

        Raises:
            SinkError: it is no directory, or somebody else's.
            OSError: as the kernel says.
        """
        try:
            store = self.parent.open_below(self.name)
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise self._refuse(kind_of(self.parent, self.name), "move it away: `mv {0} {0}.old`") from None
        if store.uid not in (0, os.geteuid()):
            store.close()
            whose = f"it belongs to user {user_name(store.uid)}, who could change what readers find in it"
            raise self._refuse(whose, f"move it away (`mv {{0}} {{0}}.old`), or `chown {user_name()} {{0}}`")
        return store

    def _refuse(self, what: str, remedy: str) -> SinkError:
        path = self.parent.join(self.name)
        text = f"{path}: {what}, and keyturn keeps the generations of {self.link} there"
        return SinkError(text, remedy.format(shlex.quote(path)))

    def make(self) -> tuple[Directory, bool]:
        """Open the store with its own mode, making it where it is missing, and return whether it was made.

        Raises:
            SinkError, OSError: as `open`.
        """
        made = True
        try:
            os.mkdir(self.name, 0o700, dir_fd=self.parent.fd)
        except FileExistsError:
            made = False
        store = self.open()
        if store is None:
            raise FileNotFoundError(errno.ENOENT, "removed just now", self.name)
        try:
            files.give(store.fd, STORE_MODE)
        except BaseException:
            store.close()
            raise
        return store, made

    # -- what goes ----------------------------------------------------------------------------------

    def forget(self, generation: str) -> bool:
        """Remove a generation that was staged and not switched, and the store with it if nothing else is in it.

        Returns:
            True when it is not there any more, or is in use; False when it could not be removed, which the log says.
        """
        try:
            with self.open() or nullcontext() as store:
                if not self._drop_durably(store, generation, force=True):
                    return False
        except (OSError, SinkError) as error:
            return self._failed(generation, error)
        with suppress(OSError):
            os.rmdir(self.name, dir_fd=self.parent.fd)
        return True

    def sweep(self, owners: Collection[int], needed: Collection[str]) -> list[str]:
        """Remove what crashed runs staged, by their links; return the paths.

        Args:
            owners: the users to whom our links and directories may belong.
            needed: names of links and generations that a journal mentions.
        """
        removed = []
        with self.open() or nullcontext() as store:
            for name in [each for each in self._staged_links(owners) if each not in needed]:
                generation = self.leads_to(name)
                if generation is not None and generation not in needed and self._drop_durably(store, generation):
                    self.parent.remove(name)
                    removed.append(self.parent.join(name))
        return removed

    def _staged_links(self, owners: Collection[int]) -> Iterator[str]:
        for name in names(self.parent):
            found = self.parent.stat(name) if files.TEMP_NAME.fullmatch(name) else None
            if found is not None and stat.S_ISLNK(found.st_mode) and found.st_uid in owners:
                yield name

    def _drop(self, store: Directory | None, generation: str, *, force: bool = False) -> bool:
        """Remove a generation, unless it is in use; False where somebody holds it, or it cannot be removed just now."""
        if store is None or self.leads_to(self.link) == generation:
            return True
        try:
            return _remove(store, generation, force=force)
        except OSError as error:
            return self._failed(generation, error)

    def _drop_durably(self, store: Directory | None, generation: str, *, force: bool = False) -> bool:
        """Remove a generation durably, before its mark is removed: a power cut must not bring it back without the mark.

        Raises:
            OSError: the removal cannot be made durable just now.
        """
        if not self._drop(store, generation, force=force):
            return False
        if store is not None:
            store.sync()
        return True

    def _failed(self, generation: str, error: Exception) -> bool:
        path = self.parent.join(f"{self.name}/{generation}")
        log.warning("an unused generation could not be removed", path=path, error=str(error))
        return False

    def prune(
        self, keep: int, owners: Collection[int], previous: str | None = None, needed: Collection[str] = ()
    ) -> None:
        """Remove all old generations but the newest `keep`. Never fails: a failure is a warning in the log.

        Args:
            keep: the number that stays besides the one that the link leads to.
            owners: the users to whom our directories may belong.
            previous: the one that the link led to until now, which counts as the newest of the others.
            needed: names that a journal mentions.
        """
        try:
            with self.open() or nullcontext() as store:
                unused = self._unused(store, owners, previous) if store else {}
                for name in _too_many({name: age for name, age in unused.items() if name not in needed}, keep):
                    self._drop(store, name)
        except (OSError, SinkError) as error:
            self._failed("", error)

    def _unused(self, store: Directory, owners: Collection[int], previous: str | None) -> dict[str, tuple[bool, int]]:
        """Return the generations that the link does not lead to, each with its sort key, the greater the newer.

        They are ordered by the time of writing, not by number: the count begins again where the state was lost. Their
        owner matters only in a store that somebody has opened to others: nobody else can put a name into a closed one.
        """
        closed, linked = not store.mode & 0o022, self.leads_to(self.link)
        found: dict[str, tuple[bool, int]] = {}
        for name in names(store):
            ours = GENERATION.fullmatch(name.removesuffix(_GONE)) and name != linked
            each = store.stat(name) if ours else None
            if each is not None and stat.S_ISDIR(each.st_mode) and (closed or each.st_uid in owners):
                found[name] = (name == previous, each.st_mtime_ns)
        return found


def _too_many(ages: Mapping[str, tuple[bool, int]], keep: int) -> list[str]:
    """Return the generations to remove: all that are half removed, and all whole ones but the newest `keep`."""
    gone = [name for name in ages if name.endswith(_GONE)]
    newest_first = sorted(ages.keys() - gone, key=lambda name: ages[name], reverse=True)
    return [*gone, *newest_first[keep:]]


def _remove(store: Directory, name: str, *, force: bool = False) -> bool:
    """Remove one generation with the files in it; False where somebody holds it.

    Args:
        store: its directory.
        name: of the generation; one that is gone is fine.
        force: remove it even though it is locked, because the caller holds the lock.

    Raises:
        OSError: it is no directory, a mount (rename(2) refuses that), has a directory in it, or may not be removed.
    """
    try:
        generation = store.open_below(name)
    except FileNotFoundError:
        return True
    with generation:
        if not force and not _is_free(generation):
            return False
        gone = name.removesuffix(_GONE) + _GONE
        os.rename(name, gone, src_dir_fd=store.fd, dst_dir_fd=store.fd)
        for each in names(generation):
            with suppress(OSError):  # a directory that its owner made there; rmdir will say so
                generation.remove(each)
        os.rmdir(gone, dir_fd=store.fd)
    return True


def _is_free(generation: Directory) -> bool:
    try:
        fcntl.flock(generation.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
