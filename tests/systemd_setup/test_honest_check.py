"""`check` and the daemon go by what the process may do, and not by whether it is root."""

from __future__ import annotations

import errno
import grp
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.control.runtime_directory import RuntimeDirectory
from agent.control.server import ControlServer
from agent.core.errors import CredentialFileError
from agent.notifiers.exec_command import ExecNotifier, ExecSettings
from agent.notifiers.signal_process import SignalNotifier, SignalSettings
from agent.system import files, free_space

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="plays another user")


@contextmanager
def nobody() -> Iterator[None]:
    """As a user without capabilities, until the end."""
    os.setresuid(65534, 65534, 0)  # kill(2) goes by the real uid too
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@only_root
def test_check_says_that_a_command_cannot_run_as_somebody_else() -> None:
    """The daemon would find out at the first rotation."""
    notifier = ExecNotifier(ExecSettings(type="exec", command=("/bin/true",), user="root"))
    assert [each.level for each in notifier.inspect()] == ["ok"]
    with nobody():
        (finding,) = notifier.inspect()
    assert finding.level == "error" and "may not run a command as root" in finding.text
    assert "systemd-setup --install" in finding.remedy


@only_root
def test_check_says_that_a_process_cannot_be_signalled(public_path: Path) -> None:
    """Asked with signal 0, which reaches nobody: the process lives on."""
    process = subprocess.Popen(["sleep", "60"])
    pid_file = public_path / "pid"
    pid_file.write_text(f"{process.pid}\n")
    notifier = SignalNotifier(SignalSettings(type="signal", pid_file=pid_file, signal="SIGKILL"))  # type: ignore[arg-type]
    try:
        assert [each.level for each in notifier.inspect()] == ["ok"]
        with nobody():
            (finding,) = notifier.inspect()
        assert finding.level == "error" and "may not signal" in finding.text
        assert "systemd-setup --install" in finding.remedy and process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_the_socket_of_an_own_group_needs_no_chown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox refuses chown(2) to a service that has no use for it; its own group is let in all the same."""

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "seccomp")

    monkeypatch.setattr(os, "chown", refused)
    server = ControlServer(RuntimeDirectory(tmp_path), grp.getgrgid(os.getegid()).gr_name, lambda *_: ({}, 0))
    try:
        assert server.path.stat().st_mode & 0o777 == 0o660
    finally:
        server.close()


def test_the_socket_stays_private_where_it_cannot_be_given_to_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the daemon starts."""
    monkeypatch.setattr("agent.control.runtime_directory.may_give", lambda *_: False)
    server = ControlServer(RuntimeDirectory(tmp_path), "nogroup", lambda *_: ({}, 0))
    try:
        assert server.path.stat().st_mode & 0o777 == 0o600
    finally:
        server.close()


@pytest.mark.parametrize(("may", "number"), [(True, None), (False, errno.ENOSPC)])
def test_the_reserve_of_a_file_system_is_for_the_capability(
    may: bool, number: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that only CAP_SYS_RESOURCE may take are no room for a service without it."""
    found = os.statvfs_result((4096, 4096, 1000, 100, 0, 1000, 100, 100, 0, 255))
    monkeypatch.setattr(free_space, "holds", lambda *_: may)
    assert free_space._number(found) == number


def test_the_mark_of_a_missing_credential_is_no_secret(tmp_path: Path) -> None:
    """Said in one sentence, with the place where the file belongs; elsewhere the same bytes are bytes."""
    file = tmp_path / "client_key_password"
    file.write_bytes(files.MISSING_CREDENTIAL + b"\n")
    file.chmod(0o400)
    with pytest.raises(CredentialFileError) as caught:
        files.read_private(file, 100, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert "missing" in caught.value.problem and "/etc/keyturn/client_key_password" in caught.value.remedy
    assert files.read_private(file, 100, {}).startswith(files.MISSING_CREDENTIAL)


@only_root
def test_root_looks_at_a_credential_of_the_service_and_at_no_other_users_file(tmp_path: Path) -> None:
    """systemd gives the copy to the service's user; what lies elsewhere its owner could exchange."""
    file = tmp_path / "secret"
    file.write_bytes(b"x")
    file.chmod(0o400)
    os.chown(file, 23001, 23001)
    with pytest.raises(CredentialFileError, match="belongs to"):
        files.read_private(file, 100, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    files._refuse_public(file.stat(), "/run/credentials/keyturn.service/secret", True, None)
    with pytest.raises(CredentialFileError, match="belongs to"):
        files._refuse_public(file.stat(), "/run/credentials/keyturn.service/secret", False, None)
