"""The emergency of a session: a new one is taken, and what that does not end is said (docs/adr/0021)."""

from __future__ import annotations

from datetime import datetime

from agent.cloud.openapi import Sts
from agent.core.credential import Kind
from agent.core.cut_off import cutting_off, letting_back, role_in
from agent.core.errors import KeyturnError, SourceRefusedError
from agent.core.timestamps import rfc3339
from agent.emergency.case import Case
from agent.emergency.clearance import Clearance
from agent.emergency.following import follow
from agent.emergency.refusals import not_rotatable


class SessionRenewal:
    """A value that nobody rotates: at most a session, for which its source can be asked anew."""

    def __init__(self, case: Case, clearance: Clearance, sts: Sts) -> None:
        self._case, self._clearance, self._sts = case, clearance, sts

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
            raise not_rotatable(case.held.name, case.held.provider.type_name)
        case.result.old_access_key_id = known.access_key_id
        follow(
            case,
            lambda: case.published.access_key_id != known.access_key_id,
            not_arrived=self._not_arrived,
            hands_out_another=False,
        )
        self._clearance.move_everybody()
        self._say_what_lives_on(known.expiration)
        self._clearance.refuse_to_leave_behind()

    def _say_what_lives_on(self, expiration: datetime | None) -> None:
        """Note that issued sessions live on, and the commands that cut the role off, with what these cost."""
        notes, until = self._case.result.notes, rfc3339(expiration) if expiration else "until it expires"
        lives = f"sessions already issued live on until they expire ({until} for the one replaced)"
        role = self._role()
        if not role:
            notes.append(f"{lives}; to cut a role off before, detach all its policies")
            return
        notes.append(
            f"{lives}. RAM cannot tell them from new ones, so what cuts them off cuts off every session of the role {role}, "
            "the new one and those that others took included, until it is taken away again. Where that is worth it, run:"
        )
        notes.extend(cutting_off(role))
        notes.append(
            f"when the last session that leaked has expired ({until} for the one replaced; the longest that the role "
            "allows, at most 12 h, for one that somebody else took), run:"
        )
        notes.extend(letting_back(role))

    def _role(self) -> str:
        """Return the name of the role whose session is in use, "" where STS does not name one."""
        case = self._case
        value = case.held.look().value
        if value is None:
            return ""
        case.steps.activity.begin("STS to name the role")
        try:
            return role_in(self._sts.get_caller_identity(value, now=case.clock.now(), timeout_s=5.0).arn)
        except KeyturnError:
            return ""

    def _not_arrived(self) -> KeyturnError:
        role = self._role()
        cut = (
            f"to cut it off now, with every other session of the role: {' && '.join(cutting_off(role))}"
            if role
            else ("to cut it off now, detach all policies from the role")
        )
        return SourceRefusedError(
            f"{self._case.place}: its source hands out the same session {self._case.old_id} again",
            f"its keeper renews it before it expires; {cut}",
        )
