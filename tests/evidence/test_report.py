"""The rotation report: what it says of a log of two years, and of logs that are not what they should be."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.audit.lines import FIELDS
from agent.audit.proof import Verdict
from agent.core.events import Event
from agent.core.timestamps import rfc3339
from agent.evidence import as_csv, as_ocsf, as_text
from agent.evidence.as_html import html
from agent.evidence.collect import Collected, collect
from agent.evidence.history import MOST
from agent.evidence.model import Change, Configured
from agent.evidence.plain import plain
from agent.evidence.report import age, compliance, report
from tests.support.written_logs import ROOT, WrittenLog, two_years

NOW = datetime(2026, 10, 20, 12, tzinfo=UTC)
CONFIG = {
    "uploader": Configured(
        "kms_secret", "team oss", timedelta(days=90), "", "uploader-ak", ("/etc/uploader/credentials.ini",),
        ("systemd app.service", "exec /usr/bin/hook"),
    ),
    "billing": Configured("kms_secret", "team billing", timedelta(days=90), "billing", "billing-ak"),
    "session": Configured("ram_role_arn", "team oss", timedelta(days=1), "acs:ram::1234567890123456:role/x"),
    "never": Configured("access_key", "", None, "", "", ("/etc/never/x.ini",)),
}  # fmt: skip
OCSF = json.loads((Path(__file__).parent / "ocsf_3004.json").read_text())


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return two_years(tmp_path_factory.mktemp("two-years"))


def made(log, config=CONFIG, since=None, head=True, **more):
    found, basis = collect(log.path, log.head if head else None, since)
    return report(found, basis, config, now=NOW, since=since, **more)


@pytest.fixture(scope="module")
def whole(log):
    return made(log)


@pytest.fixture(scope="module")
def by_name(whole):
    return {one.name: one for one in whole.credentials}


def text_of(one):
    return "\n".join(as_text.lines(one, 80, lambda text, _mood: text))


# -- what it says ----------------------------------------------------------------------------------------


def test_the_population_is_whole(by_name):
    """Every credential of the config and of the log is there: unchanged, never published, and gone from the config too."""
    assert {name: one.in_config for name, one in by_name.items()} == {
        "uploader": True, "billing": True, "session": True, "never": True, "gone": False,
    }  # fmt: skip
    assert (by_name["never"].key, by_name["never"].files) == (None, ["/etc/never/x.ini"])


def test_what_is_said_of_a_credential(by_name):
    """Owner, identity, key, version, times, files and dependents of the key in use."""
    one = by_name["billing"]
    assert one.key is not None
    assert (one.owner, one.secret, one.identity, one.identity_source) == (
        "team billing", "billing-ak", "acs:ram::1234567890123456:user/billing", "proved",
    )  # fmt: skip
    assert (one.key.access_key_id, one.key.version_id) == (
        "LTAI5tBilling0000000002",
        "version-of-LTAI5tBilling0000000002",
    )
    assert one.key.created_at == datetime(2026, 8, 14, 2, 58, tzinfo=UTC)
    assert one.first_published_at == datetime(2025, 1, 10, 8, 0, 6, tzinfo=UTC)
    assert one.key.proved_at == datetime(2026, 8, 14, 2, 58, 3, tzinfo=UTC)
    assert one.key.request_ids == ["FETCH-LTAI5tBilling0000000002"]
    assert one.told == {"systemd app.service": "told", "exec /usr/local/bin/reload": "gave up"}
    assert one.owed == ["exec /usr/local/bin/reload"]
    assert one.files == ["/etc/billing/credentials.ini [default]"]


def test_ages_and_compliance(by_name):
    """By its creation where that is recorded; at least so old as it is known here where not."""
    assert {name: one.compliant for name, one in by_name.items()} == {
        "uploader": "no", "billing": "yes", "session": "yes", "never": "unknown", "gone": "unknown",
    }  # fmt: skip
    longest = datetime(2026, 8, 14, 2, 58, 4, tzinfo=UTC) - datetime(2024, 12, 1, tzinfo=UTC)
    assert by_name["billing"].longest_age_s == longest.total_seconds()
    assert (age(by_name["uploader"]), age(by_name["billing"])) == ("at least 114 d", "67 d")


@pytest.mark.parametrize(
    ("key", "max_age", "verdict"),
    [
        (None, 90, "unknown"),
        ({}, None, "unknown"),
        ({}, 90, "unknown"),
        ({}, 5, "no"),
        ({"created_at": NOW - timedelta(days=89)}, 90, "yes"),
        ({"created_at": NOW - timedelta(days=91)}, 90, "no"),
        ({"is_session": True}, 90, "yes"),
        ({"is_session": True}, 0.25, "no"),
    ],
)
def test_compliance_is_unknown_where_it_is_not_proved(key, max_age, verdict):
    """A key of unknown age is not called young; one that is here for longer than it may is too old whenever it was made."""
    change = Change(1, NOW - timedelta(days=10), **key) if key is not None else None
    config = Configured("x", max_age=timedelta(days=max_age) if max_age is not None else None)
    assert compliance(change, config, NOW)[0] == verdict
    assert compliance(change, None, NOW)[0] == "unknown"


def test_rotations_by_trigger_and_quarters_without(by_name):
    """The first publish is no rotation; a session is none either; a quarter that is not wholly in the period says so."""
    assert {name: one.rotations for name, one in by_name.items() if one.rotations} == {
        "uploader": {"poll": 5}, "billing": {"emergency": 1},
    }  # fmt: skip
    assert by_name["uploader"].quarters_without == ["2025-Q1 (in part)", "2026-Q3", "2026-Q4 (in part)"]
    assert (by_name["session"].sessions, by_name["session"].changes, by_name["session"].quarters_without) == (8, [], [])


def test_an_emergency_is_told_to_its_end(by_name):
    """Who asked and why, the keys, the exposure until the refusal was seen, who was left behind, and the old key's end."""
    (one,), (old,) = by_name["billing"].emergencies, by_name["billing"].old_keys
    assert (one.actor, one.reason, one.outcome) == ("root (uid 0)", "key on a public repo", "old key refused")
    assert (one.old_key, one.new_key) == ("LTAI5tBilling0000000001", "LTAI5tBilling0000000002")
    assert (one.exposure_s, one.left_behind) == (7.0, ["env file of cron"])
    assert [old.replaced_at, old.disabled_at, old.refused_at, old.deleted_at] == sorted(
        [old.replaced_at, old.disabled_at, old.refused_at, old.deleted_at]
    )
    (failed,) = by_name["uploader"].emergencies
    assert (failed.outcome, failed.error, failed.exposure_s) == ("failed", "the authority may not rotate", None)


