"""The other hosts of a fleet: they are told of the new version at once, and waited for before the old key ends.

Decisions (docs/fleet.md):
* A host counts as moved by its proof alone (agent/fleet/convergence.py); each live one has to, or the old key stays active.
* One that is absent may need the key all the same: it cannot reach the board, for example. So it holds the end up as well, but
  nobody waits for it: it is named, and `--allow-absent` lets it go.
* A board that cannot be reached is no fleet without hosts: who has the key is not known then.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from agent.core.errors import CancelledError, KeyturnError, SourceUnavailableError, UsageError
from agent.core.retry import Retry
from agent.core.secret import Secret
from agent.core.text import first_few
from agent.emergency.case import Case
from agent.emergency.left_behind import LeftBehind, Reason
from agent.emergency.report import StepOutcome

LOOK_AGAIN_S = 0.25
SAY_AGAIN_S = 1.0
"""Seconds from one word of how many hosts have moved to the next, at least."""
ANNOUNCE_S = 10.0
"""For how long it is tried to put the announcement on the board, where the first try failed."""


class Standing(Protocol):
    """One other host, for the version that was announced."""

    @property
    def host(self) -> str:
        """Its name."""

    @property
    def is_live(self) -> bool:
        """Whether it was there a moment ago."""

    @property
    def has_moved(self) -> bool:
        """Whether it proved the version, and owes nothing."""

    @property
    def why(self) -> str:
        """What is missing, in a clause."""

    @property
    def age_s(self) -> float:
        """Seconds since it was there."""


class Fleet(Protocol):
    """The fleet, for one credential. Each method may wait, and raises KeyturnError where the board cannot be had."""

    def announce(self, version_id: str, deadline: float) -> None:
        """Announce a version, which is waited for until that unix time."""

    def look(self, secret: Secret) -> Sequence[Standing]:
        """Return how each other host stands to it; `secret` is that version's."""

    def close(self) -> None:
        """Give the connection back."""


OpenFleet = Callable[[str], Fleet | None]
"""Opens the fleet of a credential; returns None where the config has none, or no other host can have the credential."""


def no_fleet(_credential: str) -> Fleet | None:
    """Return none."""
    return None


