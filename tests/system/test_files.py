"""Bounded and private reads, and files of our own that are whole or not there."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.core.errors import CredentialFileError, NotPermittedError
from agent.system import files
from agent.system.trusted_directory import open_directory

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
needs_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


def test_an_atomic_write_replaces_content_and_mode(tmp_path: Path) -> None:
    """The old file's mode does not survive, and nothing is left beside it."""
    path = tmp_path / "state.json"
    path.write_text("old")
    path.chmod(0o666)
    files.write_atomic(path, b"new")
    assert path.read_bytes() == b"new" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["state.json"]


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    """A textfile for the node exporter must be readable even under a strict umask."""
    before = os.umask(0o077)
    try:
        files.write_atomic(tmp_path / "a.prom", b"x", 0o644)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.prom").stat().st_mode) == 0o644


def test_a_new_file_is_closed_from_its_first_instant(tmp_path: Path) -> None:
    """Right after the kernel made it, before its mode is set, nobody else can open it, even under umask 0."""
    seen: list[int] = []
    real = fcntl.flock

    def watching(fd: int, operation: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(fd).st_mode))
        real(fd, operation)

    before = os.umask(0)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fcntl, "flock", watching)
            files.write_atomic(tmp_path / "a", b"x", 0o640)
    finally:
        os.umask(before)
    assert seen == [0o600]


def test_a_failed_atomic_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    """The target cannot be replaced by a rename: old content stays, no temporary file does."""
    path = tmp_path / "state.json"
    path.mkdir()
    with pytest.raises(OSError):
        files.write_atomic(path, b"new")
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_real_full_disk_leaves_the_old_file_alone(tmp_path: Path) -> None:
    """A write beyond the file size limit fails in the kernel; the old content stays."""
    path = tmp_path / "state.json"
    files.write_atomic(path, b"old")
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from agent.system import files\n"
        "try: files.write_atomic(sys.argv[1], b'x' * 10000)\n"
        "except OSError as error: print(error.errno)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "27"  # EFBIG
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["state.json"]


def test_a_long_name_still_has_a_temporary_one(tmp_path: Path) -> None:
    """A name as long as the file system allows can be written."""
    path = tmp_path / ("n" * 255)
    files.write_atomic(path, b"x")
    assert path.read_bytes() == b"x"


def test_a_bounded_read_says_none_for_nothing(tmp_path: Path) -> None:
    """A missing file is an answer, not an error."""
    assert files.read_regular(tmp_path / "none", 10) is None


def test_a_bounded_read_takes_the_limit_and_no_more(tmp_path: Path) -> None:
    """Exactly the limit is fine; one byte more is refused."""
    path = tmp_path / "a"
    path.write_bytes(b"x" * 100_000)
    assert files.read_regular(path, 100_000) == b"x" * 100_000
    with pytest.raises(files.TooLargeError):
        files.read_regular(path, 99_999)


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_a_bounded_read_refuses_what_is_no_regular_file(tmp_path: Path, kind: str) -> None:
    """No link is followed and no FIFO waited for."""
    path = tmp_path / "a"
    if kind == "link":
        path.symlink_to("/etc/hostname")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(files.NotRegularError):
        files.read_regular(path, 10)


def secret(path: Path, mode: int = 0o600) -> Path:
    path.write_text("hunter2")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_is_read(tmp_path: Path, mode: int) -> None:
    """Only the owner is let in: fine."""
    assert files.read_private(secret(tmp_path / "key", mode), 100) == b"hunter2"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_a_file_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    """The remedy is the very command; the secret is not in the text."""
    path = secret(tmp_path / "my key", mode)
    with pytest.raises(CredentialFileError) as caught:
        files.read_private(path, 100, {})
    assert caught.value.remedy == f"chmod 600 '{path}'"
    assert f"{mode:04o}" in caught.value.problem and "hunter2" not in str(caught.value)