def test_an_emergency_that_is_taken_up_again_was_exposed_from_the_first_command_on(tmp_path):
    """The first attempt failed, the second ended the key: both are told, and the first exposure is the longer one."""
    log = WrittenLog(tmp_path)
    log.publish("a", "LTAI1", "start")
    about = {"credential": "a", "trigger": "emergency", "actor": ROOT, "reason": "leak"}
    log.write(Event.ROTATION_REQUESTED, **about)
    log.write(Event.ROTATION_REQUESTED, **about, outcome="failed", error="KMS is down")
    log.at("2026-01-05T09:00:00Z").emergency("a", "LTAI2", "leak")
    first, second = made(log.close(), {}).credentials[0].emergencies
    assert (first.outcome, first.error) == ("failed", "KMS is down")
    assert first.exposure_s > 3000 > second.exposure_s > 0


def test_who_was_turned_away_meanwhile_is_not_the_error_of_the_one_under_way(tmp_path):
    """Two by the same user at once: each has its own outcome."""
    log = WrittenLog(tmp_path)
    log.publish("a", "LTAI1", "start")
    about = {"credential": "a", "trigger": "emergency", "actor": ROOT, "reason": "leak"}
    other = about | {"actor": ROOT | {"pid": 4712}, "outcome": "failed", "error": "one is under way"}
    log.write(Event.ROTATION_REQUESTED, **about)
    log.write(Event.ROTATION_REQUESTED, **other)
    log.publish("a", "LTAI2", "emergency", actor=ROOT, reason="leak")
    log.write(
        Event.OLD_KEY_DISABLED, **about, access_key_id="LTAI1", outcome="refused with InvalidAccessKeyId.Inactive"
    )
    log.write(
        Event.ROTATION_ENDED, **about, previous_access_key_id="LTAI1", access_key_id="LTAI2", outcome="old key refused"
    )
    first, second = made(log.close(), {}).credentials[0].emergencies
    assert (first.outcome, first.error, first.new_key) == ("old key refused", "", "LTAI2")
    assert (second.outcome, second.error, second.new_key) == ("failed", "one is under way", "")


