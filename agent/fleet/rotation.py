"""The fleet as an emergency sees it: who is there, the announcement of a version, and who has moved to it."""

from __future__ import annotations

from collections.abc import Sequence

from agent.core.secret import Secret
from agent.fleet.board import Board, Host
from agent.fleet.convergence import Standing, standings
from agent.fleet.entries import Announcement, Why, new_nonce

LATER = 100
"""Announcements of the same version, made after ours, whose proofs count as well."""


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

    def others(self) -> list[Host]:
        """Return the other hosts that have this credential, live or absent."""
        return [one for one in self._board.hosts(self._credential) if not self._is_this(one)]

    def announce(self, version_id: str, deadline: float) -> None:
        """Announce a version; `deadline` is the unix time until which it is waited for."""
        news = Announcement("", version_id, new_nonce(), Why.EMERGENCY, deadline, self.host)
        entry = self._board.announce(self._credential, news)
        self._news = Announcement(entry, version_id, news.nonce, news.why, deadline, self.host)

    def look(self, secret: Secret) -> Sequence[Standing]:
        """Return how each other host stands to the version that was announced; `secret` is of that version."""
        news = self._news
        if news is None:
            raise RuntimeError("nothing was announced")
        later = self._board.since(self._credential, news.entry, LATER)
        nonces = {news.nonce, *(one.nonce for one in later if one.version_id == news.version_id)}
        hosts = self._board.hosts(self._credential)
        return standings(hosts, self.host, self._machine, self._credential, news.version_id, nonces, secret)

    def close(self) -> None:
        """Give the connection back."""
        self._board.close()

    def _is_this(self, one: Host) -> bool:
        state = one.state
        return one.name == self.host and (state is None or (state.machine == self._machine and not state.twins))
