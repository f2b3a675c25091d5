"""One rotation, first line to last: START HERE.

    obtain    fetch the value, judge it, prove it            on a worker, changes nothing
    publish   stage, journal, switch, record                 on the engine's thread, as one transaction
    tell      whoever depends on it, until they have heard   dispatch.py

The engine (engine.py) decides when; the operator's emergency (emergency.py) rotates at the source first
and then comes through here. The types carry the order: nothing is published that was not `Obtained`,
and an `Obtained` exists only for a value that was fetched, judged and, where asked for, proved.

Decisions that bind this page:
* A fetched value counts as unchanged when its AccessKey id, version and expiration are what the state
  remembers, and its secret what this process saw last. Sinks that differ nevertheless were changed by
  somebody else: they are put right under the same generation, audited as drift, and the dependents are
  told, since they may have read the foreign content.
* `credential_fetched` is recorded before the first byte is staged. If the audit log cannot be written,
  nothing is published: no act without a record.
* The journal and the debts go to disk in one write, the point of no return: behind it we only roll
  forward, for the new value is proved and the source may already have retired the old one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from agent.audit import AuditLog
from agent.core import policy
from agent.core.credential import Credential
from agent.core.errors import BadAnswerError, VerifyRefusedError
from agent.core.events import Actor, Event, Trigger
from agent.logs import log
from agent.managed import Managed, is_bearer
from agent.sinks import transaction
from agent.state import Published, StateStore
from agent.verify import Verification


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a rotation takes place, and who asked for it."""

    trigger: Trigger
    actor: Actor | None = None
    reason: str | None = None

    def as_fields(self) -> dict[str, Any]:
        """The fields of an audit record."""
        return {
            "trigger": str(self.trigger),
            "actor": self.actor.as_json() if self.actor else None,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Obtained:
    """A value that may be published (or need not be: `change` says what it is)."""

    value: Credential
    change: policy.Change
    proof: Verification | None
    proved_at: float  # boottime seconds
    fetch_ms: int
    verify_ms: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one refresh: `what` is "unchanged", "published" or "repaired"."""

    what: str
    generation: int
    timings_ms: dict[str, int] = field(default_factory=dict)


def obtain(managed: Managed, now: datetime, boottime: Callable[[], float], cancel: threading.Event) -> Obtained:
    """Fetch, judge and prove. Changes nothing anywhere.

    Raises:
        KeyturnError: the source failed, or the new value was refused for as long as `verify_timeout` allows.
    """
    started = boottime()
    value = managed.provider.fetch(now)
    fetched_at = boottime()
    change = policy.judge(value, managed.known)
    proof = None
    if change in (policy.Change.FIRST, policy.Change.NEW) or managed.needs_proof:
        proof = prove(managed, value, cancel)
    proved_at = boottime()
    verify_ms = _ms(proved_at - fetched_at) if proof else None
    return Obtained(value, change, proof, proved_at, _ms(fetched_at - started), verify_ms)


def prove(managed: Managed, value: Credential, cancel: threading.Event) -> Verification | None:
    """Sign a real GetCallerIdentity with the value; None where proof is switched off or impossible."""
    if managed.verifier is None or is_bearer(value):
        return None
    try:
        return managed.verifier.verify(value, timeout_s=float(managed.settings.verify_timeout), wait=cancel.wait)
    except VerifyRefusedError as error:
        raise VerifyRefusedError(
            f"credentials.{managed.name}: the new value {value.access_key_id} is not published: {error.problem}",
            error.remedy,
            code=error.code,
        ) from None


def publish(
    managed: Managed,
    obtained: Obtained,
    cause: Cause,
    *,
    audit: AuditLog,
    states: StateStore,
    now: datetime,
    boottime: Callable[[], float],
) -> Outcome:
    """Switch all sinks to the obtained value as one transaction, and owe the news to every dependent.

    Raises:
        KeyturnError: nothing was switched (the sinks are as they were), or the audit cannot be written.
    """
    value, done = obtained.value, managed.state.published
    if obtained.change is policy.Change.WORSE:
        raise BadAnswerError(
            f"credentials.{managed.name}: the source's answer expires before the value in use and is not published",
            "look at the source; the value in use stays",
        )
    changed = obtained.change is not policy.Change.SAME
    generation = done.generation + 1 if changed else done.generation
    survey = transaction.survey(managed.sinks, value, generation)
    if survey.in_sync and done.generation and value.access_key_id == done.access_key_id:
        return _unchanged(managed, obtained, cause, audit, states)
    if changed:
        _record_arrival(managed, obtained, cause, audit)
    else:
        cause = Cause(Trigger.DRIFT)
    with survey.stage() as staged:
        undo = _pass_the_point_of_no_return(managed, obtained, cause, generation, staged.journal, audit, states, now)
        _switch(staged, undo)
    publish_ms = _ms(boottime() - obtained.proved_at)
    managed.value = value
    managed.in_sync = {sink.target: True for sink in managed.sinks}
    # While this record is missing the journal stays: the next refresh, or the next start, makes up for it.
    audit.record(
        Event.PUBLISHED if changed else Event.DRIFT_REPAIRED,
        credential=managed.name,
        generation=generation,
        access_key_id=value.access_key_id or None,
        previous_access_key_id=managed.state.published.previous_access_key_id or None,
        version_id=value.version_id or None,
        expiration=value.expiration,
        sinks=[sink.target for sink in managed.sinks] if changed else list(survey.out_of_sync),
        outcome=managed.state.published.verified or None,
        duration_ms=publish_ms,
        **cause.as_fields(),
    )
    _close_journal(managed, states)
    log.info(
        "published" if changed else "drift repaired",
        credential=managed.name,
        generation=generation,
        access_key_id=value.access_key_id,
        trigger=str(cause.trigger),
    )
    steps = {"fetch": obtained.fetch_ms, "verify": obtained.verify_ms, "publish": publish_ms}
    timings = {name: ms for name, ms in steps.items() if ms is not None}
    return Outcome("published" if changed else "repaired", generation, timings)


def recover(managed: Managed, *, audit: AuditLog, states: StateStore, now: datetime) -> None:
    """Finish or undo a publish that a crash or a power cut interrupted, before anything else is done.

    Where it is undone, everybody is told of the generation before: who had not heard of it is not known any more.

    Raises:
        KeyturnError: a sink, the audit or the state cannot be written just now; call again.
    """
    state = managed.state
    if state.before is None:
        return
    recovery = transaction.recover(state.journal)
    if not recovery.rolled_forward:
        state.published, state.debts = state.before, []
        if state.before.generation:
            state.debts = managed.debts_for(state.before.generation, Trigger.RECOVERY, now)
    recorded = audit.knows_publish(managed.name, state.published.generation, after=state.journal_seq)
    if recovery.touched or not recorded:
        audit.record(
            Event.PUBLISH_RECOVERED,
            credential=managed.name,
            generation=state.published.generation,
            trigger=str(Trigger.RECOVERY),
            access_key_id=state.published.access_key_id or None,
            sinks=list(recovery.touched),
            outcome="rolled forward" if recovery.rolled_forward else "rolled back",
        )
        log.warning("an interrupted publish was put right", credential=managed.name, sinks=list(recovery.touched))
    state.journal, state.before = [], None
    states.save(managed.name, state)


def _unchanged(managed: Managed, obtained: Obtained, cause: Cause, audit: AuditLog, states: StateStore) -> Outcome:
    done = managed.state.published
    proof = obtained.proof.outcome if obtained.proof else done.verified
    if obtained.proof is not None and proof == "verified":  # it was published while STS could not be reached
        _record_proof(managed, obtained.value, obtained.proof, cause, audit)
    managed.value = obtained.value
    managed.in_sync = {sink.target: True for sink in managed.sinks}
    if (proof, obtained.value.version_id) != (done.verified, done.version_id):
        managed.state.published = msgspec.structs.replace(done, verified=proof, version_id=obtained.value.version_id)
        states.save(managed.name, managed.state)
    return Outcome("unchanged", done.generation)


def _close_journal(managed: Managed, states: StateStore) -> None:
    # Not flushed: a journal that a power cut brings back is recovered again, which changes nothing.
    managed.state.journal, managed.state.before = [], None
    states.save(managed.name, managed.state, flush=False)


def _record_arrival(managed: Managed, obtained: Obtained, cause: Cause, audit: AuditLog) -> None:
    value, proof = obtained.value, obtained.proof
    about = _about(managed, value, cause)
    # Written now, so that a log that cannot be written stops the publish; flushed with the record that ends it.
    audit.record(
        Event.CREDENTIAL_FETCHED, flush=False, expiration=value.expiration, duration_ms=obtained.fetch_ms, **about
    )
    if proof is not None:
        _record_proof(managed, value, proof, cause, audit)


def _record_proof(managed: Managed, value: Credential, proof: Verification, cause: Cause, audit: AuditLog) -> None:
    about = _about(managed, value, cause)
    if proof.outcome == "verified":
        audit.record(Event.VERIFIED, flush=False, outcome=proof.arn or "verified", **about)
    else:
        audit.record(Event.VERIFY_FAILED, flush=False, outcome="not verified", error=proof.detail, **about)
        log.warning("published without proof: STS cannot be reached", credential=managed.name, detail=proof.detail)


def _about(managed: Managed, value: Credential, cause: Cause) -> dict[str, Any]:
    return {
        "credential": managed.name,
        "access_key_id": value.access_key_id or None,
        "version_id": value.version_id or None,
        **cause.as_fields(),
    }


def _pass_the_point_of_no_return(
    managed: Managed,
    obtained: Obtained,
    cause: Cause,
    generation: int,
    journal: list[dict[str, Any]],
    audit: AuditLog,
    states: StateStore,
    now: datetime,
) -> Callable[[], None]:
    """Write the new generation, what is owed, and where the staged files lie, in one flushed write.

    Returns what takes it back, for the one case in which no file was switched.
    """
    before, value = managed.state.published, obtained.value
    old_debts = managed.state.debts
    fresh = generation != before.generation
    managed.state.before = before
    managed.state.journal, managed.state.journal_seq = journal, audit.head.seq
    managed.state.debts = managed.debts_for(generation, cause.trigger, now)
    if fresh:
        managed.state.published = Published(
            generation=generation,
            access_key_id=value.access_key_id,
            previous_access_key_id=before.access_key_id,
            version_id=value.version_id,
            expiration=value.expiration,
            obtained_at=now,
            published_at=now,
            verified=obtained.proof.outcome if obtained.proof else "off",
            ram_user_name=value.ram_user_name,
        )

    def undo() -> None:
        managed.state.published, managed.state.debts = before, old_debts
        _close_journal(managed, states)

    try:
        states.save(managed.name, managed.state)
    except BaseException:
        managed.state.published, managed.state.debts = before, old_debts
        managed.state.journal, managed.state.before = [], None
        raise
    return undo


def _switch(staged: transaction.Staged, undo: Callable[[], None]) -> None:
    """Switch the sinks; where that fails half way, finish or undo it at once, as after a crash."""
    try:
        staged.commit()
    except transaction.CommitInterruptedError:
        if not transaction.recover(staged.journal).rolled_forward:
            undo()
            raise
    except transaction.TargetChangedError:
        undo()
        raise


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