@pytest.mark.parametrize(
    "steps, exposure_s", [(None, None), ([{"name": "prove_refused", "outcome": "done", "at_ms": 4200}], 4.2)]
)
def test_a_clock_that_is_set_back_makes_no_exposure_of_nothing(tmp_path, steps, exposure_s):
    """How long the old key lived on is told by the steps, which no clock's setting changes; without them it is not known."""
    log = WrittenLog(tmp_path, "2026-01-05T08:00:00Z")
    log.publish("a", "LTAI1", "start")
    about = {"credential": "a", "trigger": "emergency", "actor": ROOT, "reason": "leak"}
    log.write(Event.ROTATION_REQUESTED, **about)
    log.at("2026-01-05T07:00:00Z").publish("a", "LTAI2", "emergency", actor=ROOT, reason="leak")
    log.write(
        Event.OLD_KEY_DISABLED, **about, access_key_id="LTAI1", outcome="refused with InvalidAccessKeyId.Inactive"
    )
    log.write(Event.ROTATION_ENDED, **about, previous_access_key_id="LTAI1", access_key_id="LTAI2", steps=steps)
    whole = made(log.close(), {})
    (one,) = whole.credentials[0].emergencies
    assert one.exposure_s == exposure_s and one.refused_at
    assert "not seen refused" not in "".join(html(whole))


@pytest.mark.parametrize("when", ["9999-12-31T00:00:00Z", "0001-01-01T00:00:00Z"])
def test_a_time_with_which_nothing_can_be_counted_is_none(tmp_path, when):
    """A report is made in every format, whatever year a record is of."""
    log = WrittenLog(tmp_path)
    log.publish("a", "LTAI1", "start")
    log.emergency("a", "LTAI2")
    log.at(when).write(Event.STALE, credential="a")
    one = made(log.close(), None, head=False)
    assert text_of(one) and "".join(html(one)) and list(as_csv.rows(one)) and list(as_ocsf.lines(one))
    assert one.as_of.year == 2026


def test_a_key_from_the_future_has_no_age(tmp_path):
    """A host whose clock is days behind the cloud's does not call its key compliant; a few seconds are no matter."""
    for ahead, verdict, age_s in ((timedelta(days=2), "unknown", None), (timedelta(seconds=3), "yes", 0.0)):
        key = Change(1, NOW, access_key_id="LTAI1", created_at=NOW + ahead)
        config = Configured("kms_secret", max_age=timedelta(days=90))
        assert compliance(key, config, NOW)[0] == verdict
        found = Collected(None)
        found.see({
            "seq": 1, "hash": "0" * 64, "time": rfc3339(NOW), "event": "published", "credential": "a", "access_key_id": "LTAI1",
            "created_at": rfc3339(NOW + ahead),
        })  # fmt: skip
        one = report(found, made_of_nothing(found), {"a": config}, now=NOW, since=None).credentials[0]
        assert one.age_s == age_s


def test_a_command_that_did_nothing_has_no_exposure(tmp_path):
    """The same command again behind one that did it all, and a slip in `--leaked`: the key in use is not said to be exposed."""
    log = WrittenLog(tmp_path)
    log.publish("a", "LTAI1", "start")
    log.emergency("a", "LTAI2", "leak")
    about = {"credential": "a", "trigger": "emergency", "actor": ROOT, "reason": "again"}
    log.write(Event.ROTATION_REQUESTED, **about, outcome="failed", error="the last rotation ended safe")
    log.write(Event.ROTATION_REQUESTED, **about, access_key_id="LTAI9")
    log.write(Event.ROTATION_REQUESTED, **about, access_key_id="LTAI9", outcome="failed", error="LTAI9 is neither")
    log.write(
        Event.ROTATION_ENDED,
        **about,
        previous_access_key_id="LTAI2",
        outcome="old key in use",
        error="LTAI9 is neither",
    )
    log.emergency("a", "LTAI3", "this one leaked much later")
    whole = made(log.close(), {})
    done, again, slip, later = whole.credentials[0].emergencies
    assert [one.turned_away for one in (done, again, slip, later)] == [False, True, True, False]
    assert (again.exposure_s, slip.exposure_s, slip.old_key) == (None, None, "LTAI9")
    assert done.exposure_s and later.exposure_s
    page = "".join(html(whole))
    assert page.count("<title>emergency ") == 2 and page.count("nothing was done") == 2


