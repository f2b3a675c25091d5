"""One keyturn at a time on one state directory."""

import fcntl
import os

import pytest

from agent.core.errors import BusyError, NotPermittedError, StateError
from agent.system.lock import StateLock
from tests.support.processes import in_child


def test_the_second_is_refused_and_told_who_holds_it(tmp_path):
    """The sentence names the directory and the pid of the holder."""
    lock = StateLock(tmp_path)
    with pytest.raises(BusyError, match=rf"{tmp_path}: another keyturn \(pid {os.getpid()}\)"):
        StateLock(tmp_path)
    lock.release()
    StateLock(tmp_path).release()


def test_who_removes_the_file_lets_nobody_in(tmp_path):
    """The directory itself is locked too; the sentence then says how to find the holder."""
    lock = StateLock(tmp_path)
    (tmp_path / "lock").unlink()
    for _ in range(2):
        with pytest.raises(BusyError, match=f"{tmp_path}: another keyturn works on this") as caught:
            StateLock(tmp_path)
        assert "lslocks" in caught.value.remedy
    lock.release()
    StateLock(tmp_path).release()


def test_a_keyturn_that_locks_the_file_alone_is_respected(tmp_path):
    """An older version may run while this one is started by hand."""
    with (tmp_path / "lock").open("w+") as file:
        file.write("4711\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match=r"another keyturn \(pid 4711\)"):
            StateLock(tmp_path)
    StateLock(tmp_path).release()


def test_a_link_to_the_directory_is_the_same_directory(tmp_path):
    """systemd's DynamicUser= makes /var/lib/keyturn one."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    lock = StateLock(tmp_path / "real")
    (tmp_path / "real" / "lock").unlink()
    with pytest.raises(BusyError):
        StateLock(tmp_path / "link")
    lock.release()


def test_a_holder_that_dies_leaves_no_lock(tmp_path):
    """kill -9 frees the directory: nothing to clean up by hand."""

    def hold():
        StateLock(tmp_path)
        os.kill(os.getpid(), 9)

    assert in_child(hold) == -9
    StateLock(tmp_path).release()


def test_a_symlink_in_its_place_is_refused(tmp_path):
    """The lock is never made through a link."""
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError):
        StateLock(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_directory_of_somebody_else_is_not_permitted(public_path):
    """The sentence says as whom keyturn should run."""
    public_path.chmod(0o700)

    def take():
        with pytest.raises(NotPermittedError, match="65534"):
            StateLock(public_path)

    assert in_child(take, user=65534) == 0
