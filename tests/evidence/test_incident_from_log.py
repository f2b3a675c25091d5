"""What the audit log tells of an emergency: which attempts belong together, and what is known of the key and the dependents."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.audit.log import AuditLog
from agent.audit.proof import Verdict, verify_against
from agent.core.cut_off import cutting_off, letting_back
from agent.core.errors import KeyturnError
from agent.core.events import Event
from agent.core.timestamps import rfc3339_micros
from agent.evidence.emergencies import Emergencies
from agent.evidence.formats import Format
from agent.evidence.incident import How, Incident, as_json
from agent.evidence.incident_file import written
from agent.evidence.incident_from_log import Frame, emergencies_in, incident_from_log, newest

BEGIN = datetime(2026, 11, 30, 3, 0, tzinfo=UTC)
ALICE = {"uid": 1000, "user": "alice", "pid": 4242}
BOB = {"uid": 1001, "user": "bob", "pid": 4343}


class Log:
    """A real audit log, of which each record is a second younger than the one before."""

    def __init__(self, directory: Path) -> None:
        self.path, self.head = directory / "audit.jsonl", directory / "audit-head"
        self.now = BEGIN
        self._log = AuditLog(self.path, self.head, self._next)

    def _next(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def close(self) -> None:
        self._log.close()

    def says(self, event: Event, credential: str = "uploader", **fields: Any) -> dict[str, Any]:
        return self._log.record(event, credential=credential, **fields)

    def publish(self, key: str, generation: int, before: str = "", credential: str = "uploader", **cause: Any) -> None:
        cause = cause or {"trigger": "poll"}
        fields = {"access_key_id": key, "generation": generation, "version_id": f"v-{key}", "sinks": ["/srv/app.ini"]}
        self.says(Event.PUBLISHED, credential, previous_access_key_id=before or None, **fields, **cause)

    def incident(self, **which: Any) -> Incident:
        """What is told now of the newest emergency."""
        found = emergencies_in(self.path, raised)
        emergency = newest(found.found(), **which)
        assert emergency is not None
        frame = Frame(self.now + timedelta(seconds=10), "0.0", "team oss", "cn-beijing")
        return incident_from_log(self.path, self._prove, found, emergency, frame, raised)

    def _prove(self, first_seq: int) -> Verdict:
        return verify_against(self.path, self.head, first_seq=first_seq)

    def count(self) -> int:
        return len(emergencies_in(self.path, raised).found())


def raised(error: KeyturnError) -> None:
    raise error


def asks(actor: dict[str, Any] = ALICE, reason: str = "key on a pastebin") -> dict[str, Any]:
    return {"trigger": "emergency", "actor": actor, "reason": reason}


def ended(key: str = "K2", before: str = "K1", **fields: Any) -> dict[str, Any]:
    steps = [{"name": "rotate", "outcome": "done", "ms": 900, "at_ms": 1000}]
    known = {"access_key_id": key, "previous_access_key_id": before, "version_id": f"v-{key}", "left_behind": []}
    return {"steps": steps, "duration_ms": 5000, "outcome": "old key refused", **known, **fields}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path)
    yield made
    made.close()


def test_the_life_of_the_key_is_told_from_its_first_publish_to_its_refusal(log: Log) -> None:
    """With whose it was, what held it, and how long it lived after the command: all by the records' times."""
    log.says(Event.VERIFIED, access_key_id="K1", outcome="acs:ram::1:user/uploader")
    log.publish("K1", 1, created_at="2026-10-01T00:00:00Z", trigger="start")
    published = log.now
    log.says(Event.DRIFT_REPAIRED, access_key_id="K1", generation=1, trigger="drift")
    log.says(Event.ROTATION_REQUESTED, host="web-1", **asks())
    asked = log.now
    log.says(Event.ROTATION_STARTED, version_id="v-K2", previous_access_key_id="K1", **asks())
    log.publish("K2", 2, "K1", **asks())
    replaced = log.now
    log.says(Event.NOTIFIED, generation=2, notified="systemd web.service", outcome="told")
    log.says(Event.OLD_KEY_DISABLED, access_key_id="K1", outcome="inactive, not yet seen refused", **asks())
    log.says(Event.OLD_KEY_DISABLED, access_key_id="K1", outcome="refused with InvalidAccessKeyId.Inactive", **asks())
    refused = log.now
    log.says(Event.ROTATION_ENDED, **ended(), **asks())
    told = log.incident()
    old = told.old
    assert (old.access_key_id, old.generation, old.trigger, old.identity) == (
        "K1",
        1,
        "start",
        "acs:ram::1:user/uploader",
    )
    assert (old.created_at, old.published_at) == (datetime(2026, 10, 1, tzinfo=UTC), published)
    assert old.sinks == ("/srv/app.ini",)
    assert (old.replaced_at, old.disabled_at, old.refused_at) == (replaced, refused - timedelta(seconds=1), refused)
    assert told.commanded_at == asked
    assert as_json(told)["exposure_ms"] == {"to_disabled": 4000, "to_refused": 5000}
    assert (told.new_access_key_id, told.version_id, told.generation) == ("K2", "v-K2", 2)
    (attempt,) = told.attempts
    assert (attempt.actor, attempt.host, attempt.reason) == (ALICE, "web-1", "key on a pastebin")
    assert (told.owner, told.basis.first_seq, told.basis.last_seq, told.basis.whole) == ("team oss", 4, 10, True)


