"""Does what is decided: one call or one write at a time, each behind the line of the record that a crash needs.

The order for a new key: the intent is flushed; CreateAccessKey; the key's id is flushed; its secret goes to the provider alone;
the engine proves and publishes it as any other value. In a fleet the board is asked before each call that changes something
(tenure.py). A crash anywhere leaves at most one key that nobody can use, and the next
run's decision (decide.py) removes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from agent.core.credential import Credential
from agent.core.errors import KeyturnError, NotPermittedError, SourceRefusedError
from agent.core.lease import LeaseLostError
from agent.core.ram_user import RamUserPlan
from agent.ram_rotation import journal
from agent.ram_rotation.decide import before_all, decide
from agent.ram_rotation.tenure import Tenure, Terms
from agent.ram_rotation.view import (
    AskLastUse,
    Create,
    Delete,
    Disable,
    Forsake,
    InUse,
    LastUse,
    Listed,
    Note,
    Publish,
    Rest,
    View,
    Wanted,
)
from agent.state.ram_record import RamRecord

MOST_STEPS = 40
"""Far more than any rotation takes: what turns in a circle is a fault, and ends."""


class Desk(Protocol):
    """What this host knows of the credential, and does with it. Each change is on disk when it returns."""

    def look(self) -> InUse:
        """Return what is published."""

    def record(self) -> RamRecord:
        """Return the record of the user's keys."""

    def keep(self, record: RamRecord) -> None:
        """Flush the record to disk.

        Raises:
            StateError: it cannot be written; RAM must not be asked.
        """

    def hand(self, value: Credential) -> None:
        """Give a key that was made to the provider, which hands it out from now on."""

    def forsake(self) -> None:
        """Have the provider hand out the key in use again."""

    def publish(self, access_key_id: str) -> None:
        """Have that key proved, published and told.

        Raises:
            KeyturnError: it was not, in the time that there is.
        """

    def note(self, event: str, access_key_id: str, outcome: str, request_id: str) -> None:
        """Write a change of the cloud to the audit log."""


class Calls(Protocol):
    """RAM, as the authority. Every method raises a `KeyturnError` where RAM refuses or does not answer."""

    def listed(self) -> tuple[Listed, ...]:
        """Return the user's keys."""

    def last_use(self, access_key_id: str) -> LastUse:
        """Return when a key was used last."""

    def create(self, begin: Callable[[], None]) -> Credential:
        """Make a key; once, whatever comes of it. `begin` is called right before the call, when everything else is done."""

    def disable(self, access_key_id: str) -> str:
        """Set a key inactive; return RAM's name for the call."""

    def delete(self, access_key_id: str) -> str:
        """Delete a key; return RAM's name for the call."""


