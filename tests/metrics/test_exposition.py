"""What a scraper reads is what the contract names, and nothing that anybody could misuse."""

from __future__ import annotations

import pytest

from agent import __version__
from agent.core.policy import Condition
from agent.metrics.counters import BOUNDS_S, NOTIFICATIONS, REFRESHES, Durations
from agent.metrics.exposition import text
from agent.metrics.snapshot import FleetFigures, Snapshot
from tests.support.scraper import Figures, row, shown

CONTRACT = {
    "keyturn_credential_expiry_timestamp_seconds": {"credential"},
    "keyturn_credential_last_success_timestamp_seconds": {"credential"},
    "keyturn_credential_generation": {"credential"},
    "keyturn_credential_state": {"credential", "state"},
    "keyturn_refresh_total": {"credential", "outcome"},
    "keyturn_publish_seconds": {"credential"},
    "keyturn_notify_total": {"credential", "type", "outcome"},
    "keyturn_notifications_owed": {"credential"},
    "keyturn_build_info": {"version"},
}
"""PRODUCT.md, "Metrics"."""
BESIDES = {
    "keyturn_canary_total": {"credential", "outcome"},
    "keyturn_key_restricted": {"credential"},
    "keyturn_key_too_old": {"credential"},
    "keyturn_key_made_timestamp_seconds": {"credential"},
    "keyturn_client_key_expiry_timestamp_seconds": {"client_key"},
    "keyturn_clients": {"credential", "generation"},
    "keyturn_config_last_reload_successful": set[str](),
    "keyturn_config_last_reload_success_timestamp_seconds": set[str](),
    "keyturn_snapshot_timestamp_seconds": set[str](),
    "keyturn_fleet_connected": set[str](),
    "keyturn_fleet_hosts": {"credential", "state"},
    "keyturn_fleet_convergence_seconds": {"credential"},
    "keyturn_ram_user_owner": {"credential"},
}
FLEET = FleetFigures(True, {"a": {"live": 12, "behind": 1, "absent": 2}}, {"a": 1.5}, {"b": True})


def test_names_and_labels_are_those_of_the_contract() -> None:
    """Each metric by its name with its labels, the few more that are documented, and no other."""
    found: dict[str, set[str]] = {}
    rows = row(canary={"accepted": 1}, key_made_at=1.0)
    for family in Figures(shown(rows, client_keys=(("KAAP.1", 2.0),), fleet=FLEET)).families:
        for sample in family.samples:
            name = sample.name.removesuffix("_bucket").removesuffix("_count")
            name = name if not name.startswith("keyturn_publish_seconds") else "keyturn_publish_seconds"
            found.setdefault(name, set()).update(set(sample.labels) - {"le"})
    assert found == CONTRACT | BESIDES


def test_every_figure_is_where_it_belongs() -> None:
    """One credential with a different number for everything."""
    figures = Figures(shown(row(took_s=[0.004, 0.3, 100.0])))
    assert figures.get("keyturn_credential_expiry_timestamp_seconds", credential="a") == 2000
    assert figures.get("keyturn_credential_last_success_timestamp_seconds", credential="a") == 1000
    assert figures.get("keyturn_credential_generation", credential="a") == 3
    assert figures.get("keyturn_notifications_owed", credential="a") == 2
    assert figures.get("keyturn_snapshot_timestamp_seconds") == 1500
    assert figures.get("keyturn_build_info", version=__version__) == 1
    assert [figures.get("keyturn_refresh_total", credential="a", outcome=each) for each in REFRESHES] == [4] * 6
    told = [figures.get("keyturn_notify_total", credential="a", type="exec", outcome=each) for each in NOTIFICATIONS]
    assert told == [5] * 3
    buckets = {
        le: figures.get("keyturn_publish_seconds_bucket", credential="a", le=le) for le in ("0.005", "0.5", "60.0")
    }
    assert buckets == {"0.005": 1, "0.5": 2, "60.0": 2}
    assert figures.get("keyturn_publish_seconds_bucket", credential="a", le="+Inf") == 3
    assert figures.get("keyturn_publish_seconds_count", credential="a") == 3
    assert figures.get("keyturn_publish_seconds_sum", credential="a") == pytest.approx(100.304)


