"""A snapshot as text: the metrics of the product's contract, by `prometheus_client`.

Loaded only where the config asks for metrics: the library brings `http.server`, `wsgiref` and `urllib.request` with it
(docs/dependencies.md says what that costs). Its global registry, with the figures of the process and of the garbage
collector, is left alone: node_exporter and systemd know them better. `_created` samples are not made.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from agent import __version__
from agent.core.policy import Condition
from agent.metrics.counters import BOUNDS_S
from agent.metrics.snapshot import FleetFigures, Row, Snapshot

BY = ["credential"]


def text(snapshot: Snapshot, accept: str = "") -> tuple[bytes, str]:
    """Return the text and its content type.

    Args:
        snapshot: what is shown.
        accept: the HTTP header of that name; OpenMetrics where it asks for it, else Prometheus' text format 0.0.4.
    """
    registry = CollectorRegistry()
    registry.register(_Shown(snapshot))
    if _wants_openmetrics(accept):
        body: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return body, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def _wants_openmetrics(accept: str) -> bool:
    """Return whether a header asks for the one version of OpenMetrics that is served.

    `choose_encoder` of prometheus_client raises for a version that is none, and answers with one that it was told.
    """
    return any(_is_openmetrics(*media_range.lower().split(";")) for media_range in accept.split(","))


def _is_openmetrics(media_type: str, *parameters: str) -> bool:
    named = {name.strip(): value.strip(' "') for name, _equals, value in (each.partition("=") for each in parameters)}
    return (
        media_type.strip() == "application/openmetrics-text"
        and named.get("version", "1.0.0") == "1.0.0"
        and named.get("q", "1").strip("0.") != ""
    )


class _Shown(Collector):
    """One snapshot as metric families."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        """Return nothing: the registry is ours alone, so there is no other name to collide with."""
        return []

    def collect(self) -> Iterator[Metric]:
        rows = self._snapshot.rows
        yield from _instants(rows)
        yield from _conditions(rows)
        yield _clients(rows)
        yield from _keys(rows)
        yield _client_keys(self._snapshot)
        yield _canaries(rows)
        if self._snapshot.fleet is not None:
            yield from _fleet(self._snapshot.fleet)
        yield from _counters(rows)
        yield _publishes(rows)
        yield InfoMetricFamily("keyturn_build", "The version that runs.", value={"version": __version__})
        yield GaugeMetricFamily(
            "keyturn_config_last_reload_successful",
            "0 from a refused reload until a config is loaded: what stands on disk is not what is in force. 1 otherwise.",
            value=float(not self._snapshot.config_refused),
        )
        yield GaugeMetricFamily(
            "keyturn_config_last_reload_success_timestamp_seconds",
            "When the config in force was read, at the start or by a reload.",
            value=self._snapshot.config_loaded_at,
        )
        yield GaugeMetricFamily(
            "keyturn_snapshot_timestamp_seconds",
            "When these figures were taken; one that stands still tells of an agent that is stuck or gone.",
            value=self._snapshot.taken_at,
        )


def _instants(rows: tuple[Row, ...]) -> Iterator[Metric]:
    expiry = GaugeMetricFamily(
        "keyturn_credential_expiry_timestamp_seconds",
        "When the value in use dies; absent for one that lives until it is rotated.",
        labels=BY,
    )
    success = GaugeMetricFamily(
        "keyturn_credential_last_success_timestamp_seconds",
        "When a refresh went well last; absent while none ever did.",
        labels=BY,
    )
    for row in rows:
        for family, instant in ((expiry, row.expires_at), (success, row.last_success_at)):
            if instant is not None:
                family.add_metric([row.name], instant)
    return iter((expiry, success))


def _conditions(rows: tuple[Row, ...]) -> Iterator[Metric]:
    generation = GaugeMetricFamily(
        "keyturn_credential_generation", "Number of values published so far, over restarts.", labels=BY
    )
    state = GaugeMetricFamily(
        "keyturn_credential_state",
        "1 for the state that the credential is in, 0 for the others.",
        labels=[*BY, "state"],
    )
    owed = GaugeMetricFamily("keyturn_notifications_owed", "Dependents that are still to be told.", labels=BY)
    for row in rows:
        generation.add_metric([row.name], row.generation)
        owed.add_metric([row.name], row.owed)
        for name in Condition:
            state.add_metric([row.name, name], float(name == row.state))
    return iter((generation, state, owed))


def _clients(rows: tuple[Row, ...]) -> Metric:
    family = GaugeMetricFamily(
        "keyturn_clients",
        "Processes that fetched the credential and live: on the newest generation alone, or perhaps still on an older one.",
        labels=[*BY, "generation"],
    )
    for row in rows:
        for which, count in zip(("current", "older"), row.clients, strict=True):
            family.add_metric([row.name, which], count)
    return family


def _keys(rows: tuple[Row, ...]) -> Iterator[Metric]:
    made = GaugeMetricFamily(
        "keyturn_key_made_timestamp_seconds",
        "When the AccessKey in use was made, as its source says, else when it was first published here; absent for a session.",
        labels=BY,
    )
    too_old = GaugeMetricFamily("keyturn_key_too_old", "1 while the AccessKey in use is older than max_age.", labels=BY)
    restricted = GaugeMetricFamily(
        "keyturn_key_restricted", "1 while a key of the credential is restricted as leaked, else 0.", labels=BY
    )
    for row in rows:
        if row.key_made_at is not None:
            made.add_metric([row.name], row.key_made_at)
        too_old.add_metric([row.name], float(row.is_too_old))
        restricted.add_metric([row.name], float(row.is_restricted))
    return iter((made, too_old, restricted))


def _client_keys(snapshot: Snapshot) -> Metric:
    family = GaugeMetricFamily(
        "keyturn_client_key_expiry_timestamp_seconds",
        "When the certificate of a ClientKey ends, with which secrets are fetched.",
        labels=["client_key"],
    )
    for key_id, expires_at in snapshot.client_keys:
        family.add_metric([key_id], expires_at)
    return family


def _canaries(rows: tuple[Row, ...]) -> Metric:
    looks = CounterMetricFamily(
        "keyturn_canary",
        "Calls signed with what readers are offered, since the start of the process, by what came of them.",
        labels=[*BY, "outcome"],
    )
    for row in rows:
        for outcome, count in (row.canary or {}).items():
            looks.add_metric([row.name, outcome], count)
    return looks


def _fleet(fleet: FleetFigures) -> Iterator[Metric]:
    hosts = GaugeMetricFamily(
        "keyturn_fleet_hosts",
        "Hosts that have the credential, this one included: live on the newest version, behind, or absent.",
        labels=[*BY, "state"],
    )
    took = GaugeMetricFamily(
        "keyturn_fleet_convergence_seconds",
        "From this host's last announcement of a version until every live host had it; absent where it made none.",
        labels=BY,
    )
    for name, counts in fleet.hosts.items():
        for state, count in counts.items():
            hosts.add_metric([name, state], count)
    for name, seconds in fleet.converged_s.items():
        took.add_metric([name], seconds)
    rotates = GaugeMetricFamily(
        "keyturn_ram_user_owner", "1 on the host of the fleet that rotates the keys of a RAM user, else 0.", labels=BY
    )
    for name, is_owner in fleet.rotates.items():
        rotates.add_metric([name], float(is_owner))
    connected = "1 while the fleet's board is reached, else 0; absent without a fleet."
    reached = GaugeMetricFamily("keyturn_fleet_connected", connected, value=float(fleet.is_connected))
    return iter((reached, hosts, took, rotates))


def _counters(rows: tuple[Row, ...]) -> Iterator[Metric]:
    refreshes = CounterMetricFamily(
        "keyturn_refresh", "Refreshes since the start of the process, by what came of them.", labels=[*BY, "outcome"]
    )
    notifications = CounterMetricFamily(
        "keyturn_notify",
        "Tries to tell a dependent since the start of the process, by its notifier's type and what came of them.",
        labels=[*BY, "type", "outcome"],
    )
    for row in rows:
        for outcome, count in row.refreshes:
            refreshes.add_metric([row.name, outcome], count)
        for kind, outcome, count in row.notifications:
            notifications.add_metric([row.name, kind, outcome], count)
    return iter((refreshes, notifications))


def _publishes(rows: tuple[Row, ...]) -> Metric:
    family = HistogramMetricFamily(
        "keyturn_publish_seconds",
        "From the provider's reply to the last sink switched, the proof of the value included.",
        labels=BY,
    )
    bounds = [*map(str, BOUNDS_S), "+Inf"]
    for row in rows:
        buckets = list(zip(bounds, map(float, row.published), strict=True))
        family.add_metric([row.name], buckets=buckets, sum_value=row.published_sum_s)
    return family
