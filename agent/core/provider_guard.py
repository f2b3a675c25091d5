"""Limits of a provider's answer, and how its failures are put into keyturn's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import TypeGuard

from agent.core.credential import Credential, Kind, part
from agent.core.errors import ConfigError, KeyturnError
from agent.core.secret import Secret
from agent.core.text import blanked
from agent.core.timestamps import rfc3339

MAX_PART_BYTES = 64 * 1024
"""Far above any token seen; Alibaba documents no maximum length for a SecurityToken, so none is cut."""


MAX_LINE_CHARS = 256
"""For a version and the name of a RAM user: they stand in the state, in the audit and in what hooks get."""


MAX_TEXT_CHARS = 500
"""For each half of an error's text: a log line, an audit record, a line of `status`."""


MAX_YEAR = 9000


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


TO_ITS_AUTHOR = "report it to the author of its package"


def one_line(text: object, limit: int = MAX_TEXT_CHARS) -> str:
    """What a third party says, as one printable line of at most `limit` characters; "" for what is no text."""
    if not isinstance(text, str):
        return ""
    cut = text if len(text) <= limit else text[: limit - 3] + "..."
    return blanked(cut).strip()


def name_of(error: BaseException) -> str:
    """Return the type of an exception, as one printable line; its text may hold anything."""
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


def fault_of(answer: object, now: datetime) -> str | None:
    """Return why an answer cannot be a credential, None where it can.

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


def _fault_of_text(name: str, text: str | None, needed: bool) -> str | None:
    if not text:
        return f"has no {name}" if needed or text == "" else None
    if type(text) is not str:
        return f"has {_article(name)} {name} of the wrong type"
    if len(text) > MAX_PART_BYTES:
        return f"has {_article(name)} {name} of more than {MAX_PART_BYTES} bytes"
    if not text.isascii() or not text.isprintable() or " " in text:
        return f"has {_article(name)} {name} with a blank, a control character or a character outside ASCII"
    return None


def _fault_of_line(name: str, text: object) -> str | None:
    fits = type(text) is str and len(text) <= MAX_LINE_CHARS and text.isprintable()
    return None if fits else f"has {_article(name)} {name} that is not one short line of text"


def _fault_of_expiration(expiration: object, now: datetime) -> str | None:
    if expiration is None:
        return None
    if type(expiration) is not type(now):  # exactly a datetime, as the caller's is
        return "has an expiration of the wrong type"
    if expiration.utcoffset() is None:
        return "has an expiration without a time zone"
    if expiration.year > MAX_YEAR:  # in UTC it may lie behind the last day that Python knows
        return f"has an expiration after the year {MAX_YEAR}: leave it out for a value that does not expire"
    if expiration <= now:
        return f"is already expired: it died at {rfc3339(expiration)}, and this machine's clock says {rfc3339(now)}"
    return None


def _article(name: str) -> str:
    return "an" if name[0] in "ae" else "a"
