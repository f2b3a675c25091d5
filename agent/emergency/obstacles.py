"""What stands in the way of a `rotate`, as far as it is known before: at which step it would end, and with which exit code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from agent.core.errors import BusyError, KeyturnError, SourceRefusedError, SourceUnavailableError, UsageError
from agent.core.timestamps import rfc3339
from agent.emergency.harmless_calls import Check, CheckOutcome, CloudAnswers
from agent.emergency.kms_rotation import ROTATIONS_PER_HOUR, is_over
from agent.emergency.last_rotation import is_repeated, told
from agent.emergency.left_behind import LeftBehind, named, who_holds_it_up
from agent.emergency.refusals import not_its_key
from agent.emergency.report import OldKey
from agent.emergency.request import Request
from agent.engine.snapshot import CredentialSnapshot
from agent.state.records import RotationJournal

MANAGED = "RAMCredentials"
"""The type of the secrets whose AccessKey KMS replaces."""
UNFINISHED = timedelta(days=2)
"""The longest that KMS takes for a rotation, until it removes the old key; it refuses another meanwhile."""


class Step(StrEnum):
    """The steps at which a `rotate` could end, in their order."""

    PREFLIGHT = "preflight"
    ROTATE = "rotate"
    FETCH = "fetch"
    NOTIFY = "notify"
    LEAVE_BEHIND = "pickup"
    FLEET = "fleet"
    DISABLE_OLD = "disable_old"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One of them; `error` is what the command would end with."""

    step: Step
    error: KeyturnError

    def as_json(self) -> dict[str, object]:
        """Return it as `plan --json` has it."""
        error = self.error
        return {
            "step": str(self.step),
            "problem": error.problem,
            "remedy": error.remedy,
            "exit_code": error.exit_code,
        }


@dataclass(frozen=True, slots=True)
class Preview:
    """What is known before an emergency for a secret at KMS.

    Attributes:
        seen: the credential.
        secret_name: its secret.
        is_busy: a `keyturn rotate` of it is under way.
        spent: rotations within the hour, as far as this keyturn knows.
        found: what the cloud said.
        left_behind: whom no notification will move.
        untellable: those who cannot be told, each with why.
        now: the wall clock.
        ram_user: whose keys keyturn itself makes; "" for a secret at KMS.
        no_key: why no new one of that user can be made; None for no reason.
    """

    seen: CredentialSnapshot
    secret_name: str
    is_busy: bool
    spent: int
    found: CloudAnswers
    left_behind: Sequence[LeftBehind]
    untellable: Sequence[KeyturnError]
    now: datetime
    ram_user: str = ""
    no_key: KeyturnError | None = None

    @property
    def current_id(self) -> str:
        """The key that would be replaced: the source's word, else what was published last."""
        return self.found.source.access_key_id if self.found.source is not None else self.seen.published.access_key_id

    def taken_up(self, request: Request | None) -> RotationJournal | None:
        """The rotation that a `rotate` would go on with instead of asking for another; None for none."""
        journal, source, done = self.seen.unfinished, self.found.source, self.seen.published
        version_id = source.version_id if source is not None else done.version_id
        leaked = request.leaked if request is not None else None
        return None if journal is None or is_over(journal, version_id, self.current_id, leaked) else journal

    @property
    def previous_ids(self) -> frozenset[str]:
        """The key before it, as far as is known."""
        done = self.seen.published
        known = {done.previous_access_key_id, done.access_key_id, self.found.previous_id}
        known |= {one.access_key_id for one in self.seen.ram.keys}
        return frozenset(known - {"", self.current_id})


def obstacles(preview: Preview, request: Request | None = None) -> tuple[Obstacle, ...]:
    """Return what is in the way, in the order of the steps: of everything that can be asked for, or of one request."""
    found = [*_preflight(preview, request), *_rotate(preview, request), *_fetch(preview), *_notify(preview)]
    found += _disable(preview, request)
    found += leave_behind(preview, request)
    if request is not None:
        found = [one for one in found if _concerns(one, preview, request)]
    return in_order(found)


def in_order(found: Iterable[Obstacle]) -> tuple[Obstacle, ...]:
    """Return obstacles in the order of the steps."""
    return tuple(sorted(found, key=lambda one: list(Step).index(one.step)))


