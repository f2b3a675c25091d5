"""What can be seen before a RAM user whose key was copied by hand comes under rotation. Only looks; nothing is changed.

When a key was used last is asked before it signs anything here: the look would be its last use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from agent.cloud.authority import Authority
from agent.cloud.looks import AccessKeySeen, LastUse, access_key_last_used, key_last_use, list_access_keys
from agent.cloud.openapi import CallerIdentity, Cloud
from agent.core.credential import Credential, Kind
from agent.core.errors import BusyError, KeyturnError, NotPermittedError, SinkError, SourceRefusedError, UsageError
from agent.core.provider import Provider
from agent.core.ram_user import RamUserPlan
from agent.core.spans import whole_span
from agent.core.timestamps import rfc3339
from agent.ram_rotation.decide import ANOTHER_HOST
from agent.ram_rotation.view import ACTIVE, Rest
from agent.sinks.interface import Sink
from agent.sinks.offered import can_be_read_back, offered
from agent.state.ram_record import RamRecord
from agent.system.clock import Clock
from agent.system.oserrors import explain
from agent.system.rotation_window import next_rotation, window_of
from agent.system.waiting import Activity

T = TypeVar("T")
AGAIN = "then run the same command again"
OURS, IN_FILES, FOREIGN = "keyturn's", "in the files", "somebody else's"


@dataclass(frozen=True, slots=True)
class Scene:
    """What is asked about, and with what.

    Attributes:
        sinks: the credential's, with the files that hold the key.
        dependents: who is told of a new key, in words.
        record: which keys of the user are keyturn's.
        host: this machine (agent/system/machine.py).
        authority: who makes, disables and deletes the user's keys.
        unowned: why this host rotates nothing; None where it does.
        is_shared: a fleet decides which host rotates.
        published_id: the key that was published here last; "" for none.
    """

    name: str
    plan: RamUserPlan
    sinks: Sequence[Sink]
    dependents: Sequence[str]
    record: RamRecord
    host: str
    authority: Provider | None
    cloud: Cloud
    clock: Clock
    unowned: Rest | None = None
    is_shared: bool = False
    published_id: str = ""

    @property
    def place(self) -> str:
        """Its table in the config."""
        return f"credentials.{self.name}"


@dataclass(frozen=True, slots=True)
class HeldFile:
    """What one sink holds: a key's id, or why it holds none."""

    sink: str
    access_key_id: str = ""
    problem: str = ""
    is_readable: bool = True


@dataclass(frozen=True, slots=True)
class KeyFound:
    """A key of the user, as RAM lists it, whose it is, and its last use; None where that is not known."""

    row: AccessKeySeen
    whose: str
    use: LastUse | None

    def as_json(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "access_key_id": self.row.access_key_id,
            "status": self.row.status,
            "created_at": _stamp(self.row.created_at),
            "whose": self.whose,
            "last_used_at": _stamp(self.use.at) if self.use else None,
            "service": self.use.service or None if self.use else None,
        }


