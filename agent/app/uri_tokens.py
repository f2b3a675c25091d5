"""The tokens of credentials URIs, as an operator sees and replaces them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from agent.app.refresh_now import chosen
from agent.app.wiring import Application
from agent.core.errors import UsageError
from agent.core.events import Actor, Event, Trigger
from agent.endpoint.rotation import rotate as replace_token
from agent.endpoint.tokens import TokenBook
from agent.sinks.formats.credentials_uri import CredentialsUri

OVERLAP_S = 24 * 3600.0
"""How long a token goes on beside the one that replaced it, unless the operator says otherwise."""
MAX_OVERLAP_S = 30 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One `keyturn endpoint rotate-token`.

    Attributes:
        credential: the name.
        path: of the env file; "" for all of the credential.
        overlap_s: how long the old token goes on, in seconds.
        reason: for the audit.
        actor: who asks.
    """

    credential: str
    path: str
    overlap_s: float
    reason: str
    actor: Actor


def token_request(request: dict[str, Any], actor: Actor) -> TokenRequest:
    """Return the request in a message of the control socket.

    Raises:
        UsageError: it is none, or the time is not between 0s and 30d.
    """
    overlap_s = request.get("overlap_s", OVERLAP_S)
    name, path, reason = (request.get(key, "") for key in ("credential", "path", "reason"))
    if not all(isinstance(one, str) for one in (name, path, reason)) or not isinstance(overlap_s, int | float):
        raise UsageError("not a request of keyturn's", "use the keyturn command")
    if not 0 <= overlap_s <= MAX_OVERLAP_S:
        raise UsageError(
            "--overlap: want a time between 0s and 30d", "restart what uses the old token within that time"
        )
    return TokenRequest(name, path, overlap_s, reason, actor)


def shown(application: Application, names: Sequence[str]) -> dict[str, Any]:
    """Return the tokens of credentials, or of all. On the loop's thread.

    Raises:
        UsageError: a name is not in the config.
    """
    return rows(application.tokens, chosen(application.engine, names), application.engine.clock.now())


def rows(book: TokenBook, names: Sequence[str], now: datetime) -> dict[str, Any]:
    """Return the tokens of these credentials; those that have none are left out."""
    found = {name: book.shown(name, now) for name in names}
    return {"credentials": {name: tokens for name, tokens in found.items() if tokens}}


def rotate(application: Application, request: TokenRequest) -> dict[str, Any]:
    """Replace the tokens that are meant, one file after the other, and return all of the credential. On the loop's thread.

    Raises:
        UsageError: there is no such credential, or it has no such file.
        KeyturnError: a file cannot be written, or the audit log; those before it in the config have new tokens.
    """
    (name,) = chosen(application.engine, [request.credential])
    now = application.engine.clock.now()
    until = (now + timedelta(seconds=request.overlap_s)).replace(microsecond=0)
    for sink in _meant(application.tokens, request):
        replace_token(sink, now, until, partial(_record, application, request, sink, until))
    return rows(application.tokens, [name], now)


def _meant(book: TokenBook, request: TokenRequest) -> list[CredentialsUri]:
    name = request.credential
    sinks = book.sinks_of(name)
    if not sinks:
        raise UsageError(f"credentials.{name} has no sink of type credentials_uri", "only those have a token")
    meant = [sink for sink in sinks if request.path in ("", sink.path)]
    if not meant:
        paths = ", ".join(sink.path for sink in sinks)
        raise UsageError(f"credentials.{name} has no sink of type credentials_uri at that path", f"it has {paths}")
    return meant


def _record(application: Application, request: TokenRequest, sink: CredentialsUri, until: datetime) -> None:
    application.audit.record(
        Event.ENDPOINT_TOKEN_ROTATED,
        credential=request.credential,
        trigger=str(Trigger.OPERATOR),
        actor=request.actor.as_json(),
        reason=request.reason or None,
        expiration=until,
        sinks=[sink.path],
    )
