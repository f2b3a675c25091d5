r"""systemd's journal by its native protocol, so that a line has fields to search by: `journalctl -u keyturn CREDENTIAL=uploader`.

One datagram per record to /run/systemd/journal/socket (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): `NAME=value\n` for each
field, or, where the value has a newline, the name, a newline, the length as 64 bits little-endian, the value, a newline.
A record that is too large for a datagram goes as a sealed memfd in a control message instead (EMSGSIZE; same page).

Names that begin with `_` are the journal's own, and it drops them from a client. Names that have a meaning in
systemd.journal-fields(7) get the prefix KEYTURN_ here, so that a field of ours is never taken for the unit, the source
line or the message id of a record.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import socket
import struct
import time
from collections.abc import Iterable

SOCKET = "/run/systemd/journal/socket"
PATIENCE_S = 0.1
"""Seconds to wait for a full queue: a burst is over in milliseconds, and a journal that hangs must not hold up a publish."""
NOT_AGAIN_S = 10.0
"""Seconds for which a journal that did not read in time is not waited for again."""

RESERVED = re.compile(
    r"MESSAGE|MESSAGE_ID|PRIORITY|ERRNO|DOCUMENTATION|TID|UNIT|USER_UNIT|(USER_)?INVOCATION_ID"
    r"|(CODE|SYSLOG|OBJECT|COREDUMP|CONTAINER|JOB|KERNEL)(_.*)?"
)
SPOKEN = {"to": "NOTIFIER", "event": "KEYTURN_EVENT"}
"""Field names for the keys of our events whose upper case would say too little by itself."""
MAX_NAME = 64
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

Fields = Iterable[tuple[str, str]]


def field_name(key: str) -> str:
    """Return the journal's field name for a key of an event: upper case, valid, and not one of the journal's own."""
    if key in SPOKEN:
        return SPOKEN[key]
    name = re.sub(r"[^A-Z0-9_]", "_", key.upper()).lstrip("_")
    if RESERVED.fullmatch(name) or not name[:1].isalpha():
        name = f"KEYTURN_{name}"
    return name[:MAX_NAME]


def encode(fields: Fields) -> bytes:
    """Return one record in the journal's format."""
    return b"".join(_encoded(name.encode("ascii"), value.encode("utf-8", "backslashreplace")) for name, value in fields)


def _encoded(name: bytes, value: bytes) -> bytes:
    if b"\n" not in value:
        return name + b"=" + value + b"\n"
    return name + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"


class Journal:
    """A client of the journal. Several threads may use it; it never raises and waits a tenth of a second at most."""

    def __init__(self, path: str = "") -> None:
        self._path = path or SOCKET
        self._no_wait_until = 0.0
        self._channel: socket.socket | None = None

    def send(self, fields: Fields) -> bool:
        """Send a record, and return False where the journal did not take it."""
        try:
            return self._send(encode(fields))
        except (OSError, ValueError):
            return False

    def _send(self, record: bytes) -> bool:
        try:
            self._connected().sendmsg([record], [], self._flags(), self._path)
        except BlockingIOError:
            self._no_wait_until = time.monotonic() + NOT_AGAIN_S
            return False
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_as_file(record)
        return True

    def _flags(self) -> int:
        return socket.MSG_NOSIGNAL | (socket.MSG_DONTWAIT if time.monotonic() < self._no_wait_until else 0)

    def _connected(self) -> socket.socket:
        if self._channel is None:
            channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            patience = struct.pack("@ll", 0, int(PATIENCE_S * 1e6))
            channel.setblocking(True)  # whatever a library set as the default
            channel.setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience
            )  # socket(7); Python's own would spin here
            self._channel = channel
        return self._channel

    def _send_as_file(self, record: bytes) -> None:
        fd = os.memfd_create("keyturn-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            view = memoryview(record)
            while view:
                view = view[os.write(fd, view) :]
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)  # the journal takes only what can change no more
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))]
            self._connected().sendmsg([], rights, self._flags(), self._path)
        finally:
            os.close(fd)


class LineSocket:
    """A writer for standard error where that is a socket, as under systemd: a line that is not read in time is lost.

    A plain write(2) there would wait for as long as the journal hangs, and every publish with it.
    """

    def __init__(self, fd: int) -> None:
        self._channel = socket.socket(fileno=os.dup(fd))
        self._room = select.poll()
        self._room.register(self._channel, select.POLLOUT)
        self._no_wait_until = 0.0
        self._cut = False

    def write(self, line: bytes) -> None:
        """Write as much of the line as there is room for.

        Raises:
            OSError: the reader is gone.
        """
        left = memoryview(b"\n" + line if self._cut else line)
        whole = len(left)
        while left and self._has_room():
            try:
                left = left[self._channel.send(left, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                continue
        self._cut = bool(left) and (self._cut or len(left) < whole)

    def _has_room(self) -> bool:
        now = time.monotonic()
        if self._room.poll(0 if now < self._no_wait_until else PATIENCE_S * 1000):
            return True
        self._no_wait_until = now + NOT_AGAIN_S
        return False
