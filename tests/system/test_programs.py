"""Who decides what root runs: nobody but root, wherever on the way to the program they sit."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import threading
from pathlib import Path

import pytest

from agent.core.errors import CredentialFileError, NotifyError
from agent.core.events import PublishEvent, Trigger
from agent.core.settings import PickupSettings
from agent.notifiers.exec_command import ExecNotifier, ExecSettings
from agent.system import trusted_path, trusted_program
from agent.system.accounts import own_account
from agent.system.process import probe, probe_problem
from agent.system.trusted_program import program_problem
from providers.process import refuse_if_foreign

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
STRANGER = 12345
EVENT = PublishEvent("published", "a", 1, Trigger.POLL, "LTAI", "v", None, ())


def program(directory: Path) -> Path:
    """A program that is in order itself."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "reload.sh"
    path.write_text('#!/bin/sh\ntouch "$(dirname "$0")/ran"\n')
    path.chmod(0o755)
    return path


def refusal(path: Path | str) -> str:
    """What is said of a program, with its remedy; empty where nothing is against it."""
    found = program_problem(str(path), own_account())
    assert found is None or found.remedy
    return str(found or "")


@needs_root
@pytest.mark.parametrize("above", [".", ".."])
def test_the_owner_of_a_directory_on_the_way_decides_what_is_run(public_path: Path, above: str) -> None:
    """The program's own directory or one further up: its owner can exchange what is in it, whoever owns that."""
    path = program(public_path / "a" / "b")
    assert not refusal(path)
    theirs = (path.parent / above).resolve()
    os.chown(theirs, STRANGER, STRANGER)
    assert refusal(path).startswith(
        f"{theirs}: it belongs to uid {STRANGER}, who so decides what root runs; `chown root"
    )
    assert program_problem(str(path), own_account()._replace(uid=STRANGER)) is None, (
        "and may decide what runs as themselves"
    )


@needs_root
def test_a_group_that_can_write_a_directory_decides_what_is_run(public_path: Path) -> None:
    """Any group but root's, unless the directory is sticky: then nobody can take the name of another's file."""
    path = program(public_path / "hooks")
    os.chown(path.parent, 0, STRANGER)
    path.parent.chmod(0o775)
    assert f"group gid {STRANGER} can replace it" in refusal(path)
    assert f"`chmod g-w {path.parent}`" in refusal(path)
    path.parent.chmod(0o1775)
    assert not refusal(path)
    path.parent.chmod(0o775)
    os.chown(path.parent, 0, 0)
    assert not refusal(path)


@needs_root
def test_an_acl_that_names_somebody_is_not_the_group_of_root(public_path: Path) -> None:
    """With an ACL the group bits are its mask: root's group is shown, and another may write."""
    path = program(public_path / "hooks")
    entries = [(1, 7, -1), (2, 7, STRANGER), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(path.parent, "system.posix_acl_access", acl)
    except OSError:
        pytest.skip("no ACLs on this file system")
    assert "can replace it" in refusal(path)


def test_debians_group_staff_may_write_below_usr_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """root:staff 2775 is what Debian makes of /usr/local/bin; the same group is a stranger's anywhere else."""
    monkeypatch.setattr(trusted_path, "find_group", {"staff": 50}.get)
    found = os.stat_result((0o042775, 1, 1, 2, 0, 50, 4096, 0, 0, 0))
    judged = {
        path: trusted_program._component_problem(path, found, f"{path}/reload", own_account(), {0}, "")
        for path in ("/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/locale")
    }
    assert [path for path, what in judged.items() if what is None] == ["/usr/local/bin", "/usr/local/sbin"]


def test_every_directory_that_a_link_leads_through_counts(public_path: Path) -> None:
    """Of a link to a directory, of one to the program, and with `..` in them: both ways are walked."""
    path = program(public_path / "real" / "bin")
    ways = {
        "to_directory": (public_path / "real", "bin/reload.sh"),
        "to_program": (Path("real/../real/bin/reload.sh"), ""),
    }
    (public_path / "links").mkdir()
    for name, (target, rest) in ways.items():
        link = public_path / name
        link.symlink_to(target)
        (public_path / "links" / name).symlink_to(f"../{name}")
        for way in (link / rest, public_path / "links" / name / rest):
            assert not refusal(way)
            for directory in (
                path.parent,
                path.parent.parent,
                *([way.parent] if "links" in str(way) and not rest else []),
            ):
                directory.chmod(0o777)
                assert "everybody can replace it" in refusal(way), (way, directory)
                directory.chmod(0o755)


@needs_root
def test_a_link_of_a_stranger_decides_what_is_run(public_path: Path) -> None:
    """In a sticky directory only its owner can exchange it, and that is who."""
    path = program(public_path / "bin")
    shared = public_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    link = shared / "reload"
    link.symlink_to(path)
    assert not refusal(link)
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    assert f"{link}: it belongs to uid {STRANGER}" in refusal(link)
    assert f"`chown -h root {link}`" in refusal(link)


def test_a_program_that_is_not_there_is_refused(public_path: Path) -> None:
    """Else somebody could put it there, in a sticky directory, between the look and the exec; so could a circle's."""
    assert "No such file" in refusal(public_path / "missing")
    (public_path / "a").symlink_to("b")
    (public_path / "b").symlink_to("a")
    assert "too many symbolic links" in refusal(public_path / "a")


@needs_root
def test_a_hook_that_is_exchanged_all_the_time_never_runs_the_strangers(public_path: Path) -> None:
    """The owner of its directory exchanges root's hook with their own as fast as they can: theirs never runs as root."""
    path = program(public_path / "hooks")
    os.chown(path.parent, STRANGER, STRANGER)
    proof = public_path / "proof"
    libc, pid = ctypes.CDLL(None, use_errno=True), os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(STRANGER)
        os.setuid(STRANGER)
        evil = path.with_name("evil")
        evil.write_text(f"#!/bin/sh\nid -u > {proof}\n")
        evil.chmod(0o755)
        while True:
            libc.renameat2(-100, str(path).encode(), -100, str(evil).encode(), 2)  # RENAME_EXCHANGE
    try:
        for _ in range(50):
            with pytest.raises(NotifyError, match="decides what root runs"):
                ExecNotifier(ExecSettings(type="exec", command=(str(path),))).tell(EVENT, threading.Event())
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not proof.exists()


@needs_root
def test_probes_and_commands_of_providers_are_held_to_the_same(public_path: Path) -> None:
    """A pickup probe and the provider `process` run with the agent's rights too."""
    path = program(public_path / "hooks")
    settings = PickupSettings(command=(str(path),))
    assert probe_problem(settings) is None
    assert probe(settings, threading.Event())
    (path.parent / "ran").unlink()
    os.chown(path.parent, STRANGER, STRANGER)
    assert not probe(settings, threading.Event())
    assert "decides what root runs" in str(probe_problem(settings))
    with pytest.raises(CredentialFileError, match="decides what root runs"):
        refuse_if_foreign(str(path))
    assert not (path.parent / "ran").exists()
