"""A host that runs `keyturn once` now and then, and no daemon: it says how it stands, and announces what it saw change.

Between its runs it is absent on the board, and nothing wakes it: it follows a rotation when its timer comes. An emergency
therefore names it and asks (docs/fleet.md).
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.core.observer import Observer
from agent.core.outcome import Outcome
from agent.engine.version_held import VersionHeld
from agent.fleet.board import Board
from agent.fleet.entries import Announcement, Why, new_nonce
from agent.fleet.host_state import state_of

RECENT = 10
"""Announcements of each credential that are looked at for one of the version that this host holds."""
NEWS_S = 900.0


class Failures(Observer):
    """What failed last, by credential. Belongs to the loop's thread while that runs."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.last: dict[str, str] = {}

    def refreshed(self, credential: str, outcome: Outcome) -> None:
        """Take note that nothing fails any more."""
        self.last.pop(credential, None)

    def failed(self, credential: str, event: str) -> None:
        """Take note of what fails."""
        self.last[credential] = event


def tell(
    board: Board,
    host: str,
    machine: str,
    before: Mapping[str, VersionHeld],
    now: Mapping[str, VersionHeld],
    failed: Mapping[str, str],
    at: float,
) -> bool:
    """Say how this host stands after one pass; return whether another machine goes by its name.

    Args:
        board: a connection.
        host: this host's name.
        machine: tells this machine from another by the same name.
        before: what was held before the pass, by credential.
        now: what is held.
        failed: the audit's name of what failed last, by credential.
        at: unix time.

    Raises:
        FleetError, FleetRefusedError: the board cannot be had.
    """
    held = {name: one for name, one in now.items() if one.version_id}
    recent = board.recent(list(held), RECENT)
    states = {}
    for name, one in held.items():
        news = [said for _entry, said in recent[name] if said is not None and said.version_id == one.version_id]
        seen = before.get(name)
        if not news and seen is not None and seen.version_id not in ("", one.version_id):
            news.append(Announcement("", one.version_id, new_nonce(), Why.ROTATION, at + NEWS_S, host))
            board.announce(name, news[0])
        nonce = news[-1].nonce if news else ""
        states[name] = state_of(one, name, host, machine, nonce=nonce, failed=failed.get(name, ""))
    known = board.beat(host, states)
    board.post(host, states)
    return any(one is not None and one.machine != machine for one in known.values())
