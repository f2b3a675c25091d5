"""One credential at work: its settings made alive, and what is remembered of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

from agent.cloud.verify import Verifier
from agent.core import policy
from agent.core.credential import Credential, Kind
from agent.core.events import PublishEvent, Trigger
from agent.core.provider import POLL_INTERVAL_S, Provider
from agent.core.settings import CredentialSettings
from agent.notifiers.interface import Notifier
from agent.sinks.interface import Sink
from agent.sinks.transaction import transaction
from agent.state.records import GAVE_UP, CredentialState, Debt


@dataclass
class ManagedCredential:
    """A credential with everything that it needs. Only the engine's thread changes one.

    Attributes:
        verifier: None where `verify = "off"`.
        value: the last value seen, with its secrets; in memory only, None until the first fetch.
        source: a fingerprint of how the source is asked, without a secret.
        poll_s: seconds between two looks at a value without expiry, as its provider said last.
        builds_on: the credentials whose values this one is made of, directly. Kept, because each publish of a thousand
            credentials asks it of all the others.
        window: how urgent it was when a refresh failed last.
        astray: the files are not there, or not as the newest publish left them, after a start, a recovery or a reload;
            nobody is told before a refresh has put them right.
    """

    name: str
    settings: CredentialSettings
    provider: Provider
    verifier: Verifier | None
    sinks: tuple[Sink, ...]
    notifiers: tuple[Notifier, ...]
    state: CredentialState = field(default_factory=CredentialState)
    value: Credential | None = None
    source: str = ""
    next_refresh_at: float | None = None
    in_sync: dict[str, bool] = field(default_factory=dict)
    poll_s: float = POLL_INTERVAL_S
    window: policy.Window = policy.Window.FRESH
    builds_on: tuple[str, ...] = field(init=False)
    astray: bool = False

    def __post_init__(self) -> None:
        self.poll_s = float(getattr(self.settings.provider, "poll_interval", self.poll_s))
        self.builds_on = tuple(dict.fromkeys(self.settings.provider.builds_on()))

    @property
    def layout(self) -> str:
        """A fingerprint of what is written where, without a secret."""
        return sha256(repr([sink.settings for sink in self.sinks]).encode()).hexdigest()[:16]

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
        remembered = self.state.known_value()
        if remembered is None or self.value is None:
            return remembered
        same = self.value.access_key_id == remembered.access_key_id
        return self.value if same else remembered

    @property
    def needs_proof(self) -> bool:
        """Whether the value in use was published while STS could not be reached."""
        return self.verifier is not None and self.state.published.verified == "unreachable"

    def event(self, trigger: Trigger) -> PublishEvent:
        """What dependents are told of the newest generation."""
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

    def look_for_sinks(self) -> None:
        """After a start, a recovery or a reload: nobody is told of files that are not there, or not as they were left."""
        done = self.state.published
        self.astray = bool(done.generation) and not transaction.stand(self.sinks, done.access_key_id)

    def debts_for(self, generation: int, trigger: Trigger, now: datetime) -> list[Debt]:
        """Everybody who is to be told of a generation, each once."""
        # Plain strings: the state's encoder refuses subclasses of str, such as the paths of the config.
        identities = dict.fromkeys(tuple(map(str, notifier.identity)) for notifier in self.notifiers)
        return [Debt(identity, generation, now, trigger) for identity in identities]

    def equals(self, other: ManagedCredential) -> bool:
        """Whether a reloaded config says the same of this credential."""
        return self.settings == other.settings and self.source == other.source

    def adopt(self, other: ManagedCredential) -> None:
        """Take over the settings of a reloaded config; keep what is remembered."""
        self.settings, self.provider, self.verifier = other.settings, other.provider, other.verifier
        self.builds_on = other.builds_on
        self.source, self.poll_s = other.source, other.poll_s
        self.sinks, self.notifiers = other.sinks, other.notifiers

    def stale_at(self) -> datetime | None:
        """When the alarm is due unless a refresh succeeds before; None before the first attempt has ended."""
        done, last = self.state.published, self.state.last_success_at or self.state.tried_since
        if self.settings.max_staleness is None and done.expiration is not None:
            return done.expiration
        if last is None:
            return None
        limit_s = self.settings.max_staleness or policy.DEFAULT_MAX_STALENESS_S
        return last + timedelta(seconds=float(limit_s))

    def standing(self) -> policy.Standing:
        """What the time of the next refresh depends on."""
        done = self.state.published
        return policy.Standing(
            published=bool(done.generation),
            obtained_at=done.obtained_at,
            expiration=done.expiration,
            failures=self.state.consecutive_failures,
            poll_s=self.poll_s,
            watched=self.provider.watched,
        )

    def first_refresh_s(self, now: datetime, chance: float) -> float:
        """Seconds until the first refresh after a start: 0.0 unless what was published still stands."""
        done = self.state.published
        if not self.same_source or done.layout != self.layout or not done.access_key_id:
            return 0.0  # a bearer token has no id by which its file could be told from a foreign one
        if not transaction.stand(self.sinks, done.access_key_id):
            return 0.0
        return policy.first_refresh(self.standing(), now, chance)

    def condition(self, now: datetime) -> str:
        """The state that `status` shows: fresh, pending, failing, stale or expired."""
        done = self.state.published
        if done.expiration is not None and done.expiration <= now:
            return "expired"
        stale_at = self.stale_at()
        if stale_at is not None and stale_at <= now:
            return "stale"
        if self.state.consecutive_failures or any(map(_was_given_up, self.state.last_outcome.values())):
            return "failing"
        return "fresh" if done.generation and not self.state.debts else "pending"


def _was_given_up(outcome: str) -> bool:
    return outcome.startswith(GAVE_UP)


def is_bearer(value: Credential) -> bool:
    """Whether nothing can be signed with this value, so nothing can be proved."""
    return value.kind is Kind.BEARER
