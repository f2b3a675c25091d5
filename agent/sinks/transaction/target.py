"""A target file: the owner that it is to have, its present content, and whether it may be touched at all."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import shlex
import stat
from dataclasses import dataclass, field
from typing import Self

from agent.core.errors import EXIT_CONFIG, NotPermittedError, SinkError
from agent.core.settings import FileSinkSettings
from agent.system import files
from agent.system.accounts import find_account, instead
from agent.system.file_identity import FileIdentity
from agent.system.oserrors import explain, is_permission
from agent.system.systemd_unit import agent_user
from agent.system.trusted_directory import Directory, open_directory, split

MAX_FILE_BYTES = 4 * 1024 * 1024
"""More than any credentials or env file has; a larger file was named by mistake."""


class SinkNotPermittedError(SinkError, NotPermittedError):
    """The agent's user may not write a sink."""


class UnknownOwnerError(SinkError):
    """The config names a user or group that this machine does not know."""

    exit_code = EXIT_CONFIG


@dataclass(frozen=True, slots=True)
class Attributes:
    """The owner and the permission bits of a file."""

    uid: int
    gid: int
    mode: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        """Return the attributes in a stat."""
        return cls(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))


@dataclass(frozen=True, slots=True)
class Present:
    """The file at the target now; all fields are None where there is nothing.

    Attributes:
        planted: whether somebody else may have given it this name, so that it may be any file of the same file system.
    """

    content: bytes | None = field(default=None, repr=False)
    identity: FileIdentity | None = None
    attributes: Attributes | None = None
    planted: bool = False


def wanted_attributes(settings: FileSinkSettings) -> Attributes:
    """Resolve `owner`, `group` and `mode` of a sink to numbers.

    Raises:
        UnknownOwnerError: this machine has no such user or group.
    """
    uid, primary_gid = _owner(settings)
    return Attributes(uid, _group(settings, primary_gid), int(settings.mode))


def _owner(settings: FileSinkSettings) -> tuple[int, int]:
    name = settings.owner
    if name is None:
        return os.geteuid(), os.getegid()
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError:
        if name.isdecimal() and settings.group is not None:
            return int(name), 0  # a number without an account, as in containers; its group is given
        otherwise = "create it, correct `owner`, or name `group` too if it is a number without an account"
        remedy = instead("user", name, otherwise)
        raise UnknownOwnerError(f"{settings.path}: this machine has no user {name!r}", remedy) from None
    return entry.pw_uid, entry.pw_gid


def _group(settings: FileSinkSettings, primary_gid: int) -> int:
    name = settings.group
    if name is None:
        return primary_gid
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise UnknownOwnerError(
            f"{settings.path}: this machine has no group {name!r}",
            instead("group", name, "create it or correct `group`"),
        ) from None


def pin(settings: FileSinkSettings) -> Directory:
    """Open and check the directory of a sink's file.

    Raises:
        SinkError: it is missing or cannot be trusted.
    """

    def make_with() -> str:
        group = settings.group or settings.owner
        whose = f" -g {group}" if group else ""
        return f"install -d -o {settings.owner or agent_user()}{whose} -m 0750"

    return open_directory(split(settings.path)[0], make_with)


def read_present(directory: Directory, name: str, in_place: bool = False) -> Present:
    """Read the file at the target.

    Args:
        directory: that of the target, pinned.
        name: of the target in it.
        in_place: whether the target will be written through its inode, so that no other name may lead to it; otherwise
            it will be replaced, so that it may not be a mount point.

    Raises:
        SinkError: it is a link, no regular file, a planted hard link, a mount point, too large or unreadable.
    """
    path = directory.join(name)
    try:
        fd = files.open_regular(name, directory.fd)
    except FileNotFoundError:
        return Present()
    except OSError as error:
        raise refusal(error, directory, name, "cannot read") from error
    try:
        found = os.fstat(fd)
        if not in_place and directory.mounted_over(fd):
            raise refusal(OSError(errno.EBUSY, "a mount point", name), directory, name, "cannot replace")
        planted = _others_may_link(found, directory)
        # A second name does harm where it is written through, and where somebody else may have made it.
        if in_place or planted:
            _refuse_second_name(found, path)
        content = files.read_fd(fd, MAX_FILE_BYTES, path)
    except OSError as error:
        raise refusal(error, directory, name, "cannot read") from error
    finally:
        os.close(fd)
    return Present(content, FileIdentity.of(found), Attributes.of(found), planted)


