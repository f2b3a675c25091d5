"""The emergency, end to end: rotate at the source, follow the new key to every dependent, cut the old one off.

It runs on a worker and reaches the engine only through `Engine` calls, so the daemon goes on meanwhile.
Everything that a crash must not forget is journalled before it is done: the version id of a rotation
(`RotationJournal`) is on disk before KMS hears of it, and KMS treats a repeated id as the same rotation,
so whatever happens a retry never rotates twice.

Decisions:
* `safe` is said only when a call signed with the old key was seen refused. The old key's secret is the one
  this process still knows, or KMS's ACSPrevious version of the secret.
* A rotation that was begun and not finished is taken up again by the next `rotate`, whatever its reason,
  until another version than its own has taken the old key's place: then it is overtaken and forgotten.
* The journal is dropped after a refusal only where KMS cannot have rotated: not after a lost reply, not
  after a crash. KMS's refusal of a second rotation may then speak of our own.
* Confirmed, assumed or missing pickup is shown, but "told" is what `--disable-old` waits for: evidence is
  not to be had of every dependent, and a leaked key that stays alive is worse.
* One emergency per credential at a time, and the schedule leaves the credential alone meanwhile, so that
  the publish is the operator's in the audit.
"""

from __future__ import annotations

import queue
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TypeVar

from agent.cloud.openapi import Kms, Ram, RotationRunningError, Sts
from agent.core import policy
from agent.core.credential import Credential, Kind, rfc3339
from agent.core.errors import (
    CancelledError,
    KeyturnError,
    NotPermittedError,
    SourceRefusedError,
    SourceUnavailableError,
    UsageError,
    VerifyRefusedError,
)
from agent.core.events import Event, Trigger
from agent.core.provider import Provider
from agent.dispatch import key
from agent.emergency_report import Request, Result, Show, Steps
from agent.engine import Engine, Report
from agent.logs import log
from agent.managed import Managed
from agent.notifiers.interface import Pickup
from agent.old_key import NoSecretError, disable, previous_key, see_refused
from agent.rotate import Cause
from agent.state import RotationJournal

__all__ = ["Cloud", "Emergency", "Patience", "Request", "Result"]

T = TypeVar("T")
ROTATIONS_PER_HOUR = 50
"""KMS, RotateSecret: per account."""
CLIENT_KEY = "KAAP."
"""How the key id of a ClientKey begins."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each wait may take, in seconds.

    Attributes:
        follow_s: until the new version is ACSCurrent and published.
        ask_s: for which a temporary failure of KMS or RAM is retried.
        refusal_s: until a disabled key is refused.
        told_s: until every dependent was tried.
    """

    follow_s: float = 300.0
    ask_s: float = 60.0
    refusal_s: float = 60.0
    told_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Cloud:
    """The management calls."""

    kms: Kms
    ram: Ram
    sts: Sts