def test_a_fleet_is_shown_where_there_is_one() -> None:
    """How many hosts are live, behind and absent; while its board is away, that alone is known."""
    figures = Figures(shown(fleet=FLEET))
    found = [figures.get("keyturn_fleet_hosts", credential="a", state=each) for each in ("live", "behind", "absent")]
    assert (figures.get("keyturn_fleet_connected"), found) == (1, [12, 1, 2])
    assert figures.get("keyturn_fleet_convergence_seconds", credential="a") == 1.5
    away = Figures(shown(fleet=FleetFigures(False, {}, {})))
    assert away.get("keyturn_fleet_connected") == 0
    assert away.get("keyturn_fleet_hosts", credential="a", state="live") is None
    assert Figures(shown()).get("keyturn_fleet_connected") is None


def test_a_canary_is_shown_where_there_is_one() -> None:
    """Its looks by what came of them; nothing of a credential that has none."""
    figures = Figures(shown(row("a", canary={"accepted": 7, "refused": 0}), row("b")))
    assert figures.get("keyturn_canary_total", credential="a", outcome="accepted") == 7
    assert figures.get("keyturn_canary_total", credential="a", outcome="refused") == 0
    assert figures.get("keyturn_canary_total", credential="b", outcome="accepted") is None


def test_the_alarms_about_keys_are_gauges() -> None:
    """Each is 0 or 1 for every credential; the age of a session's key is absent, and each ClientKey is one series."""
    rows = row("a", key_made_at=1000.0, is_restricted=True, is_too_old=True), row("b")
    figures = Figures(shown(*rows, client_keys=(("KAAP.1", 2000.0),)))
    alarms = ("keyturn_key_restricted", "keyturn_key_too_old")
    assert [figures.get(name, credential="a") for name in alarms] == [1, 1]
    assert [figures.get(name, credential="b") for name in alarms] == [0, 0]
    assert figures.get("keyturn_key_made_timestamp_seconds", credential="a") == 1000
    assert figures.get("keyturn_key_made_timestamp_seconds", credential="b") is None
    assert figures.get("keyturn_client_key_expiry_timestamp_seconds", client_key="KAAP.1") == 2000


@pytest.mark.parametrize("state", Condition)
def test_a_credential_is_in_one_state(state: str) -> None:
    """All five gauges are there, and the sum over them is one."""
    figures = Figures(shown(row(state=state)))
    assert figures.state("a") == state
    assert sorted(labels["state"] for labels in figures.labels() if "state" in labels) == sorted(Condition)


def test_what_is_not_known_is_absent_rather_than_zero() -> None:
    """A key without expiry does not look as if it had died in 1970."""
    figures = Figures(shown(row(expires_at=None, last_success_at=None)))
    assert figures.get("keyturn_credential_expiry_timestamp_seconds", credential="a") is None
    assert figures.get("keyturn_credential_last_success_timestamp_seconds", credential="a") is None


def test_a_duration_at_a_bound_belongs_to_its_bucket() -> None:
    """`le` means less or equal."""
    for number, bound in enumerate(BOUNDS_S):
        durations = Durations()
        durations.add(bound)
        assert durations.cumulative()[number] == 1
        assert sum(durations.cumulative()[:number]) == 0


def test_openmetrics_for_those_who_ask_for_it() -> None:
    """Prometheus asks for OpenMetrics first; a browser gets the plain text."""
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"
    assert shown(accept=accept).endswith("# EOF\n")
    assert "keyturn_refresh_total{" in shown(accept=accept)
    for plain in ("", "text/html", "*/*"):
        assert "# EOF" not in shown(accept=plain)


def test_no_credential_is_no_fault() -> None:
    """A snapshot without rows is text all the same."""
    empty = text(Snapshot(taken_at=1.0, passed=False, awaited=(), rows=()))[0].decode()
    assert Figures(empty).get("keyturn_snapshot_timestamp_seconds") == 1