def obstacles_of_ram_user(preview: Preview, request: Request | None = None) -> tuple[Obstacle, ...]:
    """Return the same where keyturn itself makes the RAM user's keys."""
    found, place = list(_preflight(preview, request)), f"credentials.{preview.seen.name}"
    listed = _check(preview, "RAM ListAccessKeys")
    if listed is not None and listed.error is not None:
        found.append(Obstacle(Step.PREFLIGHT, _of_a_call(listed.error, f"{place}: RAM")))
    if preview.no_key is not None and not only_disables(preview, request):
        found.append(Obstacle(Step.ROTATE, preview.no_key))
    found += [*_notify(preview), *leave_behind(preview, request)]
    return tuple(one for one in found if request is None or _concerns(one, preview, request))


def only_disables(preview: Preview, request: Request | None) -> bool:
    """Return whether the key that leaked was replaced already, so that nothing needs rotating."""
    return request is not None and request.leaked is not None and request.leaked in preview.previous_ids


def _concerns(one: Obstacle, preview: Preview, request: Request) -> bool:
    if one.step is Step.DISABLE_OLD:
        return request.disable_old
    if one.step in (Step.ROTATE, Step.FETCH):
        return not only_disables(preview, request)
    return not (one.step is Step.NOTIFY and request.disable_old and request.force)


def _preflight(preview: Preview, request: Request | None) -> Iterator[Obstacle]:
    place, leaked = f"credentials.{preview.seen.name}", request.leaked if request is not None else None
    if preview.is_busy:
        error: KeyturnError = BusyError(
            f"{place}: a `keyturn rotate` is under way and goes on by itself", "run the same command again in a minute"
        )
        yield Obstacle(Step.PREFLIGHT, error)
    ended = preview.seen.rotation_ended
    if preview.seen.unfinished is None and ended and is_repeated(ended, preview.current_id, leaked, preview.now):
        error = KeyturnError(
            f"{place}: {told(ended)}; for an hour, a `rotate` without --leaked is taken for the same command run again, and "
            "does nothing",
            f"if {ended.new_access_key_id} leaked as well: --leaked {ended.new_access_key_id}",
        )
        yield Obstacle(Step.PREFLIGHT, error)
    if preview.found.cannot_sign_in is not None:
        yield Obstacle(Step.PREFLIGHT, preview.found.cannot_sign_in)
    identity = _check(preview, "STS GetCallerIdentity")
    if identity is not None and identity.error is not None and not identity.error.retryable:
        yield Obstacle(Step.PREFLIGHT, identity.error.at(f"{place}.emergency.authority"))
    if leaked is not None and leaked not in {preview.current_id, *preview.previous_ids}:
        doubt = "" if preview.found.previous_id else "its source did not name that one"
        yield Obstacle(Step.PREFLIGHT, not_its_key(preview.seen.name, leaked, preview.current_id, doubt))


def _rotate(preview: Preview, request: Request | None) -> Iterator[Obstacle]:
    place, found = f"credentials.{preview.seen.name}", preview.found
    described = _check(preview, "KMS DescribeSecret")
    if described is not None and described.outcome in (CheckOutcome.REFUSED, CheckOutcome.UNKNOWN) and described.error:
        yield Obstacle(Step.ROTATE, _of_a_call(described.error, f"{place}: KMS"))
    if found.secret is not None and found.secret.secret_type != MANAGED:
        yield Obstacle(
            Step.ROTATE,
            SourceRefusedError(
                f"{place}: secret {preview.secret_name} is of type {found.secret.secret_type}, whose key KMS does not replace",
                f"replace the value in the secret, then run: keyturn refresh {preview.seen.name}",
            ),
        )
    if preview.taken_up(request) is not None:  # what was begun is gone on with: no second rotation is asked for
        return
    if preview.spent >= ROTATIONS_PER_HOUR:
        yield Obstacle(
            Step.ROTATE,
            SourceUnavailableError(
                f"{place}: {preview.spent} of KMS's {ROTATIONS_PER_HOUR} rotations an hour are spent",
                "wait, or disable the key in the RAM console",
            ),
        )
    blocked = _begun_here(preview, place) if found.keys is None else _second_key(preview, place)
    if blocked is not None:
        yield Obstacle(Step.ROTATE, blocked)


def _begun_here(preview: Preview, place: str) -> KeyturnError | None:
    """Return why KMS may refuse, as this host's own state knows it: the authority may not see the RAM user's keys."""
    seen = preview.seen
    begun_at, ended = seen.rotation_begun_at, seen.rotation_ended
    if begun_at is None or abs(preview.now - begun_at) >= UNFINISHED:
        return None
    if ended is not None and ended.ended_at >= begun_at and ended.old_key == OldKey.DELETED:
        return None
    return SourceRefusedError(
        f"{place}: a rotation was begun here at {rfc3339(begun_at)}, and KMS, which takes up to two days, refuses another until it "
        "has finished it; whether it has cannot be seen without ram:ListAccessKeys",
        f"allow the authority ram:ListAccessKeys; what leaked can be disabled without another rotation: if it is the key before, "
        f"--leaked {seen.published.previous_access_key_id or 'ID'} --disable-old; if {preview.current_id} leaked: aliyun ram "
        f"UpdateAccessKey --UserName {preview.found.user or 'USER'} --UserAccessKeyId {preview.current_id} --Status Inactive, "
        "which stops whoever uses it",
    )


