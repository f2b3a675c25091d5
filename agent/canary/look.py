"""One look: read what one place offers, sign GetCallerIdentity with it, and ask RAM whether it is restricted as leaked.

Runs on a worker; nothing of the value is kept but its id.

Only the calls on Alibaba's list of blocked operations show that a key is restricted (RAM, "Restrictive protection for
compromised AccessKey pairs"). GetCallerIdentity is not on it, all of RAM is. So a long-term key also asks for the list
of its own keys, which reads nothing but ids. Where RAM answers that the key has no such permission, it is not known whether
it is restricted: Alibaba does not say which of the two it checks first.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from agent.cloud.openapi import Cloud
from agent.cloud.verify import is_verdict
from agent.core.credential import Credential, Kind
from agent.core.errors import KeyturnError, LeakedKeyError
from agent.system.oserrors import explain

CALL_S = 5.0
KEY_REFUSED = ("InvalidAccessKeyId", "InvalidSecurityToken", "SignatureDoesNotMatch")
"""Codes for which a look at the source can help: the key is gone, the session is over, or the parts do not fit together."""


class Verdict(StrEnum):
    """What came of a look."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """STS refused the value."""
    RESTRICTED = "restricted"
    """The key is restricted as leaked."""
    UNANSWERED = "unanswered"
    """STS was not reached, or said nothing about the key."""
    UNREADABLE = "unreadable"
    """The place holds no whole value, or cannot be read."""


class Leak(StrEnum):
    """What RAM's answer says of a key."""

    CLEAR = "clear"
    """It may call RAM, so it is not restricted."""
    UNKNOWN = "not known"
    """RAM was not reached, or does not permit this key the call."""
    RESTRICTED = "restricted"


@dataclass(frozen=True, slots=True)
class Place:
    """Where readers find a credential.

    Attributes:
        name: a sink's target, or the socket's.
        read: returns the value that is offered there now; raises OSError or KeyturnError.
    """

    name: str
    read: Callable[[], Credential | None]


@dataclass(frozen=True, slots=True)
class Look:
    """What one look saw; no secret.

    Attributes:
        place: its name.
        access_key_id: of the value that was found there; "" for none.
        code: of the refusal.
        detail: why it is not accepted.
        leak: whether the key is restricted as leaked; None where nobody was asked.
        request_id: the cloud's name for the call that was refused.
    """

    verdict: Verdict
    place: str
    access_key_id: str = ""
    code: str = ""
    detail: str = ""
    leak: Leak | None = None
    request_id: str = ""

    @property
    def may_be_old(self) -> bool:
        """Whether a newer value may be had at the source."""
        return self.verdict is Verdict.REFUSED and self.code.startswith(KEY_REFUSED)


def look(place: Place, cloud: Cloud, now: Callable[[], datetime], known: Container[str] = ()) -> Look:
    """Look at one place.

    Args:
        place: the place.
        cloud: the services.
        now: the wall clock, which is signed.
        known: the keys of which RAM was asked just now, and need not be asked again.
    """
    try:
        value = place.read()
    except OSError as error:
        return Look(Verdict.UNREADABLE, place.name, detail=explain(error, place.name).text)
    except KeyturnError as error:
        return Look(Verdict.UNREADABLE, place.name, detail=error.problem)
    if value is None or value.access_key_secret is None:
        return Look(Verdict.UNREADABLE, place.name, detail="it holds no whole key")
    key_id = value.access_key_id
    try:
        cloud.sts.get_caller_identity(value, now=now(), timeout_s=CALL_S)
    except LeakedKeyError as error:
        return Look(
            Verdict.RESTRICTED, place.name, key_id, error.code, error.problem, Leak.RESTRICTED, error.request_id
        )
    except KeyturnError as error:
        verdict = Verdict.REFUSED if is_verdict(error) else Verdict.UNANSWERED
        return Look(verdict, place.name, key_id, error.code, error.problem, request_id=error.request_id)
    if value.kind is not Kind.ACCESS_KEY or key_id in known:
        return Look(Verdict.ACCEPTED, place.name, key_id)
    try:
        cloud.ram.see_own_keys(value, now=now(), timeout_s=CALL_S)
    except LeakedKeyError as error:
        return Look(
            Verdict.RESTRICTED, place.name, key_id, error.code, error.problem, Leak.RESTRICTED, error.request_id
        )
    except KeyturnError:
        return Look(Verdict.ACCEPTED, place.name, key_id, leak=Leak.UNKNOWN)
    return Look(Verdict.ACCEPTED, place.name, key_id, leak=Leak.CLEAR)
