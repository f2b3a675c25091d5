"""The audit log: every tampering is found and named; no crash breaks it."""

import errno
import gzip
import io
import json
import os
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.audit import reader
from agent.audit.chain import canonical, digest
from agent.audit.head import Head, read_head
from agent.audit.log import AuditLog
from agent.audit.origin import Origin
from agent.audit.proof import verify
from agent.audit.recent import passed_over
from agent.core.errors import AuditError, BusyError
from agent.core.events import Event
from agent.logs import setup
from agent.system.two_slot_file import SlotFile

NOW = datetime(2026, 11, 22, 3, 4, 5, 678901, tzinfo=UTC)


class Trail:
    """A log in a directory, reopened at will."""

    def __init__(self, directory):
        self.path = directory / "audit.jsonl"
        self.head_path = directory / "audit-head"
        self.log = self.open()

    def open(self):
        return AuditLog(self.path, self.head_path, lambda: NOW)

    def die(self):
        """As if killed: nothing is said, and the lock is gone."""
        os.close(self.log._file.fd)
        self.log._file.fd = -1
        self.log._memory.close()

    def fill(self, count):
        for number in range(count):
            self.log.record(Event.PUBLISHED, credential="uploader", generation=number + 1)

    @property
    def lines(self):
        return self.path.read_bytes().splitlines(keepends=True)

    def rewrite(self, lines):
        self.path.write_bytes(b"".join(lines))

    @property
    def problems(self):
        return verify(self.path, read_head(self.head_path)).problems


@pytest.fixture
def trail(tmp_path):
    return Trail(tmp_path)


def test_a_record_is_canonical_json_with_its_hash(trail):
    """Anybody can check a record with a JSON library and SHA-256: sorted keys, no spaces, UTF-8 unescaped."""
    trail.log.record(Event.ROTATION_REQUESTED, credential="uploader", reason="Schlüssel öffentlich", error=None)
    (line,) = trail.lines
    record = json.loads(line)
    assert line == canonical(record) + b"\n"
    assert record.pop("hash") == digest(record)
    assert "Schlüssel".encode() in line
    assert record == {
        "seq": 1,
        "time": "2026-11-22T03:04:05.678901Z",
        "event": "rotation_requested",
        "credential": "uploader",
        "reason": "Schlüssel öffentlich",
        "prev": "0" * 64,
    }


def test_records_name_the_host_and_some_the_version_and_the_config(tmp_path):
    """Those of a new key, and where version and config change; a reload is in the record that tells of it."""
    log = AuditLog(tmp_path / "log", tmp_path / "head", lambda: NOW, Origin("vm1", "0.3.0", "sha256:one"))
    records = [log.record(Event.AGENT_STARTED), log.record(Event.NOTIFIED)]
    log.follow_config("sha256:two")
    records += [log.record(Event.CONFIG_RELOADED), log.record(Event.PUBLISHED), log.record(Event.ROTATION_STARTED)]
    assert [(each["host"], each.get("agent_version"), each.get("config")) for each in records] == [
        ("vm1", "0.3.0", "sha256:one"),
        ("vm1", None, None),
        *[("vm1", "0.3.0", "sha256:two")] * 3,
    ]
    assert verify(tmp_path / "log", read_head(tmp_path / "head")).whole


def test_the_log_and_head_are_not_readable_by_others(trail):
    """The audit names keys and people: others do not read it."""
    trail.fill(1)
    assert trail.path.stat().st_mode & 0o007 == 0
    assert trail.head_path.stat().st_mode & 0o077 == 0


def test_an_untouched_log_is_whole(trail):
    """Records written over several runs verify."""
    trail.fill(3)
    trail.log.close()
    trail.log = trail.open()
    trail.fill(2)
    assert trail.problems == ()
    assert verify(trail.path, read_head(trail.head_path)).records == 5


