"""The contract of a provider: where a credential's values come from.

Implementations write `_fetch`; callers use `fetch`, which refuses an oversized, malformed or expired
answer for every provider, so that none can forget, and lets only `KeyturnError` out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from agent.core.credential import PARTS, Credential, Kind, part
from agent.core.errors import BadAnswerError, KeyturnError
from agent.core.settings import CloudSettings, ProviderSettings

MAX_PART_BYTES = 64 * 1024
"""Far above any token seen; Alibaba documents no maximum length for a SecurityToken, so none is cut."""

FETCH_TIMEOUT_S = 30.0
"""Seconds for one fetch, all regions and tries included; the caller gives up then, whatever the provider does."""


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """What a provider may know besides its own settings.

    Attributes:
        credential: the name of the credential that it feeds; its errors name it.
        cloud: the `[cloud]` table: region, endpoints, `ca_file`.
        hostname: of this machine, for session names.
        environ: the environment of the agent at start.
    """

    credential: str
    cloud: CloudSettings = field(default_factory=CloudSettings)
    hostname: str = "localhost"
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `check`: `level` is "ok", "warning" or "error"; a failure names its remedy."""

    level: str
    place: str
    text: str
    remedy: str = ""


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
        """Seconds between two looks at a value without expiry."""
        return 60.0

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
        except Exception as error:
            # `from None`: what a provider's library puts into its exceptions may hold a signed URL or a token.
            raise BadAnswerError(
                f"credentials.{self.context.credential}: provider {self.type_name} failed with {type(error).__name__}",
                "run `keyturn check`, and report the provider's fault to its author if that finds nothing",
            ) from None
        self._refuse_unusable(answer, now)
        return answer

    def inspect(self) -> Iterator[Finding]:
        """Say what `check --offline` can say: local files present and private. No network."""
        return iter(())

    def close(self) -> None:
        """Let go of connections."""

    def _refuse_unusable(self, answer: object, now: datetime) -> None:
        def refuse(what: str) -> BadAnswerError:
            return BadAnswerError(
                f"credentials.{self.context.credential}: the answer of provider {self.type_name} {what}",
                "look at the value at the source; the value in use stays",
            )

        if not isinstance(answer, Credential):
            raise refuse("is not a credential")
        needed = ("bearer_token",) if answer.kind is Kind.BEARER else ("access_key_id", "access_key_secret")
        for name in PARTS:
            text = part(answer, name)
            if not text:
                if name in needed or text == "":
                    raise refuse(f"has no {name}")
                continue
            article = "an" if name[0] in "ae" else "a"
            if len(text) > MAX_PART_BYTES:
                raise refuse(f"has {article} {name} of more than {MAX_PART_BYTES} bytes")
            if not text.isascii() or not text.isprintable() or " " in text:
                raise refuse(f"has {article} {name} with a blank, a control character or a character outside ASCII")
        if answer.expiration is not None and answer.expiration.tzinfo is None:
            raise refuse("has an expiration without a time zone")
        if answer.expiration is not None and answer.expiration <= now:
            raise refuse("is already expired")