def test_attempts_on_the_same_key_are_one_emergency_and_those_on_another_key_are_not(log: Log) -> None:
    """One that failed, one that was killed, one that took it up: three attempts. The next key's emergency is another."""
    log.publish("K1", 1)
    log.says(Event.ROTATION_REQUESTED, **asks())
    log.says(Event.ROTATION_REQUESTED, outcome="failed", error="KMS is down", **asks())
    log.says(Event.ROTATION_ENDED, **ended("", error="KMS is down"), **asks())
    log.says(Event.ROTATION_REQUESTED, **asks(BOB))
    log.says(Event.ROTATION_STARTED, version_id="v-K2", previous_access_key_id="K1", **asks(BOB))
    log.says(Event.AGENT_STARTED, credential="")
    log.publish("K2", 2, "K1")  # the new daemon's own poll
    log.says(Event.ROTATION_REQUESTED, **asks())
    log.says(Event.OLD_KEY_DISABLED, access_key_id="K1", outcome="refused with X", **asks())
    log.says(Event.ROTATION_ENDED, **ended(), **asks())
    log.says(Event.ROTATION_REQUESTED, access_key_id="K2", **asks(BOB, "that one too"))
    log.publish("K3", 3, "K2", **asks(BOB, "that one too"))
    log.says(Event.ROTATION_ENDED, **ended("K3", "K2"), **asks(BOB, "that one too"))
    assert log.count() == 2
    second, first = log.incident(), log.incident(key_id="K1")
    assert [one.error for one in first.attempts] == ["KMS is down", "", ""]
    assert [one.ended_at is None for one in first.attempts] == [False, True, False]
    assert [one.steps is None for one in first.attempts] == [False, True, False]
    assert first.old.refused_at is not None
    assert (first.new_access_key_id, first.old.access_key_id) == ("K2", "K1")
    assert (second.old.access_key_id, second.attempts[0].leaked, second.new_access_key_id) == ("K2", "K2", "K3")
    assert second.old.refused_at is None