TAMPERINGS = {
    "an edited record": (
        lambda ls: [*ls[:2], ls[2].replace(b"uploader", b"download"), *ls[3:]],
        ":3: seq 3: the record was edited",
    ),
    "a removed record": (lambda ls: [*ls[:2], *ls[3:]], ":3: seq 3 removed"),
    "two removed records": (lambda ls: [ls[0], *ls[3:]], ":2: seq 2 to 3 removed"),
    "two records swapped": (lambda ls: [ls[0], ls[2], ls[1], *ls[3:]], "out of order"),
    "a removed tail": (lambda ls: ls[:3], "the end is missing: seq 4 to 5"),
    "a removed head": (lambda ls: ls[2:], ":1: seq 1 to 2 removed"),
    "a cut line": (lambda ls: [*ls[:2], ls[2][:40] + b"\n", *ls[3:]], ":3: not a whole record"),
    "an emptied log": (lambda ls: [], "the end is missing: seq 1 to 5"),
    "a repeated record": (lambda ls: [*ls[:2], ls[1], *ls[2:]], ":3: seq 2: out of order"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_every_tampering_is_found_and_named(trail, name):
    """The verdict names the file, the line and the record."""
    trail.fill(5)
    change, words = TAMPERINGS[name]
    trail.rewrite(change(trail.lines))
    assert any(words in problem for problem in trail.problems), trail.problems


def test_a_rewritten_record_with_a_right_hash_breaks_the_chain(trail):
    """Who edits a record and recomputes its hash is given away by the next record."""
    trail.fill(3)
    lines = trail.lines
    forged = json.loads(lines[1])
    forged["credential"] = "other"
    forged["hash"] = digest(forged)
    trail.rewrite([lines[0], canonical(forged) + b"\n", lines[2]])
    assert any("seq 3: does not follow" in problem for problem in trail.problems)


def test_a_rewritten_last_record_is_found_by_the_head(trail):
    """The newest record has no successor; the state remembers its hash."""
    trail.fill(2)
    forged = json.loads(trail.lines[1])
    forged["generation"] = 9
    forged["hash"] = digest(forged)
    trail.rewrite([trail.lines[0], canonical(forged) + b"\n"])
    assert any("not the record that the state remembers" in problem for problem in trail.problems)


def test_a_removed_tail_stays_visible_after_more_records(trail):
    """Going on after a removed tail does not heal the gap."""
    trail.fill(4)
    trail.log.close()
    trail.rewrite(trail.lines[:2])
    trail.log = trail.open()
    assert any("ends at seq 2" in remark for remark in trail.log.remarks)
    trail.fill(1)
    assert any("seq 3 to 4 removed" in problem for problem in trail.problems)


def test_a_half_written_last_line_is_set_aside(trail):
    """A crash in the middle of a write costs no start and no whole record; the torn bytes are kept."""
    trail.fill(2)
    trail.log.close()
    with trail.path.open("ab") as stream:
        stream.write(b'{"seq":3,"half')
    trail.log = trail.open()
    (remark,) = trail.log.remarks
    assert "14 bytes was set aside as torn-" in remark
    trail.fill(1)
    assert trail.problems == ()
    assert [file.read_bytes() for file in trail.path.parent.glob("torn-*")] == [b'{"seq":3,"half']


def half_written(patch, fd, *, cut):
    """The next record gets no further than 40 bytes; `cut` says whether they can be taken back, as not with chattr +a."""
    real, left = os.write, [1]

    def short(to, line):
        return real(to, line[:40] if to == fd and left and left.pop() else line)

    def refuse(*_args):
        raise OSError(errno.EPERM, "Operation not permitted")

    patch.setattr(os, "write", short)
    if not cut:
        patch.setattr(os, "ftruncate", refuse)


def test_half_a_record_that_cannot_be_cut_off_breaks_no_chain(trail, monkeypatch):
    """It becomes a line of its own, which `verify` names and nothing else; no record is joined to it or lost."""
    trail.fill(2)
    with monkeypatch.context() as patch:
        half_written(patch, trail.log._file.fd, cut=False)
        with pytest.raises(AuditError, match="No space left"):
            trail.fill(1)
        trail.fill(2)
    (problem,) = trail.problems
    assert problem.endswith(":3: not a whole record")
    assert [record["seq"] for record in reader.read(trail.path, passed_over)] == [1, 2, 3, 4]
    trail.log.close()
    trail.log = trail.open()
    trail.fill(1)
    assert len(trail.problems) == 1


def test_half_a_record_is_cut_off_as_soon_as_that_works(trail, monkeypatch):
    """Nothing of it is left in the log then; what somebody else appended is never cut off."""
    trail.fill(2)
    with monkeypatch.context() as patch:
        half_written(patch, trail.log._file.fd, cut=False)
        with pytest.raises(AuditError):
            trail.fill(1)
    trail.fill(1)
    assert trail.problems == ()
    with trail.path.open("ab") as stream:
        stream.write(b"somebody's")
    trail.fill(1)
    assert trail.problems == (f"{trail.path}:4: not a whole record",)


def test_half_a_record_from_before_the_start_that_cannot_be_cut_off_ends_no_start(trail, monkeypatch):
    """The daemon starts and records; the half record stands in a line of its own, and set aside besides."""
    trail.fill(2)
    trail.log.close()
    with trail.path.open("ab") as stream:
        stream.write(b'{"seq":3,"half')
    with monkeypatch.context() as patch:
        half_written(patch, -1, cut=False)
        trail.log = trail.open()
        trail.fill(1)
    assert trail.problems == (f"{trail.path}:3: not a whole record",)
    assert [record["seq"] for record in reader.read(trail.path, passed_over)] == [1, 2, 3]


@pytest.mark.parametrize("compress", [False, True])
def test_the_chain_goes_on_over_rotated_files(trail, compress):
    """logrotate may rename (and compress) the log at any time; nothing is told, nothing is lost."""
    trail.fill(2)
    rotated = trail.path.with_name("audit.jsonl-20261122")
    trail.path.rename(rotated)
    trail.fill(2)
    if compress:
        target = rotated.with_name(rotated.name + ".gz")
        target.write_bytes(gzip.compress(rotated.read_bytes()))
        rotated.unlink()
    verdict = verify(trail.path, read_head(trail.head_path))
    assert verdict.whole, verdict.problems
    assert (verdict.records, len(verdict.files)) == (4, 2)


def test_an_archived_beginning_can_be_named(trail):
    """Where older files live elsewhere, --from-seq says so; without it their absence is a finding."""
    trail.fill(4)
    trail.rewrite(trail.lines[2:])
    head = read_head(trail.head_path)
    assert not verify(trail.path, head).whole
    assert verify(trail.path, head, first_seq=3).whole


def test_a_lost_head_file_is_survived(trail):
    """Without the head the chain is still checked, and writing goes on from the log's own end."""
    trail.fill(3)
    trail.log.close()
    trail.head_path.unlink()
    trail.log = trail.open()
    trail.fill(1)
    assert trail.log.head.seq == 4
    assert trail.problems == ()


def test_a_full_disk_leaves_no_partial_record(trail, monkeypatch):
    """A record that cannot be written whole is taken back, the error says so, and the next one fits the chain."""
    trail.fill(1)
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
    with pytest.raises(AuditError, match="No space left"):
        trail.fill(1)
    monkeypatch.undo()
    trail.fill(1)
    assert trail.problems == ()


def test_a_failed_flush_is_an_error_and_takes_the_record_back(trail, monkeypatch):
    """A record that may not be on disk is not reported as written."""

    def broken(_fd):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(AuditError, match="Input/output error"):
        trail.fill(1)
    monkeypatch.undo()
    assert trail.lines == []


def test_a_symlink_is_not_followed(tmp_path):
    """The log is never written through a link that somebody put there."""
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuditError):
        Trail(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_missing_directory_names_the_remedy(tmp_path):
    """The error says how to make the directory."""
    with pytest.raises(AuditError, match="install -d"):
        AuditLog(tmp_path / "none" / "audit.jsonl", tmp_path / "head", lambda: NOW)


def test_threads_do_not_break_the_chain(trail):
    """Records of many threads form one chain."""
    threads = [threading.Thread(target=trail.fill, args=(20,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trail.problems == ()
    assert trail.log.head.seq == 160


def test_unknown_fields_cannot_get_in(trail):
    """The record's fields are contract; a slip of ours is found at once, and nothing is written."""
    with pytest.raises(ValueError, match="secret"):
        trail.log.record(Event.PUBLISHED, secret="x")
    assert trail.log.head == Head()


def test_a_publish_is_known_from_the_log(trail):
    """Recovery asks whether a publish was recorded after a point in the log."""
    trail.fill(3)
    assert trail.log.knows_publish("uploader", 3, after=2)
    assert not trail.log.knows_publish("uploader", 3, after=3)
    assert not trail.log.knows_publish("other", 3, after=0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(), number=st.integers(0, 2**63))
def test_every_record_is_written_canonically(trail, text, number):
    """Whatever stands in a record, its line and its hash are those of the contract's canonical JSON."""
    written = trail.log.record(
        Event.FETCH_FAILED, error=text, duration_ms=number, actor={"user": text, "uid": number}, sinks=[text]
    )
    line = trail.path.read_bytes().splitlines()[-1]
    assert line == canonical(written)
    assert written["hash"] == digest(written)


def test_text_that_is_no_text_is_recorded_and_verifies(trail):
    """A `--reason` of stray bytes, nested ones too, is written readably and proves like any other record."""
    stray = os.fsdecode(b"bad\xff")
    written = trail.log.record(
        Event.ROTATION_REQUESTED, reason=stray, actor={"user": stray, "groups": [stray]}, sinks=(stray, "/a")
    )
    assert written["reason"] == "bad\\udcff"
    assert written["actor"] == {"user": "bad\\udcff", "groups": ["bad\\udcff"]}
    assert json.loads(trail.lines[0]) == written
    assert trail.problems == ()


def test_a_forged_record_with_a_lone_surrogate_is_a_finding(trail):
    """It neither stops the proof nor passes for the text that stands for such a byte."""
    trail.log.record(Event.ROTATION_REQUESTED, reason=os.fsdecode(b"bad\xff"))
    trail.rewrite([trail.lines[0].replace(b"\\\\udcff", b"\\udcff")])
    assert any("seq 1: the record was edited" in problem for problem in trail.problems)


def damaged(trail, content):
    """A log whose rotated file is a damaged .gz."""
    trail.fill(3)
    rotated = trail.path.with_name("audit.jsonl.1.gz")
    rotated.write_bytes(content(gzip.compress(b"".join(trail.lines), mtime=0)))
    trail.path.unlink()
    return rotated


DAMAGES = {
    "cut short": lambda whole: whole[:-20],
    "no gzip at all": lambda whole: b"rubbish" + whole,
    "a wrong checksum": lambda whole: whole[:-8] + b"\0" * 8,
    "bytes overwritten": lambda whole: whole[:14] + b"\xff" * 40 + whole[54:],
    "only a header": lambda whole: whole[:10] + b"\xff" * 10,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_archive_is_named_and_ends_no_start(trail, name):
    """`verify` says which file is damaged; recovery takes what it cannot read for unknown; new records go on."""
    rotated = damaged(trail, DAMAGES[name])
    trail.log.knows_publish("uploader", 2, after=0)
    assert not trail.log.knows_publish("uploader", 9, after=0)
    verdict = verify(trail.path, read_head(trail.head_path))
    assert any(rotated.name in problem and "is damaged" in problem for problem in verdict.problems)
    trail.log.close()
    trail.log = trail.open()
    trail.log.record(Event.PUBLISHED, credential="uploader", generation=4)
    assert trail.log.knows_publish("uploader", 4, after=2)


def test_recovery_reads_no_file_that_is_older_than_its_question(trail):
    """Where the log begins at the record after `after`, what lies in the archives is not opened."""
    trail.fill(2)
    trail.path.rename(trail.path.with_name("audit.jsonl.2"))
    trail.fill(2)
    trail.path.rename(trail.path.with_name("audit.jsonl.1"))
    trail.fill(2)
    read = []
    real = reader.lines

    def noting(file):
        read.append(file)
        return real(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "lines", noting)
        assert not trail.log.knows_publish("uploader", 9, after=4)
        assert set(read) == {trail.path}
        read.clear()
        assert not trail.log.knows_publish("uploader", 9, after=0)
    assert {file.name for file in read} == {"audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"}
    trail.path.unlink()
    assert trail.log.knows_publish("uploader", 2, after=0), "found in an archive"
    assert not trail.log.knows_publish("uploader", 1, after=3), "seq 3 is not behind record 3"


def test_a_power_cut_leaves_no_head_whose_record_is_lost(trail):
    """A record that waits for the flush of the next one does not move the head; lost, it leaves no false alarm."""
    trail.fill(1)
    flushed = trail.lines
    trail.log.record(Event.CREDENTIAL_FETCHED, flush=False)
    assert read_head(trail.head_path).seq == 1
    trail.die()
    trail.rewrite(flushed)
    trail.log = trail.open()
    assert trail.log.remarks == []
    trail.log.record(Event.CREDENTIAL_FETCHED, flush=False)
    trail.fill(1)
    assert read_head(trail.head_path).head == trail.log.head
    assert trail.problems == ()


def test_a_record_that_waits_for_a_flush_is_flushed_before_its_file_is_left(trail, monkeypatch):
    """logrotate may come between two records that share a flush: then the old file is flushed as well."""
    trail.log.record(Event.CREDENTIAL_FETCHED, flush=False)
    old = trail.path.with_name("audit.jsonl.1")
    trail.path.rename(old)
    flushed, real = [], os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (flushed.append(os.fstat(fd).st_ino), real(fd))[1])
    trail.fill(1)
    assert flushed[:2] == [old.stat().st_ino, trail.path.stat().st_ino]


def test_a_head_that_cannot_be_written_is_no_error_of_the_act(trail, monkeypatch):
    """The record is in the log, so the act goes on; the log says what is wrong, and the next head covers it."""

    def broken(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    trail.fill(1)
    with monkeypatch.context() as patch:
        patch.setattr(SlotFile, "write", broken)
        stream = io.StringIO()
        setup.set_up("info", "plain", {}, stream)
        trail.fill(1)
        setup.set_up("info", "plain", {})
    assert "the audit head cannot be written" in stream.getvalue()
    assert "No space left" in stream.getvalue()
    assert (trail.log.head.seq, read_head(trail.head_path).seq) == (2, 1)
    assert [":2: seq 2 " in problem for problem in trail.problems] == [True], "the state does not know of it yet"
    trail.fill(1)
    assert read_head(trail.head_path).seq == 3
    assert trail.problems == ()


def test_rubbish_in_the_log_is_named_and_read_around(trail):
    """`audit show` passes over what is no record, `verify` names it."""
    trail.fill(1)
    with trail.path.open("ab") as stream:
        stream.write(b"\xff\xfe rubbish\n[]\n")
    assert len(list(reader.read(trail.path, passed_over))) == 1
    assert sum("not a whole record" in problem for problem in trail.problems) == 2


EDITS = {
    "a second key of the same name": lambda line: line.replace(b"{", b'{"reason":"innocent",', 1),
    "added blanks": lambda line: line.replace(b",", b", ", 1),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_that_parses_to_the_same_record_is_found(trail, name):
    """What a reader or grep sees must be what was written, to the byte."""
    trail.fill(3)
    trail.log.record(Event.ROTATION_REQUESTED, reason="leak")
    lines = trail.lines
    trail.rewrite([*lines[:3], EDITS[name](lines[3])])
    assert any("seq 4: the line was edited" in problem for problem in trail.problems)


def test_without_a_head_the_end_is_not_proved(trail):
    """Who removes the tail and the head together does not get the word "whole"."""
    trail.fill(3)
    trail.rewrite(trail.lines[:2])
    trail.head_path.unlink()
    assert any("the end cannot be proved" in problem for problem in trail.problems)


def test_strangers_beside_the_log_are_none_of_it(trail):
    """A directory or a link with a name like a rotated file is passed over; rubbish in one is named."""
    trail.fill(2)
    (trail.path.parent / "audit.jsonl.d").mkdir()
    (trail.path.parent / "audit.jsonl.link").symlink_to("/etc/passwd")
    assert trail.problems == ()
    (trail.path.parent / "audit.jsonl.1.gz").write_bytes(b"junk")
    assert any("audit.jsonl.1.gz" in problem for problem in trail.problems)
    assert [record["seq"] for record in reader.read(trail.path, passed_over)] == [1, 2]


def test_one_writer_at_a_time(trail):
    """Two agents of different state directories would each continue the chain by themselves: the second is refused."""
    trail.fill(2)
    with pytest.raises(BusyError, match=f"{trail.path}: another keyturn writes this audit log") as caught:
        AuditLog(trail.path, trail.path.parent / "other-head", lambda: NOW)
    assert "agent.audit.path" in caught.value.remedy
    assert trail.problems == (), "who reads needs no lock"
    trail.log.close()
    trail.log = trail.open()
    trail.fill(1)
    assert trail.problems == ()


def test_the_lock_follows_the_log_through_a_rotation(trail):
    """The new file is the one writer's as well; one that somebody else took meanwhile gets no record of ours."""
    trail.fill(1)
    trail.path.rename(trail.path.with_name("audit.jsonl.1"))
    trail.fill(1)
    with pytest.raises(BusyError):
        AuditLog(trail.path, trail.path.parent / "other-head", lambda: NOW)
    trail.path.rename(trail.path.with_name("audit.jsonl.2"))
    other = AuditLog(trail.path, trail.path.parent / "other-head", lambda: NOW)
    with pytest.raises(AuditError, match="another keyturn writes this audit log"):
        trail.fill(1)
    assert trail.lines == []
    other.close()
    trail.fill(1)
    assert trail.problems == ()


@pytest.fixture
def said():
    """What is logged."""
    stream = io.StringIO()
    setup.set_up("info", "plain", {}, stream)
    yield stream
    setup.set_up("info", "plain", {})


LOSSES = {
    "removed": lambda path: path.unlink(),
    "truncated": lambda path: os.truncate(path, 0),
    "cut": lambda path: os.truncate(path, path.stat().st_size - 10),
    "replaced": lambda path: (
        path.with_name("new").rename(path) if path.with_name("new").write_text("{}\n" * 9999) else None
    ),
    "written anew": lambda path: path.write_text('{"hash":"0","seq":3}\n'),
    "moved elsewhere": lambda path: path.rename(path.with_name("elsewhere")),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_log_that_is_lost_while_it_is_written_is_said_at_once(trail, said, name):
    """Once for each loss, as an error with a remedy; what is recorded next is in the log all the same."""
    trail.fill(3)
    LOSSES[name](trail.path)
    trail.fill(2)
    assert said.getvalue().count("the audit log was removed or cut") == 1
    assert "error" in said.getvalue() and "seq=3" in said.getvalue() and "audit verify" in said.getvalue()
    assert {4, 5} <= {record["seq"] for record in reader.read(trail.path, passed_over)}
    LOSSES["removed"](trail.path)
    trail.fill(1)
    assert said.getvalue().count("the audit log was removed or cut") == 2


def test_a_loss_is_said_once_although_the_next_record_fails(trail, said, monkeypatch):
    """A disk that is full as well does not repeat it with every try."""

    def broken(_fd):
        raise OSError(28, "No space left on device")

    trail.fill(3)
    LOSSES["truncated"](trail.path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        for _ in range(3):
            with pytest.raises(AuditError):
                trail.fill(1)
    trail.fill(1)
    assert said.getvalue().count("the audit log was removed or cut") == 1


def compressed(path):
    path.with_name("audit.jsonl.1.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def copied_and_truncated(path):
    path.with_name("audit.jsonl-20261122").write_bytes(path.read_bytes())
    os.truncate(path, 0)


ROTATIONS = {
    "renamed": lambda path: path.rename(path.with_name("audit.jsonl.1")),
    "compressed": compressed,
    "copytruncate": copied_and_truncated,
}


@pytest.mark.parametrize("name", ROTATIONS)
def test_a_rotation_is_no_loss(trail, said, name):
    """However logrotate does it, nothing is said: also with a record that waits for its flush, and before the first."""
    LOSSES["removed"](trail.path)
    trail.fill(2)
    trail.log.record(Event.CREDENTIAL_FETCHED, flush=False)
    ROTATIONS[name](trail.path)
    trail.fill(2)
    assert said.getvalue() == ""
    assert trail.problems == ()


def test_a_record_that_was_taken_back_is_no_loss(trail, said, monkeypatch):
    """A full disk makes the log shorter by our own hand."""

    def broken(_fd):
        raise OSError(28, "No space left on device")

    trail.fill(2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        for _ in range(2):
            with pytest.raises(AuditError):
                trail.fill(1)
    trail.fill(1)
    assert said.getvalue() == ""
    assert trail.problems == ()
