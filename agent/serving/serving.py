"""Serving as a part of the daemon: what the engine offers is kept ready, and the socket is there while the config wants it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial

from agent.audit.log import AuditLog
from agent.core.credential import Credential
from agent.core.events import Event
from agent.core.settings import ServeSettings, Settings
from agent.core.text import first_few
from agent.engine.engine import Engine
from agent.logs.log import log
from agent.serving.asking import CredentialService
from agent.serving.document import HOLD_S
from agent.serving.fetches import FetchRecord
from agent.serving.offers import Offer, Offers
from agent.serving.server import BACKLOG, SOCKET_NAME, CredentialServer
from agent.system.accounts import Accounts

LOOK_AFTER_S = 1.0
"""Seconds from a process that moved to the look whether all have: after a rotation thousands move within seconds."""
Listen = Callable[[str, int], socket.socket]
"""Makes a listening socket that everybody may connect to, by its name and backlog."""


class Serving:
    """What is handed out to those who ask. Belongs to the loop's thread; `offers`, `service` and `fetches` are for any."""

    def __init__(
        self,
        engine: Engine,
        accounts: Accounts,
        audit: AuditLog,
    ) -> None:
        """Keep what is needed; nothing is offered before `follow`.

        Args:
            engine: whose values are handed out.
            accounts: the users and groups of this machine.
            audit: where it stands that everybody has moved.
        """
        self._engine, self._accounts, self._audit = engine, accounts, audit
        self._offers, self.fetches = Offers(), FetchRecord()
        self.service = CredentialService(self._offers, self.fetches, engine.clock.now, self._moved)
        self._resolved: dict[str, tuple[ServeSettings, frozenset[int], frozenset[int]]] = {}
        self._server: CredentialServer | None = None
        self._watching = False
        self._confirmed: dict[str, int] = {}
        self._looks: dict[str, Callable[[], None]] = {}

    @property
    def offers(self) -> Offers:
        """What may be handed out."""
        return self._offers

    def follow(self, settings: Settings, config: str, listen: Listen, take_away: Callable[[str], None]) -> None:
        """Begin, go on or end to serve as this config says.

        Args:
            settings: the config in force.
            config: its resolved path.
            listen: makes the socket.
            take_away: removes it.

        Raises:
            StateError: the socket cannot be made.
        """
        if not self._watching:
            self._watching = True
            self._engine.watch_in_use(self._changed)
        else:
            self._resolve_again()
        wanted = any(one.serve is not None for one in settings.credentials.values())
        if wanted and self._server is None:
            self._server = CredentialServer(listen(SOCKET_NAME, BACKLOG), self.service, config)
            log.info("credentials are served", socket=SOCKET_NAME)
        elif not wanted and self._server is not None:
            self.close()
            take_away(SOCKET_NAME)

    def offered(self, name: str) -> Credential | None:
        """Return the value that is handed out to those who may ask; None where there is none. On any thread."""
        offer = self._offers.find(name)
        return offer.value if offer is not None else None

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _changed(self, name: str) -> None:
        """Offer what the engine has now."""
        found = self._engine.in_use(name)
        if found is None:
            self._offers.drop(name)
            self.fetches.drop(name)
            for known in (self._resolved, self._confirmed, self._looks):
                known.pop(name, None)
        else:
            users, groups = self._who(name, found.serve)
            hold_s = float(found.serve.hold) if found.serve is not None else HOLD_S
            self._offers.put(name, Offer(found.generation, found.value, found.expiration, hold_s, users, groups))
        self._offers.hurry(self._engine.in_emergency())

    def _who(self, name: str, serve: ServeSettings | None) -> tuple[frozenset[int], frozenset[int]]:
        """Return the uids and gids that may ask; looked up once for each config, since a directory service may be slow."""
        if serve is None:
            return frozenset(), frozenset()
        known = self._resolved.get(name)
        if known is None or known[0] != serve:
            users = {uid for one in serve.users if (uid := self._accounts.uid_of(one)) is not None}
            groups = {gid for one in serve.groups if (gid := self._accounts.gid_of(one)) is not None}
            known = self._resolved[name] = serve, frozenset(users), frozenset(groups)
        return known[1], known[2]

    def _resolve_again(self) -> None:
        """Look the users and groups up anew: a name may have another number since, and the old number another owner."""
        before, self._resolved = self._resolved, {}
        for name, (serve, *known) in before.items():
            if self._who(name, serve) != tuple(known):
                self._changed(name)

    # -- pickup -------------------------------------------------------------------------------------

    def _moved(self, name: str) -> None:
        """Look whether everybody has moved, soon, on the loop's thread. On any thread."""
        self._engine.post(partial(self._look_in, LOOK_AFTER_S, name))

    def _look_in(self, seconds: float, name: str) -> None:
        look = self._looks.setdefault(name, partial(self._look, name))
        self._engine.after(seconds, look)

    def _look(self, name: str) -> None:
        """Record once for each generation that everybody who held an older one has moved; else look again in time."""
        offer, now = self._offers.find(name), self._engine.clock.now()
        if offer is None or self._confirmed.get(name) == offer.generation:
            return
        behind = self.fetches.laggards(name, offer.generation, now)
        if behind:
            self._look_in(max(LOOK_AFTER_S, (behind[0].until - now).total_seconds()), name)
            return
        who = [str(one.peer) for one in self.fetches.clients(name, now)]
        self._audit.record(
            Event.PICKUP_CONFIRMED,
            credential=name,
            generation=offer.generation,
            outcome=f"fetched by {', '.join(first_few(who))}" if who else "nobody holds an older one",
        )
        self._confirmed[name] = offer.generation
