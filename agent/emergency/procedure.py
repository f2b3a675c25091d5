"""The emergency, end to end: rotate at the source, follow the new key to every dependent, cut the old one off.

It runs on a worker and reaches the engine only through `HeldCredential`, so the daemon goes on meanwhile. Here is the order of
things; each has a module of its own, and they share one `Case` (case.py): the rotation that ended before (last_rotation.py), the
key at KMS (kms_key.py, kms_rotation.py) or a session (session.py); who asks (authority.py); the new value on its way
(following.py); who has to be off the old key before it ends (clearance.py, key_followers.py, fetchers.py, left_behind.py,
fleet_clearance.py); its
end (old_key.py); what is shown (report.py).
What "safe" means, what is taken up again and what is waited for: docs/adr/0012.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from agent.audit.log import AuditLog
from agent.cloud.authority import Authority, always
from agent.cloud.openapi import Cloud
from agent.core.errors import CancelledError, KeyturnError, RotatedByScheduleError
from agent.core.events import Cause, Event, Trigger
from agent.core.provider import Provider
from agent.core.ram_user import HasRamUser
from agent.core.rotatable import Rotatable
from agent.emergency.case import Case
from agent.emergency.clearance import Clearance
from agent.emergency.end_record import DETAIL_BYTES, TEXT_BYTES, cut, end_record
from agent.emergency.fetchers import WhoFetched, nobody
from agent.emergency.fleet_clearance import OpenFleet, no_fleet
from agent.emergency.kms_key import KmsKey
from agent.emergency.last_rotation import refuse_repetition
from agent.emergency.old_key import EndOfOldKey
from agent.emergency.ram_user_key import RamUserKey
from agent.emergency.report import Patience, Result, Show, Steps
from agent.emergency.request import Request
from agent.emergency.session import SessionRenewal
from agent.engine.engine import Engine
from agent.engine.held_credential import CALL_S, HeldCredential
from agent.logs.log import log
from agent.ram_rotation.rotations import rotation_of
from agent.ram_rotation.tenure import Tenure, Terms
from agent.runtime.event_loop import answer_of

__all__ = ["Cloud", "Emergency", "Patience", "Request", "Result"]


SCHEDULE_S = 150.0
"""Seconds for which an errand of the schedule is waited for: the proof of a new key takes a minute and more."""


class Emergency:
    """One run of `rotate`. Its `run` is called on another thread than the loop's, and only once."""

    def __init__(
        self,
        engine: Engine,
        audit: AuditLog,
        authority: Provider | None,
        cloud: Cloud,
        request: Request,
        patience: Patience | None = None,
        who_fetched: WhoFetched = nobody,
        open_fleet: OpenFleet = no_fleet,
        tenure: Tenure | None = None,
    ) -> None:
        """Keep what is needed; nothing is asked yet.

        Args:
            engine: runs on another thread.
            audit: the log.
            authority: who may rotate and disable; None where the config names nobody.
            cloud: the calls to KMS, RAM and STS.
            request: what the operator asked for.
            patience: how long each wait may take.
            who_fetched: says who got an older generation from this agent and may still use it.
            open_fleet: opens the fleet, where the config has one.
            tenure: whether this host rotates, for a RAM user's keys; None: as its provider says, and there is no fleet.
        """
        self._engine, self._audit, self._cloud, self._request = engine, audit, cloud, request
        self._provider_of_authority, self._patience = authority, patience or Patience()
        self._who_fetched, self._open_fleet, self._given_tenure = who_fetched, open_fleet, tenure
        self._cause = Cause(Trigger.EMERGENCY, request.actor, request.reason)
        self._leaked = cut(request.leaked, DETAIL_BYTES) if request.leaked else None
        self._result = Result(request.credential)

    def run(self, show: Show) -> Result:
        """Run the whole emergency; an error stands in the result. `show` is called with each step as it ends."""
        steps = Steps(self._engine.clock, self._result, show)
        with steps:
            steps.activity.begin("the agent")
            try:
                held = self._hold()
            except KeyturnError as error:
                return self._failed(error)
            try:
                return self._run(
                    Case(held, self._request, self._result, steps, self._patience, self._audit, self._cause)
                )
            finally:
                held.release()  # behind the record of its end, for which a stopping agent waits

    def _run(self, case: Case) -> Result:
        clearance, begun = Clearance(case, self._who_fetched, self._open_fleet), False
        try:
            refuse_repetition(case)
            begun = True
            case.record(Event.ROTATION_REQUESTED, access_key_id=self._leaked)
            self._play(case, clearance)
            case.held.note_authority(None, self._cause)
        except KeyturnError as error:
            self._failed(error)
            case.held.note_authority(error, self._cause)
        except Exception:
            log.error("a fault of keyturn itself; please report it", exc_info=True)
            self._failed(KeyturnError(f"{case.place}: a fault of keyturn itself", "please report it with its log"))
        finally:
            clearance.close()
        self._fill_in(case, clearance)
        if begun:
            self._try_to_record(
                Event.ROTATION_ENDED,
                **end_record(self._result, case.steps.passed_ms()),
                **self._cause.as_fields() | {"reason": cut(self._request.reason, TEXT_BYTES)},
            )
        log.info(
            "rotate ended",
            credential=self._request.credential,
            old_key=self._result.old_key,
            safe=self._result.safe,
            error=self._result.error,
        )
        return self._result

    def _hold(self) -> HeldCredential:
        late = CancelledError("the agent did not answer in time", "see its log")
        ends = self._engine.clock.boottime() + SCHEDULE_S
        while True:
            held = self._engine.submit(partial(self._engine.hold, self._request.credential, self._cause))
            try:
                return answer_of(held, CALL_S, late)
            except RotatedByScheduleError:  # a call to RAM, or a proof, is under way
                if self._engine.clock.boottime() > ends or self._engine.stops_within(0.2):
                    raise

    # -- the play -----------------------------------------------------------------------------------

    def _play(self, case: Case, clearance: Clearance) -> None:
        case.result.old_access_key_id = case.published.access_key_id
        clearance.begin()
        source = case.held.provider
        is_ram_user = isinstance(case.held.settings.provider, HasRamUser)
        if not isinstance(source, Rotatable) and not is_ram_user:
            SessionRenewal(case, clearance, self._cloud.sts).play()
            return
        authority = Authority(
            case.held.name,
            self._provider_of_authority,
            case.clock,
            case.patience.ask_s,
            case.held.pause,
            case.steps.activity,
            place="" if case.held.settings.emergency or not is_ram_user else f"{case.place}.provider",
            needs="ram:CreateAccessKey" if is_ram_user else "kms:RotateSecret",
            permit=self._tenure(case).permit if is_ram_user else always,
        )
        key = self._key(case, source, authority)
        case.steps.do("preflight", key.preflight)
        if key.is_only_to_be_disabled():
            case.result.notes.append(f"{case.old_id} was replaced already: nothing needed rotating")
        else:
            case.steps.do("rotate", key.rotate)
            key.follow()
        clearance.move_everybody()
        clearance.refuse_to_leave_behind()
        if case.request.disable_old:
            clearance.wait_for_others()
            self._end_old_key(case, key, EndOfOldKey(case, key, self._cloud, authority))
        else:
            case.result.notes.append(
                f"the old key {case.old_id} was not disabled and {key.old_lives()}; to cut it off now: "
                f"keyturn rotate {case.held.name} --leaked {case.old_id} --disable-old --reason 'key leaked'"
            )
        # Only now: after an error on the way here the next `rotate` takes the rotation up.
        key.end()

    def _key(self, case: Case, source: Provider, authority: Authority) -> KmsKey | RamUserKey:
        if isinstance(source, Rotatable):
            return KmsKey(case, source, self._cloud, authority)
        rotation = rotation_of(case.held, self._audit, authority, self._cloud, self._cause, self._tenure(case))
        return RamUserKey(case, self._cloud, authority, rotation)

    def _tenure(self, case: Case) -> Tenure:
        if self._given_tenure is None:
            settings = case.held.settings.provider
            assert isinstance(settings, HasRamUser)
            self._given_tenure = Tenure(case.held.name, Terms(settings.ram_user), case.clock.now, case.clock.boottime)
        return self._given_tenure

    def _end_old_key(self, case: Case, key: KmsKey | RamUserKey, old: EndOfOldKey) -> None:
        old.end()
        if not case.request.delete_old:
            return
        try:
            old.delete()
        except CancelledError:
            raise
        except KeyturnError:  # the key is dead all the same, so this rotation is over
            key.end()
            raise

    # -- its end ------------------------------------------------------------------------------------

    def _failed(self, error: KeyturnError) -> Result:
        """Note the error, also of a request that was refused before it began."""
        self._result.error, self._result.exit_code = str(error), error.exit_code
        self._try_to_record(
            Event.ROTATION_REQUESTED,
            access_key_id=self._leaked,
            outcome="failed",
            error=cut(str(error), TEXT_BYTES),
            request_id=error.request_id or None,
            **self._cause.as_fields(),
        )
        return self._result

    def _try_to_record(self, event: Event, **fields: Any) -> None:
        try:
            self._audit.record(event, credential=self._request.credential, **fields)
        except KeyturnError as error:
            log.error("the audit log cannot be written", error=str(error))

    def _fill_in(self, case: Case, clearance: Clearance) -> None:
        try:
            now = case.held.look()
        except KeyturnError as error:  # the agent stops
            log.warning("the end of an emergency could not be looked at", error=str(error))
            return
        result, done = self._result, now.seen.published
        result.new_access_key_id = done.access_key_id if done.access_key_id != case.old_id else ""
        result.generation = done.generation
        if result.error and now.unfinished is None:
            result.version_id = ""  # KMS refused it: there is no such version, and no new key to be behind
        is_looked_at = not (result.version_id or result.new_access_key_id) or self._looks_at_the_end(clearance)
        result.all_moved = bool(result.new_access_key_id) and not result.left_behind and is_looked_at
        result.version_id = result.version_id or done.version_id

    def _looks_at_the_end(self, clearance: Clearance) -> bool:
        try:
            clearance.look_at_the_end()
        except KeyturnError as error:  # the agent stops
            log.warning("who is left behind could not be looked at", error=str(error))
            return False
        return True
