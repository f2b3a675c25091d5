"""The file system: bounded reads, private reads, and files that are whole or not there.

Temporary files are named `.NAME.keyturn-RANDOM` and stand beside their target, so that the rename stays on
one file system. The process that writes one holds a lock (flock) on it, which the kernel drops when the
process dies. So `sweep` can tell a crashed run's leftovers from another keyturn's work in progress.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shlex
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from agent.core.errors import CredentialFileError, NotPermittedError
from agent.system import systemd_credentials
from agent.system.accounts import user_name
from agent.system.oserrors import explain, is_permission
from agent.system.reading import READ
from agent.system.reading import NotRegularError as NotRegularError
from agent.system.reading import TooLargeError as TooLargeError
from agent.system.reading import open_regular as open_regular
from agent.system.reading import read_fd as read_fd
from agent.system.reading import read_regular as read_regular
from agent.system.reading import read_trusted as read_trusted
from agent.system.trusted_directory import Directory, names
from agent.system.trusted_path import open_trusted

TEMP_NAME = re.compile(r"\..+\.keyturn-[0-9a-f]{16}")
MAX_NAME_BYTES = 255
"""NAME_MAX of every Linux file system that matters."""

MISSING_CREDENTIAL = b"keyturn-missing-credential"
"""The content that systemd puts in the place of a credential whose file is missing (SetCredential=): without it
systemd 252 would not start the unit, even where no credential of the config uses the file."""

_SUFFIX_BYTES = len("..keyturn-") + 16
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def temp_name(name: str) -> str:
    """Return a fresh temporary name for `name`, cut so that it fits where `name` fits, and between two letters."""
    kept = name.encode(errors="surrogateescape")[: MAX_NAME_BYTES - _SUFFIX_BYTES]
    return f".{kept.decode(errors='ignore')}.keyturn-{secrets.token_hex(8)}"


def create(name: str, mode: int, dir_fd: int, owner: tuple[int, int] | None = None) -> int:
    """Create a new file and return its descriptor, locked, with owner and mode final before any content.

    It is made private first, then its mode is set against the umask, then it is given away (`give`): an owner who is
    not us must not see a moment with a wider mode.

    Raises:
        OSError: nothing is left behind.
    """
    fd = os.open(name, _CREATE, 0o600 & mode, dir_fd=dir_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        give(fd, mode, owner)
    except BaseException:
        os.close(fd)
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=dir_fd)
        raise
    return fd


def give(fd: int, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Set the mode and owner of an open file, touching only what differs; it may hold a secret.

    At no moment may anybody open it who may not under either the old or the new mode and owner, so the group is
    changed while the mode shuts every group out. The user comes last: after that we may lack the right to chmod.
    """
    found = os.fstat(fd)
    uid, gid = owner or (found.st_uid, found.st_gid)
    old = stat.S_IMODE(found.st_mode)
    if gid != found.st_gid:
        narrow = old & mode & stat.S_IRWXU
        if narrow != old:
            os.fchmod(fd, narrow)
            old = narrow
        os.fchown(fd, -1, gid)
    if old != mode:
        os.fchmod(fd, mode)
    if uid != found.st_uid:
        os.fchown(fd, uid, -1)


def write_all(fd: int, content: bytes, offset: int = 0) -> None:
    """Write every byte, however the kernel splits it.

    Raises:
        OSError: the disk is full, over quota or broken.
    """
    view = memoryview(content)
    while view:
        written = os.pwrite(fd, view, offset)
        offset += written
        view = view[written:]


