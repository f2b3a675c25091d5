"""`plan NAME`: who holds a key and what a `rotate` of it would meet, before anything happens. It changes nothing.

The object of `plan --json` is a contract (docs/emergency.md). Here is what the agent knows and what the cloud answers; which
processes hold the key is looked for by the command itself, with the rights of whoever asks (agent/cli/plan.py).

Everything that may take long (the cloud, the source, what a notifier asks of the system) is asked at once, on threads of its
own, and the plan is made with what has answered at `PLAN_S`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from agent.app.other_hosts import AskHosts, OtherHosts
from agent.app.status import stamp
from agent.cloud.openapi import Cloud
from agent.core.credential import SESSION
from agent.core.errors import KeyturnError, NotifyError
from agent.core.finding import Finding
from agent.core.provider import Provider
from agent.core.ram_user import HasRamUser
from agent.core.rotatable import Rotatable
from agent.emergency.harmless_calls import UNPROVED, UNPROVED_OF_RAM_USER, CloudAnswers, HarmlessCalls
from agent.emergency.kms_rotation import ROTATIONS_PER_HOUR
from agent.emergency.left_behind import Foreseen, LeftBehind, copy_of_the_key, foreseen
from agent.emergency.obstacles import (
    Obstacle,
    Preview,
    Step,
    in_order,
    leave_behind,
    obstacles,
    obstacles_of_ram_user,
    only_disables,
)
from agent.emergency.refusals import not_rotatable
from agent.emergency.request import PLAN_S, Request
from agent.emergency.why_no_key import why_no_key
from agent.engine.key_holders import Holder
from agent.notifiers.interface import Notifier
from agent.ram_rotation.tenure import Tenure, Terms
from agent.ram_rotation.view import Rest
from agent.serving.fetches import Laggard
from agent.sinks.interface import Sink
from agent.system.clock import Clock
from agent.system.questions import Questions


@dataclass(frozen=True)
class Scene:
    """What the agent itself knows, as of one moment, and by whom the rest is asked.

    Attributes:
        name: of the credential.
        found: everybody who holds its key, itself included.
        spent: rotations begun within the hour, all credentials of this keyturn together.
        is_busy: a `keyturn rotate` of it is under way.
        laggards: who fetched it or what is built on it; None where that is not known, because no daemon runs.
        ram_user_name: as configured; "" for what KMS says.
        authority: who may rotate; None where the config names nobody.
        source: makes a provider of the credential that nobody else uses.
        cloud: the calls to KMS, RAM and STS.
        ask_hosts: reads the other hosts of the fleet; None where there are none to be known.
        has_emergency: the config has its table.
        terms: by what this host rotates, where the credential is a RAM user's key.
    """

    name: str
    found: Sequence[Holder]
    spent: int
    is_busy: bool
    laggards: Sequence[Laggard] | None
    ram_user_name: str
    authority: Provider | None
    source: Callable[[], Provider]
    cloud: Cloud
    ask_hosts: AskHosts | None = None
    has_emergency: bool = True
    terms: Terms | None = None

    @property
    def own(self) -> Holder:
        """The credential itself."""
        return next(one for one in self.found if one.name == self.name)


@dataclass(frozen=True)
class _Dependent:
    """One dependent of one holder, and what is found out about it."""

    holder: Holder
    notifier: Notifier
    findings: Future[list[Finding]]
    hindered: Future[Foreseen | None]


def plan(scene: Scene, request: Request | None, clock: Clock, deadline_s: float = PLAN_S) -> dict[str, Any]:
    """Return the object of `plan --json`; not on the loop's thread.

    Args:
        scene: what the agent knows.
        request: the `rotate` whose obstacles are named; None: all that can be foreseen.
        clock: for the signatures.
        deadline_s: seconds for everything.
    """
    questions = Questions(deadline_s)
    hosts = OtherHosts(scene.name, scene.ask_hosts, questions)
    asked = [_ask(holder, notifier, questions) for holder in scene.found for notifier in holder.notifiers]
    own, source = scene.own, scene.source()
    done = own.seen.published
    found = CloudAnswers()
    secret_name = source.secret_name if isinstance(source, Rotatable) else ""
    ram_user = source.settings.ram_user if isinstance(source.settings, HasRamUser) else None
    if secret_name or ram_user is not None:
        user = ram_user.user if ram_user is not None else scene.ram_user_name or done.ram_user_name
        table = "provider" if ram_user is not None and not scene.has_emergency else "emergency"
        calls = HarmlessCalls(scene.name, scene.authority, scene.cloud, clock, questions, table)
        found = calls.look(source, secret_name, user, done.access_key_id)
    no_key = None
    if ram_user is not None and found.keys is not None:
        unowned = _unowned(scene, clock, questions)
        no_key = why_no_key(ram_user, own.seen, found.keys, clock.now(), unowned)
    dependents = [_dependent(one, questions) for one in asked]
    left = [behind for one in scene.found if (behind := copy_of_the_key(one, scene.name)) is not None]
    left += [behind for _row, behind, _cannot in dependents if behind is not None]
    untellable = [cannot for _row, _behind, cannot in dependents if cannot is not None]
    is_managed = bool(secret_name or ram_user)
    preview = Preview(
        own.seen,
        secret_name,
        scene.is_busy,
        scene.spent,
        found,
        left,
        untellable,
        clock.now(),
        ram_user.user if ram_user is not None else "",
        no_key,
    )
    other_hosts = hosts.as_json()
    found_in_the_way = [*_obstacles(preview, request), *(hosts.obstacles(request) if secret_name else ())]
    in_the_way = [one.as_json() for one in in_order(found_in_the_way)]
    return {
        "credential": scene.name,
        "provider": own.seen.provider,
        "secret": secret_name or None,
        "would": _would(preview, request),
        "access_key_id": preview.current_id or None,
        "previous_access_key_id": done.previous_access_key_id or found.previous_id or None,
        "generation": done.generation,
        "published_at": stamp(done.published_at),
        "expires_at": stamp(done.expiration),
        "credentials": [_holder(one, scene.name) for one in scene.found],
        "files": [_file(one, sink) for one in scene.found for sink in one.sinks],
        "dependents": [row for row, _behind, _cannot in dependents],
        "left_behind": [one.as_json() for one in left],
        "fetched": None if scene.laggards is None else [_fetched(one) for one in scene.laggards],
        "other_hosts": other_hosts,
        "authority": _authority(found, UNPROVED if secret_name else UNPROVED_OF_RAM_USER) if is_managed else None,
        "kms": _kms(preview, request) if secret_name else None,
        "ram": _ram(preview) if is_managed else None,
        "in_the_way": in_the_way,
        "possible": not in_the_way,
    }


# -- who has it ---------------------------------------------------------------------------------------


def _holder(holder: Holder, name: str) -> dict[str, Any]:
    relation = (
        "itself"
        if holder.name == name
        else "built on it"
        if holder.is_built_on
        else "same secret"
        if holder.follows
        else "same key"
    )
    done = holder.seen.published
    return {
        "credential": holder.name,
        "relation": relation,
        "state": str(holder.seen.condition),
        "generation": done.generation,
        "access_key_id": done.access_key_id or None,
        "published_at": stamp(done.published_at),
    }


def _file(holder: Holder, sink: Sink) -> dict[str, Any]:
    offers = "command" if sink.process_command else "address" if sink.settings.needs_endpoint else "value"
    in_sync = {one.target: one.in_sync for one in holder.seen.sinks}
    return {
        "credential": holder.name,
        "type": sink.type_name,
        "target": sink.target,
        "paths": [one.path for one in sink.files_read],
        "offers": offers,
        "in_sync": in_sync.get(sink.target),
    }


def _fetched(one: Laggard) -> dict[str, Any]:
    return {"who": one.who, "until": stamp(one.until), "hold_s": one.hold.total_seconds()}


# -- who would be told --------------------------------------------------------------------------------


def _ask(holder: Holder, notifier: Notifier, questions: Questions) -> _Dependent:
    return _Dependent(
        holder,
        notifier,
        questions.ask(lambda: list(notifier.inspect())),
        questions.ask(partial(foreseen, holder, notifier)),
    )


def _dependent(one: _Dependent, questions: Questions) -> tuple[dict[str, Any], LeftBehind | None, KeyturnError | None]:
    """Return its row, whether it would be left behind, and why it could not be told."""
    notifier, whom = one.notifier, f"{one.notifier.type_name} {one.notifier.target}"
    seen: Foreseen | None = None
    findings: list[Finding] = []
    problem = ""
    try:
        findings = questions.answer(one.findings)
        seen = questions.answer(one.hindered)
    except KeyturnError as error:
        problem = str(error)
    left = seen.behind if seen is not None and seen.is_certain else None
    doubt = seen.behind if seen is not None and not seen.is_certain else None
    level = next((each for each in ("error", "warning") if any(found.level == each for found in findings)), "ok")
    known = next(who for who in one.holder.seen.dependents if who.identity == notifier.identity)
    row = {
        "credential": one.holder.name,
        "type": notifier.type_name,
        "target": notifier.target,
        "how": notifier.act,
        "level": level if not problem else "unknown",
        "seen": [found.text for found in findings] or [problem or "nothing is known of it"],
        "moves": left is None if not problem else None,
        "doubt": {"why": doubt.why, "move": doubt.move} if doubt is not None else None,
        "pickup": known.pickup,
        "owed": known.owed,
    }
    wrong = next((found for found in findings if found.level == "error"), None)
    cannot = NotifyError(f"{whom} of credentials.{one.holder.name}: {wrong.text}", wrong.remedy) if wrong else None
    return row, left, cannot


# -- the cloud ----------------------------------------------------------------------------------------


def _authority(found: CloudAnswers, unproved: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {
        "access_key_id": found.signed_in or None,
        "identity": found.arn or None,
        "problem": str(found.cannot_sign_in) if found.cannot_sign_in is not None else None,
        "checks": [
            {"call": one.call, "action": one.action or None, "outcome": str(one.outcome), "text": one.text}
            for one in found.checks
        ],
        "unproved": [{"action": action, "why": why} for action, why in unproved],
    }


def _kms(preview: Preview, request: Request | None) -> dict[str, Any]:
    taken_up, secret = preview.taken_up(request), preview.found.secret
    return {
        "rotations_spent": preview.spent,
        "rotations_per_hour": ROTATIONS_PER_HOUR,
        "last_rotated_at": stamp(secret.last_rotated_at) if secret is not None else None,
        "taken_up": {"begun_at": stamp(taken_up.begun_at), "reason": taken_up.reason} if taken_up else None,
        "is_under_way": _is_under_way(preview),
    }


def _unowned(scene: Scene, clock: Clock, questions: Questions) -> Rest | None:
    """Return why another host rotates this RAM user's keys; None where this one does, or where that is not known in time."""
    if scene.terms is None:
        return None
    tenure = Tenure(scene.name, scene.terms, clock.now, clock.boottime)

    def look() -> Rest | None:
        try:
            return tenure.foreseen(may_follow=bool(scene.own.seen.published.access_key_id))
        finally:
            tenure.close()

    try:
        return questions.answer(questions.ask(look))
    except KeyturnError:
        return None


