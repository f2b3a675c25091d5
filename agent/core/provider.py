"""The contract of a provider: where a credential's values come from.

Implementations write `_fetch`; callers use `fetch`, which refuses an oversized, malformed or expired
answer for every provider, so that none can forget, and lets only `KeyturnError` out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol

from agent.core.credential import Credential, Kind, part, rfc3339
from agent.core.errors import BadAnswerError, ConfigError, KeyturnError
from agent.core.secret import Secret
from agent.core.settings import CloudSettings, ProviderSettings

MAX_PART_BYTES = 64 * 1024
"""Far above any token seen; Alibaba documents no maximum length for a SecurityToken, so none is cut."""

MAX_VERSION_CHARS = 256

FETCH_TIMEOUT_S = 30.0
"""Seconds for one fetch, all regions and tries included; the caller gives up then, whatever the provider does."""


POLL_INTERVAL_S = 60.0
"""Seconds between two looks at a value without expiry, where a provider says nothing else."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `check`: `level` is "ok", "warning" or "error"; a failure names its remedy."""

    level: str
    place: str
    text: str
    remedy: str = ""


class Base(Protocol):
    """What a provider builds on (`base = …`): another credential of the config, or an inline provider."""

    def newest(self, timeout_s: float) -> Credential:
        """The newest value of the base, whose AccessKey or session signs for the provider that builds on it.

        Raises:
            KeyturnError: there is none; the text names the base as the cause.
        """

    def inspect(self) -> Iterator[Finding]:
        """What `check --offline` can say of it."""

    def close(self) -> None:
        """Let go of connections."""


def _no_base(settings: ProviderSettings | str) -> Base:
    raise ConfigError(["a provider cannot build on another one here"])


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """What a provider may know besides its own settings.

    Attributes:
        credential: the name of the credential that it feeds; its errors name it.
        cloud: the `[cloud]` table: region, endpoints, `ca_file`.
        hostname: of this machine, for session names.
        environ: the environment of the agent at start.
        base_of: makes a field annotated `ProviderSettings | str` alive, without I/O.
    """

    credential: str
    cloud: CloudSettings = field(default_factory=CloudSettings)
    hostname: str = "localhost"
    environ: Mapping[str, str] = field(default_factory=dict)
    base_of: Callable[[ProviderSettings | str], Base] = _no_base


class Provider(ABC):
    """A source of values for one credential."""

    type_name: ClassVar[str]
    Settings: ClassVar[type[ProviderSettings]]

    def __init__(self, settings: Any, context: ProviderContext) -> None:
        """Keep the settings. No I/O here: a source that is down must not stop the agent from starting."""
        self.settings = settings
        self.context = context

    @property
    def poll_interval_s(self) -> float:
        """Seconds between two looks at a value without expiry, at least one."""
        return POLL_INTERVAL_S

    @abstractmethod
    def _fetch(self, timeout_s: float) -> Credential:
        """Ask the source for the value now.

        Args:
            timeout_s: seconds for the whole call; an answer later than that is thrown away.

        Raises:
            KeyturnError: the leaf that fits; anything else is reported as a bad answer of this provider.
        """

    def fetch(self, now: datetime, timeout_s: float = FETCH_TIMEOUT_S) -> Credential:
        """Ask the source for the value now, and refuse an answer that cannot be a credential.

        Args:
            now: the wall clock, UTC-aware, against which an expiration is judged.
            timeout_s: seconds for the whole call.

        Raises:
            KeyturnError: the source failed or its answer is refused; the text names the credential.
        """
        try:
            answer = self._fetch(timeout_s)
        except KeyturnError:
            raise
        except (Exception, SystemExit) as error:
            # `from None`: what a provider's library puts into its exceptions may hold a signed URL or a token.
            raise BadAnswerError(
                f"credentials.{self.context.credential}: provider {self.type_name} failed with {type(error).__name__}",
                "run `keyturn check`, and report the provider's fault to its author if that finds nothing",
            ) from None
        self._refuse_unusable(answer, now)
        return answer

    def pace_s(self) -> float:
        """`poll_interval_s`, whatever a third party makes of it: between a second and a day. Asked after a fetch."""
        try:
            return min(86_400.0, max(1.0, float(self.poll_interval_s)))
        except (Exception, SystemExit):
            return POLL_INTERVAL_S

    def inspect(self) -> Iterator[Finding]:
        """Say what `check --offline` can say: local files present and private. No network."""
        return iter(())

    def close(self) -> None:
        """Let go of connections."""

    def _refuse_unusable(self, answer: object, now: datetime) -> None:
        fault = _fault_of(answer, now)
        if fault:
            raise BadAnswerError(
                f"credentials.{self.context.credential}: the answer of provider {self.type_name} {fault}",
                "look at the value at the source; the value in use stays",
            )


def _fault_of(answer: object, now: datetime) -> str:
    """Why an answer cannot be a credential, "" where it can. Types are looked at too: a third party made them."""
    if type(answer) is not Credential:
        return "is not a credential"
    needed = ("bearer_token",) if answer.kind is Kind.BEARER else ("access_key_id", "access_key_secret")
    for name in ("access_key_id", "access_key_secret", "security_token", "bearer_token"):
        value = getattr(answer, name)
        if not isinstance(value, str if name == "access_key_id" else Secret | None):
            return f"has {_article(name)} {name} of the wrong type"
        fault = _fault_of_text(name, part(answer, name), name in needed)
        if fault:
            return fault
    return _fault_of_version(answer.version_id) or _fault_of_expiration(answer.expiration, now)


def _fault_of_text(name: str, text: str | None, needed: bool) -> str:
    if not text:
        return f"has no {name}" if needed or text == "" else ""
    if len(text) > MAX_PART_BYTES:
        return f"has {_article(name)} {name} of more than {MAX_PART_BYTES} bytes"
    if not text.isascii() or not text.isprintable() or " " in text:
        return f"has {_article(name)} {name} with a blank, a control character or a character outside ASCII"
    return ""


def _fault_of_version(version_id: object) -> str:
    """It stands in the state, the audit and the environment of hooks."""
    fits = isinstance(version_id, str) and len(version_id) <= MAX_VERSION_CHARS
    return "" if fits and str(version_id).isprintable() else "has a version_id that is not one short line of text"


def _fault_of_expiration(expiration: object, now: datetime) -> str:
    if expiration is None:
        return ""
    if not isinstance(expiration, datetime):
        return "has an expiration of the wrong type"
    if expiration.tzinfo is None:
        return "has an expiration without a time zone"
    if expiration <= now:
        return f"is already expired: it died at {rfc3339(expiration)}, and this machine's clock says {rfc3339(now)}"
    return ""


def _article(name: str) -> str:
    return "an" if name[0] in "ae" else "a"
