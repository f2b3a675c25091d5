"""ptrace(2) by ctypes: a process of ours, stopped at every system call of every thread of it.

Nothing to install and no compiler. PTRACE_GET_SYSCALL_INFO (Linux 5.3) says what is called in the same words on every
architecture; only the numbers of the calls differ. A SIGKILL sent at the stop before a call ends the process without
the call: the kernel looks for a deadly signal once more before it begins (kernel/entry/common.c,
`ptrace_report_syscall`).
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

TRACEME, CONT, SYSCALL, SETOPTIONS, GET_SYSCALL_INFO = 0, 7, 24, 0x4200, 0x420E
SYSGOOD, TRACE_CLONE, EXITKILL = 0x1, 0x8, 0x100000
WALL = 0x40000000
ENTRY, EXIT = 1, 2
AT_FDCWD = -100

X86_64 = {
    "open": 2, "openat": 257, "creat": 85, "write": 1, "pwrite64": 18, "writev": 20, "pwritev": 296, "ftruncate": 77,
    "truncate": 76, "fsync": 74, "fdatasync": 75, "rename": 82, "renameat": 264, "renameat2": 316, "unlink": 87,
    "unlinkat": 263, "link": 86, "linkat": 265, "symlink": 88, "symlinkat": 266, "chmod": 90, "fchmod": 91,
    "fchmodat": 268, "chown": 92, "fchown": 93, "fchownat": 260, "utimensat": 280, "mkdir": 83, "mkdirat": 258,
    "rmdir": 84, "flock": 73, "fadvise64": 221, "sendto": 44, "sendmsg": 46, "waitid": 247, "wait4": 61,
}  # fmt: skip
AARCH64 = {
    "openat": 56, "write": 64, "pwrite64": 68, "writev": 66, "pwritev": 70, "ftruncate": 46, "truncate": 45, "fsync": 82,
    "fdatasync": 83, "renameat": 38, "renameat2": 276, "unlinkat": 35, "linkat": 37, "symlinkat": 36, "fchmod": 52,
    "fchmodat": 53, "fchown": 55, "fchownat": 54, "utimensat": 88, "mkdirat": 34, "flock": 32, "fadvise64": 223,
    "sendto": 206, "sendmsg": 211, "waitid": 95, "wait4": 260,
}  # fmt: skip
NUMBERS = {"x86_64": X86_64, "aarch64": AARCH64}.get(platform.machine(), {})
NAMES = {number: name for name, number in NUMBERS.items()}

ON_DESCRIPTOR = {
    "write", "pwrite64", "writev", "pwritev", "ftruncate", "fsync", "fdatasync", "fchmod", "fchown", "flock", "fadvise64",
}  # fmt: skip
"""The first argument is a descriptor."""
ON_PATH = {"open", "creat", "truncate", "rename", "unlink", "link", "symlink", "chmod", "chown", "mkdir", "rmdir"}
"""The first argument is a path."""
AT_PATH = {"openat", "renameat", "renameat2", "unlinkat", "linkat", "fchmodat", "fchownat", "utimensat", "mkdirat"}
"""The first two arguments are a directory's descriptor and a path in it."""
HARMLESS = {"flock", "fadvise64"}
"""They change nothing that a crash could leave."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class _Info(ctypes.Structure):
    """struct ptrace_syscall_info, with the longest arm of its union: nr and args, or rval and is_error."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("words", ctypes.c_uint64 * 8),
    )