def test_one_that_says_nothing_of_a_key_belongs_to_the_one_that_is_not_finished(log: Log) -> None:
    """A `rotate` that was turned away meanwhile, and one that died before its first word, are attempts of the same emergency."""
    log.publish("K1", 1)
    log.says(Event.ROTATION_REQUESTED, **asks())
    log.says(Event.ROTATION_REQUESTED, outcome="failed", error="an emergency is under way", **asks(BOB))
    log.publish("K2", 2, "K1", **asks())
    log.says(Event.ROTATION_ENDED, **ended(error="left behind"), **asks())
    log.says(Event.ROTATION_REQUESTED, **asks(BOB))  # the key in use is K2 by now, and K1 is what it is about
    told = log.incident()
    assert log.count() == 1
    assert [one.actor["user"] for one in told.attempts] == ["alice", "bob", "bob"]
    assert told.old.access_key_id == "K1"
    assert told.attempts[1].error == "an emergency is under way"


def test_a_request_that_is_turned_away_is_no_emergency_of_its_own(log: Log) -> None:
    """The same command once more, behind one that did it all: the document is that one's, and nothing of it is lost."""
    log.publish("K1", 1)
    log.says(Event.ROTATION_REQUESTED, **asks())
    log.publish("K2", 2, "K1", **asks())
    left = [{"credential": "uploader", "dependent": "systemd deaf", "reason": "not picked up", "move": "x"}]
    log.says(Event.ROTATION_ENDED, **ended(left_behind=left), **asks())
    log.says(Event.ROTATION_REQUESTED, outcome="failed", error="it was done already", **asks(BOB))
    told = log.incident()
    assert log.count() == 1
    assert told.old.access_key_id == "K1"
    assert [one.turned_away for one in told.attempts] == [False, True]
    assert [one.dependent for one in told.left_behind] == ["systemd deaf"]
    assert "turned away before it began" in written(told, Format.MARKDOWN)
    for number in range(3, 6):
        log.publish(f"K{number}", number, f"K{number - 1}")
    log.says(Event.ROTATION_REQUESTED, outcome="failed", error="who is that", **asks(BOB))
    assert log.incident().old.access_key_id == "K5"  # long after, it is another matter


def test_a_clock_that_is_set_back_is_said(log: Log) -> None:
    """No document says that a key was refused a negative time after the command."""
    log.publish("K1", 1)
    log.says(Event.ROTATION_REQUESTED, **asks())
    log.now -= timedelta(hours=1)
    log.says(Event.OLD_KEY_DISABLED, access_key_id="K1", outcome="inactive", **asks())
    log.says(Event.OLD_KEY_DISABLED, access_key_id="K1", outcome="refused with InvalidAccessKeyId.Inactive", **asks())
    log.says(Event.ROTATION_ENDED, **ended(), **asks())
    told = log.incident()
    assert as_json(told)["exposure_ms"] == {"to_disabled": None, "to_refused": None}
    text = written(told, Format.MARKDOWN)
    assert text.count("the clock was set back") == 2
    assert re.search(r"-\d+(\.\d+)? (s|min|h)\b", text) is None


def test_a_slip_in_the_id_that_leaked_does_not_take_the_place_of_the_emergency(log: Log) -> None:
    """`--leaked` with somebody else's key, behind an emergency that ended safe: an entry of its own, in which nothing was done."""
    log.publish("K1", 1)
    log.publish("K2", 2, "K1", **asks())
    log.says(Event.ROTATION_REQUESTED, **asks())
    log.publish("K3", 3, "K2", **asks())
    log.says(Event.ROTATION_ENDED, **ended("K3", "K2"), **asks())
    slip = asks(reason="a slip")
    log.says(Event.ROTATION_REQUESTED, access_key_id="K9", **slip)
    log.says(Event.ROTATION_REQUESTED, access_key_id="K9", outcome="failed", error="K9 is neither", **slip)
    log.says(Event.ROTATION_ENDED, **ended("", "K3", outcome="old key in use", error="K9 is neither"), **slip)
    log.says(Event.ROTATION_REQUESTED, outcome="failed", error="it was done already", **asks(BOB))
    told = log.incident()
    assert (log.count(), told.old.access_key_id, told.old.is_anothers) == (2, "K2", False)
    assert [one.turned_away for one in told.attempts] == [False, True]
    other = log.incident(key_id="K9")
    assert other.old.is_anothers and len(other.attempts) == 1
    assert "Nothing was done" in written(other, Format.MARKDOWN)


