"""Who has to be off the old key before it ends: everybody on this host, and whoever fetched it from here.

And on every other host of the fleet, where there is one (fleet_clearance.py). docs/adr/0012.
"""

from __future__ import annotations

from agent.emergency import left_behind
from agent.emergency.case import Case
from agent.emergency.fetchers import Fetchers, WhoFetched
from agent.emergency.fleet_clearance import FleetClearance, OpenFleet
from agent.emergency.key_followers import KeyFollowers
from agent.emergency.left_behind import named, named_once


class Clearance:
    """Moves everybody to the new key, and says whether the old one may end."""

    def __init__(self, case: Case, who_fetched: WhoFetched, open_fleet: OpenFleet) -> None:
        self._case = case
        self._fleet = FleetClearance(case, open_fleet)
        self._followers = KeyFollowers(case.held, case.steps, case.patience)
        self._fetchers = Fetchers(case.held, case.steps, who_fetched)

    def begin(self) -> None:
        """Refuse what cannot be done, before anything is rotated.

        Raises:
            UsageError: `--fleet` was given where there is none.
        """
        self._fleet.begin()

    def move_everybody(self) -> None:
        """Tell the fleet; refresh whoever else holds the key on this host, and tell every dependent.

        Raises:
            CancelledError: the agent is stopping, or did not answer.
        """
        self._fleet.announce()
        self._case.result.left_behind = self._followers.move_everybody(self._case.old_id)

    def refuse_to_leave_behind(self) -> None:
        """Stop where somebody is left behind, or note what `--force` overrides.

        Raises:
            KeyturnError: who it is.
        """
        left, request = self._case.result.left_behind, self._case.request
        error = left_behind.refusal(left, self._case.place, self._case.old_id if request.disable_old else None)
        if error is not None and request.disable_old and request.force:
            self._case.result.notes.append(
                f"--force overrides that these are left behind on the old key: {named(left)}"
            )
        elif error is not None:
            raise error

    def wait_for_others(self) -> None:
        """Wait for those whom nobody tells: who fetched the old key, and the other hosts. Or note that `--force` does not.

        Raises:
            CancelledError: the agent is stopping.
            KeyturnError: which hosts have not moved, or that this is not known.
        """
        case = self._case
        if left := self._fetchers.wait(case.old_id, force=case.request.force):
            case.result.left_behind += left
            case.result.notes.append(f"--force did not wait for those who fetched the old key: {named_once(left)}")

        self._fleet.wait()

    def close(self) -> None:
        """Give the connection to the fleet back."""
        self._fleet.close()

    def look_at_the_end(self) -> None:
        """Note who is left behind, where an error kept that from being looked at, and who is only assumed to have moved.

        Raises:
            CancelledError: the agent is stopping, or did not answer.
        """
        result, old_id = self._case.result, self._case.old_id
        if not result.left_behind:
            result.left_behind = self._followers.left_behind(old_id)
        result.assumed = self._followers.assumed(old_id, result.left_behind)
