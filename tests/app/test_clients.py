"""Who fetched what, as `status` and the metrics show it."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.app.clients import client_rows, counted, unit_pickup
from agent.cli.status_output import status_lines
from agent.serving.fetches import FetchRecord
from agent.serving.peer import Peer
from agent.system.local_time import LocalTime

NOW = datetime(2030, 1, 1, tzinfo=UTC)
NEW = Peer(0, frozenset(), 700, "/usr/bin/web", "web.service")
OLD = Peer(0, frozenset(), 800, "/usr/bin/web", "web.service")
ALONE = Peer(0, frozenset(), 900, "/usr/bin/cron")


@pytest.fixture
def fetches():
    """Two processes of a service, one of them behind, and one of no service."""
    record = FetchRecord(lambda _pid: 1.0)
    for peer, generation in ((NEW, 2), (OLD, 1), (ALONE, 2)):
        record.note("app", generation, peer, NOW, NOW + timedelta(seconds=60), NOW + timedelta(seconds=240))
    return record


def test_each_process_is_shown_with_what_it_holds(fetches):
    """By pid, program and service, and whether it has moved."""
    rows = client_rows(fetches, "app", 2, NOW)
    assert [(row["pid"], row["generation"], row["pickup"]) for row in rows] == [
        (700, 2, "confirmed"),
        (800, 1, "not picked up"),
        (900, 2, "confirmed"),
    ]
    assert rows[0] | {"pid": 0, "generation": 0, "pickup": ""} == {
        "uid": 0, "user": "root", "pid": 0, "executable": "/usr/bin/web", "unit": "web.service", "generation": 0,
        "fetched_at": "2030-01-01T00:00:00Z", "expires_at": "2030-01-01T00:04:00Z", "pickup": "",
    }  # fmt: skip
    assert counted(fetches, "app", 2, NOW) == (2, 1)


def test_a_service_has_moved_when_all_its_processes_have(fetches):
    """One that still holds the generation before is enough; a service of which nobody asked says nothing."""
    rows = client_rows(fetches, "app", 2, NOW)
    assert unit_pickup(rows, "web.service") == "not picked up"
    assert unit_pickup([row for row in rows if row["pid"] != 800], "web.service") == "confirmed"
    assert unit_pickup(rows, "other.service") is None


def test_people_are_told_who_is_behind_and_until_when(fetches):
    """In a line of `status` for those who moved, and one for those who did not."""
    row = {
        "state": "fresh", "generation": 2, "access_key_id": "LTAI", "verified": True, "published_at": None, "expires_at": None,
        "next_refresh_at": None, "last_error": None, "sinks": [], "notify": [], "clients": client_rows(fetches, "app", 2, NOW),
    }  # fmt: skip
    agent = {"version": "9", "pid": 1, "started_at": None, "config": "x"}
    whole = {"agent": agent, "credentials": {"app": row}}
    shown = "\n".join(status_lines(whole, NOW, names=["app"]))
    assert f"until {LocalTime(NOW).time(NOW + timedelta(minutes=4))}: pid 800 /usr/bin/web (web.service)" in shown
    assert "pid 800" in "\n".join(status_lines(whole, NOW)), "a glance has what somebody must know"
    assert "pickup confirmed: pid 700 /usr/bin/web (web.service), pid 900 /usr/bin/cron" in shown