def test_two_at_once_keep_their_own_ends(log: Log) -> None:
    """The end of one comes after the next was asked for: who asked tells them apart."""
    log.publish("K1", 1)
    log.says(Event.ROTATION_REQUESTED, **asks())
    log.says(Event.ROTATION_REQUESTED, **asks(BOB))
    log.says(Event.ROTATION_ENDED, **ended(error="first"), **asks(reason="key on a pastebin"))
    log.says(Event.ROTATION_ENDED, **ended(), **asks(BOB))
    assert [one.error for one in log.incident().attempts] == ["first", ""]


def test_each_host_of_the_fleet_is_told_with_its_time(log: Log) -> None:
    """Those that proved the new key, with when; those that did not, with why; and how many the record did not name."""
    log.publish("K1", 1)
    log.says(Event.ROTATION_REQUESTED, **asks())
    began = log.now
    log.publish("K2", 2, "K1", **asks())
    hosts = [
        {"host": "web-3", "state": "absent", "why": "it has not fetched the new version"},
        {"host": "web-2", "at_ms": 1500},
        {"more": 7},
        "rubbish",
    ]
    log.says(Event.ROTATION_ENDED, **ended(hosts=hosts, error="not on the new key"), **asks())
    told = log.incident()
    assert told.hosts_more == 7
    assert [(one.host, one.moved_at, one.state) for one in told.hosts or ()] == [
        ("web-3", None, "absent"),
        ("web-2", began + timedelta(milliseconds=1500), ""),
    ]
    for form in (Format.MARKDOWN, Format.HTML, Format.JSON):
        text = written(told, form)
        assert "web-2" in text and "web-3" in text and "it has not fetched the new version" in text
    assert "The other hosts" in written(told, Format.MARKDOWN)
    log.says(Event.ROTATION_REQUESTED, **asks())
    log.says(Event.ROTATION_ENDED, **ended(), **asks())
    assert log.incident().hosts is None and "The other hosts" not in written(log.incident(), Format.HTML)


def test_how_each_dependent_picked_it_up_is_told_also_afterwards(log: Log) -> None:
    """Confirmed, assumed, not told, left behind; and who was left behind but moved since, with the time."""
    log.publish("K1", 1)
    log.says(Event.ROTATION_REQUESTED, **asks())
    log.publish("K2", 2, "K1", **asks())
    log.publish("K2", 5, "K1", credential="copy", **asks())
    for name in ("sure", "assumed", "deaf", "late"):
        log.says(Event.NOTIFIED, generation=2, notified=f"systemd {name}", outcome="told")
    log.says(Event.PICKUP_CONFIRMED, generation=2, notified="systemd sure")
    log.says(Event.NOTIFY_GAVE_UP, generation=2, notified="exec /bin/false", error="status 1", outcome="1 attempts")
    log.says(Event.NOTIFIED, "copy", generation=5, notified="systemd other", outcome="told")
    log.says(Event.NOTIFIED, "stranger", generation=2, notified="systemd stranger", outcome="told")
    left = [
        {
            "credential": "uploader",
            "dependent": f"systemd {name}",
            "reason": "not picked up",
            "move": "systemctl restart x",
        }
        for name in ("deaf", "late")
    ]
    gone = {"credential": "copy2", "dependent": None, "reason": "holds the old key", "move": "keyturn refresh copy2"}
    untold = {"credential": "uploader", "dependent": "exec /bin/false", "reason": "not told", "move": "by hand"}
    log.says(
        Event.ROTATION_ENDED, **ended(left_behind=[*left, gone, untold, {"more": 7}], error="left behind"), **asks()
    )
    end = log.now
    told = log.incident()
    assert {(one.credential, one.name): one.how for one in told.dependents} == {
        ("uploader", "systemd sure"): How.CONFIRMED,
        ("uploader", "systemd assumed"): How.ASSUMED,
        ("uploader", "systemd deaf"): How.LEFT_BEHIND,
        ("uploader", "systemd late"): How.LEFT_BEHIND,
        ("uploader", "exec /bin/false"): How.NOT_TOLD,
        ("copy", "systemd other"): How.ASSUMED,
    }
    assert told.left_behind_more == 7
    assert told.moved == (("uploader", 2), ("copy", 5))
    log.says(Event.PICKUP_CONFIRMED, generation=2, notified="systemd late")
    log.publish("K2", 3, "K1", credential="copy2", trigger="operator")
    told = log.incident()
    assert {one.dependent or one.credential: one.moved_at for one in told.left_behind} == {
        "systemd deaf": None,
        "systemd late": end + timedelta(seconds=1),
        "copy2": end + timedelta(seconds=2),
        "exec /bin/false": None,
    }
    assert {one.name: one.how for one in told.dependents}["systemd late"] is How.CONFIRMED
    assert [one.dependent for one in told.still_behind] == ["systemd deaf", "exec /bin/false"]


