"""One request to the credentials URI, judged and answered. Nothing of a request is believed but its token and the kernel's word.

In this order: GET only, and no proxy on the way; the name and the token; the uid of who holds the other end of the connection,
where `[credentials.NAME.serve]` names users or groups; what the client can take. (Size, time and number of connections, and a
Host that is not loopback, are judged before: agent/http.)

Refusals have no body, since the SDKs put bodies into the text of their exceptions, and all that concern the token look alike:
whether a credential of that name exists is not said. Who comes with a wrong token waits a second for the answer, and no more
than a few do so at once: guessing 256 bits is hopeless anyway, and what is limited is the work and the log that it makes.
Decisions: docs/adr/0020.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from urllib.parse import parse_qsl

from agent.core.credential import Credential, part
from agent.core.errors import EXIT_NOT_PERMITTED, EXIT_USAGE, KeyturnError
from agent.core.timestamps import moment_of, rfc3339
from agent.endpoint.clients import Client, client_of
from agent.endpoint.tokens import TokenBook
from agent.http.message import RefusedError, Reply, Request
from agent.logs.log import log
from agent.logs.seldom import Seldom
from agent.serving.asking import CredentialService, Format, may_have
from agent.serving.offers import Offer, Offers
from agent.serving.peer import Peer
from agent.sinks.formats.credentials_uri import PATH
from agent.system.accounts import find_account
from agent.system.tcp_peer import TcpPeer, tcp_peer

PENALTY_S = 1.0
WAITING = 8
"""Requests with a wrong token that wait for their answer at once; one more is turned away without a wait."""
GROUPS_S = 60.0
"""How long the groups of a user are remembered: a name service may be slow."""
FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""What a proxy adds: somebody else than a process of this machine asks through it."""
_NAME = re.compile(re.escape(PATH) + r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})")


