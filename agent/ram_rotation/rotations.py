"""When the keys of RAM users are looked at: the schedule of their rotations, on the engine's scheduler.

Each credential of `type = "ram_user"` that this host rotates has one errand at a time, on a worker: its `owner` is true, or this
host has the fleet's lease (leases.py). An errand that waits for something says when it is to be looked again; one that fails is
tried again with back-off. What is waited for is remembered in memory only: after a start everything is looked at anew, and the
record (agent/state/ram_record.py) says how far it is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from agent.audit.log import AuditLog
from agent.cloud.authority import Authority
from agent.cloud.openapi import Cloud
from agent.core.errors import BusyError, CancelledError, KeyturnError
from agent.core.events import Cause, Trigger
from agent.core.lease import LeaseLostError
from agent.core.policy import backoff
from agent.core.provider import Provider
from agent.core.ram_user import HasRamUser, RamUserPlan
from agent.core.timestamps import rfc3339
from agent.engine.engine import Engine
from agent.engine.held_credential import CALL_S, HeldCredential
from agent.logs.log import log
from agent.ram_rotation import journal
from agent.ram_rotation.as_authority import AsAuthority
from agent.ram_rotation.desk import HeldDesk
from agent.ram_rotation.leases import Leases
from agent.ram_rotation.rotation import KeyRotation
from agent.ram_rotation.tenure import Tenure, Terms
from agent.ram_rotation.view import Rest, Wanted
from agent.runtime.event_loop import answer_of
from agent.state.ram_record import RamRecord
from agent.system.machine import machine
from agent.system.rotation_window import next_rotation, window_of
from agent.system.waiting import Activity

ASK_S = 20.0
"""Seconds for which one call to RAM is tried again before the errand ends and is put off."""
IDLE_S = 600.0
"""Seconds after which the keys are looked at although nothing is due: somebody may have ended the one in use by hand."""
STOPPED_S = 600.0
"""Seconds after which it is looked whether somebody has changed what nothing goes on without."""
RETRY_CAP_S = 600.0
SOON_S = 5.0
LOOK_S = 3600.0
"""The longest sleep: the wall clock, by which rotations are planned, may be set."""
NEEDS = "ram:CreateAccessKey"


MeansOf = Callable[[str], tuple[Provider | None, Cloud]]
"""Returns who may rotate a credential's keys, and the clients. On the loop's thread."""


@dataclass
class _Entry:
    """What is remembered of one credential while this process runs."""

    terms: Terms
    again_at: float  # boottime
    is_busy: bool = False
    failures: int = 0
    rest: Rest = field(default_factory=Rest)

    @property
    def plan(self) -> RamUserPlan:
        """What the config says of the user."""
        return self.terms.plan


class RamRotations:
    """The rotations of one agent. Belongs to the loop's thread, but for `run_now`."""

    def __init__(
        self, engine: Engine, audit: AuditLog, means_of: MeansOf, changed: Callable[[], None] = lambda: None
    ) -> None:
        """Keep what is needed.

        Args:
            engine: whose credentials these are.
            audit: the log.
            means_of: who rotates, and where.
            changed: called when what is to be shown has changed.
        """
        self._engine, self._audit, self._means_of, self._changed = engine, audit, means_of, changed
        self._entries: dict[str, _Entry] = {}
        self._host = machine()
        self._leases = Leases(engine, self._standing, self._turned)
        self._is_begun = False

    def know(self, terms: Mapping[str, Terms]) -> None:
        """Go by these terms from now on; nothing is begun by itself before `follow`."""
        now = self._engine.clock.boottime()
        before, self._entries = self._entries, {}
        for name, one in terms.items():
            entry = before.get(name)
            if entry is None or (entry.plan, entry.terms.may_rotate) != (one.plan, one.may_rotate):
                entry = _Entry(one, now + random.random() * SOON_S, entry is not None and entry.is_busy)
            entry.terms = one
            self._entries[name] = entry

    def follow(self, terms: Mapping[str, Terms]) -> None:
        """Go by these terms, and by the calendar; a new or changed one is looked at soon."""
        self.know(terms)
        if terms and not self._is_begun:
            self._is_begun = True
            self._engine.every(self._pause_s, self._look)
        self._leases.follow(terms)
        self._engine.after(0.0, self._look)

    def close(self) -> None:
        """Let go of the leases that this host has, of users whose keys nothing is under way for; the loop has ended."""
        self._leases.let_go([name for name, entry in self._entries.items() if not entry.is_busy])

    def owners(self) -> dict[str, bool]:
        """Return whether this host rotates, by credential."""
        return {name: self._rotates(name, entry) for name, entry in self._entries.items()}

    def _rotates(self, name: str, entry: _Entry) -> bool:
        return self._leases.is_ours(name) if entry.terms.open_lease is not None else entry.plan.is_owner

    def _standing(self, name: str) -> tuple[bool, int]:
        """Return whether the key in use is this host's own, and the number that it has written down."""
        seen, entry = self._engine.look(name), self._entries.get(name)
        if seen is None or entry is None:
            return False, 0
        current = seen.published.access_key_id
        return journal.is_own(seen.ram, self._host, entry.plan.user, current), seen.ram.fence

    def _turned(self, name: str, rest: Rest | None) -> None:
        """Take note that the lease came, or went, or that its board did."""
        entry = self._entries.get(name)
        if entry is None:
            return
        if rest is None:
            self._look_soon(name)
        elif not entry.is_busy:
            entry.rest = rest
        self._changed()

    def look_again(self, name: str) -> None:
        """Look soon, whatever is waited for: somebody has just changed what it goes by."""
        self._leases.ask_again(name)
        self._look_soon(name)

    def look_now(self, names: Collection[str] = ()) -> None:
        """Look at once, whatever is waited for: an operator asked for a refresh of these, or of all."""
        now = self._engine.clock.boottime()
        for name, entry in self._entries.items():
            if not names or name in names:
                entry.again_at = now
        self._engine.after(0.0, self._look)

    def stopped(self, name: str) -> bool | None:
        """Return whether nothing goes on until somebody changes something; None where keyturn makes no keys."""
        entry = self._entries.get(name)
        return entry.rest.is_wrong if entry is not None else None

    def _look_soon(self, name: str) -> None:
        if (entry := self._entries.get(name)) is not None:
            entry.again_at, entry.rest = self._engine.clock.boottime(), Rest()
            self._engine.after(0.0, self._look)

    def as_json(self, name: str) -> dict[str, Any] | None:
        """Return what `status --json` shows of a credential's rotation; None where there is none."""
        entry, seen = self._entries.get(name), self._engine.look(name)
        if entry is None or seen is None:
            return None
        rotates, due = self._rotates(name, entry), self._due(name, entry)
        return {
            "ram_user_name": entry.plan.user,
            "owner": rotates,
            **self._leases.as_json(name),
            "next_at": rfc3339(due) if due is not None and rotates else None,
            "waits_for": entry.rest.text or None,
            "remedy": entry.rest.remedy or None,
            "stopped": entry.rest.is_wrong,
            "keys": _rows(seen.ram),
        }

    # -- the schedule -------------------------------------------------------------------------------

    def _pause_s(self) -> float | None:
        if not self._entries:
            self._is_begun = False
            return None
        now = self._engine.clock.boottime()
        found = self._entries.items()
        due = [entry.again_at for name, entry in found if self._rotates(name, entry) and not entry.is_busy]
        return max(0.05, min([LOOK_S, *(at - now for at in due)]))

    def _look(self) -> None:
        now = self._engine.clock.boottime()
        for name, entry in self._entries.items():
            is_overdue = self._wanted(name, entry) is not Wanted.NO and not entry.failures and not entry.rest.text
            if self._rotates(name, entry) and not entry.is_busy and (entry.again_at <= now or is_overdue):
                entry.is_busy = True
                self._engine.work(partial(self.run_now, name), partial(self._ended, name))

    def _due(self, name: str, entry: _Entry) -> datetime | None:
        """Return when the key in use is to be replaced; None where there is none, which is due at once."""
        seen, plan = self._engine.look(name), entry.plan
        if seen is None or not seen.published.access_key_id:
            return None
        done = seen.published
        since = done.created_at or done.published_at or self._engine.clock.now()
        every = timedelta(seconds=float(plan.every))
        window = window_of(plan.between, plan.time_zone)
        return next_rotation(
            since, every, window, f"{self._host}\0{name}\0{done.access_key_id}", self._engine.clock.now()
        )

    def _wanted(self, name: str, entry: _Entry) -> Wanted:
        due = self._due(name, entry)
        return Wanted.DUE if due is None or due <= self._engine.clock.now() else Wanted.NO

    # -- one errand ---------------------------------------------------------------------------------

    def run_now(self, name: str, wanted: Wanted | None = None) -> Rest:
        """Do all that can be done now for one credential; return what the rest waits for. On another thread than the loop's.

        Args:
            name: of the credential.
            wanted: whether a new key is; None: as the calendar says.

        Raises:
            BusyError: a `keyturn rotate` of it is under way.
            KeyturnError: RAM refused, or did not answer; or the state cannot be written.
        """
        due = self._call(lambda: self._wanted(name, self._entries[name]))
        with self._held(name) as rotation:
            return rotation.go_on(wanted or due)

    @contextmanager
    def _held(self, name: str) -> Iterator[KeyRotation]:
        cause, held, provider, cloud, terms = self._call(partial(self._begin, name))
        tenure = Tenure(name, terms, held.clock.now, held.clock.boottime)
        try:
            yield rotation_of(held, self._audit, _authority(held, provider, tenure), cloud, cause, tenure)
        finally:
            held.release()
            tenure.close(releases=not self._is_begun)

    def _begin(self, name: str) -> tuple[Cause, HeldCredential, Provider | None, Cloud, Terms]:
        entry = self._entries[name]
        cause = Cause(Trigger.SCHEDULE, reason=f"rotation of RAM user {entry.plan.user} by the schedule")
        provider, cloud = self._means_of(name)
        return cause, self._engine.hold(name, cause), provider, cloud, entry.terms

    def _ended(self, name: str, rest: Rest | None, error: BaseException | None) -> None:
        entry, clock = self._entries.get(name), self._engine.clock
        if entry is None:
            return  # let go meanwhile
        entry.is_busy = False
        before = entry.rest
        if rest is not None:
            entry.failures, entry.rest = 0, rest
            entry.again_at = clock.boottime() + self._again_s(name, entry)
            if rest.is_wrong and not self._standing(name)[0]:
                self._leases.give_up(name)  # a host with a key of its own can go on, and this one cannot
        elif isinstance(error, BusyError):
            if isinstance(error, LeaseLostError):
                log.warning("the rotation of a RAM user's keys stopped", credential=name, error=str(error))
            entry.again_at = clock.boottime() + SOON_S
        else:
            entry.failures += 1
            entry.rest = _told(error)
            entry.again_at = clock.boottime() + max(SOON_S, backoff(entry.failures + 3, random.random(), RETRY_CAP_S))
        if entry.rest.text != before.text and entry.rest.remedy:
            log.warning(
                "the keys of a RAM user wait", credential=name, detail=entry.rest.text, remedy=entry.rest.remedy
            )
        self._changed()
        self._engine.after(0.0, self._plan_anew)

    def _plan_anew(self) -> None:
        if self._is_begun:
            self._engine.every(self._pause_s, self._look)

    def _again_s(self, name: str, entry: _Entry) -> float:
        now, due = self._engine.clock.now(), self._due(name, entry)
        if due is not None and due <= now and not entry.rest.text:
            return 1.0  # it has become due meanwhile
        moments = [entry.rest.until, due if due is not None and due > now else None]
        waits = [(moment - now).total_seconds() for moment in moments if moment is not None]
        most_s = STOPPED_S if entry.rest.text and entry.rest.until is None else IDLE_S
        # A full second later: dates of RAM and of the record are not finer than that.
        return max(1.0, min([most_s, *(wait + 1.0 for wait in waits)]))

    def _call(self, function: Callable[[], Any]) -> Any:
        return answer_of(
            self._engine.submit(function), CALL_S, CancelledError("the agent did not answer in time", "see its log")
        )