@dataclass
class Adoption:
    """All that was seen.

    Attributes:
        value: what the files hold, with its secret.
        key: the row of RAM's list for the key in the files; None where it is not there.
        identity: whom STS names for it; "" where it was not asked or refused.
        warnings: what the operator should know and may go on with.
        steps: (when, what) of all that will be done; the first are at once.
        refusal: why it cannot be taken; None where it can.
        is_ours: it is keyturn's already.
        is_published: it is the one that was published here last.
    """

    name: str
    user: str
    files: list[HeldFile] = field(default_factory=list)
    access_key_id: str = ""
    value: Credential | None = field(default=None, repr=False)
    key: AccessKeySeen | None = None
    identity: str = ""
    authority: str = ""
    authority_id: str = ""
    keys: list[KeyFound] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    steps: list[tuple[str, str]] = field(default_factory=list)
    first_rotation_at: datetime | None = None
    refusal: KeyturnError | None = None
    is_ours: bool = False
    is_published: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the object of `adopt --json`."""
        return {
            "credential": self.name,
            "ram_user_name": self.user,
            "access_key_id": self.access_key_id or None,
            "adopted": False,
            "already": self.is_ours,
            "published": self.is_published,
            "files": [
                {"sink": one.sink, "access_key_id": one.access_key_id or None, "problem": one.problem or None}
                for one in self.files
            ],
            "identity": self.identity or None,
            "authority": {"access_key_id": self.authority_id or None, "identity": self.authority or None},
            "keys": [one.as_json() for one in self.keys],
            "warnings": self.warnings,
            "steps": [{"when": when, "what": what} for when, what in self.steps],
            "first_rotation_at": _stamp(self.first_rotation_at),
            "error": str(self.refusal) if self.refusal else None,
            "exit_code": self.refusal.exit_code if self.refusal else 0,
        }


def examine(scene: Scene) -> Adoption:
    """Look at files, RAM and STS. What is wrong stands in `refusal`; the rest is filled in as far as it could be seen."""
    found = Adoption(scene.name, scene.plan.user)
    try:
        _judge(scene, found)
    except KeyturnError as error:
        found.refusal = error if error.problem.startswith(scene.place) else error.at(scene.place)
    return found


def _judge(scene: Scene, found: Adoption) -> None:
    """Raises the `KeyturnError` for the first thing that is in the way."""
    if scene.unowned is not None:
        raise _elsewhere(scene, scene.unowned)
    value = _value_in_files(scene, found)
    found.access_key_id, found.value = value.access_key_id, value
    who = _ask_ram(scene, found)
    _check_key(scene, found, value)
    _check_others(scene, found)
    if who.arn.endswith(f":user/{scene.plan.user}"):
        found.warnings.append(
            f"the authority is RAM user {scene.plan.user} itself: a leaked key cannot rotate itself, for Alibaba Cloud "
            "restricts it; let another user or a role rotate it"
        )
    if not scene.is_shared and scene.record.host != scene.host:
        found.warnings.append(
            f"this has to be the only host that rotates RAM user {scene.plan.user}: no other host may have owner = true for it, "
            "for each would end the keys that it knows while the other's application uses them; the hosts of a [fleet] that "
            "leave owner out settle it among themselves"
        )
    found.is_ours = scene.record.host in ("", scene.host) and _is_current(scene.record, value.access_key_id)
    found.is_published = value.access_key_id == scene.published_id
    _plan(scene, found)


def _elsewhere(scene: Scene, unowned: Rest) -> KeyturnError:
    if scene.is_shared:
        return BusyError(f"{scene.place}: {unowned.text}", unowned.remedy or "run the command on that host")
    return UsageError(
        f"{scene.place}.provider: this host is not the owner of RAM user {scene.plan.user}'s rotation",
        f"set owner = true on the one host that is to rotate it, {AGAIN} there",
    )


# -- the files ----------------------------------------------------------------------------------------


def _value_in_files(scene: Scene, found: Adoption) -> Credential:
    values: list[tuple[str, Credential]] = []
    for sink in scene.sinks:
        held, value = _look_into(sink)
        found.files.append(held)
        if value is not None:
            values.append((held.sink, value))
    unreadable = next((one for one in found.files if not one.is_readable), None)
    if unreadable is not None:
        raise SinkError(f"{scene.place}: {unreadable.sink}: {unreadable.problem}", f"mend that, {AGAIN}")
    if not values:
        looked = ", ".join(one.sink for one in found.files) or "it has no sinks"
        raise SinkError(
            f"{scene.place}: no file holds an AccessKey ({looked})",
            f"name the file with the key that is in use as a sink, or put the key into one, {AGAIN}",
        )
    first, value = values[0]
    for target, other in values[1:]:
        if (other.access_key_id, other.access_key_secret) != (value.access_key_id, value.access_key_secret):
            what = (
                f"{first} holds {value.access_key_id}, {target} holds {other.access_key_id}"
                if other.access_key_id != value.access_key_id
                else f"{first} and {target} hold different secrets for {value.access_key_id}"
            )
            raise SinkError(
                f"{scene.place}: the files disagree: {what}", f"put the key that is in use into all of them, {AGAIN}"
            )
    if value.kind is not Kind.ACCESS_KEY or value.access_key_id.startswith("STS."):
        raise SinkError(
            f"{scene.place}: {first} holds a session or a token, not an AccessKey of a RAM user",
            f"put the user's AccessKey into it, {AGAIN}",
        )
    return value


def _look_into(sink: Sink) -> tuple[HeldFile, Credential | None]:
    named = f"{sink.target} ({sink.type_name})"
    if not can_be_read_back(sink):
        return HeldFile(named, problem="cannot be read back; it is written with the first rotation"), None
    try:
        value = offered(sink)
    except OSError as error:
        return HeldFile(named, problem=explain(error, error.filename or sink.target).text, is_readable=False), None
    except SinkError as error:
        return HeldFile(named, problem=error.problem, is_readable=False), None
    if value is None:
        return HeldFile(named, problem="holds no key yet; it is written when the key is taken"), None
    return HeldFile(named, value.access_key_id), value


# -- the cloud ----------------------------------------------------------------------------------------


def _ask_ram(scene: Scene, found: Adoption) -> CallerIdentity:
    """See who the authority is, and which keys the user has, each with its last use."""
    cloud, clock, user = scene.cloud, scene.clock, scene.plan.user
    authority = Authority(
        scene.name,
        scene.authority,
        clock,
        0.0,
        lambda _seconds: None,
        Activity(),
        place=f"{scene.place}.provider",
        needs="ram:CreateAccessKey",
        again="run the same command again",
    )

    def ask(action: str, call: Callable[[Credential], T]) -> T:
        return authority.ask(action, f"ram:{action}", call)

    who = authority.sign_in()
    found.authority_id = who.access_key_id
    identity = cloud.sts.get_caller_identity(who, now=clock.now())
    found.authority = identity.arn
    rows = ask("ListAccessKeys", lambda signer: list_access_keys(cloud.ram, user, signer, now=clock.now()))
    found.key = next((row for row in rows if row.access_key_id == found.access_key_id), None)
    for row in rows:
        whose = IN_FILES if row is found.key else OURS if scene.record.key(row.access_key_id) else FOREIGN
        found.keys.append(KeyFound(row, whose, _last_use(scene, found, identity, who, row.access_key_id)))
    return identity


def _last_use(scene: Scene, found: Adoption, identity: CallerIdentity, who: Credential, key_id: str) -> LastUse | None:
    cloud, now, user = scene.cloud, scene.clock.now(), scene.plan.user
    try:
        return key_last_use(cloud.ims, user, identity.account_id, key_id, who, now=now)
    except KeyturnError:
        pass  # an account with an alias is named otherwise there; RAM's own call says when, and not for what
    try:
        return LastUse(access_key_last_used(cloud.ram, user, key_id, who, now=now), "")
    except NotPermittedError as error:
        warning = f"the last use of a key cannot be seen, and without it no key is ever disabled: {error}"
        found.warnings += [warning] * (warning not in found.warnings)
    except KeyturnError:
        pass
    return None


def _check_key(scene: Scene, found: Adoption, value: Credential) -> None:
    key_id, user = value.access_key_id, scene.plan.user
    if found.key is not None and found.key.status != ACTIVE:
        raise SourceRefusedError(
            f"{scene.place}: {key_id} in the files is inactive in RAM",
            f"enable it in the RAM console, or put the key that is in use into the files, {AGAIN}",
        )
    try:
        found.identity = scene.cloud.sts.get_caller_identity(value, now=scene.clock.now()).arn
    except KeyturnError as error:
        raise error.at(f"{scene.place}: {key_id} in the files") from None
    if not found.identity.endswith(f":user/{user}"):
        raise SourceRefusedError(
            f"{scene.place}: {key_id} in the files belongs to {found.identity}, not to RAM user {user}",
            f"correct ram_user_name, or put a key of {user} into the files, {AGAIN}",
        )
    if found.key is None:
        raise SourceRefusedError(
            f"{scene.place}: RAM user {user}, as the authority {found.authority} sees it, has no key {key_id}",
            "let an authority of the same account rotate it; a key that was made within the last minutes may not be listed "
            "yet",
        )


def _check_others(scene: Scene, found: Adoption) -> None:
    for one in found.keys:
        if one.whose is FOREIGN:
            raise SourceRefusedError(
                f"{scene.place}: RAM user {scene.plan.user} has a second key that is not keyturn's, {said_of(one)}, and RAM "
                "allows two, so no new one could be made",
                f"{ANOTHER_HOST}; otherwise see who uses it, let them use the file, then disable it in the RAM console, delete "
                f"it once it rests, {AGAIN}",
            )


def said_of(one: KeyFound) -> str:
    """Return a key in words: its id, state, age and last use."""
    row, use = one.row, one.use
    made = f", made {rfc3339(row.created_at)}" if row.created_at else ""
    if use is None:
        used = ""
    elif use.at is None:
        used = ", never used"
    else:
        used = f", used last {rfc3339(use.at)}" + (f" for {use.service}" if use.service else "")
    return f"{row.access_key_id} ({row.status.lower()}{made}{used})"


# -- what comes ---------------------------------------------------------------------------------------


def _is_current(record: RamRecord, key_id: str) -> bool:
    mine = record.key(key_id)
    return mine is not None and mine.replaced_at is None and mine.disabled_at is None and mine.deleted_at is None


def _plan(scene: Scene, found: Adoption) -> None:
    plan, now, key = scene.plan, scene.clock.now(), found.key
    assert key is not None
    every = timedelta(seconds=float(plan.every))
    seed = f"{scene.host}\0{scene.name}\0{key.access_key_id}"
    due = next_rotation(key.created_at or now, every, window_of(plan.between, plan.time_zone), seed, now)
    found.first_rotation_at = max(due, now)
    found.steps = list(_steps(scene, found, is_due=due <= now))


def _steps(scene: Scene, found: Adoption, *, is_due: bool) -> Iterator[tuple[str, str]]:
    plan, key_id = scene.plan, found.access_key_id
    files = [one.sink.rpartition(" (")[0] for one in found.files]
    yield "now", f"{key_id} is written down as keyturn's key of RAM user {plan.user}; RAM is asked for nothing"
    once = f", and {', '.join(scene.dependents)} told" if scene.dependents else ""
    yield (
        "now",
        f"it is proved at STS and published: {', '.join(files)} written with the same key, in keyturn's form{once}",
    )
    assert found.first_rotation_at is not None
    at = "at once" if is_due else rfc3339(found.first_rotation_at)
    told = f", and told to {', '.join(scene.dependents)}" if scene.dependents else "; nobody is told: it has no notify"
    yield at, f"a second key is made as {found.authority}, proved, written into {', '.join(files)}{told}"
    rest, kept = whole_span(plan.rest.total_seconds()), whole_span(plan.kept.total_seconds())
    yield f"{rest} later", f"{key_id} is disabled, once it has rested for {rest}; who still uses it by then is named"
    yield f"{kept} after that", f"{key_id} is deleted; RAM's recycle bin keeps it for 30 days"


def _stamp(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment is not None else None
