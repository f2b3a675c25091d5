"""The emergency, end to end: rotate at the source, follow the new key to every dependent, cut the old one off.

It runs on a worker and reaches the engine only through `Engine` calls, so the daemon goes on meanwhile.
Everything that a crash must not forget is journalled before it is done: the version id of a rotation
(`RotationJournal`) is on disk before KMS hears of it, and KMS treats a repeated id as the same rotation,
so whatever happens a retry never rotates twice.

Decisions:
* `safe` is said only when a call signed with the old key was seen refused. The old key's secret is the one
  this process still knows, or KMS's ACSPrevious version of the secret.
* A rotation that was begun and not finished is taken up again by the next `rotate`, whatever its reason.
* Confirmed, assumed or missing pickup is shown, but "told" is what `--disable-old` waits for: evidence is
  not to be had of every dependent, and a leaked key that stays alive is worse.
"""

from __future__ import annotations

import queue
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from agent.cloud.openapi import Kms, Ram, RotationRunningError, Sts
from agent.core import policy
from agent.core.credential import Credential, Kind
from agent.core.errors import (
    CancelledError,
    KeyturnError,
    NotPermittedError,
    SourceRefusedError,
    SourceUnavailableError,
    UsageError,
)
from agent.core.events import Actor, Event, Trigger
from agent.core.provider import Provider
from agent.dispatch import key
from agent.engine import Engine, Report
from agent.managed import Managed
from agent.rotate import Cause
from agent.state import RotationJournal

ROTATIONS_PER_HOUR = 50
"""KMS, RotateSecret: per account."""
FOLLOW_S = 300.0
"""How long the new version may take to become ACSCurrent."""
ASK_S = 60.0
"""How long a temporary failure of KMS or RAM is retried."""
REFUSAL_S = 60.0
"""How long a disabled key may take to be refused everywhere."""
TOLD_S = 900.0


@dataclass(frozen=True, slots=True)
class Request:
    """What the operator asked for."""

    credential: str
    reason: str
    actor: Actor
    leaked: str | None = None
    disable_old: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Cloud:
    """The management calls, and who makes them."""

    kms: Kms
    ram: Ram
    sts: Sts


@dataclass
class Result:
    """The object that `rotate --json` prints at the end, on failure too."""

    credential: str
    old_access_key_id: str = ""
    new_access_key_id: str = ""
    version_id: str = ""
    generation: int = 0
    steps: list[dict[str, Any]] = field(default_factory=list)
    old_key: str = "active"
    safe: bool = False
    time_to_safe_ms: int | None = None
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        """As printed: `error` only where there is one."""
        shown = {name: value for name, value in vars(self).items() if name != "exit_code"}
        if self.error is None:
            del shown["error"]
        return shown


