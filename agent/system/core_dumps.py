"""No core dumps of a process that holds secrets: whatever crashes it, its memory does not come to a disk.

Two ways, each enough by itself where it works. The process is not dumpable (PR_SET_DUMPABLE, prctl(2)): the kernel then
writes no core and starts no handler, and other processes of the same user can neither trace it nor read its memory; its
/proc/PID belongs to root, but a process may still look into its own. And RLIMIT_CORE is 0 for crash handlers that go by it.

exec(2) makes a process dumpable again, and the limit is inherited: so a child gets the limit back that keyturn was
started with. A hook is the operator's program, and whether it leaves a core is theirs to say.

Decision: only the soft limit is lowered, since nobody without CAP_SYS_RESOURCE could raise the hard one again for a hook.
For as long as a child is being started the limit is as it was; keyturn itself stays not dumpable all the time.
"""

from __future__ import annotations

import ctypes
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PR_SET_DUMPABLE = 4  # linux/prctl.h

_lock = threading.Lock()
_starting = 0
_before: int | None = None
"""The soft limit that this process was started with; None while nothing was forbidden."""


def forbid() -> None:
    """Have this process leave no core dump, and close its memory to others of its user."""
    global _before
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    with _lock:
        if _before is None:
            _before = resource.getrlimit(resource.RLIMIT_CORE)[0]
            _set_soft(0)


@contextmanager
def limit_as_before() -> Iterator[None]:
    """Give the children that are started meanwhile the limit that this process was started with."""
    global _starting
    with _lock:
        _starting += 1
        if _before:
            _set_soft(_before)
    try:
        yield
    finally:
        with _lock:
            _starting -= 1
            if _before and not _starting:
                _set_soft(0)


def _set_soft(soft: int) -> None:
    """Set the soft limit, unless it is that already: the sandbox of keyturn.service lets nobody change limits."""
    now, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if now != soft:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
