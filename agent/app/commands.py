"""What an operator can have done: one door, whether the daemon does it or the command itself under the same lock.

Each command runs and waits on another thread than the loop's, and reaches the engine by messages alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from agent.app import uri_tokens
from agent.app.clients import client_rows
from agent.app.fleet import OnePass, asking_hosts, rotation_over
from agent.app.refresh_now import CALL_S, RefreshNow, chosen
from agent.app.rotate_due import rotate_due
from agent.app.rotations import all_terms, terms_in_force
from agent.app.status import CanaryOf, RotationOf, as_json
from agent.app.uri_tokens import TokenRequest
from agent.app.wiring import Application, Factory, paths
from agent.cloud.openapi import Cloud
from agent.core.errors import EXIT_SOURCE_UNAVAILABLE, CancelledError
from agent.core.events import Cause, Trigger
from agent.core.names import known_names
from agent.core.provider import Provider
from agent.core.settings import Settings
from agent.emergency.fleet_clearance import Fleet
from agent.emergency.procedure import Emergency
from agent.emergency.report import Result, Show
from agent.emergency.request import PLAN_S, Request
from agent.endpoint.tokens import TokenBook
from agent.engine.attempts import RefreshSlot
from agent.engine.key_holders import holders
from agent.engine.snapshot import snapshot_of
from agent.ram_rotation.tenure import Tenure
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.event_loop import answer_of
from agent.serving.fetches import FetchRecord, Laggard
from agent.state.store import StateStore
from agent.system.clock import Clock
from agent.system.waiting import Silence

if TYPE_CHECKING:
    from agent.app.plan import Scene

T = TypeVar("T")


class Commands:
    """The commands of one application, whose engine runs on another thread."""

    def __init__(
        self,
        application: Application,
        started_at: datetime,
        fetches: FetchRecord | None = None,
        canary_of: CanaryOf = lambda _name: None,
        rotation_of: RotationOf = lambda _name: None,
        fleet: Callable[[], dict[str, Any] | None] = lambda: None,
        keeps_leases: bool = False,
    ) -> None:
        """Keep what is needed.

        Args:
            application: whose engine runs.
            started_at: when.
            fetches: who fetched what from it; None where nobody can.
            canary_of: returns what the canary saw of a credential.
            rotation_of: returns what its rotation of a RAM user's keys waits for; on the loop's thread.
            fleet: returns how the connection to the fleet's board fares; None without a fleet.
            keeps_leases: a daemon renews the fleet's leases, which a command therefore does not let go.
        """
        self._application, self._engine = application, application.engine
        self._started_at, self._fetches, self._canary_of = started_at, fetches or FetchRecord(), canary_of
        self._rotation_of, self._fleet, self._keeps_leases = rotation_of, fleet, keeps_leases

    def status(self) -> dict[str, Any]:
        """Return the object of `status --json`, with each sink read anew."""
        looks = self._call(self._engine.sink_looks)
        looked = [(name, look, look.compare()) for name, look in looks.items()]
        seen = self._call(partial(self._engine.snapshot, looked))
        rotations = self._call(lambda: {one.name: self._rotation_of(one.name) for one in seen.credentials})
        return as_json(
            seen.credentials,
            self._application.config_path,
            client_keys=seen.client_keys,
            pid=os.getpid(),
            started_at=self._started_at,
            in_force=self._application.in_force,
            clients_of=partial(client_rows, self._fetches, now=seen.taken_at),
            canary_of=self._canary_of,
            rotation_of=rotations.get,
            fleet=self._fleet(),
        )

    def refresh(
        self, names: Sequence[str], cause: Cause, show: Show = lambda _wait: None, *, retry_for_s: float = 0.0
    ) -> dict[str, Any]:
        """Refresh, publish and notify; return what came of each, and the exit code.

        Args:
            names: of credentials; none means all.
            cause: for the audit.
            show: called with what is waited for, whenever that takes a while, and with each refresh as it ends.
            retry_for_s: how long temporary failures of a source, and failed notifications, are tried again.

        Raises:
            UsageError: a name is not in the config.
        """
        work = RefreshNow(self._engine, cause, retry_for_s)

        def ended(step: dict[str, Any]) -> None:
            silence.heard()
            show(step)

        with Silence(work.under_way, show) as silence:
            return work.run(names, ended)

    def once(
        self, names: Sequence[str], show: Show, warn: Callable[[str], None], *, retry_for_s: float = 0.0
    ) -> dict[str, Any]:
        """Do what is due for the keys of RAM users, then as `refresh` does; tell the fleet what came of it, where there is one.

        Args:
            names: of credentials; none means all.
            show: as for `refresh`.
            warn: called with why the fleet could not be told.
            retry_for_s: as for `refresh`.

        Returns:
            what `refresh` does; `rotations` has what each look at such keys came to.

        Raises:
            UsageError: a name is not in the config.
        """
        fleet, turns = OnePass(self._application, warn), rotate_due(self._application, names)
        answer = self.refresh(names, Cause(Trigger.START), show, retry_for_s=retry_for_s)
        fleet.tell()
        worst = next((turn.exit_code for turn in turns if turn.exit_code), 0)
        return {
            **answer,
            "rotations": [turn.as_json() for turn in turns],
            "exit_code": worst
            if worst and answer["exit_code"] == EXIT_SOURCE_UNAVAILABLE
            else answer["exit_code"] or worst,
        }

    def rotate(self, request: Request, show: Show) -> Result:
        """Run the emergency from end to end; its error stands in the result.

        Raises:
            UsageError: the credential is not in the config.
        """
        authority, cloud = self._call(partial(self._means, request.credential))
        audit, tenure = self._application.audit, self._call(partial(self._tenure, request))
        emergency = Emergency(
            self._engine,
            audit,
            authority,
            cloud,
            request,
            who_fetched=self._laggards,
            open_fleet=self._open_fleet,
            tenure=tenure,
        )
        try:
            return emergency.run(show)
        finally:
            if tenure is not None:
                tenure.close(releases=not self._keeps_leases)

    def _tenure(self, request: Request) -> Tenure | None:
        """Return whether this host may rotate a RAM user's keys; None for another source. On the loop's thread."""
        name, clock = request.credential, self._engine.clock
        terms = terms_in_force(self._application).get(name)
        insists = request.fleet is False or request.force
        return Tenure(name, terms, clock.now, clock.boottime, insists=insists) if terms is not None else None

    def _open_fleet(self, name: str) -> Fleet | None:
        application = self._application

        def opened() -> Fleet | None:
            return rotation_over(application.settings, application.factory.hostname, application.environ, name)

        return self._call(opened)

    def _laggards(self, name: str, generation: int) -> Sequence[Laggard]:
        return self._fetches.laggards(name, generation, self._engine.clock.now())

    def plan(self, name: str, request: Request | None = None, deadline_s: object = None) -> dict[str, Any]:
        """Return who holds a credential's key and what a `rotate` of it would meet; changes nothing.

        Args:
            name: of the credential.
            request: the `rotate` that is meant; None: any.
            deadline_s: seconds within which the cloud is heard, where whoever asks is in a hurry.

        Raises:
            UsageError: the credential is not in the config.
        """
        from agent.app.plan import plan  # what only a plan needs

        scene = self._call(partial(self._scene, name))
        return plan(scene, request, self._engine.clock, _bounded(deadline_s))

    def _scene(self, name: str) -> Scene:
        from agent.app.plan import Scene

        authority, cloud = self._means(name)
        engine, factory, settings = (
            self._engine,
            self._application.factory,
            self._application.settings.credentials[name],
        )
        found = engine.holders(name)
        # All that was fetched is older than what the rotation brings.
        laggards = [
            one for holder in found for one in self._laggards(holder.name, holder.seen.published.generation + 1)
        ]
        return Scene(
            name,
            found,
            sum(one.rotations_spent for one in engine.snapshot().credentials),
            name in engine.in_emergency(),
            laggards,
            settings.emergency.ram_user_name or "" if settings.emergency else "",
            authority,
            partial(factory.provider, name, settings.provider),
            cloud,
            asking_hosts(self._application.settings, factory.hostname, self._application.environ, name),
            has_emergency=settings.emergency is not None,
            terms=terms_in_force(self._application).get(name),
        )

    def adopt(self, name: str, agreed: str, cause: Cause) -> dict[str, Any]:
        """Return what is there of a RAM user whose key was copied by hand; take it under rotation where that was agreed to.

        Args:
            name: of the credential.
            agreed: the key id that the operator agreed to; "" only looks.
            cause: for the audit.

        Raises:
            UsageError: the credential is not in the config, or is no `ram_user`.
            KeyturnError: it cannot be taken.
        """
        from agent.app.adopt import adopt  # what only an adoption needs

        return adopt(self._application, name, agreed, cause, keeps_leases=self._keeps_leases)

    def uri_tokens(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the tokens of credentials URIs: their files, when they die, when they were used last. No token.

        Raises:
            UsageError: a name is not in the config.
        """
        return self._call(partial(uri_tokens.shown, self._application, names))

    def rotate_uri_token(self, request: TokenRequest) -> dict[str, Any]:
        """Write new tokens into the env files of a credential's URIs; return what `uri_tokens` shows from now on.

        Raises:
            KeyturnError: it has no such file, or one cannot be written; those before it in the config have new tokens.
        """
        return self._call(partial(uri_tokens.rotate, self._application, request))

    def _means(self, name: str) -> tuple[Provider | None, Cloud]:
        """Return who may rotate, and the management calls. On the loop's thread, where a reload replaces the factory.

        Raises:
            UsageError: the credential is not in the config.
        """
        chosen(self._engine, [name])
        return self._application.factory.authority(name), self._application.factory.cloud_of(name)

    def _call(self, function: Callable[[], T]) -> T:
        late = CancelledError("the agent did not answer in time", "see its log")
        return answer_of(self._engine.submit(function), CALL_S, late)


