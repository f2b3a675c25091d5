"""What a command is started as: the program and the user meant, with no right more; or a sentence why not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.system.process import CommandError, Completed, run_command

NEVER = threading.Event()
LONG_S = 60.0  # a limit that no passing test comes near
ROOT = os.geteuid() == 0
NOBODY = "nobody"


def sh(script: str, user: str | None = None) -> Completed:
    """Run a shell script through the door."""
    return run_command(["/bin/sh", "-c", script], timeout_s=LONG_S, cancel=NEVER, user=user)


def script_file(path: Path, text: str, mode: int = 0o755) -> str:
    """Write a script."""
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_what_cannot_be_started_is_explained(tmp_path: Path) -> None:
    """Each way in which a start fails has its sentence, and names the program and a remedy."""
    cases = {
        "it does not exist": str(tmp_path / "absent"),
        "may not execute it": script_file(tmp_path / "plain", "#!/bin/sh\n", 0o644),
        "its interpreter does not exist": script_file(tmp_path / "orphan", "#!/nonexistent/interpreter\n"),
        "it is not a program": script_file(tmp_path / "noise", "no first line"),
    }
    for sentence, program in cases.items():
        with pytest.raises(CommandError) as caught:
            run_command([program], timeout_s=LONG_S, cancel=NEVER)
        assert sentence in caught.value.problem
        assert program in caught.value.problem
        assert caught.value.remedy


def test_a_bare_name_is_found_on_the_safe_path_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can set the agent's $PATH cannot choose what it runs."""
    script_file(tmp_path / "keyturn-no-such-program", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match="no program keyturn-no-such-program"):
        run_command(["keyturn-no-such-program"], timeout_s=LONG_S, cancel=NEVER)


def test_a_zero_byte_in_an_argument_is_explained() -> None:
    """What the kernel cannot take is refused in words."""
    with pytest.raises(CommandError, match="zero byte"):
        run_command(["/bin/echo", "a\0b"], timeout_s=LONG_S, cancel=NEVER)


def test_an_unknown_user_is_explained() -> None:
    """The sentence names the user."""
    with pytest.raises(CommandError, match="no user keyturn-nobody-at-all"):
        sh("true", user="keyturn-nobody-at-all")


@pytest.mark.skipif(not ROOT, reason="only root can become another user")
def test_another_user_is_become_completely() -> None:
    """Uid, gid and every group change, none of root's stays, and the environment says who it is."""
    done = sh("id -u; id -g; id -G; echo $USER $LOGNAME $HOME", user=NOBODY)
    expected = subprocess.run(["id", "-G", NOBODY], capture_output=True, check=True).stdout.strip()
    uid, _, groups, who = done.stdout.splitlines()
    assert uid == subprocess.run(["id", "-u", NOBODY], capture_output=True, check=True).stdout.strip()
    assert set(groups.split()) == set(expected.split())
    assert who.split()[:2] == [NOBODY.encode()] * 2


@pytest.mark.skipif(ROOT, reason="root may become anybody")
def test_an_ordinary_agent_cannot_become_another_user() -> None:
    """The sentence says what is missing: root."""
    with pytest.raises(CommandError, match="may not run a command as root"):
        sh("true", user="root")


def in_another_agent(lend: list[str], command: list[str], user: str | None = None) -> list[str]:
    """Run a command from an agent with other rights than ours; what the agent and the command see, a line each."""
    code = (
        "import subprocess, sys, threading; sys.path[:0] = sys.argv[1:]\n"
        "from agent.system.process import run_command\n"
        f"print(subprocess.run({command}, capture_output=True, text=True).stdout.strip())\n"
        f"done = run_command({command}, timeout_s=60, cancel=threading.Event(), user={user!r})\n"
        "print(done.stdout.decode().strip())\n"
    )
    argv = ["setpriv", *lend, sys.executable, "-c", code, *sys.path]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if "Permission denied" in done.stderr:
        pytest.skip("another user cannot read this checkout or its Python")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


needs_setpriv = pytest.mark.skipif(not ROOT or shutil.which("setpriv") is None, reason="needs root and setpriv")


@needs_setpriv
def test_the_agents_ambient_capabilities_do_not_reach_a_command() -> None:
    """An unprivileged agent with CAP_KILL runs hooks that have no capability."""
    lend = ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+kill", "--ambient-caps=+kill"]
    agent, command = in_another_agent(lend, ["grep", "CapAmb", "/proc/self/status"])
    assert int(agent.split()[1], 16) != 0
    assert int(command.split()[1], 16) == 0


@needs_setpriv
def test_the_agents_groups_do_not_reach_another_users_command() -> None:
    """A root agent with further groups lends none of them."""
    agent, command = in_another_agent(["--groups=12345"], ["id", "-G"], user=NOBODY)
    assert "12345" in agent.split()
    assert "12345" not in command.split()