def _is_under_way(preview: Preview) -> bool | None:
    """Whether KMS has not finished the rotation before: the key before is still there. None where that is not known."""
    if preview.found.keys is None:
        return None
    return any(one.access_key_id in preview.previous_ids for one in preview.found.keys)


def _ram(preview: Preview) -> dict[str, Any]:
    found = preview.found
    return {
        "user": found.user or None,
        "keys": None if found.keys is None else [
            {
                "access_key_id": one.access_key_id,
                "status": one.status,
                "created_at": stamp(one.created_at),
                "whose": _whose(one.access_key_id, preview),
            }
            for one in found.keys
        ],
        "last_used_at": stamp(found.last_used),
    }  # fmt: skip


def _whose(access_key_id: str, preview: Preview) -> str:
    if access_key_id == preview.current_id:
        return "current"
    return "previous" if access_key_id in preview.previous_ids else "unknown"


# -- what would become of it --------------------------------------------------------------------------


def _would(preview: Preview, request: Request | None) -> str:
    if preview.secret_name or preview.ram_user:
        return "disable" if only_disables(preview, request) else "rotate"
    done = preview.seen.published
    if done.expiration is not None or done.access_key_id.startswith(SESSION):
        return "renew"
    return "nothing" if done.generation else "unknown"


def _obstacles(preview: Preview, request: Request | None) -> Iterator[Obstacle]:
    if preview.secret_name:
        yield from obstacles(preview, request)
        return
    if preview.ram_user:
        yield from obstacles_of_ram_user(preview, request)
        return
    if _would(preview, request) == "nothing":
        yield Obstacle(Step.PREFLIGHT, not_rotatable(preview.seen.name, preview.seen.provider))
    yield from (Obstacle(Step.NOTIFY, error) for error in preview.untellable)
    yield from leave_behind(preview, request)
