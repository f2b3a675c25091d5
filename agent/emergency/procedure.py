"""The emergency, end to end: rotate at the source, follow the new key to every dependent, cut the old one off.

It runs on a worker and reaches the engine only through `HeldCredential`, so the daemon goes on meanwhile. Asking KMS
(kms_rotation.py), who asks (authority.py), who else holds the key (key_followers.py) or fetched it (fetchers.py), who is left
behind on it (left_behind.py), the end of the old key (old_key.py) and what is shown (report.py) have modules of their own.
What "safe" means, what is taken up again and what is waited for: docs/adr/0012.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from agent.audit.log import AuditLog
from agent.cloud.openapi import Cloud
from agent.core.credential import Credential, Kind
from agent.core.errors import (
    CancelledError,
    KeyturnError,
    SourceRefusedError,
    SourceUnavailableError,
    UsageError,
    VerifyRefusedError,
)
from agent.core.events import Cause, Event, Trigger
from agent.core.outcome import Report
from agent.core.provider import Provider
from agent.core.retry import Retry
from agent.core.rotatable import Rotatable
from agent.core.timestamps import rfc3339
from agent.emergency import left_behind
from agent.emergency.authority import Authority
from agent.emergency.fetchers import Fetchers, WhoFetched, nobody
from agent.emergency.key_followers import KeyFollowers
from agent.emergency.kms_rotation import ROTATIONS_PER_HOUR, KmsRotation
from agent.emergency.left_behind import named, named_once
from agent.emergency.old_key import NoSecretError, disable, refuse_key_in_use, see_refused
from agent.emergency.report import OldKey, Patience, Request, Result, Show, StepOutcome, Steps
from agent.engine.engine import Engine
from agent.engine.held_credential import CALL_S, HeldCredential
from agent.logs.log import log
from agent.runtime.event_loop import answer_of
from agent.state.records import Published

__all__ = ["Cloud", "Emergency", "Patience", "Request", "Result"]


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
        """
        self._engine, self._audit, self._cloud, self._request = engine, audit, cloud, request
        self._provider_of_authority, self._patience = authority, patience or Patience()
        self._clock, self._place = engine.clock, f"credentials.{request.credential}"
        self._cause = Cause(Trigger.EMERGENCY, request.actor, request.reason)
        self._result = Result(request.credential)
        self._steps = Steps(self._clock, self._result, lambda _step: None)
        self._old: Credential | None = None
        self._who_fetched = who_fetched

    def run(self, show: Show) -> Result:
        """Run the whole emergency; an error stands in the result. `show` is called with each step as it ends."""
        self._steps = Steps(self._clock, self._result, show)
        with self._steps:
            return self._run()

    def _run(self) -> Result:
        self._steps.activity.begin("the agent")
        try:
            self._held = self._hold()
        except KeyturnError as error:
            return self._failed(error)
        self._authority = Authority(
            self._held.name,
            self._provider_of_authority,
            self._clock,
            self._patience.ask_s,
            self._held.pause,
            self._steps.activity,
        )
        self._followers = KeyFollowers(self._held, self._steps, self._patience)
        self._fetchers = Fetchers(self._held, self._steps, self._who_fetched)
        self._rotation = KmsRotation(self._held, self._cloud.kms, self._authority, self._secret_name or "")
        try:
            self._record(Event.ROTATION_REQUESTED)
            self._play()
        except KeyturnError as error:
            self._failed(error)
        except Exception:
            log.error("a fault of keyturn itself; please report it", exc_info=True)
            self._failed(KeyturnError(f"{self._place}: a fault of keyturn itself", "please report it with its log"))
        finally:
            self._held.release()
        self._fill_in()
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
        held = self._engine.submit(partial(self._engine.hold, self._request.credential, self._cause))
        return answer_of(held, CALL_S, late)

    # -- the play -----------------------------------------------------------------------------------

    def _play(self) -> None:
        self._result.old_access_key_id = self._published.access_key_id
        if self._secret_name is None:  # nothing at KMS: at most a session that the source can be asked for anew
            self._renew_session()
            return
        self._steps.do("preflight", self._preflight)
        if self._only_disabling():
            self._result.notes.append(f"{self._old_id} was replaced already: nothing needed rotating")
        else:
            self._steps.do("rotate", self._rotate_at_source)
            wanted = self._result.version_id
            self._refresh_until(lambda: self._published.version_id == wanted)
        self._move_everybody()
        self._refuse_to_leave_behind()
        if self._request.disable_old:
            self._await_fetchers()
            refuse_key_in_use(self._held, self._old_id)
            self._steps.do("disable_old", self._disable_old)
            self._steps.do("prove_refused", self._prove_refused)
        else:
            self._result.notes.append(
                f"the old key {self._old_id} was not disabled and may work for up to two days (KMS); to cut it off now: "
                f"keyturn rotate {self._held.name} --leaked {self._old_id} --disable-old --reason 'key leaked'"
            )
        # Only now: after an error on the way here the next `rotate` takes the rotation up.
        self._rotation.forget()

    def _renew_session(self) -> None:
        if self._held.look().known is None:
            self._steps.do("preflight", self._refresh_first)
        known = self._held.look().known
        if known is None or (known.kind is not Kind.STS and known.expiration is None):
            raise UsageError(
                f"{self._place}: keyturn cannot rotate a value of type {self._held.provider.type_name} at its source",
                f"replace the value at its source, then run: keyturn refresh {self._held.name}",
            )
        self._result.old_access_key_id = known.access_key_id
        self._refresh_until(lambda: self._published.access_key_id != known.access_key_id)
        self._move_everybody()
        until = f"until they expire ({rfc3339(known.expiration)} for the one replaced)" if known.expiration else ""
        self._result.notes.append(
            f"sessions already issued live on {until or 'until they expire'}; to cut them off, detach all policies "
            "from the role"
        )
        self._refuse_to_leave_behind()

    def _preflight(self) -> str:
        known_as = self._sign_in()
        # The key that KMS has now is the one to replace, and its secret the one that signs the proof at the end.
        self._refresh_first()
        unfinished = self._rotation.unfinished(self._request.leaked)
        self._old = self._held.look().value
        self._result.old_access_key_id = self._published.access_key_id
        if unfinished is not None:
            self._result.old_access_key_id = unfinished.old_access_key_id
            self._result.notes.append(
                f"took up the rotation that was begun at {rfc3339(unfinished.begun_at)} ({unfinished.reason}) and "
                f"replaces {self._old_id}; if the key after it leaked as well, run again with --leaked and its id"
            )
        spent = f"{self._rotation.spent()} of {ROTATIONS_PER_HOUR} rotations spent this hour, as far as is known here"
        return f"{known_as}; {spent}"

    def _sign_in(self) -> str:
        """Have STS name the authority; an STS that cannot answer does not stop the rotation."""
        self._steps.activity.begin("the authority to sign in, and STS to name it")
        who = self._authority.sign_in()
        try:
            return f"signed in as {self._cloud.sts.get_caller_identity(who, now=self._clock.now(), timeout_s=5.0).arn}"
        except KeyturnError as error:
            if not error.retryable:
                place = f"{self._place}.emergency.authority {who.access_key_id}"
                raise error.because("nothing was rotated").at(place) from None
            return f"the authority is not proved: {error.problem}"

    def _refresh_first(self) -> None:
        self._steps.activity.begin(f"a refresh of {self._place}")
        report = self._refresh()
        if report.error is not None and not self._published.generation:
            raise report.error

    def _only_disabling(self) -> bool:
        leaked, done = self._request.leaked, self._published
        if leaked is None or leaked == done.access_key_id:
            return False
        previous, doubt = self._previous_key()
        if leaked not in {done.previous_access_key_id, previous.access_key_id if previous else ""}:
            unsure = f" as far as is known here ({doubt})" if doubt else ""
            raise UsageError(
                f"{self._place}: {leaked} is neither its current key {done.access_key_id} nor the one before{unsure}; "
                "nothing was rotated or disabled",
                "look up whose key it is (RAM console); for this credential's own keys see `keyturn audit show`",
            )
        self._result.old_access_key_id = leaked
        if previous is not None and previous.access_key_id == leaked:
            self._old = previous
        return True

    def _rotate_at_source(self) -> str:
        begun = self._rotation.begin(self._old_id, self._request.reason)
        journal = begun.journal
        self._result.version_id = journal.version_id
        if not journal.asked:  # else KMS said yes to an earlier `rotate`, and only the rest is missing
            self._rotation.ask(begun, self._refresh)
            self._record(
                Event.ROTATION_STARTED,
                version_id=journal.version_id,
                previous_access_key_id=journal.old_access_key_id or None,
            )
            self._rotation.asked()
        return f"{'taken up again: ' if begun.taken_up else ''}version {journal.version_id}"

    # -- following the new value --------------------------------------------------------------------

    def _refresh_until(self, arrived: Callable[[], bool]) -> None:
        """Refresh again and again until the new value is published; show its steps.

        Raises:
            KeyturnError: it was not in `follow_s` seconds, or cannot be.
        """
        activity = self._steps.activity
        pause, monotonic = activity.pausing(self._held.pause), self._clock.boottime
        retry = Retry(1.0, 2.0, self._patience.follow_s, chance=random.random, pause=pause, monotonic=monotonic)
        activity.begin(f"the new value of {self._place}")
        while True:
            began = self._clock.boottime()
            report = self._refresh()
            activity.failed(report.error.problem if report.error else "the source still hands out the old one")
            if report.outcome is not None and arrived():
                self._show_timings(report, began)
                return
            if self._is_hopeless(report) or not retry.again():
                error = report.error or self._not_arrived()
                self._steps.note(
                    "verify" if isinstance(error, VerifyRefusedError) else "publish", StepOutcome.FAILED, began
                )
                raise error

    def _is_hopeless(self, report: Report) -> bool:
        if report.error is not None:
            return not report.error.retryable
        return self._secret_name is None  # a source of sessions that hands out the same one again

    def _not_arrived(self) -> KeyturnError:
        if self._secret_name is None:
            return SourceRefusedError(
                f"{self._place}: its source hands out the same session {self._old_id} again",
                "its keeper renews it before it expires; to cut it off now, detach all policies from the role",
            )
        return SourceUnavailableError(
            f"{self._place}: KMS has not made the new version current within {self._patience.follow_s:g} s",
            "run the same command again: it takes this rotation up and does not rotate twice",
        )

    def _move_everybody(self) -> None:
        self._result.left_behind = self._followers.move_everybody(self._old_id)

    def _refuse_to_leave_behind(self) -> None:
        """Stop where somebody is left behind, or note what `--force` overrides."""
        left, request = self._result.left_behind, self._request
        error = left_behind.refusal(left, self._place, self._old_id if request.disable_old else None)
        if error is not None and request.disable_old and request.force:
            self._result.notes.append(f"--force overrides that these are left behind on the old key: {named(left)}")
        elif error is not None:
            raise error

    def _await_fetchers(self) -> None:
        """Wait for those who fetched the old key, or note that `--force` does not."""
        if left := self._fetchers.wait(self._old_id, force=self._request.force):
            self._result.left_behind += left
            self._result.notes.append(f"--force did not wait for those who fetched the old key: {named_once(left)}")

    # -- the old key --------------------------------------------------------------------------------

    def _disable_old(self) -> str:
        user = self._ram_user
        if not disable(self._cloud.ram, user, self._old_id, self._authority.ask, self._clock):
            return f"RAM knows no key {self._old_id} of {user}: it was deleted, or is another user's"
        self._result.old_key = OldKey.DISABLED
        self._record(Event.OLD_KEY_DISABLED, access_key_id=self._old_id, outcome="inactive, not yet seen refused")
        return f"{self._old_id} of {user}"

    def _prove_refused(self) -> str:
        try:
            old = self._secret_of_old()
            sts, activity = self._cloud.sts, self._steps.activity
            code = see_refused(sts, old, self._clock, self._patience.refusal_s, self._held.pause, activity)
        except NoSecretError:
            self._rotation.forget()  # another run could prove no more
            raise
        self._result.safe, self._result.old_key = True, OldKey.DISABLED
        self._result.time_to_safe_ms = self._steps.passed_ms()
        self._record(Event.OLD_KEY_DISABLED, access_key_id=self._old_id, outcome=f"refused with {code}")
        return f"refused with {code}"

    def _secret_of_old(self) -> Credential:
        old, doubt = self._old, ""
        if old is None or old.access_key_id != self._old_id or old.access_key_secret is None:
            old, doubt = self._previous_key()
        if old is None or old.access_key_id != self._old_id:
            raise NoSecretError(
                f"{self._place}: that the old key {self._old_id} is refused cannot be proved: its secret is not to be "
                f"had any more{f' ({doubt})' if doubt else ''}",
                "look in the RAM console that the key is inactive or gone",
            )
        return old

    def _previous_key(self) -> tuple[Credential | None, str]:
        """Return the key before the current one; or None and, where it is known, why it is not to be had."""
        self._steps.activity.begin("KMS to hand out the key before")
        try:
            provider = self._held.provider
            return (provider.fetch_previous() if isinstance(provider, Rotatable) else None), ""
        except KeyturnError as error:
            return None, error.problem

    # -- its tools ----------------------------------------------------------------------------------

    @property
    def _secret_name(self) -> str | None:
        provider = self._held.provider
        return provider.secret_name if isinstance(provider, Rotatable) else None

    @property
    def _old_id(self) -> str:
        return self._result.old_access_key_id

    @property
    def _ram_user(self) -> str:
        settings = self._held.settings.emergency
        named = settings.ram_user_name if settings else None
        user = named or self._published.ram_user_name
        if not user:
            raise UsageError(
                f"{self._place}.emergency.ram_user_name: KMS does not say whose key it is, so the old key "
                f"{self._old_id} was left active",
                "name the RAM user there, then run the same command again (it does not rotate again)",
            )
        return user

    @property
    def _published(self) -> Published:
        return self._held.look().seen.published

    def _refresh(self) -> Report:
        with self._steps.activity.asking(partial(self._held.under_way, self._old_id)):
            return self._held.refresh(self._patience.follow_s)

    def _record(self, event: Event, **fields: Any) -> None:
        self._audit.record(event, credential=self._request.credential, **fields, **self._cause.as_fields())

    # -- showing it ---------------------------------------------------------------------------------

    def _show_timings(self, report: Report, began: float) -> None:
        timings = report.outcome.timings_ms if report.outcome else {}
        for name, ms in timings.items():
            self._steps.add(name, StepOutcome.DONE, ms)
        if not timings:
            self._steps.note("fetch", StepOutcome.DONE, began, "the new version was published already")

    def _failed(self, error: KeyturnError) -> Result:
        self._result.error, self._result.exit_code = str(error), error.exit_code
        self._note_failure(str(error))
        return self._result

    def _note_failure(self, text: str) -> None:
        """Record what became of a request, also of one that was refused before it began."""
        try:
            self._record(Event.ROTATION_REQUESTED, outcome="failed", error=text)
        except KeyturnError as error:
            log.error("the audit log cannot be written", error=str(error))

    def _fill_in(self) -> None:
        try:
            now = self._held.look()
        except KeyturnError as error:  # the agent stops
            log.warning("the end of an emergency could not be looked at", error=str(error))
            return
        done = now.seen.published
        self._result.new_access_key_id = done.access_key_id if done.access_key_id != self._old_id else ""
        self._result.generation = done.generation
        if not self._result.left_behind and (self._result.version_id or self._result.new_access_key_id):
            self._result.left_behind = self._followers.left_behind(self._old_id)
        self._result.all_moved = bool(self._result.new_access_key_id) and not self._result.left_behind
        if self._result.error and now.unfinished is None:
            self._result.version_id = ""  # KMS refused it: there is no such version
        self._result.version_id = self._result.version_id or done.version_id