def begin_flush(fd: int) -> None:
    """Ask the kernel to start writing a file out now, without waiting for it.

    When several files are to be flushed, this lets one commit of the file system serve them all: measured with
    two files on ext4 (Linux 6), it takes a fifth off the whole publish. It is only a hint; sync_file_range(2) would
    be the plainer one, but Python has no binding of it.
    """
    with contextlib.suppress(OSError):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def write_atomic(path: Path | str, content: bytes, mode: int = 0o600, *, flush: bool = True) -> None:
    """Replace a file of our own so that every reader sees the old or the new content, whole.

    For files in directories that are the agent's own (state, audit, metrics); sinks go through the transaction.

    Args:
        path: the file; its directory exists.
        content: all of its bytes.
        mode: its permission bits, whatever the umask.
        flush: make the content and the name durable before returning.

    Raises:
        OSError: the file is as it was, and nothing is left beside it.
    """
    place = Path(path)
    dir_fd = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        write_atomic_in(dir_fd, place.name, content, mode, flush=flush)
    finally:
        os.close(dir_fd)


def write_atomic_in(dir_fd: int, name: str, content: bytes, mode: int = 0o600, *, flush: bool = True) -> None:
    """Do the same in an open directory: of another user's, it was opened by `open_directory`.

    Raises:
        OSError: the file is as it was, and nothing is left beside it.
    """
    temp = temp_name(name)
    fd = create(temp, mode, dir_fd)
    try:
        write_all(fd, content)
        if flush:
            os.fsync(fd)
        os.rename(temp, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temp, dir_fd=dir_fd)
        raise
    finally:
        os.close(fd)
    if flush:
        os.fsync(dir_fd)


def write_new(path: Path | str, content: bytes, mode: int = 0o600, owner: tuple[int, int] | None = None) -> None:
    """Write a file that is not there yet: it is whole when its name appears, and what has that name stays.

    Args:
        path: the file; its directory exists.
        content: all of its bytes.
        mode: its permission bits, whatever the umask.
        owner: uid and gid; None for the process's own.

    Raises:
        FileExistsError: something has that name, be it a link that leads nowhere.
        OSError: as the kernel says; nothing is left behind.
    """
    place = Path(path)
    dir_fd = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    temp = temp_name(place.name)
    try:
        fd = create(temp, mode, dir_fd, owner)
        try:
            write_all(fd, content)
            os.fsync(fd)
            os.link(temp, place.name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)  # unlike rename(2), it replaces nothing
        finally:
            os.close(fd)
            os.unlink(temp, dir_fd=dir_fd)
        os.fsync(dir_fd)
    finally:
        os.close(dir_fd)


