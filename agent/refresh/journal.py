"""What a publish writes down: its audit records, and the state that carries it over a crash.

The state's record of a credential is the journal too. `begin` writes, in one flushed write, the new
generation, what is owed to whom and where the staged files lie: the point of no return. `close` strikes
the journal, after the record of the publish is in the audit log: while that record is missing, the next
refresh or the next start makes up for it (`recover`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from agent.audit import AuditLog
from agent.cloud.verify import Verification
from agent.core.credential import Credential
from agent.core.events import Cause, Event, Trigger
from agent.logs.log import log
from agent.refresh.managed_credential import ManagedCredential
from agent.refresh.obtained import Obtained
from agent.sinks.transaction import transaction
from agent.state.records import CredentialState, Debt, Published
from agent.state.store import StateStore


class PublishJournal:
    """The audit log and the state store of one agent."""

    def __init__(self, audit: AuditLog, states: StateStore) -> None:
        self.audit, self.states = audit, states

    # -- the audit ----------------------------------------------------------------------------------

    def arrived(self, managed: ManagedCredential, obtained: Obtained, cause: Cause) -> None:
        """A new value is here, and what STS said of it.

        Written before the first byte is staged, so that a log that cannot be written stops the publish;
        flushed with the record that ends it, before anything is reported.

        Raises:
            AuditError: it cannot be written.
        """
        value = obtained.value
        about = _about(managed, value, cause)
        self.audit.record(
            Event.CREDENTIAL_FETCHED, flush=False, expiration=value.expiration, duration_ms=obtained.fetch_ms, **about
        )
        if obtained.proof is not None:
            self.proved(managed, value, obtained.proof, cause, flush=False)

    def proved(
        self, managed: ManagedCredential, value: Credential, proof: Verification, cause: Cause, *, flush: bool = True
    ) -> None:
        """What STS said of a value.

        Raises:
            AuditError: it cannot be written.
        """
        about = _about(managed, value, cause)
        if proof.outcome == "verified":
            self.audit.record(Event.VERIFIED, flush=flush, outcome=proof.arn or "verified", **about)
            return
        self.audit.record(Event.VERIFY_FAILED, flush=flush, outcome="not verified", error=proof.detail, **about)
        log.warning("published without proof: STS cannot be reached", credential=managed.name, detail=proof.detail)

    def published(
        self, managed: ManagedCredential, cause: Cause, event: Event, targets: Sequence[str], took_ms: int
    ) -> None:
        """All sinks are switched; from here on it may be reported.

        Raises:
            AuditError: it cannot be written; the journal stays, and `recover` makes up for it.
        """
        done = managed.state.published
        self.audit.record(
            event,
            credential=managed.name,
            generation=done.generation,
            access_key_id=done.access_key_id or None,
            previous_access_key_id=done.previous_access_key_id or None,
            version_id=done.version_id or None,
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
        self, managed: ManagedCredential, published: Published, debts: list[Debt], journal: list[dict[str, Any]]
    ) -> Callable[[], None]:
        """Pass the point of no return; return what takes it back, for when no file was switched.

        Raises:
            StateError: it could not be written, and nothing is remembered of it.
        """
        state = managed.state
        before, old_debts = state.published, state.debts

        def forget() -> None:
            state.published, state.debts = before, old_debts
            _strike(state)

        def undo() -> None:
            forget()
            self.states.save(managed.name, state, flush=False)

        state.before, state.journal, state.journal_seq = before, journal, self.audit.head.seq
        state.switched = False
        state.published, state.debts = published, debts
        try:
            self.states.save(managed.name, state)
        except BaseException:
            forget()
            raise
        return undo

    def close(self, managed: ManagedCredential) -> None:
        """Strike the journal. Not flushed: one that a power cut brings back is recovered again, to no effect.

        Raises:
            StateError: it cannot be written.
        """
        _strike(managed.state)
        self.states.save(managed.name, managed.state, flush=False)

    def count_on(self, managed: ManagedCredential) -> None:
        """Give out no generation number that the audit log knows, where the state is lost, or one of a backup."""
        state = managed.state
        known = self.audit.generation_of(managed.name, whole=not state.published.generation)
        if known > max(state.published.generation, state.spent):
            log.warning(
                "the audit log knows of newer generations than the state; the count goes on behind them",
                credential=managed.name,
                audit=known,
                state=state.published.generation,
            )
            state.spent = known

    def recover(self, managed: ManagedCredential, now: datetime) -> bool:
        """Finish or undo a publish that was interrupted, before anything else is done; return whether there was one.

        Whoever depends on it is told of what counts now: who has heard of what is not known any more.

        Raises:
            KeyturnError: a sink, the audit or the state cannot be written just now; call again.
        """
        state = managed.state
        if state.before is None:
            return False
        ended = state.switched or self._stands_in_audit(managed)
        recovery = transaction.Recovery(True) if ended else transaction.recover(state.journal)
        if not recovery.rolled_forward:
            state.spent = max(state.spent, state.published.generation)
            state.published, state.debts = state.before, []
        generation = state.published.generation
        if generation and (recovery.touched or not recovery.rolled_forward):
            state.debts = managed.debts_for(generation, Trigger.RECOVERY, now)
        state.switched = recovery.rolled_forward
        if recovery.touched or not self._stands_in_audit(managed):
            self.audit.record(
                Event.PUBLISH_RECOVERED,
                credential=managed.name,
                generation=generation,
                trigger=str(Trigger.RECOVERY),
                access_key_id=state.published.access_key_id or None,
                sinks=list(recovery.touched),
                outcome="rolled forward" if recovery.rolled_forward else "rolled back",
                error=f"left to the next pass: {', '.join(recovery.left)}" if recovery.left else None,
            )
            log.warning("an interrupted publish was put right", credential=managed.name, sinks=list(recovery.touched))
        _strike(state)
        self.states.save(managed.name, state)
        return True

    def _stands_in_audit(self, managed: ManagedCredential) -> bool:
        """Whether the log says that the publish of the journal has reached all sinks.

        Then it has, whatever became of them since: that record is written last. A power cut can bring back a journal
        that was struck, and with it sinks on a tmpfs are gone.
        """
        state = managed.state
        return self.audit.knows_publish(managed.name, state.published.generation, after=state.journal_seq)


def _strike(state: CredentialState) -> None:
    state.journal, state.before, state.switched = [], None, False


def _about(managed: ManagedCredential, value: Credential, cause: Cause) -> dict[str, Any]:
    return {
        "credential": managed.name,
        "access_key_id": value.access_key_id or None,
        "version_id": value.version_id or None,
        **cause.as_fields(),
    }