def test_an_older_log_without_the_end_says_what_is_not_recorded(log: Log) -> None:
    """The steps are not invented: the records that there are stand in their place."""
    log.publish("K1", 1)
    log.says(Event.ROTATION_REQUESTED, **asks())
    log.says(Event.ROTATION_STARTED, version_id="v-K2", previous_access_key_id="K1", **asks())
    log.publish("K2", 2, "K1", **asks())
    log.says(Event.OLD_KEY_DISABLED, access_key_id="K1", outcome="refused with X", **asks())
    told = log.incident()
    (attempt,) = told.attempts
    assert attempt.steps is None
    assert [one.event for one in attempt.records] == [
        "rotation_requested",
        "rotation_started",
        "published",
        "old_key_disabled",
    ]
    assert told.old.refused_at is not None
    text = written(told, Format.MARKDOWN)
    assert "How its steps ended is not recorded" in text
    assert "| rotation_started |" in text
    assert "* Host: not recorded" in text


def test_sessions_are_told_in_honest_words(log: Log) -> None:
    """A session lives until it expires: no claim that it ended; the expiry is named, and what cuts off the role that STS named."""
    log.says(Event.VERIFIED, access_key_id="STS.one", identity="acs:ram::1234567890123456:assumed-role/app/web-1")
    log.publish("STS.one", 1, expiration="2026-11-30T04:00:00Z", trigger="start")
    log.says(Event.ROTATION_REQUESTED, **asks())
    log.publish("STS.two", 2, "STS.one", **asks())
    log.says(Event.ROTATION_ENDED, **ended("STS.two", "STS.one", outcome="replaced, old key active"), **asks())
    told = log.incident()
    text = written(told, Format.MARKDOWN)
    assert told.old.expires_at == datetime(2026, 11, 30, 4, tzinfo=UTC)
    assert "2026-11-30T04:00:00.000Z" in text
    assert all(f"\n{command}\n" in text for command in (*cutting_off("app"), *letting_back("app")))
    assert "seen refused" not in text
    assert "--disable-old" not in text


def test_a_log_that_does_not_verify_is_told_of_with_the_reason(log: Log) -> None:
    """What was edited is named in the document; the head's hash and the range of seq are in it all the same."""
    log.publish("K1", 1)
    log.says(Event.ROTATION_REQUESTED, **asks())
    log.says(Event.ROTATION_ENDED, **ended(""), **asks())
    log.close()
    edited = log.path.read_text().replace("pastebin", "postcard")
    log.path.write_text(edited)
    basis = log.incident().basis
    assert basis.whole is False
    assert any("seq 2" in problem for problem in basis.problems)
    last = json.loads(edited.splitlines()[-1])
    assert (basis.head_seq, basis.head_hash) == (3, last["hash"])


