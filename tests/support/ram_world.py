"""A RAM user's keys and one host that rotates them, in memory: the real decision and the real rotation, and a hand that kills them.

Time, the disk, RAM and the files are values of this object. Each change of one of them is a point at which the process can die,
before it and after it. What must never happen is asserted as it would happen.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from agent.core.credential import Credential
from agent.core.errors import KeyturnError, NotPermittedError, SourceRefusedError, SourceUnavailableError
from agent.core.lease import Lease
from agent.core.ram_user import RamUserPlan
from agent.core.secret import Secret
from agent.core.settings import Duration
from agent.emergency.ram_user_key import refuse_to_end
from agent.ram_rotation.rotation import KeyRotation
from agent.ram_rotation.tenure import Tenure, Terms
from agent.ram_rotation.view import InUse, LastUse, Listed, Rest, Wanted
from agent.state.ram_record import RamRecord

START = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
PLAN = RamUserPlan("uploader", True, Duration(60 * 86400), Duration(86400), Duration(14 * 86400))


class Died(BaseException):
    """The process dies here."""


@dataclass
class Key:
    """A key as RAM knows it."""

    access_key_id: str
    made_at: datetime
    is_ours: bool
    status: str = "Active"
    used_at: datetime | None = None
    listed_from: datetime = START
    forbidden: bool = False


@dataclass
class Host:
    """What survives a death: the record, what is published, and what the files hold."""

    name: str = "host-a"
    record: RamRecord = field(default_factory=RamRecord)
    published: str = ""
    since: datetime | None = None
    sinks: frozenset[str] = frozenset()


@dataclass
class Board:
    """The fleet's board, which knows who has the lease: this host by its name, another, or nobody."""

    holder: str = ""
    is_alive: bool = True
    number: int = 0
    is_away: bool = False