def status_from_disk(settings: Settings, config_path: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the object of `status --json` where no daemon runs: what the state directory remembers.

    Raises:
        NotPermittedError: this user may not read it.
    """
    clock = Clock()
    remembered = _remembered(settings, environ)
    return as_json((snapshot_of(managed, clock) for managed in remembered.values()), config_path)


def plan_from_disk(
    settings: Settings,
    environ: Mapping[str, str],
    name: str,
    request: Request | None = None,
    deadline_s: float = PLAN_S,
) -> dict[str, Any]:
    """Return what `Commands.plan` does, where no daemon runs.

    Raises:
        NotPermittedError: this user may not read the state directory.
        UsageError: the credential is not in the config.
    """
    from agent.app.plan import Scene, plan

    known_names(list(settings.credentials), [name])
    clock, factory = Clock(), Factory(settings, environ)
    remembered = _remembered(settings, environ)
    old_id = remembered[name].state.published.access_key_id
    slots = {other: RefreshSlot(managed) for other, managed in remembered.items()}
    mine = settings.credentials[name]
    scene = Scene(
        name,
        holders(slots, name, old_id, clock),
        sum(managed.state.rotation.spent(clock.now()) for managed in remembered.values()),
        False,
        None,
        mine.emergency.ram_user_name or "" if mine.emergency else "",
        factory.authority(name),
        partial(factory.provider, name, mine.provider),
        factory.cloud_of(name),
        asking_hosts(settings, factory.hostname, environ, name),
        has_emergency=mine.emergency is not None,
        terms=all_terms(settings, factory, environ).get(name),
    )
    return plan(scene, request, clock, deadline_s)


def _bounded(deadline_s: object) -> float:
    return min(PLAN_S, max(0.1, float(deadline_s))) if isinstance(deadline_s, int | float) else PLAN_S


def uri_tokens_from_disk(settings: Settings, environ: Mapping[str, str], names: Sequence[str]) -> dict[str, Any]:
    """Return what `Commands.uri_tokens` does, where no daemon runs: what the files say."""
    book = TokenBook()
    book.follow({managed.name: managed.sinks for managed in Factory(settings, environ).credentials()})
    wanted = known_names(list(settings.credentials), names)
    return uri_tokens.rows(book, wanted, Clock().now())


def _remembered(settings: Settings, environ: Mapping[str, str]) -> dict[str, ManagedCredential]:
    states = StateStore(paths(settings)[0])
    credentials = Factory(settings, environ).credentials()
    for managed in credentials:
        managed.remember(states.peek(managed.name))
    return {managed.name: managed for managed in credentials}