def test_a_key_that_others_held_too_ended_for_all(tmp_path):
    """The end is recorded for the credential that was rotated; it is told of each that held the key."""
    log = WrittenLog(tmp_path)
    for name in ("a", "copy"):
        log.publish(name, "LTAI1", "start")
    log.emergency("a", "LTAI2")
    log.publish("copy", "LTAI2", "emergency")
    first, second = (one.old_keys[0] for one in made(log.close(), {}).credentials)
    assert first.deleted_at is not None
    assert (first.disabled_at, first.refused_at, first.deleted_at) == (
        second.disabled_at, second.refused_at, second.deleted_at,
    )  # fmt: skip


def test_since_bounds_what_happened_and_not_the_population(log):
    """Keys and emergencies before the period are not listed, the keys in use and the credentials are."""
    since = datetime(2026, 8, 20, tzinfo=UTC)
    found = {one.name: one for one in made(log, since=since).credentials}
    assert set(found) == {"uploader", "billing", "session", "never", "gone"}
    assert (found["billing"].rotations, found["billing"].emergencies, found["billing"].old_keys) == ({}, [], [])
    assert found["billing"].key.access_key_id == "LTAI5tBilling0000000002"
    assert found["uploader"].emergencies and not found["uploader"].rotations
    assert found["uploader"].quarters_without == ["2026-Q3 (in part)", "2026-Q4 (in part)"]


def test_one_credential_alone(log):
    """The population is that one; what the report rests on is the whole log."""
    only = made(log, credential="gone")
    assert [one.name for one in only.credentials] == ["gone"]
    assert only.log.records == 73


def test_what_the_state_says_is_owed_counts(log):
    """Where the state can be read, it is asked, and not the log."""
    config = {"uploader": Configured("kms_secret", owed=("systemd other.service",))}
    one = made(log, config, credential="uploader").credentials[0]
    assert (one.owed, one.owed_known) == (["systemd other.service"], "by the state")


def test_a_dependent_that_hears_no_more_is_owed(tmp_path):
    """As far as the log tells: who was told of a value and not of the next one."""
    log = WrittenLog(tmp_path)
    log.publish("a", "LTAI1", "start")
    log.tell("a")
    log.publish("a", "LTAI2")
    assert made(log.close(), None).credentials[0].owed == ["systemd app.service"]


def test_a_publish_that_a_crash_cut_short_counts_once(tmp_path):
    """The recovery's record stands for the one that was not written; a publish that was undone is none."""
    log = WrittenLog(tmp_path)
    log.publish("a", "LTAI1", "start")
    about = {"credential": "a", "trigger": "recovery", "sinks": ["/etc/a"]}
    log.write(Event.PUBLISH_RECOVERED, **about, access_key_id="LTAI2", generation=2, outcome="rolled forward")
    log.write(Event.PUBLISH_RECOVERED, **about, access_key_id="LTAI2", generation=2, outcome="rolled forward")
    log.write(Event.PUBLISH_RECOVERED, **about, access_key_id="LTAI1", generation=3, outcome="rolled back")
    one = made(log.close(), {}).credentials[0]
    assert (one.key.access_key_id, one.rotations, len(one.changes)) == ("LTAI2", {"recovery": 1}, 2)


# -- what it rests on ------------------------------------------------------------------------------------


