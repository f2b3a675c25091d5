"""One refresh of one credential, from first line to last: START HERE.

    obtain    fetch the value, judge it, prove it            on a worker; no file, state or record is changed
    publish   stage, journal, switch, record                 on the loop's thread, as one transaction
    tell      whoever depends on it, until they have heard   agent/dispatch/dispatcher.py

The engine (agent/engine/refresher.py) decides when; the operator's emergency (agent/emergency/procedure.py) rotates at
the source first and then comes through here. The types carry the order: nothing is published that was not `Obtained`,
and an `Obtained` exists only for a value that was fetched, judged and, where asked for, proved.

Sinks that differ although the value has not changed are put right under the same generation (docs/adr/0003); a key that an
SDK wrote back into its profile, once for each value, lest the two rewrite the file in turns. Nothing is
done without a record, and behind the point of no return it is rolled forward (docs/adr/0004). A first value is told,
even if the files held it already (docs/adr/0014).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from agent.cloud.verify import Verification
from agent.core import policy
from agent.core.credential import Credential, part
from agent.core.errors import BadAnswerError, SinkError, VerifyRefusedError
from agent.core.events import Cause, Event, Trigger
from agent.core.outcome import Outcome, Result
from agent.logs.log import log
from agent.logs.redaction import mask
from agent.refresh.managed_credential import ManagedCredential, is_bearer
from agent.refresh.obtained import Obtained
from agent.refresh.recorder import Recorder
from agent.sinks.transaction import transaction
from agent.sinks.transaction.transaction import TargetChangedError
from agent.state.records import Debt, Published
from agent.system.waiting import Activity

TRIES = 3
"""How often a publish begins anew where somebody touches a file between the look at it and the switch."""


def obtain(
    managed: ManagedCredential,
    now: datetime,
    boottime: Callable[[], float],
    cancel: threading.Event,
    activity: Activity | None = None,
) -> Obtained:
    """Fetch the value, judge it and have it proved. Changes no file, no state and no record; `activity` says how far it is.

    Raises:
        KeyturnError: the source failed, or the new value was refused for as long as `verify_timeout` allows.
    """
    started, activity = boottime(), activity or Activity()
    activity.begin(f"its source ({managed.provider.type_name})")
    value = managed.provider.fetch(now)
    # From here on the log masks the new value, whatever becomes of it.
    _hide(managed, value)
    fetched_at = boottime()
    change = policy.judge(value, managed.known, same_source=managed.same_source)
    proof = prove(managed, value, cancel, activity) if _is_to_be_proved(managed, value, change) else None
    proved_at = boottime()
    verify_ms = _ms(proved_at - fetched_at) if proof else None
    return Obtained(value, change, proof, proved_at, _ms(fetched_at - started), verify_ms, managed.provider.pace_s())


def prove(
    managed: ManagedCredential, value: Credential, cancel: threading.Event, activity: Activity
) -> Verification | None:
    """Sign a real GetCallerIdentity with the value; return None where proof is switched off or impossible.

    Raises:
        VerifyRefusedError: STS refused the value for as long as `verify_timeout` allows.
    """
    if managed.verifier is None or is_bearer(value):
        return None
    activity.begin(f"STS to take the new value {value.access_key_id}")
    try:
        return managed.verifier.verify(
            value,
            timeout_s=float(managed.settings.verify_timeout),
            wait=activity.pausing(cancel.wait),
            doubted=activity.failed,
        )
    except VerifyRefusedError as error:
        raise VerifyRefusedError(
            f"credentials.{managed.name}: the new value {value.access_key_id} is not published: {error.problem}",
            error.remedy,
            code=error.code,
            request_id=error.request_id,
            restricted_key=error.restricted_key,
        ) from None


def publish(
    managed: ManagedCredential,
    obtained: Obtained,
    cause: Cause,
    recorder: Recorder,
    now: datetime,
    boottime: Callable[[], float],
) -> Outcome:
    """Switch all sinks to the obtained value as one transaction, and owe the news to every dependent.

    Raises:
        KeyturnError: nothing was switched and the sinks are as they were; or the publish is open, and the journal
            says how to go on: some sinks could not be switched, or the record of it could not be written.
    """
    value, done, began = obtained.value, managed.state.published, boottime()
    if obtained.change is policy.Change.WORSE:
        raise BadAnswerError(
            f"credentials.{managed.name}: the source's answer expires before the value in use and is not published",
            "look at the source; the value in use stays",
        )
    changed = obtained.change is not policy.Change.SAME
    generation = managed.state.journal.next_generation if changed else done.generation
    survey = transaction.survey(managed.sinks, value, generation)
    # Without a generation nobody was ever told: a first value is published even where the files hold it already.
    if survey.in_sync and done.generation and value.access_key_id == done.access_key_id:
        return _unchanged(managed, obtained, cause, recorder, now)
    if not changed and managed.is_left_alone(survey):
        return _unchanged(managed, obtained, cause, recorder, now, survey.out_of_sync)
    # Recorded before the first byte is staged: a log that cannot be written stops the publish.
    if changed:
        recorder.arrived(managed, obtained, cause)
    else:
        cause = Cause(Trigger.DRIFT)
    following = _following(managed, obtained, generation, now) if changed else _as_configured(managed)
    for tries_left in reversed(range(TRIES)):
        # What an SDK wrote back changes nothing for anybody, so nobody is told of its end.
        news = changed or not survey.only_written_back
        debts = managed.debts_for(generation, cause.trigger, now) if news else list(managed.state.debts)
        try:
            _switch_all(managed, survey, following, debts, recorder)
            break
        except TargetChangedError:  # by an SDK that writes its profile back, for example; nothing was switched
            if not tries_left:
                raise
            survey = transaction.survey(managed.sinks, value, generation)
    switched_at = boottime()
    # What started before the switch may have read the old value: pickup counts from here.
    managed.state.ledger.date(now + timedelta(seconds=switched_at - began))
    publish_ms = _ms(switched_at - obtained.proved_at)
    managed.seen(value)
    event = Event.PUBLISHED if changed else Event.DRIFT_REPAIRED
    targets = [sink.target for sink in managed.sinks] if changed else survey.out_of_sync
    # Flushed before anybody is told; where it fails the journal stays open, and only this record is made up for.
    recorder.published(managed, cause, event, targets, publish_ms)
    recorder.close(managed)
    if not news:
        _warn_of_readers(managed, targets)
    steps = {"fetch": obtained.fetch_ms, "verify": obtained.verify_ms, "publish": publish_ms}
    timings = {name: ms for name, ms in steps.items() if ms is not None}
    return Outcome(Result.PUBLISHED if changed else Result.REPAIRED, generation, timings)


def _switch_all(
    managed: ManagedCredential,
    survey: transaction.Survey,
    following: Published,
    debts: list[Debt],
    recorder: Recorder,
) -> None:
    with survey.stage() as staged:
        # The point of no return: the journal and the debts are flushed in one write.
        undo = recorder.begin(managed, following, debts, staged.journal)
        _switch(staged, undo)
        managed.state.journal.switched()


def _warn_of_readers(managed: ManagedCredential, targets: Sequence[str]) -> None:
    """Say that an SDK wrote the key into its profile. It will again, and is let be until there is a new value."""
    managed.cleaned()
    log.warning(
        "a reader wrote the key into its file, from which it was removed",
        credential=managed.name,
        sinks=list(targets),
        remedy="`keyturn check` has the command by which the file and its directory cannot be written by the application",
    )


def _hide(managed: ManagedCredential, value: Credential) -> None:
    """Have the log mask the new value and the one still in use: a hook may print what it reads."""
    names = ("access_key_secret", "security_token", "bearer_token")
    values = (value, managed.value or value)
    mask([text for one in values for name in names if (text := part(one, name))], of=managed.name)


def _is_to_be_proved(managed: ManagedCredential, value: Credential, change: policy.Change) -> bool:
    if change in (policy.Change.FIRST, policy.Change.NEW) or managed.needs_proof:
        return True
    # The secret in use is not known after a restart: the same id need not mean the same value.
    return change is policy.Change.SAME and managed.value is None and _may_be_another(managed, value)


def _may_be_another(managed: ManagedCredential, value: Credential) -> bool:
    """Return whether the same id may come with another secret: the sinks hold something else."""
    try:
        return not transaction.survey(managed.sinks, value, managed.state.published.generation).in_sync
    except SinkError:
        return True  # publish will say what is wrong with the sink


def _unchanged(
    managed: ManagedCredential,
    obtained: Obtained,
    cause: Cause,
    recorder: Recorder,
    now: datetime,
    behind: Sequence[str] = (),
) -> Outcome:
    """Remember what is new about the value in use, such as a proof or a later expiry; no sink is written.

    Sinks that are `behind` are left as they are.
    """
    done = managed.state.published
    fresh = obtained.proof is not None and done.verified != "verified"
    verified = obtained.proof.outcome if obtained.proof and fresh else done.verified
    if obtained.proof is not None and fresh and verified == "verified":
        recorder.proved(managed, obtained.value, obtained.proof, cause)
    managed.seen(obtained.value, behind)
    now_known = msgspec.structs.replace(
        done,
        verified=verified,
        version_id=obtained.value.version_id,
        expiration=obtained.value.expiration,
        obtained_at=done.obtained_at if obtained.value.expiration == done.expiration else now,
        layout=managed.layout,
        source=managed.source,
        created_at=obtained.value.created_at or done.created_at,
    )
    if now_known != done:
        managed.state.journal.amend(now_known)
        recorder.save(managed)
    return Outcome(Result.UNCHANGED, done.generation)


def _following(managed: ManagedCredential, obtained: Obtained, generation: int, now: datetime) -> Published:
    value, before = obtained.value, managed.state.published
    return Published(
        generation=generation,
        access_key_id=value.access_key_id,
        previous_access_key_id=before.access_key_id,
        version_id=value.version_id,
        expiration=value.expiration,
        obtained_at=now,
        published_at=now,
        verified=obtained.proof.outcome if obtained.proof else "off",
        ram_user_name=value.ram_user_name,
        layout=managed.layout,
        source=managed.source,
        created_at=value.created_at,
    )


def _as_configured(managed: ManagedCredential) -> Published:
    """Return the same generation with the fingerprints of the config by which it is written now."""
    return msgspec.structs.replace(managed.state.published, layout=managed.layout, source=managed.source)


def _switch(staged: transaction.Staged, undo: Callable[[], None]) -> None:
    """Switch the sinks; where that fails half way, finish or undo it at once, as after a crash.

    Raises:
        SinkError: nothing is switched, or not everything and the journal stays open.
    """
    try:
        staged.commit()
    except transaction.CommitInterruptedError:
        if not _finished(staged.journal):
            undo()
            raise
    except SinkError:  # before the first file was switched
        undo()
        raise


def _finished(journal: list[dict[str, Any]]) -> bool:
    """Return whether a switch that failed could be finished; False where every file is as it was.

    Raises:
        SinkError: some files are switched and the others cannot be; the journal says how to go on.
    """
    try:
        return transaction.recover(journal).rolled_forward
    except SinkError:
        # Not one file was switched, so the generation before still stands everywhere.
        if transaction.withdraw(journal):
            return False
        raise


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
