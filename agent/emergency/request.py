"""What the operator asks of an emergency. Imports little: the command judges it before it asks the daemon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.core.errors import UsageError
from agent.core.events import Actor
from agent.core.suspects import looks_secret, without_suspects
from agent.logs.redaction import redacted

PLAN_S = 10.0
"""Seconds after which a plan is made with what is known by then."""


@dataclass(frozen=True, slots=True)
class Request:
    """The operator's request. To delete the old key includes to disable it.

    Attributes:
        fleet: True where there has to be one, False where it is left out, None for what the config says.
        allow_absent: hosts of the fleet that are let go where they are absent.
    """

    credential: str
    reason: str
    actor: Actor
    leaked: str | None = None
    disable_old: bool = False
    delete_old: bool = False
    force: bool = False
    fleet: bool | None = None
    allow_absent: tuple[str, ...] = ()


def refuse_secret(given: str, option: str) -> None:
    """Refuse what looks like a secret where the id of an AccessKey is wanted, without repeating it.

    Raises:
        UsageError: it does.
    """
    if looks_secret(given) or redacted(given) != given:
        raise UsageError(
            f"{option} takes an AccessKey id, and what was given looks like a secret; it was written down nowhere",
            "give the id that belongs to it (LTAI...), and take the secret out of your shell's history",
        )


def emergency_request(raw: dict[str, Any], actor: Any) -> Request:
    """Return the request that came over the control socket or the command line.

    Raises:
        UsageError: something is missing, or is no text.
    """
    name, reason, leaked = raw.get("credential"), raw.get("reason"), raw.get("leaked")
    if not isinstance(name, str) or not isinstance(reason, str) or not reason.strip():
        raise UsageError("rotate needs a credential and a reason", "give --reason TEXT; it goes into the audit")
    if leaked is not None and not isinstance(leaked, str):
        raise UsageError("--leaked takes an AccessKey id")
    if leaked is not None:
        refuse_secret(leaked, "--leaked")
    fleet, absent = raw.get("fleet"), raw.get("allow_absent") or []
    if (
        fleet not in (None, True, False)
        or not isinstance(absent, list)
        or not all(isinstance(one, str) for one in absent)
    ):
        raise UsageError("--allow-absent takes the name of a host", "see `keyturn fleet status`")
    # An argument that is no UTF-8 arrives as lone surrogates, which neither the audit nor the state can hold.
    reason = reason.encode("utf-8", "backslashreplace").decode()
    return Request(
        name,
        redacted(without_suspects(reason.strip())),
        actor,
        leaked,
        disable_old=bool(raw.get("disable_old")) or bool(raw.get("delete_old")),
        delete_old=bool(raw.get("delete_old")),
        force=bool(raw.get("force")),
        fleet=fleet,
        allow_absent=tuple(absent),
    )