def test_a_proof_that_this_user_may_not_make_is_no_proof_to_the_contrary(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may read the log but not the state gets the document, which says why nothing was verified."""
    log.says(Event.ROTATION_REQUESTED, **asks())
    log.head.unlink()
    log.head.mkdir()

    basis = log.incident().basis
    assert basis.whole is not True
    assert basis.problems


NAMES = (
    "credential", "generation", "trigger", "actor", "reason", "access_key_id", "previous_access_key_id", "version_id",
    "created_at", "expiration", "identity", "sinks", "notified", "steps", "left_behind", "outcome", "error", "duration_ms",
    "host", "hosts", "time", "hash", "event",
)  # fmt: skip
KNOWN = {"event": "rotation_requested", "credential": "uploader", "time": rfc3339_micros(BEGIN), "access_key_id": "K1"}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
STEP = st.fixed_dictionaries(
    {"name": st.text(max_size=3), "outcome": SCALARS, "ms": st.integers(), "at_ms": st.integers()}
)
ODD = SCALARS | st.lists(SCALARS | STEP, max_size=3) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=3)
TIMES = st.datetimes(timezones=st.just(UTC)).map(rfc3339_micros)
WORDS = st.sampled_from(["uploader", "K1", "K2", "emergency", "failed", *map(str, Event)])


@settings(max_examples=60)
@given(st.lists(st.dictionaries(st.sampled_from(NAMES), ODD | WORDS | TIMES, max_size=4), max_size=8))
def test_no_record_that_somebody_made_up_stops_the_reading(odd: list[dict[str, Any]]) -> None:
    """Whoever can write the log can put anything into a field; what comes out is a document or nothing, never a fault."""
    found = Emergencies()
    for seq, record in enumerate(odd, 1):
        found.see({**KNOWN, **record, "seq": seq})
    for one in found.found():
        told = Incident(one.credential, one.old_key(), tuple(asked.told for asked in one.asked), BEGIN, "0.0")
        assert all(written(told, form) for form in Format)


def test_the_documented_keys_of_the_json_are_those_there_are(log: Log) -> None:
    """Each is named in docs/incident.md."""
    log.publish("K1", 1)
    log.says(Event.ROTATION_REQUESTED, **asks())
    log.publish("K2", 2, "K1", **asks())
    log.says(Event.NOTIFIED, generation=2, notified="systemd web.service")
    log.says(
        Event.ROTATION_ENDED, **ended(left_behind=[{"credential": "uploader", "reason": "x", "move": "y"}]), **asks()
    )
    documented = set(
        re.findall(r"`(\w+)`", (Path(__file__).parents[2] / "docs/incident.md").read_text().partition("## JSON")[2])
    )
    assert set(keys_of(json.loads(written(log.incident(), Format.JSON)))) - documented == set()


def keys_of(value: Any) -> Iterator[str]:
    """Every key in it, at any depth."""
    if isinstance(value, dict):
        yield from value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from keys_of(one)


def test_a_thousand_dependents_fit(log: Log) -> None:
    """All of them are in the JSON; what people read has the first ones, and says so."""
    log.publish("K1", 1)
    log.says(Event.ROTATION_REQUESTED, **asks())
    log.publish("K2", 2, "K1", **asks())
    entries: list[tuple[Event, dict[str, Any]]] = [
        (Event.NOTIFIED, {"credential": "uploader", "generation": 2, "notified": f"systemd app@{number}.service"})
        for number in range(1000)
    ]
    log._log.record_all(entries)
    log.says(Event.ROTATION_ENDED, **ended(), **asks())
    told = log.incident()
    assert len(json.loads(written(told, Format.JSON))["dependents"]) == 1000
    text = written(told, Format.MARKDOWN)
    assert text.count("app@") == 200
    assert "the first 200 of 1000" in text
