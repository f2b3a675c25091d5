"""What a process may do, by its capabilities and its seccomp filter, and not by its uid."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

PREPARE = """\
import ctypes, os, sys, tempfile
from agent.system.capabilities import Capability, effective, holds, may_become, may_chown, may_give
prctl = ctypes.CDLL(None, use_errno=True).prctl
def keep(): assert prctl(28, 1 << 2, 0, 0, 0) == 0  # PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP
def leave(): os.setgroups([23002]); os.setgid(23001); os.setuid(23001)
"""


def answer(script: str) -> str:
    """Run a script as root in a process of its own."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + script], capture_output=True, text=True, env=environ, check=True
    )
    return done.stdout.strip()


def test_a_service_user_without_capabilities_gives_nothing_away() -> None:
    """But a group that it is in may have its files; chown(2) allows that to everybody."""
    script = "leave(); print(effective(), may_give(0, 0), may_give(23001, 23001), may_give(23001, 23002), may_give(23001, 5))"
    assert answer(script) == "0 False True True False"


def test_a_service_user_with_cap_chown_does() -> None:
    """And the kernel agrees: the file has the other owner."""
    script = (
        "fd = os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR, 0o600); keep(); leave(); "
        "print(holds(Capability.CHOWN), may_give(0, 0), may_become(0)); os.fchown(fd, 4711, 4711); print(os.fstat(fd).st_uid)"
    )
    assert answer(script).split() == ["True", "True", "True", "4711"]


def test_root_without_the_capability_does_not() -> None:
    """CapabilityBoundingSet= takes it from root too."""
    script = """
for number in (0, 6):
    assert prctl(24, number, 0, 0, 0) == 0  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, "-c",
    "from agent.system.capabilities import *; print(may_give(4711, 4711), may_become(4711), may_become(0))"])
"""
    assert answer(script) == "False False True"


FCHOWN = {"x86_64": 93, "aarch64": 55}


@pytest.mark.skipif(platform.machine() not in FCHOWN, reason="the number of fchown(2) is not known here")
def test_a_filter_that_refuses_chown_is_seen() -> None:
    """SystemCallFilter=~@chown: the capability alone would promise too much; one's own owner needs no call."""
    script = f"""
import struct
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, {FCHOWN[platform.machine()]}), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)]
code = b"".join(struct.pack("HBBI", *step) for step in steps)  # load the number; fchown: EPERM; else: allow
class Program(ctypes.Structure): _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
program = Program(4, code)
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, ctypes.byref(program), 0, 0) == 0  # NO_NEW_PRIVS, SECCOMP_MODE_FILTER
print(may_chown(), may_give(4711, 4711), may_give(0, os.getegid()))
"""
    assert answer(script) == "False False True"
