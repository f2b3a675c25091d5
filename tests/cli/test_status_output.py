"""A glance at the credentials: the worst first, on any screen, with any letters, one or a thousand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent.cli.status import ALARMS, _alarms, _named
from agent.cli.status_output import Screen, alarms_of, status_lines
from agent.core.errors import UsageError
from agent.core.timestamps import rfc3339
from agent.system.columns import columns

NOW = datetime(2026, 11, 30, 17, 30, tzinfo=UTC)
AGENT = {"version": "1", "pid": 7, "started_at": "2026-11-29T17:30:00Z", "config": "/etc/keyturn/keyturn.toml"}


def at(seconds: float) -> str:
    return rfc3339(NOW + timedelta(seconds=seconds))


def row(**changes: Any) -> dict[str, Any]:
    """A credential that is well."""
    return {
        "provider": "kms_secret", "state": "fresh", "generation": 3, "access_key_id": "LTAI5tQ8RmE2kZyVw3nB7cXd",
        "version_id": "v1", "expires_at": None, "published_at": at(-9 * 86400), "alarms": [], "verified": True,
        "last_success_at": at(-42), "next_refresh_at": at(18), "consecutive_failures": 0, "last_error": None,
        "sinks": [{"type": "env_file", "target": "/run/a.env", "in_sync": True}],
        "notify": [{"type": "systemd", "target": "a.service", "owed": False, "last_outcome": "told", "pickup": "confirmed"}],
        "clients": [],
    } | changes  # fmt: skip


OWED = {"type": "systemd", "target": "b.service", "owed": True, "last_outcome": "failed", "pickup": None}
LONG = "KMS (kms-vpc.cn-hangzhou.aliyuncs.com) answered 503 ServiceUnavailableTemporary; it is tried again"
MANY = {
    "well": row(),
    "owing": row(state="pending", notify=[OWED]),
    "计费-数据库": row(state="failing", consecutive_failures=3, last_error=f"密钥服务没有回答: {LONG}"),
    "gone": row(provider="ram_role_arn", state="expired", expires_at=at(-60)),
}


def shown(credentials: dict[str, Any], *size: int | None, names: tuple[str, ...] = ()) -> list[str]:
    whole = {"agent": AGENT, "credentials": credentials}
    return list(status_lines(whole, NOW, Screen(*size), names))


def order_of(lines: list[str], names: Any) -> list[str]:
    return [word for line in lines if (word := line.split("  ")[0]) in names]


def test_the_worst_comes_first_and_the_last_line_sums_up() -> None:
    """Whatever the order of the config; relative times; each row with its source, files and dependents."""
    lines = shown(MANY)
    assert order_of(lines, MANY) == ["gone", "计费-数据库", "owing", "well"]
    assert lines[-1].startswith("4 credentials: 1 expired, 1 failing, 1 pending, 1 fresh; 1 dependent to be told; next")
    (of_gone,) = [line for line in lines if line.startswith("gone ")]
    assert of_gone.split()[1:5] == ["expired", "ram_role_arn", "1", "1"]
    assert "42s ago" in of_gone and "in 18s" in of_gone and "60s ago" in of_gone


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_a_row_is_one_line_of_any_screen(width: int) -> None:
    """Wide letters count for two; what is wrong stands wrapped below its row, and no word of it is lost."""
    lines = shown(MANY, width, 50)
    assert max(map(columns, lines)) <= width
    assert order_of(lines, MANY) == ["gone", "计费-数据库", "owing", "well"]
    begins = next(number for number, line in enumerate(lines) if line.startswith("计费"))
    error = " ".join(line.strip() for line in lines[begins + 1 :] if line.startswith("    "))
    assert LONG in error


def test_a_pipe_has_everything_in_one_line_each() -> None:
    """For grep: no row is wrapped, no column left out, no credential only counted."""
    lines = shown({f"host-{number}": row() for number in range(1000)} | MANY)
    assert len([line for line in lines if line.startswith("host-")]) == 1000
    assert any(LONG in line for line in lines)
    assert all(
        title in lines[1] for title in ("source", "files", "told", "refreshed", "next", "access key", "verified")
    )


def test_of_a_thousand_the_failing_are_seen_and_the_well_are_counted() -> None:
    """The whole fits the screen; nothing that is wrong is left out for it."""
    lines = shown({f"host-{number}": row() for number in range(1000)} | MANY, 80, 24)
    assert len(lines) <= 24
    assert order_of(lines, MANY)[:3] == ["gone", "计费-数据库", "owing"]
    left_out = next(line for line in lines if line.startswith("... and "))
    rows = [line for line in lines if line.startswith("host-")]
    assert int(left_out.split()[2]) + len(rows) + ("well" in order_of(lines, MANY)) == 1001
    assert lines[-1].startswith("1004 credentials: 1 expired, 1 failing, 1 pending, 1001 fresh") or "1004" in lines[-2]
    ill = shown({f"host-{number}": row(state="failing") for number in range(50)}, 80, 24)
    assert len([line for line in ill if line.startswith("host-")]) == 50


def test_of_a_named_one_all_is_said() -> None:
    """Its key, files, and dependents, also what is well; of the others nothing."""
    lines = shown(MANY, 100, 24, names=("well",))
    text = "\n".join(lines)
    assert order_of(lines, MANY) == ["well"]
    assert "env_file /run/a.env: as published" in text
    assert "systemd a.service: told, pickup confirmed" in text
    assert "version v1 of the secret" in text


def test_the_next_rotation_of_a_ram_user_stands_in_the_last_line() -> None:
    """The soonest of all; nothing is said of it where keyturn rotates none here."""
    far, near = ({"next_at": at(days * 86400), "waits_for": None, "stopped": False} for days in (60, 12))
    last = shown({"a": row(rotation=far), "b": row(rotation=near), "c": row()})[-1]
    assert "next rotation in 12d" in last
    assert "rotation" not in shown({"c": row(), "d": row(rotation={**far, "next_at": None})})[-1]


def test_nothing_is_no_table() -> None:
    """A config without credentials, and a daemon that does not run."""
    agent = AGENT | {"pid": None, "started_at": None}
    lines = list(status_lines({"agent": agent, "credentials": {}}, NOW, Screen(80, 24)))
    assert (len(lines), lines[-1]) == (2, "no credentials")
    assert "not running" in lines[0]


@pytest.mark.parametrize(
    ("words", "changes"),
    {
        ("failing",): {"state": "failing"},
        ("pending", "owed"): {"state": "pending", "notify": [OWED]},
        ("fresh", "old"): {"alarms": [{"alarm": "key_too_old", "access_key_id": "LTAI", "text": "x"}]},
        ("fresh", "restricted"): {"alarms": [{"alarm": "key_restricted", "access_key_id": "LTAI", "text": "x"}]},
        ("fresh", "differs"): {"sinks": [{"type": "json", "target": "/a", "in_sync": False}]},
        ("fresh", "behind"): {"clients": [{"pickup": "assumed"}]},
    }.items(),
    ids=str,
)
def test_what_an_alarm_is_true_of(words: tuple[str, ...], changes: dict[str, Any]) -> None:
    """The state, and each thing that can be wrong besides; every one is a word that `--fail-if` takes."""
    assert tuple(alarms_of(row(**changes))) == words
    assert set(words) <= set(ALARMS)


def test_alarms_are_named_by_commas_and_again() -> None:
    """An unknown one is an error of usage that names the nearest."""
    assert _alarms(["failing,stale", " expired"]) == {"failing", "stale", "expired"}
    assert _alarms([]) == set()
    with pytest.raises(UsageError, match="did you mean stale") as caught:
        _alarms(["stael"])
    assert caught.value.exit_code == 2


def test_a_state_behind_a_blank_is_no_credential() -> None:
    """`--fail-if failing stale` looks right, and is told how it is meant; a misspelt credential gets the nearest."""
    whole = {"agent": AGENT, "credentials": MANY}
    assert list(_named(whole, ["gone"])["credentials"]) == ["gone"]
    with pytest.raises(UsageError, match="--fail-if stale"):
        _named(whole, ["stale"])
    with pytest.raises(UsageError, match="did you mean owing"):
        _named(whole, ["owin"])