def test_the_range_and_the_head(whole, log):
    """Numbers and hash are those of the log, which the state confirmed."""
    last = json.loads(log.path.read_text().splitlines()[-1])
    assert (whole.log.first_seq, whole.log.last_seq, whole.log.head_hash) == (1, 73, last["hash"])
    assert (whole.log.verified, whole.log.end_proved, whole.log.verdict) == (True, True, "verified")
    assert (whole.hosts, whole.agent_versions, whole.configs) == (
        ["web-1"],
        ["0.1.0", "0.2.0"],
        ["sha256:aaaa", "sha256:bbbb"],
    )


def test_rotated_and_compressed_files_make_the_same_report(log, whole, tmp_path):
    """Wherever the log was cut, and whatever was compressed."""
    lines = log.path.read_bytes().splitlines(keepends=True)
    (tmp_path / "audit.jsonl-20260101.gz").write_bytes(gzip.compress(b"".join(lines[:30])))
    (tmp_path / "audit.jsonl.1").write_bytes(b"".join(lines[30:50]))
    (tmp_path / "audit.jsonl").write_bytes(b"".join(lines[50:]))
    found, basis = collect(tmp_path / "audit.jsonl", log.head, None)
    cut = plain(report(found, basis, CONFIG, now=NOW, since=None))
    assert len(cut["log"].pop("files")) == 3
    expected = plain(whole)
    expected["log"].pop("files")
    assert cut == expected


def test_a_copy_is_proved_as_far_as_it_goes(log):
    """Without state: the chain holds, the end is not proved, ages are as of its newest record, owners are not known."""
    copy = made(log, None, head=False)
    assert (copy.log.verified, copy.log.end_proved, copy.log.verdict) == (True, False, "verified, end not proved")
    assert copy.as_of == datetime(2026, 10, 20, tzinfo=UTC)
    assert [one.in_config for one in copy.credentials] == [None] * 4
    assert "nothing here proves that the log ends there" in text_of(copy)


@pytest.fixture
def forged(log, tmp_path):
    """The log with one record changed by somebody."""
    text = log.path.read_text().replace("key on a public repo", "a planned rotation", 1)
    (tmp_path / "audit.jsonl").write_text(text)
    found, basis = collect(tmp_path / "audit.jsonl", log.head, None)
    return report(found, basis, CONFIG, now=NOW, since=None)


def test_what_did_not_verify_is_said_first(forged):
    """In each format: the first line of the table, the first box of the page, a column of each row, each event."""
    assert not forged.log.verified and "edited" in " ".join(forged.log.problems)
    assert text_of(forged).splitlines()[0].startswith("THE AUDIT LOG DID NOT VERIFY")
    page = "".join(html(forged))
    assert page.index("did not verify") < page.index("Population")
    rows = list(csv.DictReader(io.StringIO("".join(as_csv.rows(forged)), newline="")))
    assert {row["log_verdict"] for row in rows} == {"NOT VERIFIED"}
    assert {json.loads(line)["unmapped"]["log_verdict"] for line in as_ocsf.lines(forged)} == {"NOT VERIFIED"}
    assert plain(forged)["log"]["verified"] is False


NONSENSE = [None, True, -1, 1.5, "", "x" * 300, "\ud800\u202e", [], [None, {}], {}, {"a": {"b": []}}, 10**30]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=range(len(NONSENSE)))
def test_a_forged_field_is_not_recorded(nonsense):
    """Whatever stands in a field, of any event, the report is made, in every format."""
    found, seq = Collected(None), 0
    for event in [*Event, nonsense]:
        for field in (*FIELDS, "time"):
            seq += 1
            sound = {
                "credential": "a",
                "generation": seq,
                "access_key_id": f"LTAI{seq}",
                "time": "2026-01-05T08:00:00Z",
            }
            found.see({"seq": seq, "hash": "0" * 64, "event": event, **sound, field: nonsense})
    basis = made_of_nothing(found)
    one = report(found, basis, None, now=NOW, since=None)
    assert text_of(one) and "".join(html(one)) and list(as_csv.rows(one))
    assert json.dumps(plain(one)) and list(as_ocsf.lines(one))


def made_of_nothing(found):
    return found.range(Verdict(1, (), ("forged",)), end_proved=False)


