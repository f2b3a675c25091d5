"""The contract of a provider: where a credential's values come from.

Implementations write `_fetch`; callers use `fetch`, which refuses an oversized, malformed or expired
answer for every provider, so that none can forget, and lets only `KeyturnError` out, in one printable line.
Third parties' providers come through here too (docs/third_party.md): whatever their code raises, returns or
prints, keyturn goes on, and neither the text of their exceptions nor what they print is shown anywhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol, Self, TypeGuard

from agent.core.credential import Credential, Kind, part, rfc3339
from agent.core.errors import BadAnswerError, ConfigError, KeyturnError
from agent.core.secret import Secret
from agent.core.settings import CloudSettings, ProviderSettings

MAX_PART_BYTES = 64 * 1024
"""Far above any token seen; Alibaba documents no maximum length for a SecurityToken, so none is cut."""

MAX_LINE_CHARS = 256
"""For a version and the name of a RAM user: they stand in the state, in the audit and in what hooks get."""

MAX_TEXT_CHARS = 500
"""For each half of an error's text: a log line, an audit record, a line of `status`."""

MAX_YEAR = 9000

FETCH_TIMEOUT_S = 30.0
"""Seconds for one fetch, all regions and tries included; the caller gives up then, whatever the provider does."""


POLL_INTERVAL_S = 60.0
"""Seconds between two looks at a value without expiry, where a provider says nothing else."""

_at_work: ContextVar[str] = ContextVar("provider_at_work", default="")


def at_work() -> str:
    """The type of the provider whose code runs in this context; "" where none does."""
    return _at_work.get()


@contextmanager
def hushed(type_name: str) -> Iterator[None]:
    """In this block runs the code of a provider of that type: what it prints is dropped (agent/logs/setup.py).

    A ContextVar and not an attribute of the thread, so that a provider that builds on another one is named right.
    """
    token = _at_work.set(type_name)
    try:
        yield
    finally:
        _at_work.reset(token)


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
        refusal: KeyturnError = ConfigError([f"{source} hands no context to Provider.__init__; {_TO_ITS_AUTHOR}"])
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
            refusal = ConfigError([f"{source} cannot be made ({_name_of(error)}); {_TO_ITS_AUTHOR}"])
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
            fault = _fault_of(answer, now)
        except KeyboardInterrupt:
            raise
        except KeyturnError as error:
            refusal = presentable(error, f"{place}: provider {self.type_name}")
        except BaseException as error:  # SystemExit too, and the cancellations that are no Exception
            refusal = BadAnswerError(
                f"{place}: provider {self.type_name} failed with {_name_of(error)}",
                "run `keyturn check`, and report the provider's fault to its author if that finds nothing",
            )
        else:
            if not fault:
                return answer
            refusal = BadAnswerError(
                f"{place}: the answer of provider {self.type_name} {fault}",
                "look at the value at the source; the value in use stays",
            )
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


_TO_ITS_AUTHOR = "report it to the author of its package"


def one_line(text: object, limit: int = MAX_TEXT_CHARS) -> str:
    """What a third party says, as one printable line of at most `limit` characters; "" for what is no text."""
    if not isinstance(text, str):
        return ""
    cut = text if len(text) <= limit else text[: limit - 3] + "..."
    return "".join(char if char.isprintable() else " " for char in cut).strip()


def _name_of(error: BaseException) -> str:
    return one_line(type(error).__name__, MAX_LINE_CHARS)


def presentable(error: KeyturnError, source: str) -> KeyturnError:
    """The same error if it is one of ours and its text can be shown as it is, else ours of the nearest kind."""
    kind = next(each for each in type(error).__mro__ if _is_ours(each))
    given = tuple(getattr(error, name, None) for name in ("problem", "remedy", "code"))
    problem, remedy, code = map(one_line, given)
    if kind is type(error) and problem and given == (problem, remedy, code):
        return error
    problem = problem or f"{source} failed and does not say why"
    if issubclass(kind, ConfigError):
        return kind([f"{problem}; {remedy}" if remedy else problem])
    made = kind(problem, remedy, code=code)
    made.retryable = getattr(error, "retryable", False) is True
    return made


def _is_ours(kind: type) -> TypeGuard[type[KeyturnError]]:
    """Whether it is a leaf of keyturn's own that can be made of a problem and a remedy."""
    own = issubclass(kind, KeyturnError) and kind.__module__.startswith(("agent.", "providers."))
    return own and (kind in (KeyturnError, ConfigError) or "__init__" not in vars(kind))


def _fault_of(answer: object, now: datetime) -> str:
    """Why an answer cannot be a credential, "" where it can.

    Types are looked at too, for a third party made them, and exactly: msgspec, which writes the state, refuses
    subclasses of str and datetime (0.19), and a subclass of Secret could print itself.
    """
    if type(answer) is not Credential:
        return "is not a credential"
    needed = ("bearer_token",) if answer.kind is Kind.BEARER else ("access_key_id", "access_key_secret")
    for name in ("access_key_id", "access_key_secret", "security_token", "bearer_token"):
        value = getattr(answer, name)
        if type(value) not in ((str,) if name == "access_key_id" else (Secret, type(None))):
            return f"has {_article(name)} {name} of the wrong type"
        fault = _fault_of_text(name, part(answer, name), name in needed)
        if fault:
            return fault
    lines = _fault_of_line("version_id", answer.version_id) or _fault_of_line("ram_user_name", answer.ram_user_name)
    return lines or _fault_of_expiration(answer.expiration, now)


def _fault_of_text(name: str, text: str | None, needed: bool) -> str:
    if not text:
        return f"has no {name}" if needed or text == "" else ""
    if type(text) is not str:
        return f"has {_article(name)} {name} of the wrong type"
    if len(text) > MAX_PART_BYTES:
        return f"has {_article(name)} {name} of more than {MAX_PART_BYTES} bytes"
    if not text.isascii() or not text.isprintable() or " " in text:
        return f"has {_article(name)} {name} with a blank, a control character or a character outside ASCII"
    return ""


def _fault_of_line(name: str, text: object) -> str:
    fits = type(text) is str and len(text) <= MAX_LINE_CHARS and text.isprintable()
    return "" if fits else f"has {_article(name)} {name} that is not one short line of text"


def _fault_of_expiration(expiration: object, now: datetime) -> str:
    if expiration is None:
        return ""
    if type(expiration) is not type(now):  # exactly a datetime, as the caller's is
        return "has an expiration of the wrong type"
    if expiration.utcoffset() is None:
        return "has an expiration without a time zone"
    if expiration.year > MAX_YEAR:  # in UTC it may lie behind the last day that Python knows
        return f"has an expiration after the year {MAX_YEAR}: leave it out for a value that does not expire"
    if expiration <= now:
        return f"is already expired: it died at {rfc3339(expiration)}, and this machine's clock says {rfc3339(now)}"
    return ""


def _article(name: str) -> str:
    return "an" if name[0] in "ae" else "a"
