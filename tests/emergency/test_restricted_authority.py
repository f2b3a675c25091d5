"""An authority whose own key leaked: the emergency says so, it is an alarm, and the next one that succeeds ends it."""

from __future__ import annotations

from tests.support.processes import eventually
from tests.support.station import Station


def alarms(station: Station) -> list[tuple[str, str]]:
    seen = station.engine.submit(lambda: station.engine.look("uploader")).result(10)
    assert seen is not None
    return [(str(alarm.kind), alarm.access_key_id) for alarm in seen.key_alarms]


def test_a_restricted_authority_is_an_alarm_until_an_emergency_succeeds(station: Station) -> None:
    """KMS lets it rotate, RAM refuses it: the old key lives on, and the error and the alarm name the authority's key."""
    station.start()
    ops = station.authority
    ops.restricted = True
    result = station.rotate(disable_old=True)
    assert not result.safe and "restricted it as leaked" in str(result.error)
    eventually(lambda: alarms(station) == [("key_restricted", ops.access_key_id)])
    (record,) = station.vm.audit("key_restricted")
    assert (record["credential"], record["trigger"]) == ("uploader", "emergency")
    ops.restricted = False  # as another key of the authority would be
    assert station.rotate(disable_old=True).safe
    eventually(lambda: alarms(station) == [])