class Emergency:
    """One run of `rotate`. Call `run` from a thread that is not the engine's."""

    def __init__(
        self, engine: Engine, managed: Managed, authority: Provider | None, cloud: Cloud, request: Request
    ) -> None:
        self._engine, self._managed, self._cloud, self._request = engine, managed, cloud, request
        self._authority = authority
        self._clock = engine.clock
        self._started = self._clock.boottime()
        self._result = Result(managed.name)
        self._show: Callable[[dict[str, Any]], None] = lambda _step: None
        self._old: Credential | None = None

    def run(self, show: Callable[[dict[str, Any]], None]) -> Result:
        """Do it all; never raises. `show` is called with each step as it ends."""
        self._show = show
        try:
            self._engine.audit.record(Event.ROTATION_REQUESTED, credential=self._managed.name, **self._cause_fields())
            self._play()
        except KeyturnError as error:
            self._result.error, self._result.exit_code = str(error), error.exit_code
        self._fill_in()
        return self._result

    # -- the play -----------------------------------------------------------------------------------

    def _play(self) -> None:
        if self._secret_name is None:
            self._renew_session()
            return
        self._step("preflight", self._preflight)
        if self._only_disabling():
            self._result.notes.append("the leaked key was already replaced: nothing needs rotating")
        else:
            self._step("rotate", self._rotate_at_source)
            self._follow()
        untold = self._step("notify", self._see_dependents_told)
        self._show_pickup()
        if untold and not (self._request.disable_old and self._request.force):
            raise KeyturnError(
                f"credentials.{self._managed.name}: not told: {', '.join(untold)}; the old key {self._old_id} is still active",
                "restart them by hand, then run the same command again; --force disables the old key all the same",
            )
        if self._request.disable_old:
            self._step("disable_old", self._disable_old)
            self._step("prove_refused", self._prove_refused)
        else:
            self._result.notes.append(
                f"the old key {self._old_id} still works, for up to two days (KMS); --disable-old cuts it off at once"
            )
        self._call(partial(self._set_rotation, None))

    def _renew_session(self) -> None:
        known = self._managed.known
        if known is None or (known.kind is not Kind.STS and known.expiration is None):
            raise UsageError(
                f"credentials.{self._managed.name}: keyturn cannot rotate a {self._managed.provider.type_name} at its source",
                f"replace the value at its source, then run: keyturn refresh {self._managed.name}",
            )
        self._result.old_access_key_id = known.access_key_id
        self._refresh_until(lambda: self._managed.state.published.access_key_id != known.access_key_id)
        self._step("notify", self._see_dependents_told)
        self._result.notes.append(
            f"sessions already issued live on until they expire ({known.expiration:%Y-%m-%dT%H:%M:%SZ} for the one "
            "replaced); to cut them off, detach all policies from the role"
        )

    def _preflight(self) -> str:
        if self._managed.settings.emergency is None or self._authority is None:
            raise UsageError(
                f"credentials.{self._managed.name}.emergency is not configured: a ClientKey may not rotate",
                "name an authority there, an AccessKey or a role that may call kms:RotateSecret",
            )
        self._sign_in()
        report = self._refresh()
        if report.error is not None and not self._managed.state.published.generation:
            raise report.error
        unfinished = self._call(self._unfinished)
        self._old = self._managed.value
        self._result.old_access_key_id = self._managed.state.published.access_key_id
        if unfinished is not None:
            self._result.old_access_key_id = unfinished.old_access_key_id
            self._result.notes.append(
                f"took up the rotation that was begun at {unfinished.begun_at:%Y-%m-%dT%H:%M:%SZ} ({unfinished.reason}); "
                f"if the key after it leaked as well, run again with --leaked and its id"
            )
        return f"{self._spent()} of {ROTATIONS_PER_HOUR} rotations spent this hour, as far as is known here"

    def _only_disabling(self) -> bool:
        leaked, done = self._request.leaked, self._managed.state.published
        if leaked is None or leaked == done.access_key_id:
            return False
        previous = self._previous_key()
        known = {done.previous_access_key_id, previous.access_key_id if previous else ""}
        if leaked not in known:
            raise UsageError(
                f"credentials.{self._managed.name}: {leaked} is neither its current key {done.access_key_id} nor the one before",
                "look up whose key it is; nothing was rotated",
            )
        self._result.old_access_key_id = leaked
        if previous is not None and previous.access_key_id == leaked:
            self._old = previous
        return True

    def _rotate_at_source(self) -> str:
        journal = self._call(self._journal_rotation)
        taken_up = "taken up again: " if journal.asked else ""
        try:
            self._retrying(
                lambda who: self._cloud.kms.rotate_secret(
                    str(self._secret_name), journal.version_id, who, now=self._clock.now()
                )
            )
        except RotationRunningError as error:
            self._call(partial(self._set_rotation, None))
            raise SourceRefusedError(
                f"credentials.{self._managed.name}: KMS is already rotating this secret, so nothing was started "
                f"({error.code}); the current key {self._managed.state.published.access_key_id} works",
                "if the leaked key is the one before, run again with --leaked ITS_ID --disable-old; "
                "if it is the current one, wait for the rotation to end, or disable it in RAM",
                code=error.code,
            ) from None
        except (NotPermittedError, SourceRefusedError):
            self._call(partial(self._set_rotation, None))
            raise
        journal.asked = True
        self._call(partial(self._set_rotation, journal))
        self._result.version_id = journal.version_id
        self._engine.audit.record(
            Event.ROTATION_STARTED,
            credential=self._managed.name,
            version_id=journal.version_id,
            previous_access_key_id=journal.old_access_key_id or None,
            **self._cause_fields(),
        )
        return f"{taken_up}version {journal.version_id}"

    def _follow(self) -> None:
        wanted = self._result.version_id
        self._refresh_until(lambda: self._managed.state.published.version_id == wanted)

    def _refresh_until(self, arrived: Callable[[], bool]) -> None:
        """Refresh again and again until the new value is published; show its steps."""
        deadline, tries = self._clock.boottime() + FOLLOW_S, 0
        while True:
            began = self._clock.boottime()
            report = self._refresh()
            if arrived() and report.outcome is not None:
                self._show_timings(report, began)
                return
            error = report.error
            if (error is not None and not error.retryable) or self._clock.boottime() > deadline:
                self._note("publish", "failed", began)
                raise error or SourceUnavailableError(
                    f"credentials.{self._managed.name}: the new version did not arrive within {FOLLOW_S:.0f} s",
                    "run the same command again: it takes this rotation up and does not rotate twice",
                )
            tries += 1
            self._pause(min(2.0, policy.backoff(tries, 0.5, 2.0)))

    def _see_dependents_told(self) -> list[str]:
        name, answers = self._managed.name, queue.SimpleQueue[None]()
        self._engine.loop.post(lambda: self._engine.tell_now(name, partial(answers.put, None)))
        try:
            answers.get(timeout=TOLD_S)
        except queue.Empty:
            raise CancelledError("the dependents were not told in time", "run the same command again") from None
        untold: list[str] = self._call(self._untold)
        return untold

    def _disable_old(self) -> str:
        user = self._ram_user
        self._retrying(
            lambda who: self._cloud.ram.update_access_key(user, self._old_id, "Inactive", who, now=self._clock.now())
        )
        self._result.old_key = "disabled"
        return f"{self._old_id} of {user}"

    def _prove_refused(self) -> str:
        old = self._old if self._old is not None and self._old.access_key_id == self._old_id else self._previous_key()
        if old is None or old.access_key_id != self._old_id:
            self._record_disabled("not proved: the old key's secret is not to be had any more")
            raise KeyturnError(
                f"the old key {self._old_id} was disabled, but its refusal cannot be proved: its secret is gone",
                "look at the key in the RAM console",
            )
        deadline = self._clock.boottime() + REFUSAL_S
        answer = "it still works"
        while self._clock.boottime() < deadline:
            try:
                self._cloud.sts.get_caller_identity(old, now=self._clock.now())
                answer = "it still works"
            except (SourceRefusedError, NotPermittedError) as error:
                if error.code.startswith(("InvalidAccessKeyId", "Forbidden", "InvalidSecurityToken")):
                    self._be_safe(error.code)
                    return f"refused with {error.code}"
                answer = str(error)
            except KeyturnError as error:
                answer = str(error)
            self._pause(0.5)
        self._record_disabled(f"not proved: {answer}")
        raise KeyturnError(
            f"the old key {self._old_id} was disabled, but no refusal was seen in {REFUSAL_S:.0f} s: {answer}",
            "look at the key in the RAM console, and run the same command again",
        )

    def _be_safe(self, code: str) -> None:
        self._result.safe = True
        self._result.time_to_safe_ms = self._ms_since(self._started)
        self._record_disabled(f"refused with {code}")

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
                f"credentials.{self._managed.name}.emergency.ram_user_name: KMS does not say whose key it is",
                "name the RAM user there",
            )
        return user

    def _sign_in(self) -> Credential:
        assert self._authority is not None
        return self._authority.fetch(self._clock.now())

    def _previous_key(self) -> Credential | None:
        fetch = getattr(self._managed.provider, "fetch_previous", None)
        if fetch is None:
            return None
        try:
            previous: Credential | None = fetch()
            return previous
        except KeyturnError:
            return None

    def _unfinished(self) -> RotationJournal | None:
        """The rotation to take up: none where the one journalled is overtaken, or its new key is what leaked."""
        state, done = self._managed.state, self._managed.state.published
        if state.rotation is None:
            return None
        arrived = done.version_id == state.rotation.version_id
        overtaken = state.rotation.asked and not arrived and done.access_key_id != state.rotation.old_access_key_id
        if overtaken or (arrived and self._request.leaked == done.access_key_id):
            self._set_rotation(None)
        return state.rotation

    def _journal_rotation(self) -> RotationJournal:
        state = self._managed.state
        if state.rotation is None:
            now = self._clock.now()
            state.rotations = [when for when in state.rotations if now - when < timedelta(hours=1)] + [now]
            self._set_rotation(RotationJournal(str(uuid.uuid4()), now, self._request.reason, self._old_id))
        assert state.rotation is not None
        return state.rotation

    def _set_rotation(self, journal: RotationJournal | None) -> None:
        self._managed.state.rotation = journal
        self._engine.states.save(self._managed.name, self._managed.state)

    def _spent(self) -> int:
        hour_ago: datetime = self._clock.now() - timedelta(hours=1)
        return sum(1 for when in self._managed.state.rotations if when > hour_ago)

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
        cause = Cause(Trigger.EMERGENCY, self._request.actor, self._request.reason)
        self._engine.loop.post(lambda: self._engine.refresh(self._managed.name, cause, answers.put))
        try:
            return answers.get(timeout=FOLLOW_S)
        except queue.Empty:
            raise CancelledError("the agent did not answer in time", "run the same command again") from None

    def _retrying(self, ask: Callable[[Credential], Any]) -> None:
        deadline, failures = self._clock.boottime() + ASK_S, 0
        while True:
            try:
                ask(self._sign_in())
                return
            except KeyturnError as error:
                if not error.retryable or self._clock.boottime() > deadline:
                    raise
            failures += 1
            self._pause(policy.backoff(failures, 0.5, 5.0))

    def _pause(self, seconds: float) -> None:
        if self._engine.loop.cancel.wait(seconds):
            raise CancelledError("the agent is stopping", "run the same command again: it takes this up where it was")

    def _call(self, function: Callable[[], Any]) -> Any:
        return self._engine.loop.call(function)

    def _record_disabled(self, outcome: str) -> None:
        self._engine.audit.record(
            Event.OLD_KEY_DISABLED,
            credential=self._managed.name,
            access_key_id=self._old_id,
            outcome=outcome,
            **self._cause_fields(),
        )

    def _cause_fields(self) -> dict[str, Any]:
        return Cause(Trigger.EMERGENCY, self._request.actor, self._request.reason).as_fields()

    # -- showing it ---------------------------------------------------------------------------------

    def _step(self, name: str, work: Callable[[], Any]) -> Any:
        began = self._clock.boottime()
        try:
            result = work()
        except KeyturnError:
            self._note(name, "failed", began)
            raise
        self._note(name, "done" if not isinstance(result, list) or not result else "failed", began, result)
        return result

    def _note(self, name: str, outcome: str, began: float, detail: object = None) -> None:
        self._add({"name": name, "outcome": outcome, "ms": self._ms_since(began)}, detail)

    def _add(self, step: dict[str, Any], detail: object = None) -> None:
        if isinstance(detail, str):
            step["detail"] = detail
        step["at_ms"] = self._ms_since(self._started)
        self._result.steps.append(step)
        self._show(step)

    def _show_timings(self, report: Report, began: float) -> None:
        timings = report.outcome.timings_ms if report.outcome else {}
        for name, ms in timings.items():
            self._add({"name": name, "outcome": "done", "ms": ms})
        if not timings:
            self._note("fetch", "done", began, "the new version was published already")

    def _show_pickup(self) -> None:
        began, state = self._clock.boottime(), self._managed.state
        seen = [f"{n.target}: {state.pickup.get(key(n.identity), 'assumed')}" for n in self._managed.notifiers]
        if seen:
            self._note("pickup", "done", began, "; ".join(seen))

    def _ms_since(self, boottime: float) -> int:
        return round((self._clock.boottime() - boottime) * 1000)

    def _fill_in(self) -> None:
        done = self._managed.state.published
        self._result.new_access_key_id = done.access_key_id if done.access_key_id != self._old_id else ""
        self._result.generation = done.generation
        self._result.version_id = self._result.version_id or done.version_id