def test_links_to_private_files_are_followed(tmp_path: Path) -> None:
    """Kubernetes hands secrets out through links."""
    secret(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    assert files.read_private(tmp_path / "link", 100) == b"hunter2"


@needs_root
def test_a_systemd_credential_may_be_group_readable(tmp_path: Path) -> None:
    """systemd's ACL shows as 0440; outside of that directory, or for others, it stays refused."""
    path = secret(tmp_path / "key", 0o440)
    assert files.read_private(path, 100, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == b"hunter2"
    for environ in ({}, {"CREDENTIALS_DIRECTORY": str(tmp_path / "other")}):
        with pytest.raises(CredentialFileError):
            files.read_private(path, 100, environ)
    path.chmod(0o444)
    with pytest.raises(CredentialFileError):
        files.read_private(path, 100, {"CREDENTIALS_DIRECTORY": str(tmp_path)})


@needs_root
def test_a_secret_that_somebody_else_owns_is_refused(tmp_path: Path) -> None:
    """Its owner could change it."""
    path = secret(tmp_path / "key")
    os.chown(path, 12345, 12345)
    with pytest.raises(CredentialFileError, match="belongs to user uid 12345") as caught:
        files.read_private(path, 100)
    assert caught.value.remedy == f"chown root {path}"


@needs_user
def test_a_secret_that_may_not_be_read_names_the_user(tmp_path: Path) -> None:
    """The operator learns as whom keyturn tried."""
    with pytest.raises(NotPermittedError, match="may not read this file"):
        files.read_private(secret(tmp_path / "key", 0o000), 100)


@pytest.mark.parametrize(("name", "what"), [("none", "missing"), (".", "not a regular file"), ("big", "larger than 3")])
def test_other_faults_of_a_secret_are_sentences(tmp_path: Path, name: str, what: str) -> None:
    """Missing, a directory, too large: each is said, with the path."""
    secret(tmp_path / "big")
    with pytest.raises((CredentialFileError, NotPermittedError), match=what) as caught:
        files.read_private(tmp_path / name, 3)
    assert str(tmp_path) in str(caught.value) and caught.value.remedy


def test_a_fifo_in_place_of_a_secret_does_not_block(tmp_path: Path) -> None:
    """Whoever can plant a FIFO must not stop the agent."""
    os.mkfifo(tmp_path / "key", 0o600)
    with pytest.raises(CredentialFileError, match="not a regular file"):
        files.read_private(tmp_path / "key", 100)


def test_sweep_removes_a_dead_process_leftovers_only(tmp_path: Path) -> None:
    """A lock tells a crashed run from a living one."""
    dead, living = tmp_path / files.temp_name("a"), files.temp_name("b")
    dead.write_text("x")
    with open_directory(str(tmp_path)) as directory:
        fd = files.create(living, 0o600, directory.fd)
        assert files.sweep(directory) == [dead.name]
        os.close(fd)
        assert files.sweep(directory, keep=[living]) == []
        assert files.sweep(directory) == [living]


@needs_root
def test_sweep_leaves_the_files_of_strangers(tmp_path: Path) -> None:
    """A file with a name like ours that somebody else owns is none of our business, unless we gave it to them."""
    path = tmp_path / files.temp_name("a")
    path.write_text("x")
    os.chown(path, 12345, 12345)
    with open_directory(str(tmp_path)) as directory:
        assert files.sweep(directory) == []
        assert files.sweep(directory, owners=[12345]) == [path.name]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660])
def test_a_file_with_a_secret_is_given_away_without_a_moment_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """Whatever it was: between two calls nobody may open it who may neither before nor after, and it ends as wanted."""
    path = tmp_path / "app.env"
    moments: list[tuple[int, int, int]] = []

    def look() -> None:
        found = path.stat()
        moments.append((found.st_uid, found.st_gid, found.st_mode & 0o777))

    for name, real in {"fchmod": os.fchmod, "fchown": os.fchown}.items():
        monkeypatch.setattr(os, name, lambda *args, real=real: (look(), real(*args), look()))
    for old in [(0, 100, 0o600), (12345, 100, 0o640), (0, 12, 0o644), (12345, 12, 0o660), (0, 100, 0o200)]:
        path.write_text("A=secret\n")
        os.chmod(path, old[2])
        os.chown(path, old[0], old[1])
        fd = os.open(path, os.O_WRONLY)
        moments.clear()
        files.give(fd, mode, (12345, 12))
        os.close(fd)
        look()
        assert moments[-1] == (12345, 12, mode)
        for _uid, gid, seen in moments:
            ends = [end for end in (old, (12345, 12, mode)) if end[1] == gid]
            assert any(seen & 0o070 & ~end[2] == 0 for end in ends), (old, moments)
            assert seen & 0o007 & ~old[2] == 0, (old, moments)