class KeyRotation:
    """The keys of one credential's RAM user. Nobody else changes them on this host while one of its methods runs."""

    def __init__(
        self,
        name: str,
        plan: RamUserPlan,
        host: str,
        desk: Desk,
        calls: Calls,
        now: Callable[[], datetime],
        reason: str = "",
        tenure: Tenure | None = None,
    ) -> None:
        """Keep what is needed.

        Args:
            name: of the credential.
            plan: what the config says.
            host: this machine.
            desk: what this host knows of it.
            calls: RAM.
            now: the wall clock.
            reason: why there is to be a new key, for the record.
            tenure: whether this host rotates; None: as `plan` says, and there is no fleet.
        """
        self._name, self._place, self._plan, self._host = name, f"credentials.{name}", plan, host
        self._desk, self._calls, self._now, self._reason = desk, calls, now, reason
        self._tenure = tenure or Tenure(name, Terms(plan), now, lambda: 0.0)

    def go_on(self, wanted: Wanted) -> Rest:
        """Do all that can be done now; return what the rest waits for.

        Raises:
            KeyturnError: RAM refused a call or did not answer, or the state cannot be written.
        """
        done = self._until(wanted, publishes=True)
        assert isinstance(done, Rest)
        return done

    def make(self) -> str:
        """Make room and a new key in an emergency; return its id: the provider hands it out, and it is not published yet.

        Raises:
            SourceRefusedError: none can be made; the text says why, and what to do.
            KeyturnError: as `go_on`.
        """
        done = self._until(Wanted.EMERGENCY, publishes=False)
        if isinstance(done, Rest):
            raise SourceRefusedError(f"{self._place}: {done.text or 'there is nothing to do'}", done.remedy)
        return done.access_key_id

    @property
    def user(self) -> str:
        """The RAM user's name."""
        return self._plan.user

    @property
    def is_shared(self) -> bool:
        """Whether a fleet decides which host rotates."""
        return self._tenure.is_shared

    def caught_up(self) -> View:
        """Look at the keys and write down what is new; change nothing in the cloud. Return what is known then.

        Raises:
            SourceRefusedError: the keys are not ours to rotate, or in doubt; the text says why, and what to do.
            KeyturnError: as `go_on`.
        """
        view = self.view(Wanted.EMERGENCY)
        match before_all(view):
            case Note(record):
                self._desk.keep(record)
                return self.caught_up()
            case Rest(text, remedy, is_wrong=True):
                raise SourceRefusedError(f"{self._place}: {text}", remedy)
        return view

    def view(self, wanted: Wanted = Wanted.NO, used: Mapping[str, LastUse] | None = None) -> View:
        """Ask RAM for the keys, and return what is known."""
        desk, used = self._desk, used or {}
        record, current = desk.record(), desk.look().access_key_id
        is_own = journal.is_own(record, self._host, self._plan.user, current)
        unowned = self._tenure.why_not(may_follow=is_own, floor=record.fence)
        listed = self._calls.listed() if unowned is None else ()
        return View(
            self._place,
            self._name,
            self._plan,
            self._host,
            desk.record(),
            listed,
            desk.look(),
            wanted,
            self._now(),
            used,
            unowned,
        )

    def _until(self, wanted: Wanted, *, publishes: bool) -> Rest | Publish:
        used: dict[str, LastUse] = {}
        for _ in range(MOST_STEPS):
            action = decide(self.view(wanted, used))
            match action:
                case Rest():
                    return action
                case Publish() if not publishes:
                    return action
                case Publish(access_key_id):
                    self._desk.publish(access_key_id)
                    wanted = Wanted.NO
                case Forsake():
                    self._desk.forsake()
                case Note(record):
                    self._desk.keep(record)
                case AskLastUse(access_key_id):
                    used[access_key_id] = self._calls.last_use(access_key_id)
                case Create(known):
                    self._create(known)
                case Disable(access_key_id, why):
                    self.disable(access_key_id, why)
                case Delete(access_key_id, why):
                    self.delete(access_key_id, why)
        raise KeyturnError(f"{self._place}: the rotation turns in a circle", "please report it with its log")

    def _create(self, known: tuple[str, ...]) -> None:
        desk, number = self._desk, self._tenure.number

        def begin() -> None:
            now = self._now()
            desk.keep(journal.begin(desk.record(), self._host, self._plan.user, self._reason, known, now, number))

        try:
            value = self._calls.create(begin)
        except KeyturnError as error:
            if _is_clear(error) and desk.record().intent is not None:
                desk.keep(journal.refused(desk.record()))
            raise
        desk.keep(journal.answered(desk.record(), value.access_key_id, value.created_at))
        desk.hand(value)
        desk.note("rotation_started", value.access_key_id, "", value.request_id)

    def disable(self, access_key_id: str, why: str) -> str:
        """Set a key of ours inactive, and write that down; return RAM's name for the call."""
        request_id = self._calls.disable(access_key_id)
        self._desk.keep(journal.changed(self._desk.record(), access_key_id, disabled_at=self._now()))
        self._desk.note("old_key_disabled", access_key_id, why, request_id)
        return request_id

    def delete(self, access_key_id: str, why: str) -> str:
        """Delete a key of ours, and write that down; return RAM's name for the call."""
        request_id = self._calls.delete(access_key_id)
        self._desk.keep(journal.changed(self._desk.record(), access_key_id, deleted_at=self._now()))
        self._desk.note("old_key_deleted", access_key_id, why, request_id)
        return request_id


def _is_clear(error: KeyturnError) -> bool:
    """Return whether an error says that no key was made; one that says nothing leaves that open."""
    return isinstance(error, NotPermittedError | SourceRefusedError | LeaseLostError) or error.code.startswith(
        "Throttling"
    )
