"""What is remembered: never a secret, never half a record."""

import os
from datetime import UTC, datetime

import pytest

from agent.core.errors import NotPermittedError, StateError
from agent.core.events import Trigger
from agent.state.credential_state import CredentialState
from agent.state.health_record import HealthRecord
from agent.state.records import CredentialRecord, Debt, Published, RotationEnd, RotationJournal
from agent.state.store import MAX_RECORD_BYTES, StateStore
from tests.support.processes import in_child

NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)


@pytest.fixture
def store(tmp_path):
    store = StateStore(tmp_path / "state")
    store.prepare()
    return store


def full():
    return CredentialState.of(record_of_all())


def record_of_all():
    return CredentialRecord(
        published=Published(3, "LTAI3", "LTAI2", "v3", NOW, NOW, NOW, "verified", "uploader"),
        debts=[Debt(("systemd", "uploader.service", "reload"), 3, NOW, Trigger.POLL, 2)],
        last_outcome={"systemd uploader.service reload": "failed: x"},
        last_success_at=NOW,
        consecutive_failures=2,
        last_error="source down",
        rotation=RotationJournal("v4", NOW, "leak", "LTAI3", True, "InvalidAccessKeyId.Inactive"),
        rotations=[NOW],
        rotation_end=RotationEnd(NOW, "alice", "leak", "LTAI2", "LTAI3", "disabled", True),
        journal=[{"directory": "/etc", "temp": ".x", "target": "x"}],
        before=Published(2, "LTAI2"),
    )


def test_everything_comes_back(store):
    """A record is read as it was written."""
    store.save("uploader", full())
    state, remark = store.load("uploader")
    assert (state.record(), remark) == (record_of_all(), "")
    assert store.peek("uploader").record() == record_of_all()


def test_an_unknown_credential_is_empty(store):
    """The first start finds nothing, and says nothing."""
    state, remark = store.load("new")
    assert (state.record(), remark) == (CredentialRecord(), "")
    assert state.published.without_secrets() is None


def test_fresh_states_share_nothing():
    """Two credentials never share a list of debts."""
    one, other = CredentialState(), CredentialState()
    one.ledger.replace(full().debts)
    assert other.debts == ()


def test_records_are_private(store):
    """Directory and records are closed to everybody else."""
    store.save("uploader", full())
    for path in (store.directory, store.directory / "credentials", store.directory / "credentials" / "uploader.state"):
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"published":7}', b"\xff", b'{"debts":[{}]}'])
def test_a_damaged_record_is_set_aside_and_said(store, content):
    """A damaged record costs no start; it is kept for a look."""
    path = store.directory / "credentials" / "uploader.state"
    path.write_bytes(content)
    state, remark = store.load("uploader")
    assert state.record() == CredentialRecord()
    assert "damaged" in remark and str(path) in remark
    assert path.with_suffix(".unreadable").read_bytes() == content
    assert not path.exists()


@pytest.mark.parametrize("make", ["giant", "link", "fifo", "directory"])
def test_whatever_stands_in_a_records_place_is_set_aside_and_said(store, make):
    """A record too large to be ours, or no file at all, costs no start either, and the next one can be written."""
    path = store.directory / "credentials" / "uploader.state"
    if make == "giant":
        with path.open("wb") as file:
            file.truncate(64 * MAX_RECORD_BYTES)
    else:
        {"link": lambda: path.symlink_to("/etc/passwd"), "fifo": lambda: os.mkfifo(path), "directory": path.mkdir}[
            make
        ]()
    assert store.peek("uploader").record() == CredentialRecord()
    state, remark = store.load("uploader")
    assert state.record() == CredentialRecord() and str(path) in remark
    assert os.path.lexists(path.with_suffix(".unreadable")) and not os.path.lexists(path)
    store.save("uploader", full())
    state, remark = store.load("uploader")
    assert (state.record(), remark) == (record_of_all(), "")


def test_what_cannot_be_set_aside_has_its_sentence(store):
    """No bare OSError ends the start."""
    path = store.directory / "credentials" / "uploader.state"
    path.write_bytes(b"{")
    path.with_suffix(".unreadable").mkdir()
    with pytest.raises(StateError, match=r"uploader\.state: the record is damaged and cannot be set aside"):
        store.load("uploader")


@pytest.mark.parametrize("size", [100_000, 600_000, MAX_RECORD_BYTES - 1000])
def test_every_record_that_is_written_can_be_read(store, size):
    """The file of a large record, with its two slots, is larger than the record, and still no obstacle."""
    for number in range(3):
        state = CredentialState(health=HealthRecord(last_error="x" * size, failures=number))
        store.save("uploader", state)
        found, remark = store.load("uploader")
        assert (found.record(), remark) == (state.record(), "")
        assert store.peek("uploader").record() == state.record()


def test_a_record_that_could_not_be_read_is_not_written(store):
    """The record before stays, and the error names the file."""
    store.save("uploader", full())
    with pytest.raises(StateError, match=r"uploader\.state.*larger than"):
        store.save("uploader", CredentialState(health=HealthRecord(last_error="x" * MAX_RECORD_BYTES)))
    state, remark = store.load("uploader")
    assert (state.record(), remark) == (record_of_all(), "")


@pytest.mark.parametrize("which", [".", "credentials"])
@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_state_directory_that_others_can_write_is_refused(store, which, mode):
    """Its records say which file takes a sink's place after a crash: nobody else may write them."""
    path = store.directory / which
    path.chmod(mode)
    with pytest.raises(StateError, match="lets others than its owner change it") as caught:
        store.prepare()
    assert caught.value.remedy == f"chmod go-w {path}"
    path.chmod(0o755)
    store.prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a directory away")
@pytest.mark.parametrize("which", [".", "credentials"])
def test_a_state_directory_of_somebody_else_is_refused(store, which):
    """Its owner can put any record there, whatever its mode says."""
    path = store.directory / which
    os.chown(path, 65534, -1)
    with pytest.raises(StateError, match="who could change it") as caught:
        store.prepare()
    assert caught.value.remedy.endswith(f"chown root {path}")
    assert "sudo -u nobody keyturn" in caught.value.remedy


def test_a_failed_write_leaves_the_record_before(store, monkeypatch):
    """When the disk is full the old record stays, and the error names the file and the remedy."""
    store.save("uploader", full())

    def no_space(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    monkeypatch.setattr(os, "fdatasync", no_space)
    with pytest.raises(StateError, match=r"uploader\.state.*file system is full.*free some space"):
        store.save("uploader", CredentialState())
    monkeypatch.undo()
    assert store.load("uploader")[0].record() == record_of_all()
    assert [path.name for path in (store.directory / "credentials").iterdir()] == ["uploader.state"]


def test_a_state_directory_that_cannot_be_made_names_the_remedy(tmp_path):
    """The error says which directory and how to make it."""
    with pytest.raises(StateError, match="install -d"):
        StateStore(tmp_path / "a" / "b").prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_somebody_elses_state_is_not_permitted(store):
    """Another user gets a sentence and exit 77, not a traceback."""
    store.save("uploader", full())

    def load():
        with pytest.raises(NotPermittedError):
            store.load("uploader")

    assert in_child(load, user=65534) == 0
