"""A program that ends with the demo, however that ends: `python -m agent.demo.tied PID COMMAND…`.

The kernel sends SIGTERM to a process that asked for it (PR_SET_PDEATHSIG, prctl(2)) when its parent dies, also by SIGKILL, which no
handler sees. The request survives execve(2). Decision: a program in between, because code that runs between fork and exec in a
process with threads may hang.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Become the command, tied to the process that started this one; return 1 where that has ended already."""
    parent, command = int(arguments[0]), arguments[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return 1
    os.execv(command[0], command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
