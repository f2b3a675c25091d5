"""`rotation_ended`: what an emergency leaves in the audit log, on every way out, and however much there is to say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.audit.chain import follower
from agent.audit.head import Head
from agent.audit.lines import MAX_LINE_BYTES
from agent.core.events import Cause, Event, Trigger
from agent.emergency.end_record import cut, end_record
from agent.emergency.left_behind import LeftBehind, Reason
from agent.emergency.report import Result
from tests.support.fakes import PATIENCE_S
from tests.support.station import ME, Station


def ended(station: Station) -> dict[str, Any]:
    """The one record of the end."""
    (record,) = station.vm.audit("rotation_ended")
    return dict(record)


def test_the_end_of_an_emergency_is_told_in_one_record(station: Station) -> None:
    """The steps with their times, both keys, the version, how it stands with the old key: as the result has them."""
    station.start()
    result = station.rotate(disable_old=True, reason="laptop stolen")
    record = ended(station)
    shown = result.as_json()
    assert record["steps"] == shown["steps"]
    assert (record["access_key_id"], record["previous_access_key_id"]) == (
        result.new_access_key_id,
        result.old_access_key_id,
    )
    assert (record["version_id"], record["generation"]) == (result.version_id, 2)
    assert (record["outcome"], record["left_behind"]) == ("old key refused", [])
    assert (record["trigger"], record["reason"]) == ("emergency", "laptop stolen")
    assert record["actor"]["user"] == "alice"
    assert record["duration_ms"] >= record["steps"][-1]["at_ms"]
    assert "error" not in record
    assert station.vm.audit()[-1]["event"] == "rotation_ended"


def test_a_failed_emergency_has_an_end_too(station: Station) -> None:
    """With the error, and the step at which it ended; nothing was replaced, and nothing else is claimed."""
    station.cloud.forbid("ops", "kms:RotateSecret")
    result = station.start().rotate(leaked=station.current, disable_old=True)
    record = ended(station)
    assert record["error"] == result.error
    assert record["outcome"] == "old key in use"
    assert record["steps"][-1]["name"] == "rotate"
    assert record["steps"][-1]["outcome"] == "failed"
    assert "access_key_id" not in record
    assert record["previous_access_key_id"] == station.current
    asked, failed = station.vm.audit("rotation_requested")
    assert asked["access_key_id"] == station.current
    assert failed["error"] == result.error


def test_who_is_left_behind_is_in_it_with_the_command_that_moves_them(station: Station) -> None:
    """Each with credential, dependent, reason and move; the old key was left active over them."""
    station.start()
    station.dependents[0].broken = True
    result = station.rotate(disable_old=True)
    record = ended(station)
    assert record["outcome"] == "replaced, old key active"
    (left,) = record["left_behind"]
    known = result.left_behind[0].as_json()
    assert left == {name: known[name] for name in ("credential", "dependent", "reason", "move")}


def test_a_request_that_is_turned_away_at_the_door_has_no_end(station: Station) -> None:
    """It did not begin: `rotation_requested` alone says how it failed."""
    station.start()
    other = Cause(Trigger.EMERGENCY, ME, "another")
    held = station.engine.submit(lambda: station.engine.hold("uploader", other)).result(PATIENCE_S)
    try:
        assert station.rotate().error
    finally:
        held.release()
    assert [one["outcome"] for one in station.vm.audit("rotation_requested")] == ["failed"]
    assert station.vm.audit("rotation_ended") == []


@pytest.mark.parametrize("unit", ["web.service", "\x07" * 4000, "服" * 4000])
def test_thousands_of_dependents_do_not_lose_the_record(unit: str) -> None:
    """As many are named as there is room for, and the last entry says how many are not; every text is cut."""
    left = tuple(
        LeftBehind("uploader", f"systemd {unit}{number}", Reason.NOT_TOLD, "why", f"systemctl restart {unit}")
        for number in range(5000)
    )
    result = Result("uploader", "LTAI5tOld", "LTAI5tNew", left_behind=left, error=str(left[0]) * 1000)
    result.steps = [{"name": "pickup", "outcome": "warning", "ms": 1, "at_ms": 2, "detail": unit * 1000}] * 100
    fields = end_record(result, 3)
    named, last = fields["left_behind"][:-1], fields["left_behind"][-1]
    assert len(named) > 50
    assert len(named) + last["more"] == 5000
    _record, line = follower(
        Head(), "2026-11-30T03:00:00.000000Z", Event.ROTATION_ENDED, {**fields, "reason": "x" * 4096}
    )
    assert len(line) < MAX_LINE_BYTES


def test_a_thousand_hosts_are_all_named_with_their_times() -> None:
    """Those that have not moved come first, with why; and beside five thousand that are left behind it still is a record."""
    fleet = [_row(number, f"web-{number:04}.cn-hangzhou.internal", moved=number != 17) for number in range(1000)]
    left = tuple(LeftBehind("uploader", f"host {row['host']}", Reason.HOST, "why", "x" * 500) for row in fleet * 5)
    fields = end_record(Result("uploader", left_behind=left, fleet=fleet, error="x" * 9000), 3)
    first, second, *_others = fields["hosts"]
    assert first == {"host": fleet[17]["host"], "state": "live", "why": "it has not fetched the new version"}
    assert (second, len(fields["hosts"])) == ({"host": fleet[0]["host"], "at_ms": 1000}, 1000)
    worst = end_record(
        Result("uploader", left_behind=left, fleet=[_row(n, "a" * 64, moved=False) for n in range(9000)]), 3
    )
    assert len(worst["hosts"]) - 1 + worst["hosts"][-1]["more"] == 9000
    for each in (fields, worst):
        each["steps"] = end_record(_with_long_steps(), 3)["steps"]
        _record, line = follower(
            Head(), "2026-11-30T03:00:00.000000Z", Event.ROTATION_ENDED, {**each, "reason": "x" * 4096}
        )
        assert len(line) < MAX_LINE_BYTES
    assert end_record(Result("uploader"), 3)["hosts"] is None


def _row(number: int, host: str, *, moved: bool) -> dict[str, Any]:
    why = None if moved else "it has not fetched the new version"
    return {"host": host, "state": "live", "moved": moved, "at_ms": 1000 + number if moved else None, "why": why}


def _with_long_steps() -> Result:
    result = Result("uploader")
    result.steps = [{"name": "pickup", "outcome": "warning", "ms": 1, "at_ms": 2, "detail": "x" * 1000}] * 100
    return result


@pytest.mark.parametrize("text", ["", "plain", "é" * 300, "\x00" * 300, "a" * 10_000, "\udce4" * 600])
def test_a_text_is_cut_to_the_bytes_that_it_takes(text: str) -> None:
    """Never more than asked for, its beginning kept, and marked where something is missing."""
    kept = cut(text, 512)
    assert len(json.dumps(kept, ensure_ascii=False).encode("utf-8", "backslashreplace")) <= 512
    assert kept == text or (kept.endswith("…") and text.startswith(kept[:-1]) and len(kept) > 40)
