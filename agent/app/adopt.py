"""`keyturn adopt`: a look at a RAM user whose key was copied by hand, and the step that takes it under rotation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from agent.app.refresh_now import CALL_S, chosen
from agent.app.rotations import all_terms, terms_in_force
from agent.app.wiring import Application, Factory, paths
from agent.core.errors import CancelledError, KeyturnError, SinkError, UsageError
from agent.core.events import Cause, Event
from agent.core.names import known_names
from agent.core.ram_user import HasRamUser
from agent.core.settings import Settings
from agent.engine.held_credential import HeldCredential
from agent.engine.snapshot import CredentialSnapshot, snapshot_of
from agent.ram_rotation.adoption import AGAIN, Adoption, Scene, examine
from agent.ram_rotation.desk import PUBLISH_S, HeldDesk
from agent.ram_rotation.journal import adopted
from agent.ram_rotation.tenure import Tenure, Terms
from agent.ram_rotation.view import Listed, Rest
from agent.runtime.event_loop import answer_of
from agent.state.store import StateStore
from agent.system.clock import Clock
from agent.system.machine import machine

T = TypeVar("T")
TELL_S = 60.0
"""Seconds that are waited for the dependents to be told."""


def adopt(
    application: Application, name: str, agreed: str, cause: Cause, *, keeps_leases: bool = False
) -> dict[str, Any]:
    """Return the object of `adopt --json`; not on the loop's thread.

    Args:
        application: whose engine runs.
        name: of the credential.
        agreed: the key id that the operator agreed to take; "" only looks.
        cause: for the audit.
        keeps_leases: a daemon renews the fleet's lease, which therefore is not let go.

    Raises:
        UsageError: the credential is not in the config, or is no `ram_user`.
        SinkError: the files hold another key than was agreed to.
        BusyError: an emergency or a rotation of it is under way.
        KeyturnError: the state cannot be written.
    """
    scene, terms, held = _call(application, partial(_open, application, name, cause if agreed else None))
    tenure = Tenure(name, terms, scene.clock.now, scene.clock.boottime)
    try:
        if held is None:
            return examine(_judged(scene, tenure.foreseen(may_follow=True), tenure)).as_json()
        unowned = tenure.why_not(may_follow=True, floor=scene.record.fence)
        found = examine(_judged(scene, unowned, tenure))
        return found.as_json() if found.refusal else _take(application, held, scene, found, agreed, cause)
    finally:
        if held is not None:
            held.release()
        tenure.close(releases=not keeps_leases)


def adopt_from_disk(settings: Settings, environ: Mapping[str, str], name: str) -> dict[str, Any]:
    """Return what a look shows, where no daemon runs.

    Raises:
        UsageError: the credential is not in the config, or is no `ram_user`.
        NotPermittedError: this user may not read the state directory.
    """
    known_names(list(settings.credentials), [name])
    factory, clock = Factory(settings, environ), Clock()
    (managed,) = [one for one in factory.credentials() if one.name == name]
    managed.remember(StateStore(paths(settings)[0]).peek(name))
    scene = _scene(factory, settings, snapshot_of(managed, clock), clock)
    tenure = Tenure(name, all_terms(settings, factory, environ)[name], clock.now, clock.boottime)
    try:
        return examine(_judged(scene, tenure.foreseen(may_follow=True), tenure)).as_json()
    finally:
        tenure.close()


def _judged(scene: Scene, unowned: Rest | None, tenure: Tenure) -> Scene:
    return replace(scene, unowned=unowned, is_shared=tenure.is_shared)


def _open(application: Application, name: str, cause: Cause | None) -> tuple[Scene, Terms, HeldCredential | None]:
    """Return what is needed for a look, and with a cause the credential, held. On the loop's thread."""
    engine = application.engine
    chosen(engine, [name])
    seen = engine.look(name)
    assert seen is not None
    scene = _scene(application.factory, application.settings, seen, engine.clock)
    terms = terms_in_force(application)[name]
    return scene, terms, engine.hold(name, cause) if cause is not None else None


def _scene(factory: Factory, settings: Settings, seen: CredentialSnapshot, clock: Clock) -> Scene:
    source = settings.credentials[seen.name].provider
    if not isinstance(source, HasRamUser):
        raise UsageError(
            f"credentials.{seen.name}.provider: keyturn makes no keys for a source of type {source.type}",
            'adopt is for type = "ram_user": see docs/ram_user.md',
        )
    return Scene(
        seen.name,
        source.ram_user,
        factory.sinks(seen.name),
        [f"{one.type_name} {one.target}" for one in seen.dependents],
        seen.ram,
        machine(),
        factory.rotator(seen.name),
        factory.cloud_of(seen.name),
        clock,
        published_id=seen.published.access_key_id,
    )


def _take(
    application: Application, held: HeldCredential, scene: Scene, found: Adoption, agreed: str, cause: Cause
) -> dict[str, Any]:
    if found.access_key_id != agreed:
        raise SinkError(
            f"credentials.{held.name}: the files hold {found.access_key_id} by now, not {agreed}; nothing was done",
            "run the same command again, and look at what it shows",
        )
    assert found.key is not None and found.value is not None
    if not found.is_ours:
        row = Listed(found.key.access_key_id, found.key.status, found.key.created_at)
        held.keep_ram(adopted(held.look().ram, scene.host, scene.plan.user, row, held.clock.now()))
        desk = HeldDesk(held, application.audit, cause)
        desk.hand(replace(found.value, created_at=row.created_at, ram_user_name=scene.plan.user))
        desk.note(Event.KEY_ADOPTED, found.access_key_id, "adopted", "")
    error = _publish(held)
    warnings = found.warnings if error is not None else [*found.warnings, *_tell(held)]
    done = held.look().seen.published
    is_published = done.access_key_id == found.access_key_id
    return {
        **found.as_json(),
        "adopted": True,
        "published": is_published,
        "generation": done.generation if is_published else 0,
        "warnings": warnings,
        "error": f"it is under rotation, and not published yet: {error}; {AGAIN}" if error is not None else None,
        "exit_code": error.exit_code if error is not None else 0,
    }


def _publish(held: HeldCredential) -> KeyturnError | None:
    """Publish the key that was taken; return why it was not."""
    return held.refresh(PUBLISH_S).error


def _tell(held: HeldCredential) -> list[str]:
    """Tell the dependents; return what is tried again later."""
    try:
        held.tell_now([held.name], TELL_S)
    except KeyturnError as error:
        return [str(error)]
    owed = [f"{one.type_name} {one.target}" for one in held.look().seen.dependents if one.owed]
    return [f"not told yet, and tried again: {', '.join(owed)}"] if owed else []


def _call(application: Application, function: Callable[[], T]) -> T:
    late = CancelledError("the agent did not answer in time", "see its log")
    return answer_of(application.engine.submit(function), CALL_S, late)
