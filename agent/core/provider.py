"""The contract of a provider: where a credential's values come from.

Implementations write `_fetch`; callers use `fetch`, which refuses an oversized, malformed or expired
answer for every provider, so that none can forget, and lets only `KeyturnError` out, in one printable line.

Decision: a third party's provider runs in this process and is trusted like the rest of the program (docs/third_party.md).
`made`, `fetch` and `pace_s` contain its mistakes: whatever it raises becomes an error that names the provider and the
exception's type, never its text, for that may hold a secret. Code that nobody trusts belongs behind `type = "process"`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol, Self

from agent.core.credential import Credential
from agent.core.errors import BadAnswerError, ConfigError, KeyturnError
from agent.core.finding import Finding
from agent.core.provider_guard import bounded, fault_of
from agent.core.settings import CloudSettings, ProviderSettings

FETCH_TIMEOUT_S = 30.0
"""Seconds for one fetch, all regions and retries included. The caller gives up then, whatever the provider does."""


POLL_INTERVAL_S = 60.0
"""Seconds between two polls of a value without expiry, unless the provider says otherwise."""


class Base(Protocol):
    """The source that a provider builds on (`base = …`): another credential of the config, or an inline provider."""

    def newest(self, timeout_s: float) -> Credential:
        """Return the newest value of the base, whose AccessKey or session signs for the provider that builds on it.

        Raises:
            KeyturnError: there is none; the text names the base as the cause.
        """

    def inspect(self) -> Iterator[Finding]:
        """Return the findings of `check --offline`."""

    def close(self) -> None:
        """Close its connections."""


def _nothing_in_use() -> Credential | None:
    return None


def _no_base(settings: ProviderSettings | str) -> Base:
    raise ConfigError(["a provider cannot build on another one here"])


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """Everything that a provider may know besides its own settings.

    Attributes:
        credential: the name of the credential that it feeds; its errors name it.
        cloud: the `[cloud]` table: region, endpoints, `ca_file`.
        hostname: of this machine, for session names.
        environ: the environment of the agent at start.
        base_of: turns a field annotated `ProviderSettings | str` into a `Base`, without I/O.
        in_use: returns the credential's value that this host made or published last, read back from its files where this
            process has not seen it; None for none. For a provider whose source does not show a value twice.
    """

    credential: str
    cloud: CloudSettings = field(default_factory=CloudSettings)
    hostname: str = "localhost"
    environ: Mapping[str, str] = field(default_factory=dict)
    base_of: Callable[[ProviderSettings | str], Base] = _no_base
    in_use: Callable[[], Credential | None] = _nothing_in_use


class Provider(ABC):
    """A source of values for one credential."""

    type_name: ClassVar[str]
    Settings: ClassVar[type[ProviderSettings]]
    watched: ClassVar[bool] = False
    """Whether a value is polled although it expires, because somebody else may replace it at any time."""

    def __init__(self, settings: Any, context: ProviderContext) -> None:
        """Keep the settings. No I/O here: a source that is down must not stop the agent from starting."""
        self.settings = settings
        self.context = context

    @classmethod
    def made(cls, settings: Any, context: ProviderContext) -> Self:
        """Construct a provider.

        Raises:
            ConfigError: the constructor raised something else than a `KeyturnError`, or did not call `Provider.__init__`.
            KeyturnError: the constructor's own.
        """
        source = f"credentials.{context.credential}: provider {cls.type_name}"
        try:
            provider = cls(settings, context)
        except (KeyturnError, KeyboardInterrupt):
            raise
        except BaseException as error:  # SystemExit too: a provider does not end keyturn
            refusal = f"{source} cannot be made ({type(error).__name__}); report it to the author of its package"
        else:
            if hasattr(provider, "context"):
                return provider
            refusal = f"{source} does not call Provider.__init__; report it to the author of its package"
        raise ConfigError([refusal])

    @property
    def poll_interval_s(self) -> float:
        """Seconds between two polls of a value without expiry: the setting `poll_interval` where there is one."""
        return float(getattr(self.settings, "poll_interval", POLL_INTERVAL_S))

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
        place = f"credentials.{self.context.credential}"
        refusal: KeyturnError
        try:
            answer = self._fetch(timeout_s)
            fault = fault_of(answer, now)
        except KeyboardInterrupt:
            raise
        except KeyturnError as error:
            refusal = bounded(error, f"{place}: provider {self.type_name}")
        except BaseException as error:  # SystemExit too, and the cancellations that are no Exception
            refusal = BadAnswerError(
                f"provider {self.type_name} failed with {type(error).__name__}",
                "run `keyturn check`, and report the provider's fault to its author if that finds nothing",
            ).at(place)
        else:
            if fault is None:
                return answer
            refusal = BadAnswerError(
                f"the answer of provider {self.type_name} {fault}",
                "look at the value at the source; the value in use stays",
            ).at(place)
        # Raised out here, `from None` and without a context: a library's exception may hold a signed URL or a token,
        # and a decoder's holds the very text that it could not read.
        refusal.__context__ = None
        raise refusal from None

    def pace_s(self) -> float:
        """Return `poll_interval_s`, held between a second and a day; the usual minute where asking for it fails."""
        try:
            return min(86_400.0, max(1.0, float(self.poll_interval_s)))
        except Exception:
            return POLL_INTERVAL_S

    def inspect(self) -> Iterator[Finding]:
        """Yield the findings of `check --offline`, such as a missing or too open file. Uses no network."""
        return iter(())

    def close(self) -> None:
        """Close connections; a reload has taken the provider out of the config."""