class FleetClearance:
    """Tells the fleet, and waits for it."""

    def __init__(self, case: Case, open_fleet: OpenFleet) -> None:
        self._case, self._open = case, open_fleet
        self._fleet: Fleet | None = None
        self._unknown: KeyturnError | None = None
        self._announced_at = 0.0
        self._say_again_at = 0.0  # boottime
        self._moved_at: dict[str, int] = {}  # milliseconds since the command

    def begin(self) -> None:
        """Refuse a mistake before anything is rotated.

        Raises:
            UsageError: `--fleet` was given where there is none.
        """
        if not self._case.request.fleet:
            return
        try:
            self._fleet = self._open(self._case.held.name)
        except (CancelledError, UsageError):
            raise
        except KeyturnError:
            return  # there is one, and it is away: what that means is for `announce`
        if self._fleet is None:
            raise UsageError(
                f"{self._case.place}: --fleet was given, and the config has no [fleet] that this credential takes part in; "
                "nothing was rotated",
                "name its Redis or Tair there (docs/fleet.md), or leave --fleet out",
            )

    def announce(self) -> None:
        """Announce what this host publishes now, so that the others ask their source at once.

        Tried once, for the dependents here wait for it as well. A board that is away stops nothing yet: that is for `wait`.

        Raises:
            UsageError: the client of Redis is not installed.
            CancelledError: the agent is stopping.
        """
        case = self._case
        if case.request.fleet is False:
            return
        try:
            if self._fleet is None:
                self._fleet = self._open(case.held.name)
            if self._fleet is not None:
                case.steps.do("announce", lambda: self._announce(0.0))
        except (CancelledError, UsageError):
            raise
        except KeyturnError as error:
            self._unknown = error
            if not case.request.disable_old:
                case.result.notes.append(f"the fleet was not told: {error.problem}")

    def wait(self) -> None:
        """Wait until every live host has moved; note who is left behind.

        Raises:
            CancelledError: the agent is stopping.
            KeyturnError: who has not moved, or that this is not known, where nothing overrides it.
        """
        if self._fleet is not None:
            try:
                if self._unknown is not None:
                    self._case.steps.do(
                        "announce", lambda: self._announce(min(ANNOUNCE_S, self._case.patience.fleet_s))
                    )
                    self._unknown = None
                self._case.steps.show("fleet", self._wait)
            except CancelledError:
                raise
            except KeyturnError as error:
                self._unknown = error
        if self._unknown is not None:
            self._refuse_unknown(self._unknown)
        elif (left := self._left()) and (request := self._case.request):
            self._case.result.left_behind += left
            self._refuse(left, force=request.force)

    def close(self) -> None:
        """Give the connection back."""
        if self._fleet is not None:
            self._fleet.close()
            self._fleet = None

    # -- how ----------------------------------------------------------------------------------------

    def _announce(self, patience_s: float) -> str:
        case, fleet = self._case, self._fleet
        assert fleet is not None
        version, deadline = case.published.version_id, case.clock.now().timestamp() + case.patience.fleet_s
        activity = case.steps.activity
        activity.begin("the fleet's board")
        pause, boottime = activity.pausing(case.held.pause), case.clock.boottime
        retry = Retry(0.5, 2.0, patience_s, chance=random.random, pause=pause, monotonic=boottime)
        while True:
            try:
                fleet.announce(version, deadline)
                break
            except SourceUnavailableError as error:
                activity.failed(error.problem)
                if not retry.again():
                    raise
        self._announced_at = case.clock.boottime()
        return f"version {version}"

    def _wait(self) -> tuple[StepOutcome, str]:
        case, fleet = self._case, self._fleet
        value = case.held.look().value
        assert fleet is not None
        if value is None or value.access_key_secret is None:
            raise KeyturnError(f"{case.place}: the new secret is not at hand", "run the same command again")
        case.steps.activity.begin("the other hosts of the fleet")
        ends, wrong, said = self._announced_at + case.patience.fleet_s, None, -1
        found: Sequence[Standing] = ()
        while True:
            try:
                found, wrong = fleet.look(value.access_key_secret), None
                self._note(found)
            except SourceUnavailableError as error:
                wrong = error
                case.steps.activity.failed(error.problem)
            waited = [one for one in found if one.is_live and not one.has_moved]
            if (wrong is None and not waited) or case.clock.boottime() >= ends:
                break
            moved = len(found) - len(waited)
            if wrong is None and moved != said and case.clock.boottime() >= self._say_again_at:
                case.steps.wait_for(f"the other hosts: {_count(found)}, not yet {_few(waited)}")
                said, self._say_again_at = moved, case.clock.boottime() + SAY_AGAIN_S
            case.held.pause(LOOK_AGAIN_S)
        if wrong is not None:
            raise wrong
        behind = [one for one in found if not one.has_moved]
        return StepOutcome.WARNING if behind else StepOutcome.DONE, _count(found) + (
            f": {_few(behind)}" if behind else ""
        )

    def _note(self, found: Sequence[Standing]) -> None:
        """Keep for the result how each host stands, and when it was first seen on the new version."""
        passed_ms = self._case.steps.passed_ms()
        for one in found:
            if one.has_moved:
                self._moved_at.setdefault(one.host, passed_ms)
        self._case.result.fleet = [self._row(one) for one in found]

    def _row(self, one: Standing) -> dict[str, Any]:
        return {
            "host": one.host,
            "state": "live" if one.is_live else "absent",
            "moved": one.has_moved,
            "at_ms": self._moved_at.get(one.host) if one.has_moved else None,
            "why": one.why or None,
        }

    def _left(self) -> tuple[LeftBehind, ...]:
        """Return the hosts that have not moved and were not let go."""
        case, name = self._case, self._case.held.name
        rows = [row for row in case.result.fleet or () if not row["moved"]]
        let_go = [row["host"] for row in rows if row["state"] == "absent" and row["host"] in case.request.allow_absent]
        if let_go:
            case.result.notes.append(f"--allow-absent let go, and not seen on the new key: {', '.join(let_go)}")
        return tuple(
            LeftBehind(name, f"host {row['host']}", Reason.HOST, _about(row), f"keyturn refresh {name} (there)")
            for row in rows
            if row["host"] not in let_go
        )

    def _refuse(self, left: Sequence[LeftBehind], *, force: bool) -> None:
        text = ", ".join(first_few([f"{one.who} ({one.why})" for one in left]))
        if force:
            self._case.result.notes.append(
                f"--force overrides that these hosts are not known to be on the new key: {text}"
            )
            return
        absent = [row["host"] for row in self._case.result.fleet or () if row["state"] == "absent" and not row["moved"]]
        absent = [host for host in absent if host not in self._case.request.allow_absent]
        gone = f"; for one that is gone: --allow-absent {absent[0]}" if absent else ""
        raise KeyturnError(
            f"{self._case.place}: not on the new key: {text}; so the old key {self._case.old_id} was left active",
            f"mend what is said of them and run the same command again (it does not rotate again){gone}; "
            "--force disables the old key all the same",
        )

    def _refuse_unknown(self, error: KeyturnError) -> None:
        case = self._case
        if case.request.force:
            case.result.notes.append("--force overrides that the fleet is not known: other hosts may be on the old key")
            why = f"the fleet is not known ({error.problem})"
            case.result.left_behind += (
                LeftBehind(
                    case.held.name, "the other hosts", Reason.HOST, why, f"keyturn refresh {case.held.name} (there)"
                ),
            )
            return
        raise KeyturnError(
            f"{case.place}: the fleet is not known ({error.problem}); so the old key {case.old_id} was left active",
            "mend that and run the same command again (it does not rotate again); --no-fleet says that no other host has "
            "the key, --force disables it all the same",
        )


def _count(found: Sequence[Standing]) -> str:
    return f"{sum(one.has_moved for one in found)} of {len(found)} other hosts moved"


def _few(found: Sequence[Standing]) -> str:
    return ", ".join(first_few([f"{one.host} ({one.why if one.is_live else _absent(one.age_s)})" for one in found]))


def _about(row: dict[str, Any]) -> str:
    absent = "absent; " if row["state"] == "absent" else ""
    return f"{absent}{row['why']}"


def _absent(age_s: float) -> str:
    return f"absent for {age_s / 60:.0f} min" if age_s < 7200 else f"absent for {age_s / 3600:.0f} h"