def _others_may_link(found: os.stat_result, directory: Directory) -> bool:
    """Return whether somebody else may have planted the target, by a hard link or a rename in a directory of theirs.

    Its foreign lines would be copied into a file that they may read: with `/etc/shadow` linked to the
    target, a root agent would hand it over. fs.protected_hardlinks=1 forbids such links, but is a setting. And no
    setting forbids to rename a file of root's that lies in the directory: see `lets_in`.

    Where a group may write the directory, its members may have named a file of the owner's, such as root's /etc/shadow in
    a directory of root's. So the owner of the file proves nothing there.
    """
    if directory.shared_with:
        return True
    return directory.uid not in (0, os.geteuid()) and found.st_uid != directory.uid


def _refuse_second_name(found: os.stat_result, path: str) -> None:
    if found.st_nlink > 1:
        raise SinkError(
            f"{path}: this file has a second name elsewhere (a hard link), which would be read or written with it",
            f"make it a file of its own: `cp -p {path} {path}.new && mv {path}.new {path}`",
        )


def lets_in(present: Present, wanted: Attributes) -> bool:
    """Return whether a file that somebody else may have put there would become readable to users who may not read it now.

    A member of a group that may write the directory can rename root's private file to the target's name, and read
    its lines when they go on into a file for that group.
    """
    found = present.attributes
    if found is None or not present.planted or found.mode & stat.S_IROTH:
        return False
    group = found.gid if found.mode & stat.S_IRGRP else None
    account = find_account(str(wanted.uid))
    owner_reads = wanted.uid in (0, found.uid) or (account is not None and group in account.groups)
    return not owner_reads or bool(wanted.mode & stat.S_IRGRP and group != wanted.gid)


def not_opened(path: str, wanted: Attributes) -> SinkError:
    """Return the error for a file that `lets_in`. By its remedy an operator who vouches for the lines sets owner and mode."""
    quoted = shlex.quote(path)
    return SinkError(
        f"{path}: others can write its directory and may have put this file there, so its lines are not opened to "
        "the `owner`, `group` and `mode` of the config, who cannot read them now",
        f"look at it; if it is the right one `chown {wanted.uid}:{wanted.gid} {quoted} && "
        f"chmod {wanted.mode:04o} {quoted}`, else remove it",
    )


def refusal(error: OSError, directory: Directory, name: str, doing: str, what: str = "this file") -> SinkError:
    """Return the error, with a remedy, for a failed file operation on a target."""
    path = directory.join(name)
    if isinstance(error, files.NotRegularError):
        return SinkError(
            f"{path}: {kind_of(directory, name)}, and keyturn writes only regular files", _unlink_remedy(path)
        )
    if isinstance(error, files.TooLargeError):
        return SinkError(f"{path}: larger than {MAX_FILE_BYTES} bytes", "name the credentials file itself")
    kind = SinkNotPermittedError if is_permission(error) else SinkError
    return kind.of(explain(error, path).at(f"{path}: {doing} {what}"))


def _unlink_remedy(path: str) -> str:
    return f"remove it, or name another file in `path` (`ls -ld {path}` shows what it is)"


_KINDS = {
    stat.S_IFREG: "it is a regular file",
    stat.S_IFLNK: "it is a symbolic link",
    stat.S_IFDIR: "it is a directory",
    stat.S_IFIFO: "it is a FIFO",
    stat.S_IFSOCK: "it is a socket",
    stat.S_IFCHR: "it is a device",
    stat.S_IFBLK: "it is a device",
}


def kind_of(directory: Directory, name: str) -> str:
    """Return the kind of a name that should be something else."""
    found = directory.stat(name)
    return _KINDS.get(stat.S_IFMT(found.st_mode), "it was just replaced") if found else "it just went away"