def test_what_is_listed_is_bounded(tmp_path):
    """The newest keys are listed, the others are counted; so memory does not grow with the log."""
    found = Collected(None)
    for seq in range(1, MOST + 101):
        record = {"seq": seq, "hash": "0" * 64, "time": "2026-01-05T08:00:00Z", "event": "published", "credential": "a"}
        found.see(record | {"generation": seq, "access_key_id": f"LTAI{seq}", "trigger": "poll"})
    (one,) = report(found, made_of_nothing(found), None, now=NOW, since=None).credentials
    assert (len(one.changes), one.changes_left_out, one.rotations) == (MOST, 100, {"poll": MOST + 99})
    assert len(one.old_keys) == MOST


def test_the_log_of_an_older_version(tmp_path):
    """What 0.1.0 wrote has no host, version or creation: it is said that these are not recorded."""
    written = Path(__file__).parent.parent / "state" / "written_by_0_1_0"
    found, basis = collect(written / "audit.jsonl", None, None)
    one = report(found, basis, None, now=NOW, since=None)
    assert basis.verified and one.hosts == [] and one.credentials
    assert "not recorded" in text_of(one)


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00.000000Z", "9999-12-30T00:00:00.000000Z"])
def test_a_time_that_no_calendar_can_go_on_from_stops_no_report(time):
    """As somebody wrote it who can write the log: it counts as not recorded."""
    found = Collected(None)
    for seq, at in enumerate(("2026-01-01T00:00:00.000000Z", time), 1):
        record = {"event": "published", "credential": "uploader", "access_key_id": f"K{seq}", "generation": seq}
        found.see(record | {"seq": seq, "time": at, "created_at": time, "hash": "0"})
    told = report(found, found.range(Verdict(2, (), (), ()), end_proved=True), None, now=NOW, since=None)
    (one,) = told.credentials
    assert one.key is not None
    assert (one.key.access_key_id, one.key.created_at, told.log.last_seq) == ("K1", None, 2)
    assert all("K1" in text for text in ("".join(html(told)), text_of(told), "".join(as_csv.rows(told))))


# -- the formats -----------------------------------------------------------------------------------------


def test_the_table_fits_eighty_columns(whole):
    """No line is longer, whatever is in it, and no text controls the terminal."""
    lines = text_of(whole).splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)


def test_csv_is_read_by_any_spreadsheet(whole):
    """RFC 4180, a header, one row for each credential of the population, and no cell that is a formula."""
    text = "".join(as_csv.rows(whole))
    assert text.count("\r\n") == text.count("\n") == len(text.splitlines())
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert tuple(rows[0]) == as_csv.COLUMNS
    assert [row["credential"] for row in rows if row["row"] == "credential"] == [one.name for one in whole.credentials]
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    (reason,) = [row["reason"] for row in rows if row["row"] == "emergency" and row["credential"] == "uploader"]
    assert reason == "'=cmd|' /C calc'!A0"


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "\uff1d1"])
def test_a_formula_is_a_text(text):
    """What a spreadsheet would compute begins with an apostrophe."""
    assert as_csv.cell(text).startswith("'")
    behind = as_csv.cell(f"seen; told;{text}")  # a semicolon begins a cell in much of Europe; a tab is written out
    assert behind.startswith("seen; told;'" if text.isprintable() else "seen; told;\\")
    assert as_csv.cell(-1.25) == "-1.2" and as_csv.cell(None) == ""


def test_the_documented_columns_and_keys_are_those_there_are(whole):
    """docs/audit_report.md names each column of the CSV and each key of the JSON."""
    page = (Path(__file__).parent.parent.parent / "docs" / "audit_report.md").read_text()
    named = set(re.findall(r"`([a-z_0-9]+)`", page))
    found = plain(whole)
    keys = {*found, *found["log"], *found["credentials"][0], *found["credentials"][0]["changes"][0]}
    keys |= {
        key
        for one in found["credentials"]
        for part in ("old_keys", "emergencies")
        for each in one[part]
        for key in each
    }
    assert not (set(as_csv.COLUMNS) | keys) - named


