"""What 0.1.0 left on disk is read, finished and gone on with by the present code."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.audit.head import read_head
from agent.audit.log import AuditLog
from agent.audit.proof import verify
from agent.core.events import Event
from agent.core.notify_outcome import NotifyOutcome, NotifyResult
from agent.state.records import CredentialRecord
from agent.state.store import StateStore
from agent.system.two_slot_file import SlotFile, read_slots
from tests.support.bench import Bench
from tests.support.fakes import FakeDependent, key

WRITTEN = Path(__file__).parent / "written_by_0_1_0"
BEGUN = datetime(2026, 11, 22, 12, 0, 3, tzinfo=UTC)


@pytest.fixture
def found(tmp_path: Path) -> Path:
    """A directory with everything, as a `Bench` lays it out."""
    (tmp_path / "state" / "credentials").mkdir(parents=True, mode=0o700)
    shutil.copy(WRITTEN / "audit.jsonl", tmp_path)
    shutil.copy(WRITTEN / "audit-head", tmp_path / "state")
    for record in WRITTEN.glob("*.state"):
        shutil.copy(record, tmp_path / "state" / "credentials")
    for path in (tmp_path / "state", tmp_path / "state" / "credentials"):
        path.chmod(0o700)
    return tmp_path


def test_each_state_is_read_as_it_was_meant(found: Path) -> None:
    """Outcomes that were sentences are types now, and say the same."""
    store = StateStore(found / "state")
    told, owed, given_up, failing = (store.load(name)[0] for name in ("told", "owed", "gave-up", "failing"))
    (outcome,) = told.ledger.outcomes.values()
    assert outcome == NotifyOutcome(NotifyResult.TOLD_IN_VAIN, "its environment stays; restart it")
    assert told.ledger.pickup_of(("fake", "web")) == "assumed" and not told.debts
    assert [(debt.identity, debt.generation, debt.attempts) for debt in owed.debts] == [(("fake", "web3"), 1, 1)]
    assert owed.ledger.outcome_of(("fake", "web3")) == NotifyOutcome(NotifyResult.FAILED, "web3: it is down; mend it")
    assert given_up.ledger.given_up == (("fake", "web2"),)
    assert (failing.health.failures, failing.health.last_error) == (1, "credentials.failing: the source is down; wait")
    rotation = store.load("rotating")[0].rotation
    assert rotation.unfinished is not None and rotation.unfinished.asked
    assert (rotation.unfinished.reason, rotation.counted(BEGUN)) == ("key on a public repo", (BEGUN,))


@pytest.mark.parametrize("record", sorted(WRITTEN.glob("*.state")), ids=lambda path: path.stem)
def test_a_state_that_is_read_and_written_again_says_the_same(found: Path, record: Path) -> None:
    """An older keyturn could go on with what this one writes."""
    store = StateStore(found / "state")
    before = read_slots(record, 1 << 20)
    state, remark = store.load(record.stem)
    assert remark == ""
    store.save(record.stem, state)
    after = read_slots(found / "state" / "credentials" / record.name, 1 << 20)
    assert json.loads(after or b"") == json.loads(before or b"")


def test_the_audit_log_is_whole_and_goes_on(found: Path) -> None:
    """Its chain is verified from the first record, and the next one continues it."""
    path, head = found / "audit.jsonl", found / "state" / "audit-head"
    assert verify(path, read_head(head)).whole
    log = AuditLog(path, head, lambda: BEGUN)
    assert log.remarks == []
    log.record(Event.AGENT_STARTED)
    log.close()
    assert verify(path, read_head(head)).whole


@pytest.mark.parametrize("staged", ["there", "gone"])
def test_an_interrupted_publish_is_finished_or_undone(found: Path, staged: str) -> None:
    """With the staged files: rolled forward, and told. Without them: back to generation 1, and 2 is not given out again."""
    record = found / "state" / "credentials" / "interrupted.state"
    _lay_out(found, record, with_staged=staged == "there")
    bench = Bench(found)
    web = FakeDependent("web4")
    managed = bench.managed("interrupted", notify=[web])
    bench.begin(managed)
    generation = 2 if staged == "there" else 1
    assert managed.state.published.generation == generation
    assert managed.state.published.access_key_id == key(generation).access_key_id
    assert managed.state.journal.next_generation == 3
    held = {json.loads(bench.sink("interrupted", number).read_text())["AccessKeyId"] for number in (0, 1)}
    assert held == {key(generation).access_key_id}
    assert not [path for path in found.iterdir() if ".keyturn-" in path.name]
    bench.move(3)
    assert web.generations == [generation]
    (recovered,) = bench.records("publish_recovered")
    assert recovered["outcome"] == ("rolled forward" if staged == "there" else "rolled back")
    bench.close()


def _lay_out(directory: Path, record: Path, *, with_staged: bool) -> None:
    """Make the files that the journal names, and let it name them: inode numbers and times are of this machine."""
    journal = json.loads(read_slots(record, 1 << 20) or b"")
    for entry in journal["journal"]:
        target, temp = directory / entry["target"], directory / entry["temp"]
        target.write_text(_content(1))
        target.chmod(0o600)
        found = target.stat()
        entry |= {"directory": str(directory), "before": [found.st_ino, found.st_size, found.st_mtime_ns]}
        if with_staged:
            temp.write_text(_content(2))
            temp.chmod(0o600)
            staged = temp.stat()
            entry |= {"inode": staged.st_ino, "size": staged.st_size, "mtime_ns": staged.st_mtime_ns}
    with_paths = SlotFile(record)
    with_paths.write(json.dumps(journal).encode(), flush=True)
    with_paths.close()


def _content(number: int) -> str:
    value = key(number)
    secret = value.access_key_secret
    assert secret is not None
    return json.dumps({"Code": "Success", "AccessKeyId": value.access_key_id, "AccessKeySecret": secret.reveal()})


def test_a_record_without_anything_is_an_empty_state() -> None:
    """What 0.1.0 left out because it was the default is the default still."""
    record = CredentialRecord()
    assert (record.debts, record.journal, record.spent, record.published.generation) == ([], [], 0, 0)