def _second_key(preview: Preview, place: str) -> KeyturnError | None:
    """Return why the RAM user's keys leave no room for a new one: RAM allows two."""
    keys, current = preview.found.keys or (), preview.current_id
    ids = [one.access_key_id for one in keys]
    others = [key_id for key_id in ids if key_id != current]
    if len(keys) < 2 or current not in ids:  # there is room, or they are another user's
        return None
    replaced = [one for one in others if one in preview.previous_ids]
    if replaced:
        return SourceRefusedError(
            f"{place}: KMS has not finished the rotation before, since the key before, {replaced[0]}, is still there; until "
            "then it refuses another",
            f"if {replaced[0]} leaked: --leaked {replaced[0]} --disable-old only disables it; if {current} leaked: aliyun ram "
            f"UpdateAccessKey --UserName {preview.found.user} --UserAccessKeyId {current} --Status Inactive, which stops whoever "
            "uses it, or wait: KMS takes up to two days",
        )
    if preview.found.source is None:
        return None  # the other one may be newer than what was published
    return SourceRefusedError(
        f"{place}: RAM user {preview.found.user} has a second key that is not of this secret, {', '.join(others)}, and RAM "
        "allows two: KMS cannot make a new one",
        "see who uses it, disable and delete it in the RAM console",
    )


def _fetch(preview: Preview) -> Iterator[Obstacle]:
    for check in preview.found.checks:
        if check.call.endswith(" fetch") and check.error is not None:
            yield Obstacle(Step.FETCH, _of_a_call(check.error, f"credentials.{preview.seen.name}"))


def _notify(preview: Preview) -> Iterator[Obstacle]:
    for error in preview.untellable:
        yield Obstacle(Step.NOTIFY, error)


def _disable(preview: Preview, request: Request | None) -> Iterator[Obstacle]:
    place, found = f"credentials.{preview.seen.name}", preview.found
    if found.cannot_sign_in is not None:
        return
    if not found.user and (found.secret is not None or found.source is not None):
        error: KeyturnError = UsageError(
            f"{place}.emergency.ram_user_name: KMS does not say whose key it is", "name the RAM user there"
        )
        yield Obstacle(Step.DISABLE_OLD, error)
    listed = _check(preview, "RAM ListAccessKeys")
    if listed is not None and listed.outcome in (CheckOutcome.REFUSED, CheckOutcome.UNKNOWN) and listed.error:
        yield Obstacle(Step.DISABLE_OLD, _of_a_call(listed.error, f"{place}: RAM"))
    if only_disables(preview, request) or preview.taken_up(request) is not None:
        return  # the old key is one that was replaced already, and may be gone
    ids = {one.access_key_id for one in found.keys or ()}
    if found.keys is not None and preview.current_id and preview.current_id not in ids:
        error = SourceRefusedError(
            f"{place}: RAM user {found.user} has no key {preview.current_id}, so it could not be disabled there",
            f"correct {place}.emergency.ram_user_name",
        )
        yield Obstacle(Step.DISABLE_OLD, error)


def leave_behind(preview: Preview, request: Request | None) -> Iterator[Obstacle]:
    """Yield what holds up the end of a `rotate` after everybody was told: who would be left behind on the old key."""
    disables, forced = request is None or request.disable_old, request is not None and request.force
    left = preview.left_behind if disables else who_holds_it_up(preview.left_behind)
    if not left or (disables and forced):
        return
    error = KeyturnError(
        f"credentials.{preview.seen.name}: would be left behind on the old key: {named(left)}",
        "do what is named, and run the same command again, which does not rotate again"
        + ("; --force disables the old key over them" if disables else ""),
    )
    yield Obstacle(Step.LEAVE_BEHIND, error)


def _check(preview: Preview, call: str) -> Check | None:
    return next((one for one in preview.found.checks if one.call == call), None)


def _of_a_call(error: KeyturnError, place: str) -> KeyturnError:
    """Return what a failed call is in the way of; of one that may pass it is said that the emergency has more patience."""
    placed = error if error.problem.startswith(place) else error.at(place)
    if not error.retryable:
        return placed
    return placed.because("`rotate` would try again for a while", "look at the network and the endpoints")