class Gate:
    """The one that answers requests, on whatever thread they come."""

    def __init__(
        self,
        book: TokenBook,
        offers: Offers,
        service: CredentialService,
        now: Callable[[], datetime],
        peer: Callable[[socket.socket], TcpPeer | None] = tcp_peer,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Keep what is needed.

        Args:
            book: the tokens.
            offers: what may be handed out, and to whom.
            service: hands it out, and takes note of it.
            now: the wall clock, UTC-aware.
            peer: who holds the other end of a connection; raises OSError where the kernel does not say.
            wait: sleeps so many seconds.
        """
        self._book, self._offers, self._service, self._now = book, offers, service, now
        self._ask_kernel, self._wait = peer, wait
        self._waiting = threading.BoundedSemaphore(WAITING)
        self._groups: dict[int, tuple[float, frozenset[int]]] = {}
        self._said: dict[str, Seldom] = {}

    def answer(self, request: Request, channel: socket.socket) -> Reply:
        """Answer one request.

        Raises:
            RefusedError: it gets no value; its reply has the status.
        """
        self._refuse_others(request)
        name, token = _asked(request)
        client, now = client_of(request.headers), self._now()
        if not self._book.is_right(name, token, now):
            raise self._wrong_token(name, token, client, now, channel)
        peer = self._peer(channel)
        offer = self._offers.find(name)
        self._judge(name, offer, peer, client)
        try:
            answer = self._service.answer(name, Format.URI, client.window_s, peer, let_in=True)
        except KeyturnError as error:
            raise self._refused(
                _status(error), str(error), name, client, peer, f"{_status(error).phrase} {name}"
            ) from None
        self._book.used(token, now, peer.uid if peer is not None else None)
        log.debug("a credential was served", credential=name, client=client.name, uid=peer.uid if peer else None)
        return Reply(HTTPStatus.OK, _as_taken(answer, client), "application/json")

    def _judge(self, name: str, offer: Offer | None, peer: Peer | None, client: Client) -> None:
        """Refuse whom `serve` does not name, where it names anybody, and who cannot take the value.

        Raises:
            RefusedError: as it says.
        """
        if offer is not None and (offer.users or offer.groups) and not may_have(offer, peer):
            why = "`serve` does not name its user" if peer is not None else "the kernel does not say who it is"
            raise self._refused(HTTPStatus.FORBIDDEN, why, name, client, peer, f"user {name}")
        if offer is not None and offer.value is not None and not (client.takes_keys or _has_token(offer.value)):
            why = "the value is a long-term AccessKey, and a client that does not say its name may be Node's, which takes none"
            raise self._refused(HTTPStatus.NOT_ACCEPTABLE, why, name, client, peer, f"client {name}")

    def _peer(self, channel: socket.socket) -> Peer | None:
        try:
            found = self._ask_kernel(channel)
        except OSError as error:
            if (left_out := self._seldom("peer").due()) is not None:
                remedy = "`keyturn systemd-setup --install` allows it (AF_NETLINK)"
                log.warning(
                    "the kernel does not say who asks for a credential", error=str(error), remedy=remedy, **left_out
                )
            return None
        return Peer(found.uid, self._groups_of(found.uid)) if found is not None else None

    def _groups_of(self, uid: int) -> frozenset[int]:
        until, groups = self._groups.get(uid, (0.0, frozenset[int]()))
        if until < time.monotonic():
            account = find_account(str(uid))
            groups = frozenset(account.groups) if account is not None else frozenset()
            self._groups[uid] = (time.monotonic() + GROUPS_S, groups)
        return groups

    def _wrong_token(
        self, name: str, token: str, client: Client, now: datetime, channel: socket.socket
    ) -> RefusedError:
        """Return the refusal, after a while: that of a token that is dead, or of one that never was.

        A dead token was somebody's who is to be restarted: the kernel is asked who, and guesses of others hide no such line.
        """
        died = self._book.died(name, token, now)
        why = f"its token was replaced, and died at {rfc3339(died)}: restart it" if died else "its token is wrong"
        what = f"dead token {name}" if died else "wrong token"
        peer = self._peer(channel) if died else None
        if not self._waiting.acquire(blocking=False):
            return self._refused(HTTPStatus.TOO_MANY_REQUESTS, why, name, client, peer, what)
        try:
            self._wait(PENALTY_S)
        finally:
            self._waiting.release()
        return self._refused(HTTPStatus.FORBIDDEN, why, name, client, peer, what)

    def _refuse_others(self, request: Request) -> None:
        if request.method != "GET":
            raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is served")
        if any(name in request.headers for name in FORWARDED):
            raise self._refused(
                HTTPStatus.FORBIDDEN, "it came through a proxy", None, client_of(request.headers), None, "proxy"
            )

    def _refused(
        self, status: HTTPStatus, why: str, name: str | None, client: Client, peer: Peer | None, what: str
    ) -> RefusedError:
        """Return the refusal, and say why in the log: there alone, and once a minute for each reason, `what`."""
        if (left_out := self._seldom(what).due()) is not None:
            uid = peer.uid if peer is not None else None
            log.warning(
                "a request for a credential was refused",
                credential=name,
                why=why,
                client=client.name,
                uid=uid,
                **left_out,
            )
        return RefusedError(status, why)

    def _seldom(self, what: str) -> Seldom:
        return self._said.setdefault(what, Seldom())


def without_body(reply: Reply) -> Reply:
    """Return the refusal that a client gets: its status alone."""
    allowed = {"Allow": "GET"} if reply.status is HTTPStatus.METHOD_NOT_ALLOWED else {}
    return Reply(reply.status, b"", headers=allowed)


def _asked(request: Request) -> tuple[str, str]:
    """Return the credential and the token that a request names; "" for a token that it does not name exactly once."""
    match = _NAME.fullmatch(request.path)
    if match is None:
        raise RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here")
    try:
        given = [value for key, value in parse_qsl(request.query, max_num_fields=8) if key == "token"]
    except ValueError:
        given = []
    return match[1], given[0] if len(given) == 1 else ""


def _has_token(value: Credential) -> bool:
    return bool(part(value, "security_token"))


def _status(error: KeyturnError) -> HTTPStatus:
    if error.exit_code in (EXIT_NOT_PERMITTED, EXIT_USAGE):
        return HTTPStatus.FORBIDDEN
    return HTTPStatus.SERVICE_UNAVAILABLE if error.retryable else HTTPStatus.NOT_ACCEPTABLE


def _as_taken(answer: bytes, client: Client) -> bytes:
    """Return the answer as this client takes it: one that goes by a share of the life gets a life to which the window is that."""
    if client.share is None:
        return answer
    document: Mapping[str, str] = json.loads(answer)
    ends = moment_of(document["Expiration"])
    assert ends is not None  # agent/serving/document.py wrote it
    begins = ends - timedelta(seconds=client.window_s / client.share)
    return json.dumps({**document, "LastUpdated": rfc3339(begins)}).encode() + b"\n"
