"""Whether an emergency could make a key for a RAM user, by the very decision that it would go by. Asks and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from agent.cloud.looks import AccessKeySeen
from agent.core.errors import KeyturnError, SourceRefusedError
from agent.core.ram_user import RamUserPlan
from agent.engine.snapshot import CredentialSnapshot
from agent.ram_rotation.decide import decide
from agent.ram_rotation.view import (
    INACTIVE,
    AskLastUse,
    Delete,
    Disable,
    InUse,
    LastUse,
    Listed,
    Note,
    Rest,
    View,
    Wanted,
)
from agent.state.ram_record import GUESSED
from agent.system.machine import machine

MOST_STEPS = 20


def why_no_key(
    plan: RamUserPlan,
    seen: CredentialSnapshot,
    keys: Sequence[AccessKeySeen],
    now: datetime,
    unowned: Rest | None = None,
) -> KeyturnError | None:
    """Return why `rotate` could not make a new key; None where it could, as far as is seen.

    Args:
        plan: what the config says.
        seen: the credential.
        keys: the user's, as RAM lists them.
        now: the wall clock.
        unowned: why this host rotates nothing; None where it does.
    """
    done, place = seen.published, f"credentials.{seen.name}"
    in_use = InUse(
        done.access_key_id,
        done.published_at,
        is_known=True,
        is_proved=done.verified in ("verified", "off"),
        in_sinks=frozenset({done.access_key_id}),
    )
    listed = tuple(Listed(one.access_key_id, one.status, one.created_at) for one in keys)
    view = View(place, seen.name, plan, machine(), seen.ram, listed, in_use, Wanted.EMERGENCY, now, unowned=unowned)
    for _ in range(MOST_STEPS):
        match decide(view):
            case Note(record):
                view = replace(view, record=record)
            case AskLastUse(access_key_id):
                key = view.record.key(access_key_id)
                unused = key is not None and key.origin == GUESSED
                view = replace(view, used={**view.used, access_key_id: LastUse(None if unused else now)})
            case Disable(access_key_id):
                rows = (
                    replace(one, status=INACTIVE) if one.access_key_id == access_key_id else one for one in view.listed
                )
                view = replace(view, listed=tuple(rows))
            case Delete(access_key_id):
                rows = (one for one in view.listed if one.access_key_id != access_key_id)
                view = replace(view, listed=tuple(rows))
            case Rest(text, remedy) if text:
                return SourceRefusedError(f"{place}: {text}", remedy)
            case _:
                return None
    return None
