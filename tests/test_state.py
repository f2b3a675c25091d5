"""What is remembered: never a secret, never half a record."""

import os
from datetime import UTC, datetime

import pytest

from agent.core.errors import NotPermittedError, StateError
from agent.core.events import Trigger
from agent.state import CredentialState, Debt, Published, RotationJournal, StateStore

NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)


@pytest.fixture
def store(tmp_path):
    store = StateStore(tmp_path / "state")
    store.prepare()
    return store


def full():
    return CredentialState(
        published=Published(3, "LTAI3", "LTAI2", "v3", NOW, NOW, NOW, "verified", "uploader"),
        debts=[Debt(("systemd", "uploader.service", "reload"), 3, NOW, Trigger.POLL, 2)],
        last_outcome={"systemd uploader.service reload": "failed: x"},
        last_success_at=NOW,
        consecutive_failures=2,
        last_error="source down",
        rotation=RotationJournal("v4", NOW, "leak", "LTAI3", True),
        rotations=[NOW],
        journal=[{"directory": "/etc", "temp": ".x", "target": "x"}],
        before=Published(2, "LTAI2"),
    )


def test_everything_comes_back(store):
    """A record is read as it was written."""
    store.save("uploader", full())
    state, remark = store.load("uploader")
    assert (state, remark) == (full(), "")
    assert store.peek("uploader") == full()


def test_an_unknown_credential_is_empty(store):
    """The first start finds nothing, and says nothing."""
    assert store.load("new") == (CredentialState(), "")
    assert CredentialState().known_value() is None


def test_fresh_states_share_nothing():
    """Two credentials never share a list of debts."""
    one, other = CredentialState(), CredentialState()
    one.debts.append(full().debts[0])
    assert other.debts == []


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
    assert state == CredentialState()
    assert "damaged" in remark and str(path) in remark
    assert path.with_suffix(".unreadable").read_bytes() == content
    assert not path.exists()


def test_a_failed_write_leaves_the_record_before(store, monkeypatch):
    """When the disk is full the old record stays, and the error names the file and the remedy."""
    store.save("uploader", full())

    def no_space(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    monkeypatch.setattr(os, "fdatasync", no_space)
    with pytest.raises(StateError, match=r"uploader\.state.*No space left.*free space"):
        store.save("uploader", CredentialState())
    monkeypatch.undo()
    assert store.load("uploader")[0] == full()
    assert [path.name for path in (store.directory / "credentials").iterdir()] == ["uploader.state"]


def test_a_state_directory_that_cannot_be_made_names_the_remedy(tmp_path):
    """The error says which directory and how to make it."""
    with pytest.raises(StateError, match="install -d"):
        StateStore(tmp_path / "a" / "b").prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_somebody_elses_state_is_not_permitted(store):
    """Another user gets a sentence and exit 77, not a traceback."""
    store.save("uploader", full())
    pid = os.fork()
    if pid == 0:
        os.setresuid(65534, 65534, 65534)
        try:
            store.load("uploader")
        except NotPermittedError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