@dataclass(frozen=True)
class Stop:
    """A thread at the beginning (`entry`) or at the end of a system call."""

    tid: int
    entry: bool
    number: int = -1
    arguments: tuple[int, ...] = ()
    result: int = 0

    @property
    def call(self) -> str:
        return NAMES.get(self.number, "")

    def descriptor(self, index: int) -> int:
        """An argument as the C int that a descriptor is."""
        return ctypes.c_int(self.arguments[index]).value

    def bytes_at(self, index: int, length: int) -> bytes:
        """Memory of the process that an argument points to."""
        with open(f"/proc/{self.tid}/mem", "rb", buffering=0) as memory:
            memory.seek(self.arguments[index])
            return memory.read(length)

    def text_at(self, index: int) -> str:
        """A C string of the process: read page by page, for the next page may not be mapped."""
        address, found = self.arguments[index], b""
        with open(f"/proc/{self.tid}/mem", "rb", buffering=0) as memory:
            while b"\0" not in found:
                memory.seek(address + len(found))
                found += memory.read(4096 - (address + len(found)) % 4096)
        return os.fsdecode(found.partition(b"\0")[0])

    def path_of(self, descriptor: int) -> str:
        """Where an open descriptor leads; "" where it leads nowhere."""
        name = "cwd" if descriptor == AT_FDCWD else f"fd/{descriptor}"
        try:
            return os.readlink(f"/proc/{self.tid}/{name}").removesuffix(" (deleted)")
        except OSError:
            return ""

    def paths(self) -> Iterator[str]:
        """The files that the call is about, whole paths; to be asked at its beginning."""
        call = self.call
        if call in ON_DESCRIPTOR:
            yield self.path_of(self.descriptor(0))
        elif call in ON_PATH:
            yield os.path.join(self.path_of(AT_FDCWD), self.text_at(0))
            if call in ("rename", "link", "symlink"):
                yield os.path.join(self.path_of(AT_FDCWD), self.text_at(1))
        elif call == "utimensat" and not self.arguments[1]:
            yield self.path_of(self.descriptor(0))
        elif call in AT_PATH:
            yield os.path.join(self.path_of(self.descriptor(0)), self.text_at(1))
            if call.startswith(("rename", "link")):
                yield os.path.join(self.path_of(self.descriptor(2)), self.text_at(3))
        elif call == "symlinkat":
            yield os.path.join(self.path_of(self.descriptor(1)), self.text_at(2))


Watcher = Callable[[Stop], None]


def available() -> str:
    """Why nothing can be traced here; "" where it can."""
    if not NUMBERS:
        return (
            f"the numbers of the system calls of {platform.machine()} are not known to tests/support/crash/tracing.py"
        )
    child = os.fork()
    if child == 0:
        try:
            _begin()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, WALL)
    if not os.WIFSTOPPED(status):
        return "this kernel or its seccomp filter does not allow ptrace(2)"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, WALL)
    return ""


def traced(child: Callable[[], None], watch: Watcher, on_signal: Callable[[int], None] | None = None) -> int:
    """Fork, run `child` there, and call `watch` at both ends of every system call of it; return its wait status.

    Processes that it starts are not traced. The one that calls this must have no other children to wait for.

    Args:
        child: what the process does; it ends when this returns.
        watch: may kill the process.
        on_signal: told of every signal that is about to be delivered.
    """
    pid = os.fork()
    if pid == 0:
        try:
            _begin()
            child()
        finally:
            os._exit(70)
    os.waitpid(pid, WALL)
    _ptrace(SETOPTIONS, pid, SYSGOOD | TRACE_CLONE | EXITKILL)
    _go_on(pid, 0)
    while True:
        tid, status = os.waitpid(-1, WALL)
        if not os.WIFSTOPPED(status):
            if tid == pid:
                return status
            continue
        number = os.WSTOPSIG(status)
        if number == signal.SIGTRAP | 0x80:
            stop = _look(tid)
            if stop is not None:
                watch(stop)
            number = 0
        elif number in (signal.SIGTRAP, signal.SIGSTOP):  # a clone, and the first stop of the thread that came of it
            number = 0
        elif on_signal is not None:
            on_signal(number)
        _go_on(tid, number)


def _begin() -> None:
    _libc.ptrace(TRACEME, 0, None, None)
    os.kill(os.getpid(), signal.SIGSTOP)


def _look(tid: int) -> Stop | None:
    info = _Info()
    try:
        _ptrace(GET_SYSCALL_INFO, tid, ctypes.addressof(info), address=ctypes.sizeof(info))
    except ProcessLookupError:
        return None  # it was killed meanwhile
    if info.op == ENTRY:
        return Stop(tid, True, info.words[0], tuple(info.words[1:7]))
    return Stop(tid, False, result=ctypes.c_int64(info.words[0]).value)


def _go_on(tid: int, number: int) -> None:
    try:
        _ptrace(SYSCALL, tid, number)
    except ProcessLookupError:
        return  # it was killed meanwhile; waitpid will say so


def _ptrace(request: int, tid: int, data: int, address: int = 0) -> None:
    # `address` is where GET_SYSCALL_INFO takes the size of what `data` points to.
    if _libc.ptrace(request, tid, address, data) == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