class LeaseOf:
    """`agent.core.lease.LeaseBoard`, as this host asks it."""

    def __init__(self, board: Board, host: str) -> None:
        self.board, self.host = board, host

    def take(self, *, may_follow: bool, floor: int) -> Lease:
        board = self._asked()
        if board.holder != self.host and (not board.holder or (may_follow and not board.is_alive)):
            board.holder, board.is_alive, board.number = self.host, True, max(board.number, floor) + 1
        return self.look()

    def renew(self, number: int) -> Lease:
        board = self._asked()
        return replace(self.look(), is_ours=board.holder == self.host and board.number == number)

    def claim(self) -> Lease:
        raise NotImplementedError

    def look(self) -> Lease:
        board = self._asked()
        mine = board.holder == self.host
        return Lease(mine, board.holder, False, board.number, 60.0 if board.is_alive or mine else 0.0)

    def release(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def _asked(self) -> Board:
        if self.board.is_away:
            raise SourceUnavailableError("fleet: the board cannot be reached")
        return self.board


class RamWorld:
    """RAM and one host; with a `board`, the host of a fleet whose config names no owner."""

    def __init__(self, *, plan: RamUserPlan = PLAN, list_lag: timedelta = timedelta(0)) -> None:
        self.plan, self.list_lag = plan, list_lag
        self.now = START
        self.keys: dict[str, Key] = {}
        self.deleted: list[str] = []
        self.touched: list[tuple[str, str]] = []
        self.host = Host()
        self.made: Credential | None = None  # in memory alone
        self.owed: tuple[str, ...] = ()
        self.refuses: set[str] = set()
        self.silent: set[str] = set()
        self.proved = True
        self.proof_fails = False
        self.die_at: int | None = None
        self.points = 0
        self._number = 0
        self.board: Board | None = None
        self.lease_goes_after: int | None = None  # that many changing calls
        self._tenure = self._new_tenure()
        self.on_point: Callable[[RamWorld, int], None] = lambda _world, _point: None

    def twin(self) -> RamWorld:
        """The same world, which goes its own way from here."""
        other = copy.copy(self)
        other.keys = {name: copy.copy(key) for name, key in self.keys.items()}
        other.deleted, other.touched = list(self.deleted), list(self.touched)
        other.refuses, other.silent = set(self.refuses), set(self.silent)
        other.host, other.board = copy.copy(self.host), copy.copy(self.board)
        return other

    # -- the process --------------------------------------------------------------------------------

    def rotation(self) -> KeyRotation:
        self._tenure = self._new_tenure()
        return KeyRotation("uploader", self.plan, self.host.name, self, self, lambda: self.now, "test", self._tenure)

    def _new_tenure(self) -> Tenure:
        board, name = self.board, self.host.name
        terms = Terms(self.plan)
        if board is not None:
            terms = Terms(replace(self.plan, is_owner=False, may_lease=True), lambda: LeaseOf(board, name))
        return Tenure("uploader", terms, lambda: self.now, lambda: 0.0)

    def _permit(self, begin: Callable[[], None] = lambda: None) -> None:
        """What comes before each changing call; the lease goes between it and the call, or before it."""
        lasts = self._tenure.permit()
        begin()
        lasts()
        if self.lease_goes_after is not None and self.board is not None:
            self.lease_goes_after -= 1
            if self.lease_goes_after < 0:
                self.lose_lease()

    def lose_lease(self) -> None:
        """Another host has it from now on."""
        if self.board is not None:
            self.board.holder, self.board.is_alive, self.board.number = "host-z", True, self.board.number + 1
            self.lease_goes_after = None

    def regain_lease(self) -> None:
        """The other host let go of it, and the board is there."""
        if self.board is not None:
            self.board.is_away = False
            if self.board.holder == "host-z":
                self.board.is_alive = False

    def run(self, wanted: Wanted = Wanted.NO, die_at: int | None = None) -> Rest | KeyturnError | None:
        """One errand; None where it died."""
        self.die_at, self.points = die_at, 0
        try:
            return self.rotation().go_on(wanted)
        except KeyturnError as error:
            return error
        except Died:
            self.restart()
            return None
        finally:
            self.die_at = None

    def emergency(self, die_at: int | None = None) -> KeyturnError | None:
        """What `rotate --disable-old` does: a key, its publish, the end of the old one."""
        self.die_at, self.points = die_at, 0
        try:
            old = self.host.published
            rotation = self.rotation()
            if rotation.caught_up().unowned is not None:
                return None
            made = rotation.make()
            self.publish(made)
            rotation.caught_up()
            if old and old in self.keys and self.host.record.key(old) is not None:
                self.disable(old)
        except KeyturnError as error:
            return error
        except Died:
            self.restart()
        finally:
            self.die_at = None
        return None

    def leaked(self) -> KeyturnError | None:
        """What `rotate --leaked OLD --disable-old` does for the newest key that was replaced; without one, `rotate`."""
        old = [
            one for one in self.host.record.keys if one.access_key_id != self.host.published and one.deleted_at is None
        ]
        if not old:
            return self.emergency()
        try:
            rotation = self.rotation()
            view = rotation.caught_up()
            if view.unowned is not None:
                return None
            refuse_to_end(view, old[-1].access_key_id, force=False)
            if view.row(old[-1].access_key_id) is not None and old[-1].access_key_id not in view.in_use.in_sinks:
                self.disable(old[-1].access_key_id)
            rotation.caught_up()
        except KeyturnError as error:
            return error
        return None

    def restart(self) -> None:
        """What was in memory is gone."""
        self.made = None

    def look_as_scheduled(self) -> Rest | KeyturnError | None:
        """What the schedule does where no rotation is due but the first."""
        return self.run(Wanted.NO if self.host.published else Wanted.DUE)

    def settle(self) -> Rest | KeyturnError | None:
        """Let months pass without anybody's doing, a look now and then."""
        found: Rest | KeyturnError | None = None
        self.regain_lease()
        for pause in (0.2, 0.2, 1, 1, 24, 25, 24 * 14, 25, 24 * 14, 25):
            self.now += timedelta(hours=pause)
            found = self.look_as_scheduled()
        return found

    def _point(self) -> None:
        self.points += 1
        self.on_point(self, self.points)
        if self.points == self.die_at:
            raise Died

    # -- what the rotation knows of its host --------------------------------------------------------

    def look(self) -> InUse:
        host = self.host
        return InUse(
            host.published,
            host.since,
            bool(host.published) and host.published in host.sinks,
            self.proved,
            self.owed,
            host.sinks,
            self.made.access_key_id if self.made is not None else "",
        )

    def record(self) -> RamRecord:
        return self.host.record

    def keep(self, record: RamRecord) -> None:
        self._point()
        self.host = replace(self.host, record=record)
        self._point()

    def hand(self, value: Credential) -> None:
        self.made = value

    def forsake(self) -> None:
        self.made = None

    def publish(self, access_key_id: str) -> None:
        self._point()
        key = self.keys.get(access_key_id)
        if self.proof_fails or key is None or key.status != "Active":
            raise SourceRefusedError(f"{access_key_id} is not accepted")
        assert self.made is not None and self.made.access_key_id == access_key_id, "only who made it has its secret"
        key.used_at = self.now
        self.host = replace(self.host, published=access_key_id, since=self.now, sinks=frozenset({access_key_id}))
        self.made = None
        self._point()

    def note(self, event: str, access_key_id: str, outcome: str, request_id: str) -> None:
        self._point()

    # -- RAM ----------------------------------------------------------------------------------------

    def _refuse(self, action: str) -> None:
        if action in self.refuses:
            raise NotPermittedError(f"{action} is not allowed", code="NoPermission")

    def listed(self) -> tuple[Listed, ...]:
        assert self.board is None or self.board.holder == self.host.name, "RAM was asked by who does not have the lease"
        self._refuse("ListAccessKeys")
        return tuple(
            Listed(key.access_key_id, key.status, key.made_at)
            for key in self.keys.values()
            if key.listed_from <= self.now
        )

    def last_use(self, access_key_id: str) -> LastUse:
        self._refuse("GetAccessKeyLastUsed")
        key = self.keys.get(access_key_id)
        if key is None:
            raise SourceRefusedError("no such key", code="EntityNotExist.User.AccessKey")
        return LastUse(key.used_at, "Oss" if key.used_at else "")

    def create(self, begin: Callable[[], None]) -> Credential:
        self._permit(begin)
        self._refuse("CreateAccessKey")
        self._point()
        if len(self.keys) >= 2:
            raise SourceRefusedError("no third key", code="LimitExceeded.User.AccessKey")
        made = self.add(is_ours=True)
        made.listed_from = self.now + self.list_lag
        self._point()
        if "CreateAccessKey" in self.silent:
            self.silent.discard("CreateAccessKey")
            raise SourceUnavailableError("no answer")
        return Credential(made.access_key_id, Secret(f"secret of {made.access_key_id}"), created_at=made.made_at)

    def disable(self, access_key_id: str) -> str:
        self._permit()
        self._refuse("UpdateAccessKey")
        self._point()
        self._check(access_key_id, "disabled")
        self.keys[access_key_id].status = "Inactive"
        self._point()
        return ""

    def delete(self, access_key_id: str) -> str:
        self._permit()
        self._refuse("DeleteAccessKey")
        self._point()
        self._check(access_key_id, "deleted")
        assert self.keys[access_key_id].status == "Inactive", "RAM deletes what is inactive"
        del self.keys[access_key_id]
        self.deleted.append(access_key_id)
        self._point()
        return ""

    def _check(self, access_key_id: str, what: str) -> None:
        """The promises."""
        key, host = self.keys[access_key_id], self.host
        self.touched.append((what, access_key_id))
        assert key.is_ours, f"a foreign key was {what}"
        assert access_key_id != host.published, f"the key in use was {what}"
        assert access_key_id not in host.sinks, f"a key that a file holds was {what}"
        if host.published:
            current = self.keys.get(host.published)
            assert current is not None and current.status == "Active", f"the last key that works was {what}"

    # -- other people -------------------------------------------------------------------------------

    def add(self, *, is_ours: bool = False) -> Key:
        self._number += 1
        key = Key(f"LTAI5tKey{self._number:03}", self.now.replace(microsecond=0), is_ours)
        self.keys[key.access_key_id] = key
        return key

    def put_under_rotation(self) -> str:
        """A first key that we made and published; returns its id."""
        self.run(Wanted.DUE)
        assert self.host.published
        return self.host.published


__all__ = ["PLAN", "START", "Board", "Died", "Host", "Key", "RamWorld"]
