"""One credential at work: its provider, sinks and notifiers, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from hashlib import sha256

from agent.cloud.verify import Verifier
from agent.core import credential, policy
from agent.core.alarms import KeyAlarm, Kind
from agent.core.credential import Credential
from agent.core.events import PublishEvent, Trigger
from agent.core.provider import POLL_INTERVAL_S, Provider
from agent.core.settings import CredentialSettings
from agent.core.timestamps import rfc3339
from agent.notifiers.interface import Notifier
from agent.refresh.sink_look import Identities, SinkLook, Writers, identities, writers
from agent.sinks.interface import Sink
from agent.sinks.offered import first_offered
from agent.sinks.transaction import transaction
from agent.state.credential_state import CredentialState
from agent.state.records import Debt, Published


class ManagedCredential:
    """A credential with everything that it needs. Changed by its own methods alone, on the loop's thread.

    Attributes:
        verifier: None where `verify = "off"`.
        source: a fingerprint of how the source is asked, without a secret.
        builds_on: the credentials whose values this one is made of, directly. Kept, because each publish of a thousand
            credentials looks at those of all the others.
        state: what is remembered over a restart, in records that alone change themselves.
    """

    def __init__(
        self,
        name: str,
        settings: CredentialSettings,
        provider: Provider,
        verifier: Verifier | None,
        sinks: tuple[Sink, ...],
        notifiers: tuple[Notifier, ...],
        *,
        source: str = "",
    ) -> None:
        self.name = name
        self.settings, self.provider, self.verifier = settings, provider, verifier
        self.sinks, self.notifiers, self.source = sinks, notifiers, source
        self.builds_on = tuple(dict.fromkeys(settings.provider.builds_on()))
        self.state = CredentialState()
        self._value: Credential | None = None
        self._next_refresh_at: float | None = None
        self._in_sync: dict[str, bool] = {}
        self._left: Identities = {}
        self._poll_s = float(getattr(settings.provider, "poll_interval", POLL_INTERVAL_S))
        self._astray = False
        self._cleaned_in: tuple[int, Writers] | None = None

    # -- what is known while this process runs --------------------------------------------------------

    @property
    def value(self) -> Credential | None:
        """The value that was last published or found unchanged, with its secrets; None until then."""
        return self._value

    @property
    def poll_s(self) -> float:
        """The seconds between two fetches of a value without expiry, as its provider said last."""
        return self._poll_s

    @property
    def next_refresh_at(self) -> float | None:
        """The boottime instant of the refresh that is planned; None while one is under way."""
        return self._next_refresh_at

    @property
    def astray(self) -> bool:
        """Whether the files are not there, or not as the newest publish left them, after a start, a recovery or a reload.

        Nobody is told before a refresh has put them right (docs/adr/0003).
        """
        return self._astray

    def in_sync(self, target: str) -> bool | None:
        """Return whether a sink holds the value, as far as was seen last; None where that is not known."""
        return self._in_sync.get(target)

    def is_left_alone(self, survey: transaction.Survey) -> bool:
        """Return whether readers wrote the value into their files once more after that was put right in this generation.

        Not where an operator has since changed who may write the directories of the files: then it is put right once more.
        """
        return survey.only_written_back and self._cleaned_in == (self.state.published.generation, writers(self.sinks))

    def cleaned(self) -> None:
        """Note that what readers wrote into their files was put right in this generation; not kept over a restart."""
        self._cleaned_in = (self.state.published.generation, writers(self.sinks))

    def remember(self, state: CredentialState) -> None:
        """Take over the state that an earlier run left."""
        self.state = state

    def seen(self, value: Credential, behind: Collection[str] = ()) -> None:
        """Note that the source holds this value, and every sink with it but those that are left as they are."""
        self._value = value
        self._in_sync = {sink.target: sink.target not in behind for sink in self.sinks}
        self._left = {} if behind else identities(self.sinks)

    def polls_every(self, seconds: float) -> None:
        """Note what the provider said of the pace."""
        self._poll_s = seconds

    def planned(self, at: float | None) -> None:
        """Note when the next refresh is due, by boottime."""
        self._next_refresh_at = at

    def put_right(self) -> bool:
        """Note that the files are as they should be; return whether they were astray."""
        was_astray, self._astray = self._astray, False
        return was_astray

    def look_for_sinks(self) -> None:
        """See whether the files stand as the newest publish left them: after a start, a recovery or a reload."""
        done = self.state.published
        self._left = {}
        self._astray = bool(done.generation) and not transaction.stand(self.sinks, done.access_key_id)

    def sink_look(self) -> SinkLook | None:
        """Return what another thread needs to look at the sinks; None where the value is not known to this process."""
        if self._value is None:
            return None
        return SinkLook(self.sinks, self._value, self.state.published.generation, self._left)

    def looked(self, look: SinkLook, found: Mapping[str, bool]) -> None:
        """Note what was found at the sinks, unless they were published anew meanwhile."""
        if look == self.sink_look():
            self._in_sync = dict(found)

    def sinks_behind(self) -> tuple[str, ...] | None:
        """Return which sinks do not hold the published value; None where that cannot be known now.

        Raises:
            SinkError: a sink cannot be read.
        """
        state, value = self.state, self._value
        if state.journal.is_open or value is None or value.access_key_id != state.published.access_key_id:
            return None
        return transaction.survey(self.sinks, value, state.published.generation).out_of_sync

    # -- what follows from that -----------------------------------------------------------------------

    @property
    def layout(self) -> str:
        """A fingerprint of what is written where, without a secret."""
        return sha256(repr([sink.layout for sink in self.sinks]).encode()).hexdigest()[:16]

    @property
    def formats(self) -> frozenset[str]:
        """The types of the files that are written; a directory counts as what is in it."""
        return frozenset(name for sink in self.sinks for name in sink.formats)

    @property
    def same_source(self) -> bool:
        """Whether the value in use came from the source as it is configured now."""
        return self.state.published.source == self.source

    @property
    def known(self) -> Credential | None:
        """The value in use: with its secrets if this process saw it, else what the state remembers."""
        remembered = self.state.published.without_secrets()
        if remembered is None or self.value is None:
            return remembered
        same = self.value.access_key_id == remembered.access_key_id
        return self.value if same else remembered

    @property
    def is_served(self) -> bool:
        """Whether it is handed out to those who ask: at the socket, or at the endpoint to which a sink sends them."""
        return self.settings.serve is not None or any(sink.settings.needs_endpoint for sink in self.sinks)

    @property
    def serves_nothing(self) -> bool:
        """Whether who asks has to wait until the source answers: after a start, where no sink can be read back."""
        return self.is_served and self._value is None and self.value_in_use() is None

    @property
    def in_use(self) -> Published:
        """The generation that readers are offered: the one before while a publish has not reached every sink."""
        journal = self.state.journal
        return journal.before if journal.is_half_switched and journal.before is not None else journal.published

    def value_in_use(self) -> Credential | None:
        """Return the value of that generation with its secrets, read back from a published file where this process has not seen it.

        None where neither is to be had: nothing was published, or after a restart no sink can be read back.
        """
        done = self.in_use
        if not done.generation:
            return None
        if self._value is not None and self._value.access_key_id == done.access_key_id:
            return self._value
        return first_offered(self.sinks, lambda found: found.access_key_id == done.access_key_id)

    @property
    def needs_proof(self) -> bool:
        """Whether the value in use was published while STS could not be reached."""
        return self.verifier is not None and self.state.published.verified == "unreachable"

    def event(self, trigger: Trigger) -> PublishEvent:
        """Return what dependents are told of the newest generation."""
        done = self.state.published
        return PublishEvent(
            event="published",
            credential=self.name,
            generation=done.generation,
            trigger=trigger,
            access_key_id=done.access_key_id,
            version_id=done.version_id,
            expiration=done.expiration,
            sinks=tuple(sink.target for sink in self.sinks),
        )

    def debts_for(self, generation: int, trigger: Trigger, now: datetime) -> list[Debt]:
        """Return a debt to each dependent that is to be told of a generation; one that is named twice is owed once."""
        # Plain strings: the state's encoder refuses subclasses of str, such as the paths of the config.
        identities = dict.fromkeys(tuple(map(str, notifier.identity)) for notifier in self.notifiers)
        return [Debt(identity, generation, now, trigger) for identity in identities]

    def equals(self, other: ManagedCredential) -> bool:
        """Return whether a reloaded config says the same of this credential."""
        return (self.settings, self.source, self.layout) == (other.settings, other.source, other.layout)

    def adopt(self, other: ManagedCredential) -> None:
        """Take over the settings of a reloaded config; keep what is remembered."""
        self.settings, self.provider, self.verifier = other.settings, other.provider, other.verifier
        self.builds_on = other.builds_on
        self.source, self._poll_s = other.source, other.poll_s
        self.sinks, self.notifiers = other.sinks, other.notifiers

    def stale_at(self) -> datetime | None:
        """Return when the alarm is due unless a refresh succeeds before; None before the first attempt has ended."""
        done, health = self.state.published, self.state.health
        last = health.last_success_at or health.tried_since
        if self.settings.max_staleness is None and done.expiration is not None:
            return done.expiration
        if last is None:
            return None
        limit_s = self.settings.max_staleness or policy.DEFAULT_MAX_STALENESS_S
        return last + timedelta(seconds=float(limit_s))

    @property
    def key_made_at(self) -> datetime | None:
        """When the AccessKey in use was made, as its source says, else when it was first published here; None for a session.

        No key is younger than its publish: a source that names a later time is wrong, or this host's clock was.
        """
        done = self.state.published
        if not done.access_key_id or done.expiration is not None:
            return None
        return min((at for at in (done.created_at, done.published_at) if at is not None), default=None)

    def too_old_at(self) -> datetime | None:
        """Return when the AccessKey in use is older than `max_age`; None for never."""
        made_at, limit_s = self.key_made_at, self.settings.max_age
        return made_at + timedelta(seconds=float(limit_s)) if made_at is not None and limit_s is not None else None

    def too_old_text(self) -> str:
        """Return in words how old a key is that is too old, and by what that is known."""
        done = self.state.published
        since = (
            "was made at" if done.created_at and done.created_at == self.key_made_at else "was first published here at"
        )
        made = rfc3339(self.key_made_at) if self.key_made_at else "an unknown time"
        return f"{done.access_key_id} {since} {made} and is older than max_age allows"

    def key_alarms(self, now: datetime) -> tuple[KeyAlarm, ...]:
        """Return the alarms about its keys that stand."""
        due_at = self.too_old_at()
        restricted = [
            KeyAlarm(Kind.RESTRICTED, key_id, f"{key_id} is restricted as leaked: rotate it now")
            for key_id in self.state.alarms.restricted
        ]
        if due_at is None or due_at > now:
            return tuple(restricted)
        return (*restricted, KeyAlarm(Kind.TOO_OLD, self.state.published.access_key_id, self.too_old_text()))

    def standing(self) -> policy.Standing:
        """Return what the time of the next refresh depends on."""
        done = self.state.published
        return policy.Standing(
            published=bool(done.generation) and not self.serves_nothing,
            obtained_at=done.obtained_at,
            expiration=done.expiration,
            failures=self.state.health.failures,
            poll_s=self.poll_s,
            watched=self.provider.watched,
        )

    def first_refresh_s(self, now: datetime, chance: float) -> float:
        """Return the seconds until the first refresh after a start: 0.0 unless what was published still stands."""
        done = self.state.published
        if not self.same_source or done.layout != self.layout or not done.access_key_id:
            return 0.0  # a bearer token has no id by which its file could be told from a foreign one
        if self._astray:
            return 0.0
        if self.serves_nothing:
            return 0.0
        return policy.first_refresh(self.standing(), now, chance)

    def condition(self, now: datetime) -> policy.Condition:
        """Return the state that `status` shows."""
        done, stale_at = self.state.published, self.stale_at()
        if done.expiration is not None and done.expiration <= now:
            return policy.Condition.EXPIRED
        if stale_at is not None and stale_at <= now:
            return policy.Condition.STALE
        is_dead = bool(done.access_key_id) and self.state.ram.record.unusable == done.access_key_id
        if self.state.health.failures or self.state.ledger.given_up or is_dead:
            return policy.Condition.FAILING
        return policy.Condition.FRESH if done.generation and not self.state.debts else policy.Condition.PENDING


def is_bearer(value: Credential) -> bool:
    """Return whether nothing can be signed with this value, so nothing can be proved."""
    return value.kind is credential.Kind.BEARER
