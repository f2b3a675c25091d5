"""What `status` shows: one object, whose form is a contract, without a secret; from the daemon, or from the state on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from agent import __version__
from agent.app.clients import unit_pickup
from agent.core.alarms import SEVERE_DAYS, Kind
from agent.core.config_in_force import ConfigInForce
from agent.core.policy import ALARMS, Condition
from agent.core.text import first_few
from agent.core.timestamps import rfc3339, rfc3339_micros
from agent.engine.client_key_alarms import ClientKeySnapshot
from agent.engine.snapshot import CredentialSnapshot, DependentSnapshot, EngineSnapshot
from agent.state.records import called

WORST_FIRST = tuple(reversed(Condition))
CanaryOf = Callable[[str], dict[str, Any] | None]
RotationOf = Callable[[str], dict[str, Any] | None]
ClientsOf = Callable[[str, int], list[dict[str, Any]]]


def as_json(
    credentials: Iterable[CredentialSnapshot],
    config: str,
    *,
    client_keys: Iterable[ClientKeySnapshot] = (),
    pid: int | None = None,
    started_at: datetime | None = None,
    in_force: ConfigInForce | None = None,
    clients_of: ClientsOf = lambda _name, _generation: [],
    canary_of: CanaryOf = lambda _name: None,
    rotation_of: RotationOf = lambda _name: None,
    fleet: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the object of `status --json`.

    Args:
        credentials: the rows, in the order of the config.
        config: the path of the config.
        client_keys: those that sign for them.
        pid: of the daemon; None, as all that follows, where none runs.
        started_at: when it was started.
        in_force: what became of its last reload.
        clients_of: returns who fetched a credential from it (agent/app/clients.py), by its name and newest generation.
        canary_of: returns what the canary saw of it (agent/canary/canary.py), by its name.
        rotation_of: returns how the rotation of a RAM user's keys stands (agent/ram_rotation/rotations.py), by its name.
        fleet: how the connection to the fleet's board fares.
    """
    return {
        "agent": {
            "version": __version__,
            "pid": pid,
            "started_at": stamp(started_at),
            "config": config,
            "config_loaded_at": rfc3339_micros(in_force.loaded_at) if in_force else None,
            "config_refused_at": stamp(in_force.refused_at) if in_force else None,
            "config_problems": list(in_force.problems) if in_force else [],
            **({"fleet": fleet} if fleet is not None else {}),
            "client_keys": [_client_key(one) for one in client_keys],
        },
        "credentials": {
            one.name: _row(
                one, clients_of(one.name, one.published.generation), canary_of(one.name), rotation_of(one.name)
            )
            for one in credentials
        },
    }


def _row(
    one: CredentialSnapshot,
    clients: list[dict[str, Any]],
    canary: dict[str, Any] | None,
    rotation: dict[str, Any] | None,
) -> dict[str, Any]:
    done = one.published
    return {
        "provider": one.provider,
        "state": str(one.condition),
        "generation": done.generation,
        "access_key_id": done.access_key_id or None,
        "version_id": done.version_id or None,
        "expires_at": stamp(done.expiration),
        "published_at": stamp(done.published_at),
        "key_made_at": stamp(one.key_made_at),
        "alarms": [
            {"alarm": str(each.kind), "access_key_id": each.access_key_id, "text": each.text} for each in one.key_alarms
        ],
        "verified": done.verified == "verified",
        "last_success_at": stamp(one.last_success_at),
        "next_refresh_at": stamp(one.next_refresh_at),
        "consecutive_failures": one.failures,
        "last_error": one.last_error or None,
        "sinks": [{"type": sink.type_name, "target": sink.target, "in_sync": sink.in_sync} for sink in one.sinks],
        "notify": notify_rows(one, clients),
        "clients": clients,
        **({"canary": canary} if canary is not None else {}),
        **({"rotation": rotation} if rotation is not None else {}),
    }


def _client_key(one: ClientKeySnapshot) -> dict[str, Any]:
    return {
        "key_id": one.key_id,
        "path": one.path,
        "expires_at": stamp(one.expires_at),
        "is_alarm": one.said is not None,
        "credentials": list(one.users),
    }


def notify_rows(one: CredentialSnapshot, clients: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """Return how each dependent was told, and what is known of its pickup: a service's also by what its processes fetched."""
    return [
        {
            "type": who.type_name,
            "target": who.target,
            "owed": who.owed,
            "last_outcome": str(who.outcome) if who.outcome is not None else None,
            "pickup": (unit_pickup(clients, who.target) if who.type_name == "systemd" else None) or who.pickup,
        }
        for who in one.dependents
    ]


def summary(seen: EngineSnapshot, refused: str = "", fleet: str = "") -> str:
    """Return one line for `systemctl status`: severe alarms, a config that was refused, how many are well, the worst first.

    Before the first pass has ended: which credentials have not answered yet, be it with a failure.

    Args:
        seen: the credentials.
        refused: what was wrong with a config that was refused; "" for nothing.
        fleet: what is wrong with the fleet's board; "" for nothing.
    """
    return "; ".join(filter(None, [_restricted(seen), *_ending(seen), refused, fleet, _credentials(seen)]))


def _restricted(seen: EngineSnapshot) -> str:
    found = [
        f"{one.name} ({each.access_key_id})"
        for one in seen.credentials
        for each in one.key_alarms
        if each.kind is Kind.RESTRICTED
    ]
    return f"restricted as leaked: {', '.join(first_few(found))}" if found else ""


def _ending(seen: EngineSnapshot) -> list[str]:
    """Return the ClientKeys that end soon; without the days, or the line would be a new one each day."""
    ending = [one for one in seen.client_keys if one.said is not None and one.said <= SEVERE_DAYS]
    return [f"ClientKey {one.key_id} {'expires' if one.said else 'expired'} {stamp(one.expires_at)}" for one in ending]


def _credentials(seen: EngineSnapshot) -> str:
    if not seen.passed:
        return _starting(seen.awaited, len(seen.credentials))
    ill = [one for one in seen.credentials if one.condition is not Condition.FRESH]
    ill.sort(key=lambda one: WORST_FIRST.index(one.condition))
    well = f"{len(seen.credentials) - len(ill)} of {len(seen.credentials)} credentials fresh"
    return "; ".join([well, *first_few([_about(one) for one in ill])])


def _starting(waiting: Sequence[str], total: int) -> str:
    answered = f"starting: {total - len(waiting)} of {total} credentials answered"
    return f"{answered}; waiting for {', '.join(first_few(waiting))}" if waiting else answered


def _about(one: CredentialSnapshot) -> str:
    """Return what is wrong with one; nothing that counts seconds, or the line would be a new one at each look."""
    if one.condition not in ALARMS:
        return f"{one.name} {one.condition}{_whose(one)}"
    last = stamp(one.last_success_at)
    return f"{one.name} {one.condition} ({f'last success {last}' if last else 'never obtained'})"


def _whose(one: CredentialSnapshot) -> str:
    """Return which dependent it is about, where refreshes go well and it is a single one; "" otherwise."""
    if one.failures:
        return ""
    gave_up = _identities(who for who in one.dependents if who.outcome is not None and who.outcome.gave_up)
    owed = _identities(who for who in one.dependents if who.owed)
    about, what = (gave_up, "was given up") if gave_up else (owed, "to be told")
    return f" ({called(about[0])} {what})" if len(about) == 1 else ""


def _identities(dependents: Iterable[DependentSnapshot]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(who.identity for who in dependents))


def stamp(moment: datetime | None) -> str | None:
    """Return a moment as RFC 3339, UTC."""
    return rfc3339(moment) if moment else None
