"""The emergency of a session: a new one is taken, and what that does not end is said."""

from __future__ import annotations

from agent.core.credential import Kind
from agent.core.errors import KeyturnError, SourceRefusedError, UsageError
from agent.core.timestamps import rfc3339
from agent.emergency.case import Case
from agent.emergency.clearance import Clearance
from agent.emergency.following import follow


class SessionRenewal:
    """A value that nobody rotates: at most a session, for which its source can be asked anew."""

    def __init__(self, case: Case, clearance: Clearance) -> None:
        self._case, self._clearance = case, clearance

    def play(self) -> None:
        """Take a new session and move everybody to it.

        Raises:
            UsageError: the value is no session.
            KeyturnError: there is no new one, or somebody is left behind.
        """
        case = self._case
        if case.held.look().known is None:
            case.steps.do("preflight", case.refresh_first)
        known = case.held.look().known
        if known is None or (known.kind is not Kind.STS and known.expiration is None):
            raise UsageError(
                f"{case.place}: keyturn cannot rotate a value of type {case.held.provider.type_name} at its source",
                f"replace the value at its source, then run: keyturn refresh {case.held.name}",
            )
        case.result.old_access_key_id = known.access_key_id
        follow(
            case,
            lambda: case.published.access_key_id != known.access_key_id,
            not_arrived=self._not_arrived,
            hands_out_another=False,
        )
        self._clearance.move_everybody()
        until = f"until they expire ({rfc3339(known.expiration)} for the one replaced)" if known.expiration else ""
        case.result.notes.append(
            f"sessions already issued live on {until or 'until they expire'}; to cut them off, detach all policies "
            "from the role"
        )
        self._clearance.refuse_to_leave_behind()

    def _not_arrived(self) -> KeyturnError:
        return SourceRefusedError(
            f"{self._case.place}: its source hands out the same session {self._case.old_id} again",
            "its keeper renews it before it expires; to cut it off now, detach all policies from the role",
        )