def sync_names(directory: Path | str) -> None:
    """Make the names in a directory durable.

    A directory that we may write but not read cannot be flushed by us; the kernel does it in its own time.

    Raises:
        OSError: as the kernel says.
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _chown(user: str, path: str) -> str:
    return f"chown {user} {shlex.quote(path)}"


def read_private(
    path: Path | str, limit: int, environ: Mapping[str, str] = os.environ, *, also: int | None = None
) -> bytes:
    """Return the content of a secret that a provider was given as a file.

    Links are followed, because Kubernetes and systemd hand secrets out through them; what counts is the file
    at their end, and every directory and link on the way: whoever could put another file in its place could have root
    publish a file of root's as their key. systemd gives a credential to a unit's user by an ACL, whose mask shows as group-readable
    0440 (systemd.exec(5), LoadCredential=), so that mode is fine for root's files in that directory.

    Args:
        path: the file, or a link to it.
        limit: bytes; a larger file is refused.
        environ: where `$CREDENTIALS_DIRECTORY` is looked up, and where its files come from for a look from outside.
        also: who may own it besides root and this user: the service's user, where root looks at what is the service's.

    Raises:
        CredentialFileError: it is missing, no regular file, too large, or somebody else can read, write or
            replace it.
        NotPermittedError: the agent's user may not read it.
    """
    path = systemd_credentials.seen_at(str(path), environ)
    try:
        fd = open_trusted(path, READ)
    except OSError as error:
        raise _unreadable(error, str(path)) from error
    try:
        found = os.fstat(fd)
        systemd_credential = _is_inside(path, environ.get("CREDENTIALS_DIRECTORY", ""))
        _refuse_public(found, str(path), systemd_credential, also)
        content = read_fd(fd, limit, path)
        if systemd_credential:
            refuse_missing(path, content)
        return content
    except TooLargeError as error:
        raise CredentialFileError(
            f"{path}: larger than {limit} bytes", "name the file that holds the secret"
        ) from error
    except OSError as error:
        raise _unreadable(error, str(path)) from error
    finally:
        os.close(fd)


def refuse_missing(path: str, content: bytes, environ: Mapping[str, str] | None = None) -> None:
    """Refuse the mark that systemd hands over in the place of a file that was missing.

    Args:
        path: the file in `$CREDENTIALS_DIRECTORY`.
        content: what was read there.
        environ: where that directory is looked up; None where the path is known to lie in it.

    Raises:
        CredentialFileError: it is the mark.
    """
    handed_over = environ is None or _is_inside(path, environ.get("CREDENTIALS_DIRECTORY", ""))
    if not handed_over or content.strip() != MISSING_CREDENTIAL:
        return
    name = Path(path).name
    raise CredentialFileError(
        f"{path}: this file is missing: systemd had none to hand over as {name} when keyturn started",
        f"put the secret where `systemctl cat keyturn` has LoadCredential={name}: (usually {systemd_credentials.USUAL}/{name}), "
        "then `systemctl reload keyturn`",
    )


def _is_inside(path: Path | str, directory: str) -> bool:
    return bool(directory) and Path(path).resolve().is_relative_to(Path(directory).resolve())


def _refuse_public(found: os.stat_result, path: str, systemd_credential: bool, also: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise CredentialFileError(f"{path}: not a regular file", "name the file that holds the secret")
    for_a_service = systemd_credential and os.geteuid() == 0 and path.startswith("/run/credentials/")
    if (
        found.st_uid not in (0, os.geteuid(), also) and not for_a_service
    ):  # systemd alone writes there; root looks at it
        raise CredentialFileError(
            f"{path}: it belongs to user {user_name(found.st_uid)}, who could read and change it",
            _chown(user_name(), path),
        )
    allowed = stat.S_IRGRP if systemd_credential and found.st_uid == 0 else 0
    if found.st_mode & 0o077 & ~allowed:
        raise CredentialFileError(
            f"{path}: its mode {stat.S_IMODE(found.st_mode):04o} lets others than its owner at the secret",
            f"chmod 600 {shlex.quote(path)}",
        )


def _unreadable(error: OSError, path: str) -> CredentialFileError | NotPermittedError:
    if is_permission(error):
        return NotPermittedError(
            f"{path}: user {user_name()} may not read this file",
            f"{_chown(user_name(), path)}, or hand it over with LoadCredential= in keyturn's unit",
        )
    if isinstance(error, FileNotFoundError):
        return CredentialFileError(f"{path}: this file is missing", systemd_credentials.remedy_for_missing(path))
    return CredentialFileError.of(explain(error, path).at(f"{path}: cannot read this file"))


def sweep(directory: Directory, owners: Collection[int] = (), keep: Collection[str] = ()) -> list[str]:
    """Remove temporary files that a crashed run left in a directory, and return their names.

    Only regular files with a name of ours, that root, we or one of `owners` own, that no journal still needs
    and that no living keyturn holds.

    Args:
        directory: where to look.
        owners: uids to which our temporary files were given.
        keep: names that a journal mentions.
    """
    mine = {0, os.geteuid(), *owners}
    return [name for name in _leftovers(directory) if name not in keep and _remove_unheld(directory, name, mine)]


def _leftovers(directory: Directory) -> Iterator[str]:
    return (name for name in names(directory) if TEMP_NAME.fullmatch(name))


def _remove_unheld(directory: Directory, name: str, owners: Collection[int]) -> bool:
    """Remove one leftover unless it is somebody else's or in use. Never fails, since the next sweep tries again."""
    try:
        fd = open_regular(name, directory.fd)
    except OSError:
        return False
    try:
        if os.fstat(fd).st_uid not in owners:
            return False
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=directory.fd)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