def rotation_of(
    held: HeldCredential, audit: AuditLog, authority: Authority, cloud: Cloud, cause: Cause, tenure: Tenure
) -> KeyRotation:
    """Return the rotation of a credential that is held.

    Args:
        held: the credential, whose provider's settings have a plan.
        audit: the log.
        authority: who may make, disable and delete keys.
        cloud: the clients.
        cause: for the records.
        tenure: whether this host rotates.
    """
    settings = held.settings.provider
    assert isinstance(settings, HasRamUser)
    plan = settings.ram_user
    calls = AsAuthority(cloud, plan.user, authority, held.clock)
    return KeyRotation(
        held.name, plan, machine(), HeldDesk(held, audit, cause), calls, held.clock.now, cause.reason or "", tenure
    )


def _authority(held: HeldCredential, provider: Provider | None, tenure: Tenure) -> Authority:
    return Authority(
        held.name,
        provider,
        held.clock,
        ASK_S,
        held.pause,
        Activity(),
        place=f"credentials.{held.name}.provider",
        needs=NEEDS,
        again="it is tried again by itself",
        permit=tenure.permit,
    )


def _told(error: BaseException | None) -> Rest:
    if isinstance(error, KeyturnError):
        return Rest(error.problem, error.remedy, is_wrong=not error.retryable)
    log.error("a fault of keyturn itself; please report it", exc_info=error)
    return Rest("a fault of keyturn itself", "please report it with its log", is_wrong=True)


def _rows(record: RamRecord) -> list[dict[str, Any]]:
    def stamp(moment: datetime | None) -> str | None:
        return rfc3339(moment) if moment is not None else None

    return [
        {
            "access_key_id": one.access_key_id,
            "origin": one.origin,
            "created_at": stamp(one.created_at),
            "replaced_at": stamp(one.replaced_at),
            "disabled_at": stamp(one.disabled_at),
            "deleted_at": stamp(one.deleted_at),
        }
        for one in record.keys
    ]
