"""The runtime directory of a daemon: judged, held open, and its alone while it lives.

It is judged as the state directory is, because whoever could write it could put a socket of their own in the place of
ours, and have root's `rotate` answered by it. What is done in it is done through its descriptor, so that no link that
somebody plants leads a change of owner elsewhere.

One daemon serves a runtime directory, whatever its state directory: else a second one would take the first one's socket
over, and `rotate` would rotate for the wrong one. A lock (flock) on `control.lock` says so, which the kernel drops however
the process ends; in it stands who holds it. A daemon takes away the sockets that it made, and no other.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from agent.control import protocol
from agent.core.errors import BusyError, CredentialFileError, StateError
from agent.core.problem import Problem
from agent.system.capabilities import may_give
from agent.system.systemd_unit import make_directory
from agent.system.trusted_path import open_trusted, writers_problem

LOCK_NAME = "control.lock"
MODE = 0o755
"""Open to all, because members of `control_group` reach the socket in it."""
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class RuntimeDirectory:
    """The directory with control.sock and credentials.sock, held until `close`."""

    def __init__(self, path: Path, holder: str = "") -> None:
        """Make it where it is missing, judge it, and take its lock.

        Args:
            path: absolute.
            holder: what another daemon is told of this one besides its pid: its config and state.

        Raises:
            BusyError: another daemon serves it; the text names it.
            StateError: it cannot be used, or somebody else could put another socket there.
        """
        self.path = path
        self._held: list[int] = []
        self._made: dict[str, tuple[int, int]] = {}
        try:
            self._fd = self._hold(_opened(path))
            problem = writers_problem(os.fstat(self._fd), str(path))
            if problem is not None:
                raise StateError.of(problem)
            self._take_lock(holder)
        except BaseException as err:
            self.close()
            if isinstance(err, OSError):
                raise self._unusable(err) from err
            raise

    @property
    def socket_path(self) -> Path:
        """Where the control socket is."""
        return self.path / protocol.SOCKET_NAME

    def __enter__(self) -> RuntimeDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take away the socket that was made here, and let the next daemon in."""
        for name in list(self._made):
            self.take_away(name)
        while self._held:
            os.close(self._held.pop())

    def listen(self, gid: int | None, backlog: int) -> socket.socket:
        """Return the listening control socket; owner and mode are right before anybody can connect.

        Args:
            gid: the group that is let in, if this process may give the socket to it.
            backlog: of connections that nobody has accepted yet.

        Raises:
            StateError: it cannot be made.
        """
        given = gid if gid is not None and may_give(os.geteuid(), gid) else None
        return self._listening(protocol.SOCKET_NAME, 0o600 if given is None else 0o660, given, backlog)

    def listen_to_all(self, name: str, backlog: int) -> socket.socket:
        """Return a listening socket to which everybody may connect: who may have what is judged by its server.

        Raises:
            StateError: it cannot be made.
        """
        return self._listening(name, 0o666, None, backlog)

    def take_away(self, name: str) -> None:
        """Remove a socket that was made here, and no other."""
        made, found = self._made.pop(name, None), self._socket(name)
        if found is not None and (found.st_dev, found.st_ino) == made:
            with suppress(OSError):
                os.unlink(name, dir_fd=self._fd)

    def _listening(self, name: str, mode: int, gid: int | None, backlog: int) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._bind(listener, name, mode, gid)
            listener.listen(backlog)
        except OSError as err:
            listener.close()
            raise self._unusable(err, name) from err
        return listener

    def _bind(self, listener: socket.socket, name: str, mode: int, gid: int | None) -> None:
        found = self._socket(name)
        if found is not None:  # the lock says that no other daemon lives, so it is a dead one's
            os.unlink(name, dir_fd=self._fd)
        os.fchmod(listener.fileno(), mode)  # bind(2) gives it to the name, so that nothing is changed by name later
        mask = os.umask(0o777 & ~mode)
        try:
            with protocol.reachable(self.path / name) as address:
                listener.bind(address)
        finally:
            os.umask(mask)
        made = self._socket(name)
        if made is None:
            raise OSError(errno.ESTALE, "the directory was replaced meanwhile")
        self._made[name] = made.st_dev, made.st_ino
        if gid is not None and made.st_gid != gid:
            os.chown(name, -1, gid, dir_fd=self._fd, follow_symlinks=False)

    def _socket(self, name: str) -> os.stat_result | None:
        """Look at the socket that has a name now; None where there is none."""
        try:
            found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except OSError:
            return None
        return found if stat.S_ISSOCK(found.st_mode) else None

    def _take_lock(self, holder: str) -> None:
        lock = self._hold(os.open(LOCK_NAME, _LOCK, 0o600, dir_fd=self._fd))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            other = os.pread(lock, 4096, 0).decode(errors="replace").strip() or "its pid: see `lslocks`"
            raise BusyError(
                f"{self.path}: another keyturn ({other}) serves this runtime directory",
                "give each daemon its own `agent.runtime_directory`, or stop the other one first",
            ) from err
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"pid {os.getpid()}{', ' if holder else ''}{holder}\n".encode(), 0)

    def _hold(self, fd: int) -> int:
        self._held.append(fd)
        return fd

    def _unusable(self, err: OSError, name: str = protocol.SOCKET_NAME) -> StateError:
        return StateError(
            f"{self.path / name}: the socket cannot be made: {err.strerror}",
            f"make the runtime directory: {make_directory(self.path, '0755')}",
        )


def runtime_problem(path: Path, agent_uid: int) -> Problem | None:
    """Return why a daemon of that user would refuse the directory; None where it would not, or it is not there yet."""
    try:
        fd = open_trusted(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, also=agent_uid)
    except CredentialFileError as err:
        return err.as_problem()
    except OSError:
        return None
    try:
        return writers_problem(os.fstat(fd), str(path), also=agent_uid)
    finally:
        os.close(fd)


def _opened(path: Path) -> int:
    try:
        try:
            return open_trusted(path, _OPEN)
        except FileNotFoundError:
            parent = open_trusted(path.parent, _OPEN)
            try:
                with suppress(FileExistsError):
                    os.mkdir(path.name, MODE, dir_fd=parent)
            finally:
                os.close(parent)
            return open_trusted(path, _OPEN)
    except CredentialFileError as err:
        raise StateError.of(err.as_problem()) from err