class Emergency:
    """One run of `rotate`. Call `run` from a thread that is not the engine's."""

    def __init__(
        self,
        engine: Engine,
        managed: Managed,
        authority: Provider | None,
        cloud: Cloud,
        request: Request,
        patience: Patience | None = None,
    ) -> None:
        self._engine, self._managed, self._cloud, self._request = engine, managed, cloud, request
        self._authority, self._patience = authority, patience or Patience()
        self._clock = engine.clock
        self._cause = Cause(Trigger.EMERGENCY, request.actor, request.reason)
        self._result = Result(managed.name)
        self._steps = Steps(self._clock, self._result, lambda _step: None)
        self._old: Credential | None = None
        self._place = f"credentials.{managed.name}"

    def run(self, show: Show) -> Result:
        """Do it all; an error stands in the result. `show` is called with each step as it ends."""
        self._steps = Steps(self._clock, self._result, show)
        try:
            self._call(partial(self._engine.begin_emergency, self._managed, self._cause))
        except KeyturnError as error:
            return self._failed(error)
        try:
            self._record(Event.ROTATION_REQUESTED)
            self._play()
        except KeyturnError as error:
            self._failed(error)
        except Exception:
            log.error("a fault of keyturn itself; please report it", exc_info=True)
            self._failed(KeyturnError(f"{self._place}: a fault of keyturn itself", "please report it with its log"))
        finally:
            self._engine.loop.post(partial(self._engine.end_emergency, self._managed))
        self._fill_in()
        log.info(
            "rotate ended",
            credential=self._managed.name,
            old_key=self._result.old_key,
            safe=self._result.safe,
            error=self._result.error,
        )
        return self._result

    # -- the play -----------------------------------------------------------------------------------

    def _play(self) -> None:
        self._result.old_access_key_id = self._managed.state.published.access_key_id
        if self._secret_name is None:
            self._renew_session()
            return
        self._steps.do("preflight", self._preflight)
        if self._only_disabling():
            self._result.notes.append(f"{self._old_id} was replaced already: nothing needed rotating")
        else:
            self._steps.do("rotate", self._rotate_at_source)
            wanted = self._result.version_id
            self._refresh_until(lambda: self._managed.state.published.version_id == wanted)
        untold = self._steps.do("notify", self._see_dependents_told)
        self._show_pickup()
        self._judge_untold(untold)
        if self._request.disable_old:
            self._steps.do("disable_old", self._disable_old)
            self._steps.do("prove_refused", self._prove_refused)
        else:
            self._result.notes.append(
                f"the old key {self._old_id} still works, for up to two days (KMS); to cut it off now: "
                f"keyturn rotate {self._managed.name} --leaked {self._old_id} --disable-old --reason ..."
            )
        self._call(partial(self._set_rotation, None))

    def _renew_session(self) -> None:
        if self._managed.known is None:
            self._steps.do("preflight", self._refresh_first)
        known = self._managed.known
        if known is None or (known.kind is not Kind.STS and known.expiration is None):
            raise UsageError(
                f"{self._place}: keyturn cannot rotate a value of type {self._managed.provider.type_name} at its source",
                f"replace the value at its source, then run: keyturn refresh {self._managed.name}",
            )
        self._result.old_access_key_id = known.access_key_id
        self._refresh_until(lambda: self._managed.state.published.access_key_id != known.access_key_id)
        untold = self._steps.do("notify", self._see_dependents_told)
        self._show_pickup()
        until = f"until they expire ({rfc3339(known.expiration)} for the one replaced)" if known.expiration else ""
        self._result.notes.append(
            f"sessions already issued live on {until or 'until they expire'}; to cut them off, detach all policies "
            "from the role"
        )
        self._judge_untold(untold)

    def _preflight(self) -> str:
        if self._managed.settings.emergency is None or self._authority is None:
            raise UsageError(
                f"{self._place}.emergency is not configured, so nothing was rotated: a ClientKey may not rotate",
                "name an authority there, an AccessKey or a role that may call kms:RotateSecret; until then, "
                "rotate the secret in the KMS console",
            )
        self._sign_in()
        self._refresh_first()
        unfinished = self._call(self._unfinished)
        self._old = self._managed.value
        self._result.old_access_key_id = self._managed.state.published.access_key_id
        if unfinished is not None:
            self._result.old_access_key_id = unfinished.old_access_key_id
            self._result.notes.append(
                f"took up the rotation that was begun at {rfc3339(unfinished.begun_at)} ({unfinished.reason}) and "
                f"replaces {self._old_id}; if the key after it leaked as well, run again with --leaked and its id"
            )
        return f"{self._call(self._spent)} of {ROTATIONS_PER_HOUR} rotations spent this hour, as far as is known here"

    def _refresh_first(self) -> None:
        report = self._refresh()
        if report.error is not None and not self._managed.state.published.generation:
            raise report.error

    def _only_disabling(self) -> bool:
        leaked, done = self._request.leaked, self._managed.state.published
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

    # -- rotating at the source ---------------------------------------------------------------------

    def _rotate_at_source(self) -> str:
        journal, taken_up = self._call(self._journal_rotation)
        self._result.version_id = journal.version_id
        if not journal.asked:
            self._ask_to_rotate(journal, taken_up)
            self._record(
                Event.ROTATION_STARTED,
                version_id=journal.version_id,
                previous_access_key_id=journal.old_access_key_id or None,
            )
            journal.asked = True
            self._call(partial(self._set_rotation, journal))
        return f"{'taken up again: ' if taken_up else ''}version {journal.version_id}"

    def _ask_to_rotate(self, journal: RotationJournal, taken_up: bool) -> None:
        """Have KMS rotate once.

        `failures` counts attempts after which KMS may have rotated although we were not told so.
        """
        failures = [taken_up]

        def ask(who: Credential) -> None:
            before, failures[0] = failures[0], True
            try:
                self._cloud.kms.rotate_secret(str(self._secret_name), journal.version_id, who, now=self._clock.now())
            except (NotPermittedError, SourceRefusedError):
                failures[0] = before
                raise

        try:
            self._retrying(ask)
        except RotationRunningError as error:
            if not (failures[0] and self._may_be_ours(journal)):
                self._call(partial(self._set_rotation, None))
                raise self._running(error) from None
        except KeyturnError as error:
            if not failures[0]:
                self._call(partial(self._set_rotation, None))
                raise type(error)(f"{error.problem}; nothing was rotated", error.remedy, code=error.code) from None
            spent = self._call(self._spent)
            raise type(error)(
                f"{error.problem}; whether KMS has rotated is not known",
                f"run the same command again: it never rotates twice; KMS allows {ROTATIONS_PER_HOUR} rotations an hour "
                f"and account, {spent} were begun here; if it cannot wait, disable {self._old_id} in the RAM console",
                code=error.code,
            ) from None

    def _may_be_ours(self, journal: RotationJournal) -> bool:
        """Whether the rotation that KMS says is running can be the journalled one."""
        self._refresh()
        done = self._managed.state.published
        return journal.version_id == done.version_id or journal.old_access_key_id == done.access_key_id

    def _running(self, error: RotationRunningError) -> KeyturnError:
        done = self._managed.state.published
        before = done.previous_access_key_id or "ID"
        return SourceRefusedError(
            f"{self._place}: KMS has not finished the rotation before this one and refuses another ({error.code}), so "
            f"nothing was rotated; the current key {done.access_key_id} works",
            f"if the key before it leaked, run again with --leaked {before} --disable-old; if {done.access_key_id} "
            "leaked, disable it in the RAM console, which stops whoever uses it, or wait: KMS takes up to two days",
            code=error.code,
        )

    def _retrying(self, ask: Callable[[Credential], object]) -> None:
        deadline, failures = self._clock.boottime() + self._patience.ask_s, 0
        while True:
            who = self._sign_in()
            try:
                ask(who)
                return
            except RotationRunningError:
                raise
            except KeyturnError as error:
                if not error.retryable or self._clock.boottime() > deadline:
                    problem = f"{self._place}.emergency.authority {who.access_key_id}: {error.problem}"
                    raise type(error)(problem, error.remedy, code=error.code) from None
            failures += 1
            self._pause(policy.backoff(failures, 0.25, 8.0))

    def _sign_in(self) -> Credential:
        assert self._authority is not None
        who = self._authority.fetch(self._clock.now())
        if who.access_key_id.startswith(CLIENT_KEY):
            raise UsageError(
                f"{self._place}.emergency.authority: {who.access_key_id} is a ClientKey, which may not rotate",
                "name an AccessKey or a role that may call kms:RotateSecret",
            )
        return who

    # -- following the new value --------------------------------------------------------------------

    def _refresh_until(self, arrived: Callable[[], bool]) -> None:
        """Refresh again and again until the new value is published; show its steps."""
        deadline, tries = self._clock.boottime() + self._patience.follow_s, 0
        while True:
            began = self._clock.boottime()
            report = self._refresh()
            if report.outcome is not None and arrived():
                self._show_timings(report, began)
                return
            if self._is_hopeless(report) or self._clock.boottime() > deadline:
                error = report.error or self._not_arrived()
                self._steps.note("verify" if isinstance(error, VerifyRefusedError) else "publish", "failed", began)
                raise error
            tries += 1
            self._pause(min(2.0, policy.backoff(tries, 0.5, 2.0)))

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

    def _see_dependents_told(self) -> list[str]:
        name, answers = self._managed.name, queue.SimpleQueue[None]()
        self._engine.loop.post(lambda: self._engine.tell_now(name, partial(answers.put, None)))
        try:
            answers.get(timeout=self._patience.told_s)
        except queue.Empty:
            raise CancelledError(
                f"{self._place}: its dependents could not all be told in {self._patience.told_s:g} s",
                "see `keyturn status` for who is missing, and run the same command again",
            ) from None
        return self._call(self._untold)

    def _judge_untold(self, untold: list[str]) -> None:
        if not untold:
            return
        named, remedy = ", ".join(untold), "mend what `keyturn status` says of them, then run the same command again"
        if self._request.disable_old and self._request.force:
            self._result.notes.append(f"disabled by --force although these were not told: {named}; restart them by hand")
        elif self._request.disable_old:
            raise KeyturnError(
                f"{self._place}: not told of the new key: {named}; so the old key {self._old_id} was left active",
                f"{remedy} (it does not rotate again); --force disables the old key all the same",
            )
        else:
            raise KeyturnError(f"{self._place}: not told of the new key: {named}", f"{remedy} (it does not rotate again)")

    # -- the old key --------------------------------------------------------------------------------

    def _disable_old(self) -> str:
        user = self._ram_user
        if not disable(self._cloud.ram, user, self._old_id, self._retrying, self._clock):
            return f"RAM knows no key {self._old_id} of {user}: it was deleted, or is another user's"
        self._result.old_key = "disabled"
        return f"{self._old_id} of {user}"

    def _prove_refused(self) -> str:
        try:
            old = self._secret_of_old()
            code = see_refused(self._cloud.sts, old, self._clock, self._patience.refusal_s, self._pause)
        except CancelledError:
            raise
        except KeyturnError as error:
            self._record(Event.OLD_KEY_DISABLED, access_key_id=self._old_id, outcome=f"not proved: {error.problem}")
            if isinstance(error, NoSecretError):
                self._call(partial(self._set_rotation, None))  # another run could prove no more
            raise
        self._result.safe, self._result.old_key = True, "disabled"
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
        """The key before the current one, and why it is not to be had."""
        try:
            return previous_key(self._managed.provider), ""
        except KeyturnError as error:
            return None, error.problem

    # -- its tools ----------------------------------------------------------------------------------

    @property
    def _secret_name(self) -> str | None:
        return getattr(self._managed.provider, "secret_name", None)

    @property
    def _old_id(self) -> str:
        return self._result.old_access_key_id

    @property
    def _ram_user(self) -> str:
        settings = self._managed.settings.emergency
        named = settings.ram_user_name if settings else None
        user = named or self._managed.state.published.ram_user_name
        if not user:
            raise UsageError(
                f"{self._place}.emergency.ram_user_name: KMS does not say whose key it is, so the old key "
                f"{self._old_id} was left active",
                "name the RAM user there, then run the same command again (it does not rotate again)",
            )
        return user

    def _unfinished(self) -> RotationJournal | None:
        """The rotation to take up: none where the one journalled is overtaken, or its new key is what leaked."""
        journal, done = self._managed.state.rotation, self._managed.state.published
        if journal is None:
            return None
        arrived = done.version_id == journal.version_id
        overtaken = not arrived and done.access_key_id != journal.old_access_key_id
        if overtaken or (arrived and self._request.leaked == done.access_key_id):
            self._set_rotation(None)
        return self._managed.state.rotation

    def _journal_rotation(self) -> tuple[RotationJournal, bool]:
        """The rotation to make, and whether it was begun before."""
        state = self._managed.state
        if state.rotation is not None:
            return state.rotation, True
        now = self._clock.now()
        state.rotations = [when for when in state.rotations if now - when < timedelta(hours=1)] + [now]
        journal = RotationJournal(str(uuid.uuid4()), now, self._request.reason, self._old_id)
        self._set_rotation(journal)
        return journal, False

    def _set_rotation(self, journal: RotationJournal | None) -> None:
        self._managed.state.rotation = journal
        self._engine.states.save(self._managed.name, self._managed.state)

    def _spent(self) -> int:
        hour_ago = self._clock.now() - timedelta(hours=1)
        everyone = (desk.managed for desk in self._engine.desks.values())
        return sum(1 for managed in everyone for when in managed.state.rotations if when > hour_ago)

    def _untold(self) -> list[str]:
        state = self._managed.state
        owed = {debt.identity for debt in state.debts}
        return [
            f"{notifier.type_name} {notifier.target}"
            for notifier in self._managed.notifiers
            if notifier.identity in owed or state.last_outcome.get(key(notifier.identity), "").startswith("gave up")
        ]

    def _refresh(self) -> Report:
        answers: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._engine.loop.post(lambda: self._engine.refresh(self._managed.name, self._cause, answers.put))
        try:
            return answers.get(timeout=self._patience.follow_s)
        except queue.Empty:
            raise CancelledError("the agent did not answer in time", "run the same command again") from None

    def _pause(self, seconds: float) -> None:
        if self._engine.loop.cancel.wait(seconds):
            raise CancelledError("the agent is stopping", "run the same command again: it takes this up where it was")

    def _call(self, function: Callable[[], T]) -> T:
        return self._engine.loop.call(function)

    def _record(self, event: Event, **fields: str | None) -> None:
        self._engine.audit.record(event, credential=self._managed.name, **fields, **self._cause.as_fields())

    # -- showing it ---------------------------------------------------------------------------------

    def _show_timings(self, report: Report, began: float) -> None:
        timings = report.outcome.timings_ms if report.outcome else {}
        for name, ms in timings.items():
            self._steps.add(name, "done", ms)
        if not timings:
            self._steps.note("fetch", "done", began, "the new version was published already")

    def _show_pickup(self) -> None:
        began, known = self._clock.boottime(), self._managed.state.pickup
        seen = {n.target: known.get(key(n.identity), str(Pickup.ASSUMED)) for n in self._managed.notifiers}
        if seen:
            outcome = "warning" if str(Pickup.NOT_PICKED_UP) in seen.values() else "done"
            self._steps.note("pickup", outcome, began, "; ".join(f"{whom}: {what}" for whom, what in seen.items()))

    def _failed(self, error: KeyturnError) -> Result:
        self._result.error, self._result.exit_code = str(error), error.exit_code
        return self._result

    def _fill_in(self) -> None:
        done = self._managed.state.published
        self._result.new_access_key_id = done.access_key_id if done.access_key_id != self._old_id else ""
        self._result.generation = done.generation
        self._result.version_id = self._result.version_id or done.version_id