def faults(value, definition, place="event"):
    """What OCSF's definition would refuse: unknown and missing attributes, wrong types, values outside of an enum."""
    attributes, some = definition["attributes"], definition.get("at_least_one", ())
    yield from (f"{place}.{name}: unknown" for name in set(value) - set(attributes))
    yield from (
        f"{place}.{name}: missing" for name, rule in attributes.items() if "required" in rule and name not in value
    )
    if some and not set(some) & set(value):
        yield f"{place}: has none of {some}"
    for name, found in value.items():
        kind = attributes.get(name, ["json_t"])[0]
        if kind in OCSF["objects"]:
            yield from faults(found, OCSF["objects"][kind], f"{place}.{name}")
        elif kind in ("integer_t", "long_t", "timestamp_t"):
            if type(found) is not int or (kind == "timestamp_t" and not 10**12 < found < 10**13):
                yield f"{place}.{name}: no {kind}"
        elif kind in ("object", "json_t"):
            if not isinstance(found, dict):
                yield f"{place}.{name}: no object"
        elif kind != "string_t" or not isinstance(found, str) or not found:
            yield f"{place}.{name}: no {kind}"
        if name in OCSF["enums"] and str(found) not in OCSF["enums"][name]:
            yield f"{place}.{name}: {found} is not defined"


def test_each_event_is_as_the_schema_defines_class_3004(whole, by_name):
    """Attributes, required ones, types, enums and their captions; the sums of ids; in the order of time."""
    events = [json.loads(line) for line in as_ocsf.lines(whole)]
    assert [fault for event in events for fault in faults(event, OCSF["class"])] == []
    for event in events:
        activity = OCSF["enums"]["activity_id"][str(event["activity_id"])]
        assert (event["class_uid"], event["category_uid"]) == (OCSF["class"]["uid"], OCSF["class"]["category_uid"])
        assert (event["class_name"], event["category_name"]) == (OCSF["class"]["name"], OCSF["class"]["category_name"])
        assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
        assert event["type_name"] == f"{event['class_name']}: {activity}"
        assert event["activity_name"] == activity or event["activity_id"] == 99
        assert event["severity"] == OCSF["enums"]["severity_id"][str(event["severity_id"])]
        assert event["status"] == OCSF["enums"]["status_id"][str(event["status_id"])]
        assert event["metadata"]["version"] == OCSF["version"]
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)


def test_what_each_activity_is(whole):
    """The first key is created, the next ones are updates with the reason as comment, an old key's end is Disable and Delete."""
    events = [
        json.loads(line)
        for line in as_ocsf.lines(
            whole,
        )
    ]
    billing = [event for event in events if event["entity"]["name"] == "billing"]
    assert [event["activity_id"] for event in billing] == [1, 99, 3, 9, 4]
    update = billing[2]
    assert (update["entity"]["uid"], update["entity_result"]["uid"]) == (
        "LTAI5tBilling0000000001",
        "LTAI5tBilling0000000002",
    )
    assert (update["comment"], update["actor"]["user"]) == ("key on a public repo", {"name": "root", "uid": "0"})
    for event in billing[3:]:  # an auditor asks first who ended a key, on which host, and where that stands
        assert (event["actor"]["user"], event["comment"]) == ({"name": "root", "uid": "0"}, "key on a public repo")
        assert event["metadata"]["sequence"] > update["metadata"]["sequence"]
    assert billing[3]["src_endpoint"] == {"hostname": "web-1"}
    (failed,) = [event for event in events if event["status_id"] == 2]
    assert (failed["status_detail"], failed["src_endpoint"]) == ("the authority may not rotate", {"hostname": "web-1"})


def test_the_page_has_a_timeline_for_each_credential_with_keys(whole):
    """Drawn in SVG, with the texts of what is drawn; a name that wants to be markup is text."""
    page = "".join(html(whole))
    assert page.count('<svg class="timeline"') == 3  # uploader, billing, gone
    assert "LTAI5tUploader000000005, 2026-04-02 03:00 to 2026-06-28 03:00, older than max_age" in page
    assert "exposure 7.0 s" in page
    found = Collected(None)
    evil = {"seq": 1, "hash": "0" * 64, "time": "2026-01-05T08:00:00Z", "event": "published", "access_key_id": "LTAI1"}
    found.see(evil | {"credential": "<script>alert(1)</script>"})
    assert "<script" not in "".join(html(report(found, made_of_nothing(found), None, now=NOW, since=None)))
