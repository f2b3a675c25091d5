"""What a refresh writes down: audit records, and the journal that carries a publish over a crash.

`begin` writes, in one flushed write, the new generation, what is owed to whom and where the staged files lie: the
point of no return. `close` ends the journal, after the record of the publish is in the audit log: while that record
is missing, the next refresh or the next start makes up for it (`recover`). Why in this order: docs/adr/0004.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from agent.audit.log import AuditLog
from agent.cloud.verify import Verification
from agent.core.credential import Credential
from agent.core.events import Cause, Event, Trigger
from agent.logs.log import log
from agent.refresh.managed_credential import ManagedCredential
from agent.refresh.obtained import Obtained
from agent.sinks.transaction import transaction
from agent.state.records import Debt, Published
from agent.state.store import StateStore


class Recorder:
    """The audit log and the state store of one agent, as refreshes write them."""

    def __init__(self, audit: AuditLog, states: StateStore) -> None:
        self._audit, self._states = audit, states

    # -- the audit ----------------------------------------------------------------------------------

    def arrived(self, managed: ManagedCredential, obtained: Obtained, cause: Cause) -> None:
        """Record that a new value is here, and what STS said of it.

        Written before the first byte is staged, so that a log that cannot be written stops the publish;
        flushed with the record that ends it, before anything is reported.

        Raises:
            AuditError: it cannot be written.
        """
        value = obtained.value
        about = _about(managed, value, cause)
        fetched = {
            "expiration": value.expiration,
            "request_id": value.request_id or None,
            "duration_ms": obtained.fetch_ms,
            **about,
        }
        entries = [(Event.CREDENTIAL_FETCHED, fetched)]
        if obtained.proof is not None:
            entries.append(_said_by_sts(obtained.proof, about))
        self._audit.record_all(entries, flush=False)
        _warn_of_no_proof(managed, obtained.proof)

    def proved(self, managed: ManagedCredential, value: Credential, proof: Verification, cause: Cause) -> None:
        """Record what STS said of a value.

        Raises:
            AuditError: it cannot be written.
        """
        event, fields = _said_by_sts(proof, _about(managed, value, cause))
        self._audit.record(event, **fields)
        _warn_of_no_proof(managed, proof)

    def published(
        self, managed: ManagedCredential, cause: Cause, event: Event, targets: Sequence[str], took_ms: int
    ) -> None:
        """Record that all sinks are switched; from here on it may be reported.

        Raises:
            AuditError: it cannot be written; the journal stays, and `recover` makes up for it.
        """
        done = managed.state.published
        self._audit.record(
            event,
            credential=managed.name,
            generation=done.generation,
            access_key_id=done.access_key_id or None,
            previous_access_key_id=done.previous_access_key_id or None,
            version_id=done.version_id or None,
            created_at=done.created_at,
            expiration=done.expiration,
            sinks=list(targets),
            outcome=done.verified or None,
            duration_ms=took_ms,
            **cause.as_fields(),
        )
        log.info(
            str(event).replace("_", " "),
            credential=managed.name,
            generation=done.generation,
            access_key_id=done.access_key_id,
            trigger=str(cause.trigger),
        )

    # -- the journal --------------------------------------------------------------------------------

    def begin(
        self, managed: ManagedCredential, published: Published, debts: list[Debt], staged: list[dict[str, Any]]
    ) -> Callable[[], None]:
        """Pass the point of no return; return a function that takes it back, to be called only while no file was switched.

        Raises:
            StateError: it could not be written, and nothing is remembered of it.
        """
        journal, ledger = managed.state.journal, managed.state.ledger
        old_debts = ledger.debts

        def forget() -> None:
            journal.take_back()
            ledger.replace(old_debts)

        def undo() -> None:
            forget()
            self.save(managed, flush=False)

        journal.begin(published, staged, self._audit.head.seq)
        ledger.replace(debts)
        try:
            self.save(managed)
        except BaseException:
            # The write failed, so memory must not claim what the disk does not hold.
            forget()
            raise
        return undo

    def close(self, managed: ManagedCredential) -> None:
        """End the journal. Not flushed: one that a power cut brings back is recovered again, to no effect.

        Raises:
            StateError: it cannot be written.
        """
        managed.state.journal.close()
        self.save(managed, flush=False)

    def save(self, managed: ManagedCredential, *, flush: bool = True) -> None:
        """Write what is remembered of a credential.

        Raises:
            StateError: it cannot be written.
        """
        self._states.save(managed.name, managed.state, flush=flush)

    # -- a start ------------------------------------------------------------------------------------

    def recall(self, managed: ManagedCredential) -> None:
        """Read what is remembered of a credential, and count on from the newest generation that the audit log knows.

        The log knows a newer one where the state was lost, or comes from a backup.

        Raises:
            KeyturnError: it cannot be read.
        """
        state, remark = self._states.load(managed.name)
        managed.remember(state)
        if remark:
            log.error("state lost", credential=managed.name, detail=remark)
        journal = state.journal
        known = self._audit.generation_of(managed.name, whole=not journal.published.generation)
        if known >= journal.next_generation:
            log.warning(
                "the audit log knows of newer generations than the state; the count goes on behind them",
                credential=managed.name,
                audit=known,
                state=journal.published.generation,
            )
            journal.count_on(known)

    def recover(self, managed: ManagedCredential, now: datetime) -> bool:
        """Finish or undo a publish that was interrupted, before anything else is done; return whether there was one.

        Where files had to be touched, or the publish was undone, the dependents are owed the news of what counts now:
        which of them have heard is not known any more.

        Raises:
            KeyturnError: a sink, the audit or the state cannot be written just now; call again.
        """
        journal, ledger = managed.state.journal, managed.state.ledger
        if not journal.is_open:
            return False
        # The files need nothing where all sinks are known to be switched.
        ended = journal.is_switched or self._stands_in_audit(managed, journal.published.generation)
        recovery = transaction.Recovery(True) if ended else transaction.recover(list(journal.staged))
        counts = journal.published if recovery.rolled_forward else journal.before
        assert counts is not None
        # Where no file had to be touched, the debts that the publish wrote stand; else the news is owed anew.
        owes = counts.generation and (recovery.touched or not recovery.rolled_forward)
        debts = managed.debts_for(counts.generation, Trigger.RECOVERY, now) if owes else None
        if recovery.rolled_forward:
            journal.switched()
            if debts is not None:
                ledger.replace(debts)  # they may be told, even if the record cannot be written just now
        # A journal that a power cut brought back is recovered to no effect, and recorded only once.
        if recovery.touched or not self._stands_in_audit(managed, counts.generation):
            self._audit.record(
                Event.PUBLISH_RECOVERED,
                credential=managed.name,
                generation=counts.generation,
                trigger=str(Trigger.RECOVERY),
                access_key_id=counts.access_key_id or None,
                sinks=list(recovery.touched),
                outcome="rolled forward" if recovery.rolled_forward else "rolled back",
                error=f"left to the next pass: {', '.join(recovery.left)}" if recovery.left else None,
            )
            log.warning("an interrupted publish was put right", credential=managed.name, sinks=list(recovery.touched))
        if recovery.rolled_forward:
            journal.close()
        else:  # its number is not given out again: somebody may have heard of it
            journal.roll_back()
            ledger.replace(debts or ())
        self.save(managed)
        return True

    def _stands_in_audit(self, managed: ManagedCredential, generation: int) -> bool:
        """Return whether the audit log says that the publish of the journal has reached all sinks.

        The record is written last, so then it has, whatever became of them since: a power cut can bring back a journal
        that was closed, while the sinks on a tmpfs are gone.
        """
        return self._audit.knows_publish(managed.name, generation, after=managed.state.journal.audit_seq)


def _said_by_sts(proof: Verification, about: dict[str, Any]) -> tuple[Event, dict[str, Any]]:
    request_id = proof.request_id or None
    if proof.outcome == "verified":
        return Event.VERIFIED, {"identity": proof.arn or None, "request_id": request_id, **about}
    return Event.VERIFY_FAILED, {"outcome": "not verified", "error": proof.detail, "request_id": request_id, **about}


def _warn_of_no_proof(managed: ManagedCredential, proof: Verification | None) -> None:
    if proof is not None and proof.outcome != "verified":
        log.warning("published without proof: STS cannot be reached", credential=managed.name, detail=proof.detail)


def _about(managed: ManagedCredential, value: Credential, cause: Cause) -> dict[str, Any]:
    return {
        "credential": managed.name,
        "access_key_id": value.access_key_id or None,
        "version_id": value.version_id or None,
        **cause.as_fields(),
    }
