"""`plan` on a real systemd: the unit that is to be told, its process, and what the hardened service itself may look at."""

from __future__ import annotations

import json
from typing import Any

from tests.support.systemd.machine import UNIT, Machine

PLAN = ("plan", "uploader", "--json")


def planned(machine: Machine, user: str = "root") -> dict[str, Any]:
    done = machine.keyturn(*PLAN, user=user)
    assert done.returncode == 0, done.both
    return dict(json.loads(done.stdout))


def test_the_process_of_the_unit_is_found_and_how_it_would_be_told(running: Machine) -> None:
    """Root sees every process, by the unit's control group; a member of the group sees as much, and how much it does not see."""
    main_pid = int(running.show("MainPID", "uploader.service"))
    found = planned(running)
    (dependent,) = found["dependents"]
    assert (dependent["type"], dependent["target"], dependent["level"]) == ("systemd", "uploader.service", "ok")
    assert dependent["how"].startswith("systemctl ") and dependent["how"].endswith("uploader.service")
    seen = {one["pid"]: one for one in found["processes"]["found"]}
    assert (seen[main_pid]["unit"], seen[main_pid]["user"]) == ("uploader.service", "uploader")
    assert found["processes"]["unseen"] == 0 and found["processes"]["hidden"] is False
    member = planned(running, "friend")["processes"]
    assert [one["pid"] for one in member["found"]] == [main_pid] and member["unseen"] > 0
    assert {one["step"] for one in found["in_the_way"]} == {"preflight"}, "no authority is configured"
    assert running.keyturn("plan", "uploader", user="stranger").returncode == 77


def test_without_the_daemon_root_gets_it_from_the_disk(running: Machine) -> None:
    """With the ClientKey that systemd would hand over; and nothing there becomes root's."""
    running.systemctl("stop", UNIT)
    owners = ("find", "/var/lib/keyturn", "/var/log/keyturn", "-printf", "%p %u %T@ %s\\n")
    before = running.bed.run(*owners).stdout
    found = planned(running)
    fetch = next(one for one in found["authority"]["checks"] if one["call"] == "kms_secret fetch")
    assert fetch["outcome"] == "ok", fetch
    assert found["generation"] >= 1 and found["fetched"] is None
    assert running.bed.run(*owners).stdout == before
