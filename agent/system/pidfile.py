"""Pid files, and whose word one is.

The file is opened once, without following a link at its end, and judged by its descriptor. Its content is only
a claim, which `agent.notifiers.signal_process` checks against the process.

Most files hold one number. Some hold several, one for each process (haproxy with nbproc, supervisors), on one line or on
several; PostgreSQL's has one, and other things on the lines below. So if everything in the file is a number, all are
pids; else those of the first line are. An empty file is that of a program which is starting (nginx), or which died then.

Its directory is opened as that of a sink is (`agent.system.trusted_directory`): a link of an ordinary user on the way
could lead to root's pid file of any other program, a sound file in itself, and root would signal that program.
Links of root, such as /var/run, are followed. The owner of the directory itself can only put a file of their own
there, whose owner `signal_process` compares with that of the process, or rename root's pid files that lie in it; so
the dependent's own user may own it. Everybody may write it only if it is sticky, as /tmp is, because there nobody
can replace the pid file of another.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from agent.core.errors import NotifyError
from agent.system.accounts import user_name
from agent.system.oserrors import explain
from agent.system.trusted_directory import PathMissingError, PathRefusedError, open_directory, split

_LIMIT = 4096
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_SAFE = "let its program write it with mode 0644, and name that file in `pid_file`"


class NoProcessError(NotifyError):
    """There is no process to be told."""


@dataclass(frozen=True, slots=True)
class PidFile:
    """The content of a pid file, and who wrote it when.

    Attributes:
        pids: the processes that it names, each once.
        owner: the uid of the file's owner.
        written_s: its mtime, seconds since the epoch.
    """

    path: str
    pids: tuple[int, ...]
    owner: int
    written_s: float


def read_pid_file(path: str) -> PidFile:
    """Read a pid file.

    Raises:
        NoProcessError: there is no file, no directory for it, or nothing in it.
        NotifyError: it cannot be read, an untrusted user decides where its path leads, it has a second name, everybody or a
            strange group can write it, or it does not hold the pids of processes.
    """
    fd = _open(path)
    try:
        found = os.fstat(fd)
        _refuse(path, found)
        return PidFile(path, _pids(path, os.read(fd, _LIMIT + 1)), found.st_uid, found.st_mtime)
    finally:
        os.close(fd)


def _open(path: str) -> int:
    parent, name = split(path)
    try:
        with open_directory(parent, only_to_read=True) as directory:
            return os.open(name, _READ, dir_fd=directory.fd)
    except (FileNotFoundError, PathMissingError) as err:
        raise NoProcessError(f"{path}: there is no such pid file", "start the dependent, or correct the path") from err
    except PathRefusedError as err:
        raise NotifyError.of(err.as_problem()) from err
    except PermissionError as err:
        raise NotifyError(
            f"{path}: {user_name()} may not read this pid file", f"look at `namei -l {path}`, or run keyturn as root"
        ) from err
    except OSError as err:
        raise NotifyError.of(explain(err, path).at(f"{path}: cannot read this pid file")) from err


def _refuse(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NotifyError(f"{path}: this is not a regular file", _SAFE)
    if found.st_nlink > 1:  # root's file of another program, linked to where its directory's owner wants it
        raise NotifyError(f"{path}: this pid file has a second name, so it may be that of another program", _SAFE)
    if found.st_mode & stat.S_IWOTH:
        raise NotifyError(f"{path}: everybody can write this pid file, so anybody could name any process", _SAFE)
    if found.st_mode & stat.S_IWGRP and found.st_gid not in (0, os.getegid()):
        raise NotifyError(
            f"{path}: group {found.st_gid} can write this pid file, so its members could name any process", _SAFE
        )


def _pids(path: str, content: bytes) -> tuple[int, ...]:
    words = content.split()
    if not words:
        raise NoProcessError(
            f"{path}: this pid file is empty: the dependent is not running, or is just starting", "start the dependent"
        )
    if len(content) > _LIMIT or not all(map(_is_number, words)):
        line, end, _more = content.partition(b"\n")
        words = line.split() if end or len(content) <= _LIMIT else []
    if not words or not all(map(_is_number, words)):
        raise NotifyError(f"{path}: the first line of this pid file is not a process id", _SAFE)
    pids = tuple(dict.fromkeys(map(int, words)))
    for pid in pids:
        if pid <= 1 or pid == os.getpid():
            who = "keyturn itself" if pid == os.getpid() else f"process {pid}"
            raise NotifyError(f"{path}: this pid file names {who}, which is never signalled", _SAFE)
    return pids


def _is_number(word: bytes) -> bool:
    return word.isdigit() and len(word) <= 10
