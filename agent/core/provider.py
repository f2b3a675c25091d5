"""The contract of a provider: where a credential's values come from.

Implementations write `_fetch`; callers use `fetch`, which refuses an oversized, malformed or expired
answer for every provider, so that none can forget, and lets only `KeyturnError` out, in one printable line.
Third parties' providers come through here too (docs/third_party.md): whatever their code raises, returns or
prints, keyturn goes on, and neither the text of their exceptions nor what they print is shown anywhere.
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
from agent.core.provider_guard import TO_ITS_AUTHOR, fault_of, hushed, name_of, presentable
from agent.core.settings import CloudSettings, ProviderSettings

FETCH_TIMEOUT_S = 30.0
"""Seconds for one fetch, all regions and tries included; the caller gives up then, whatever the provider does."""


POLL_INTERVAL_S = 60.0
"""Seconds between two looks at a value without expiry, where a provider says nothing else."""


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
    watched: ClassVar[bool] = False
    """Whether a value is polled although it expires: somebody else replaces it when they like."""

    def __init__(self, settings: Any, context: ProviderContext) -> None:
        """Keep the settings. No I/O here: a source that is down must not stop the agent from starting."""
        self.settings = settings
        self.context = context

    @classmethod
    def made(cls, settings: Any, context: ProviderContext) -> Self:
        """Make one, whatever a third party's constructor does.

        Raises:
            ConfigError: the constructor raised something, or did not call the one above.
            KeyturnError: what it raised, where that is of the family.
        """
        source = f"credentials.{context.credential}: provider {cls.type_name}"
        refusal: KeyturnError = ConfigError([f"{source} hands no context to Provider.__init__; {TO_ITS_AUTHOR}"])
        try:
            with hushed(cls.type_name):
                provider = cls(settings, context)
                if isinstance(provider.context, ProviderContext):
                    return provider
        except KeyboardInterrupt:
            raise
        except KeyturnError as error:
            refusal = presentable(error, source)
            if refusal is error:
                raise
        except BaseException as error:  # SystemExit too: a provider does not end keyturn
            refusal = ConfigError([f"{source} cannot be made ({name_of(error)}); {TO_ITS_AUTHOR}"])
        raise refusal from None

    @property
    def poll_interval_s(self) -> float:
        """Seconds between two looks at a value without expiry, at least one: `poll_interval`, where it is a setting."""
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
            with hushed(self.type_name):
                answer = self._fetch(timeout_s)
            fault = fault_of(answer, now)
        except KeyboardInterrupt:
            raise
        except KeyturnError as error:
            refusal = presentable(error, f"{place}: provider {self.type_name}")
        except BaseException as error:  # SystemExit too, and the cancellations that are no Exception
            refusal = BadAnswerError(
                f"provider {self.type_name} failed with {name_of(error)}",
                "run `keyturn check`, and report the provider's fault to its author if that finds nothing",
            ).at(place)
        else:
            if fault is None:
                return answer
            refusal = BadAnswerError(
                f"the answer of provider {self.type_name} {fault}",
                "look at the value at the source; the value in use stays",
            ).at(place)
        # Out here, `from None` and without what was being handled when it was raised: a library's exceptions may hold
        # a signed URL or a token, a decoder's the very text.
        refusal.__context__ = None
        raise refusal from None

    def pace_s(self) -> float:
        """`poll_interval_s`, whatever a third party makes of it: between a second and a day. Asked after a fetch."""
        try:
            with hushed(self.type_name):
                return min(86_400.0, max(1.0, float(self.poll_interval_s)))
        except KeyboardInterrupt:
            raise
        except BaseException:
            return POLL_INTERVAL_S

    def inspect(self) -> Iterator[Finding]:
        """Say what `check --offline` can say: local files present and private. No network."""
        return iter(())

    def close(self) -> None:
        """Let go of connections."""
