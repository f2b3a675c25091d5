"""The fleet as an emergency sees it: who is there, the announcement of a version, and who has moved to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from agent.core.secret import Secret
from agent.fleet.board import LIVE_S, Board, Host
from agent.fleet.convergence import Standing, standings
from agent.fleet.entries import Announcement, Why, new_nonce
from agent.fleet.errors import FleetError

LATER = 100
"""Announcements of the same version, made after ours, whose proofs count as well."""
AGAIN_S = 2.0
"""Seconds after which an announcement that the board has lost is made once more."""


class FleetRotation:
    """One credential's rotation over a fleet. For one thread, not the loop's; each method may wait for the board's server.

    Every method raises `FleetError` where the board cannot be had, and `FleetRefusedError` where it is refused.
    """

    def __init__(self, board: Board, host: str, machine: str, credential: str) -> None:
        """Keep what is needed; nothing is sent yet.

        Args:
            board: a connection that is used for nothing else.
            host: this host's name in the fleet.
            machine: tells this machine from another by the same name.
            credential: its name, which is the same on every host.
        """
        self._board, self.host, self._machine, self._credential = board, host, machine, credential
        self._news: Announcement | None = None
        self._announced_at = 0.0

    def others(self) -> list[Host]:
        """Return the other hosts that have this credential, live or absent."""
        return [one for one in self._board.hosts(self._credential) if not self._is_this(one)]

    def announce(self, version_id: str, deadline: float) -> None:
        """Announce a version; `deadline` is the unix time until which it is waited for."""
        self._announce(Announcement("", version_id, new_nonce(), Why.EMERGENCY, deadline, self.host))

    def look(self, secret: Secret) -> Sequence[Standing]:
        """Return how each other host stands to the version that was announced; `secret` is of that version.

        Raises:
            FleetError: also while the board may not know every host yet, since its server came back a moment ago.
        """
        if self._news is None:
            raise RuntimeError("nothing was announced")
        later = self._board.since(self._credential, self._news.entry, LATER)
        if all(one.nonce != self._news.nonce for one in later) and time.monotonic() >= self._announced_at + AGAIN_S:
            self._announce(self._news)
        news, known_s = self._news, self._board.kept_for_s(self._credential)
        if known_s < LIVE_S:
            raise FleetError(
                f"fleet: the board began {known_s:.0f} s ago, or was away until then, so hosts may be missing on it",
                f"wait: after {LIVE_S:g} s every host that is there is on it again",
            )
        nonces = {news.nonce, *(one.nonce for one in later if one.version_id == news.version_id)}
        hosts = self._board.hosts(self._credential)
        return standings(hosts, self.host, self._machine, self._credential, news.version_id, nonces, secret)

    def _announce(self, news: Announcement) -> None:
        entry = self._board.announce(self._credential, news)
        self._news, self._announced_at = replace(news, entry=entry), time.monotonic()

    def close(self) -> None:
        """Give the connection back."""
        self._board.close()

    def _is_this(self, one: Host) -> bool:
        state = one.state
        return one.name == self.host and (state is None or (state.machine == self._machine and not state.twins))
