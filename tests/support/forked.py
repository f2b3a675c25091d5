"""A part of a test in a child process: one that dies, or that is somebody else.

Whatever happens in it, the child never goes on with the test run that it was forked from.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

FAILED = 1


def in_child(act: Callable[[], object], *, user: int | None = None) -> int:
    """Run something in a forked child, as that user; the child's exit status: 0 when it ran to its end.

    What it raised goes to the standard error, and the status is 1; a signal that ended it is its negative number.
    """
    pid = os.fork()
    if pid == 0:
        status = FAILED
        try:
            if user is not None:
                os.setresuid(user, user, user)
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
