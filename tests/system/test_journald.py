"""The journal gets records with fields; whatever becomes of the journal, no line is lost that could be shown, and nobody waits."""

import fcntl
import os
import re
import socket
import struct
import sys
import threading
import time

import pytest

from agent.core.errors import SinkError
from agent.logs import redaction, setup
from agent.logs.log import log
from agent.logs.redaction import Redactor
from agent.system import journald
from agent.system.journald import Journal, LineSocket, encode, field_name

CANARY = "CanarySecretValue0123456789"


def parsed(record):
    """Read a record as https://systemd.io/JOURNAL_NATIVE_PROTOCOL describes it: (name, value) pairs."""
    fields, rest = [], record
    while rest:
        head, _newline, rest = rest.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[8 + length + 1 :]
        fields.append((name.decode(), value.decode()))
    return fields


class Journald:
    """The receiving end, which reads when a test says so."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def records(self):
        found = []
        while True:
            try:
                data, ancillary, _flags, _address = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
            except BlockingIOError:
                return found
            found.append(parsed(data or self._file(ancillary)))

    def _file(self, ancillary):
        ((_level, _kind, packed),) = ancillary
        (fd,) = struct.unpack("i", packed)
        with os.fdopen(fd, "rb") as file:
            assert fcntl.fcntl(file, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE, "journald refuses a file that may change"
            return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


class Unit:
    """The log of a process whose standard error leads to the journal."""

    def __init__(self, tmp_path, monkeypatch):
        self.path = tmp_path / "socket"
        self.journald = Journald(self.path)
        self.stderr = (tmp_path / "stderr").open("w+")
        monkeypatch.setattr(journald, "SOCKET", str(self.path))
        monkeypatch.setattr(redaction, "_masks", Redactor())
        self.set_up()

    def set_up(self, form="auto", stream=None):
        found = os.fstat(self.stderr.fileno())
        setup.set_up("debug", form, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}, stream or self.stderr)

    def record(self):
        """The only record."""
        (record,) = self.journald.records()
        return dict(record)

    def lines(self):
        self.stderr.seek(0)
        return self.stderr.read()


@pytest.fixture
def unit(tmp_path, monkeypatch):
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield Unit(tmp_path, monkeypatch)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    setup.set_up("info", "plain", {})


def test_an_event_is_one_record_with_a_field_for_each_key(unit):
    """`journalctl CREDENTIAL=uploader` finds it, the line is the readable one, and nothing goes to standard error."""
    log.error(
        "fetch failed", credential="uploader", generation=3, access_key_id="LTAI5t", to="systemd x.service", no=None
    )
    assert unit.record() == {
        "MESSAGE": 'fetch failed credential=uploader generation=3 access_key_id=LTAI5t to="systemd x.service"',
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "keyturn",
        "KEYTURN_EVENT": "fetch failed",
        "CREDENTIAL": "uploader",
        "GENERATION": "3",
        "ACCESS_KEY_ID": "LTAI5t",
        "NOTIFIER": "systemd x.service",
    }
    assert unit.lines() == ""


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)]
)
def test_each_level_has_its_priority(unit, level, priority):
    """`journalctl -p crit` shows the alarms and nothing less."""
    getattr(log, level)("said")
    assert unit.record()["PRIORITY"] == str(priority)


def test_a_list_is_one_field_for_each_item(unit):
    """`journalctl SINKS=/b` finds a record that names several files."""
    log.warning("put right", sinks=["/a", "/b"])
    (record,) = unit.journald.records()
    assert [value for name, value in record if name == "SINKS"] == ["/a", "/b"]


def test_lines_within_a_value_stay_in_their_field(unit):
    """What a hook printed is whole in its field; the visible line is one line."""
    log.warning("told", output="first\nMESSAGE=forged\nPRIORITY=0", detail="")
    record = unit.record()
    assert record["OUTPUT"] == "first\nMESSAGE=forged\nPRIORITY=0"
    assert (record["PRIORITY"], record["DETAIL"]) == ("4", "")
    assert "\n" not in record["MESSAGE"] and "forged" in record["MESSAGE"]


def test_frames_are_a_field_and_no_part_of_the_line(unit):
    """A fault is one short line for people; where it came from is there for whoever asks."""
    try:
        raise RuntimeError(CANARY)
    except RuntimeError:
        log.error("a fault", exc_info=True)
    record = unit.record()
    assert record["MESSAGE"] == "a fault error=RuntimeError"
    assert "test_frames_are_a_field" in record["FRAMES"]


RESERVED = [
    "message",
    "priority",
    "message_id",
    "unit",
    "user_unit",
    "code_file",
    "errno",
    "syslog_pid",
    "object_pid",
    "tid",
]


@pytest.mark.parametrize("key", [*RESERVED, "_pid", "__cursor", "9lives", "a-b.c", "ünit", "x" * 90, ""])
def test_no_field_of_ours_passes_for_somebody_elses(key):
    """A field is accepted by the journal, and is none of those that systemd.journal-fields(7) gives a meaning."""
    name = field_name(key)
    assert re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", name)
    assert name.lower() not in RESERVED


@pytest.mark.parametrize("secret", [CANARY, 'Canary quote" and back\\slash', "Canary\nof two lines"])
def test_no_field_shows_a_secret_in_use(unit, secret):
    """Line and fields alike are masked: a hook's output, an item of a list, an error's text, the event itself."""
    redaction.mask([secret], of="uploader")
    log.info("said", output=f"KEY={secret};", many=[secret], odd={"x": secret})
    log.warning(f"odd: {secret}")
    log.error("failed", error=str(SinkError(secret)))
    records = unit.journald.records()
    assert len(records) == 3
    assert "Canary" not in repr(records)
    assert dict(records[0])["OUTPUT"] == "KEY=[secret];"


def test_a_record_too_large_for_a_datagram_arrives_all_the_same(unit):
    """A megabyte in one field comes as a sealed file."""
    text = "line\n" * 200_000
    log.info("long", output=text)
    assert unit.record()["OUTPUT"] == text


def test_without_the_journal_the_line_goes_to_standard_error(unit):
    """A socket that is gone loses no line, and one that comes back gets the next."""
    unit.path.rename(unit.path.with_name("away"))
    log.error("bad", credential="uploader", detail=None)
    assert unit.lines() == "<3>bad credential=uploader\n"
    unit.path.with_name("away").rename(unit.path)
    log.info("good")
    assert unit.record()["MESSAGE"] == "good"


def test_a_journal_that_does_not_read_is_waited_for_once(unit):
    """A thousand lines into a full queue are on standard error in a moment: waiting for each would take minutes."""
    began = time.monotonic()
    for number in range(1000):
        log.info(f"line {number}.")
    took_s = time.monotonic() - began
    arrived = [dict(record)["MESSAGE"] for record in unit.journald.records()]
    fallen = [line.removeprefix("<6>") for line in unit.lines().splitlines()]
    assert fallen, "the queue took them all: the test shows nothing"
    assert arrived + fallen == [f"line {number}." for number in range(1000)]
    assert took_s < 1000 * journald.PATIENCE_S / 3


def test_the_stream_of_a_reader_that_hangs_holds_up_nobody(tmp_path):
    """A full standard error loses lines, not time; what is read later are whole lines, but for one that was cut."""
    ours, theirs = socket.socketpair()
    lines = LineSocket(ours.fileno())
    began = time.monotonic()
    for number in range(600):
        lines.write(b"line %d %s\n" % (number, b"x" * 500_000))
    assert time.monotonic() - began < 600 * journald.PATIENCE_S / 3, "it waits for each line"
    theirs.setblocking(False)
    read = b""
    while piece := _received(theirs):
        read += piece
    lines._no_wait_until = 0.0
    lines.write(b"after\n")
    read += _received(theirs)
    got = read.splitlines()
    assert got[-1] == b"after"
    cut = [line for line in got if not re.fullmatch(rb"line \d+ x{500000}|after", line)]
    assert len(cut) == 1, "the test shows nothing, or more than one line was torn"
    theirs.close()
    with pytest.raises(OSError):
        lines.write(b"nobody\n")


def _received(channel):
    try:
        return channel.recv(1 << 20)
    except BlockingIOError:
        return b""


def test_only_a_stream_that_leads_to_the_journal_makes_records(unit, tmp_path):
    """$JOURNAL_STREAM is inherited by everything: output that was redirected stays where it was redirected to."""
    with (tmp_path / "elsewhere").open("w+") as elsewhere:
        unit.set_up(stream=elsewhere)
        log.info("said")
        elsewhere.seek(0)
        assert elsewhere.read() == "info: said\n"
    for form, line in (("plain", "<6>said\n"), ("json", '"event": "said"')):
        unit.set_up(form)
        log.info("said")
        assert line in unit.lines()
    assert unit.journald.records() == []


def test_records_of_many_threads_do_not_mix(unit):
    """Each record is whole, whoever writes at the same time."""
    taken, done = [], threading.Event()

    def read():
        while not done.is_set():
            taken.extend(unit.journald.records())

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=lambda n=n: [log.info(f"{n}", number=n) for _ in range(50)]) for n in range(4)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    taken.extend(unit.journald.records())
    assert all(dict(record)["KEYTURN_EVENT"] == dict(record)["NUMBER"] for record in taken)
    assert len(taken) + len(unit.lines().splitlines()) == 200


def test_whatever_is_said_is_encoded():
    """Lone surrogates, of an argument that was no UTF-8, and empty values are no reason to lose a record."""
    assert encode([("A", "\udcff"), ("B", "")]) == b"A=\\udcff\nB=\n"
    assert Journal("/nowhere/socket").send([("MESSAGE", "x")]) is False
