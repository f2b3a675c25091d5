"""The rules by which `Provider.fetch` refuses an answer, and the limits of an error's text."""

from __future__ import annotations

from datetime import datetime

from agent.core.credential import Credential, Kind, part
from agent.core.errors import KeyturnError
from agent.core.secret import Secret
from agent.core.text import blanked
from agent.core.timestamps import rfc3339

MAX_PART_BYTES = 64 * 1024
"""The longest id, secret or token: far above any seen. Alibaba documents no maximum for a SecurityToken."""


MAX_LINE_CHARS = 256
"""The longest version id or RAM user name: both go into the state, the audit and the environment of hooks."""


MAX_TEXT_CHARS = 500
"""The longest problem or remedy of an error: both go into log lines, audit records and `status`."""


MAX_YEAR = 9000
"""The last year of an expiration: one of the year 9999 can lie, in UTC, after the last day that Python knows."""


def one_line(text: object) -> str:
    """Return `text` as one printable line of at most `MAX_TEXT_CHARS` characters, "" where it is not a str."""
    if not isinstance(text, str):
        return ""
    cut = text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - 3] + "..."
    return blanked(cut).strip()


def bounded(error: KeyturnError, source: str) -> KeyturnError:
    """Make each part of an error's text one printable line of bounded length, in place, and return the error.

    Args:
        source: names the credential and the provider, for an error that says nothing.
    """
    error.problem = one_line(getattr(error, "problem", "")) or f"{source} failed and does not say why"
    error.remedy = one_line(getattr(error, "remedy", ""))
    error.code = one_line(getattr(error, "code", ""))
    error.request_id = one_line(getattr(error, "request_id", ""))
    error.restricted_key = one_line(getattr(error, "restricted_key", ""))
    return error


def fault_of(answer: object, now: datetime) -> str | None:
    """Return why an answer cannot be a credential, None where it can.

    A str and a datetime have to be exactly that: msgspec, which writes the state, refuses the subclasses that
    libraries such as lxml and pendulum return (0.19).
    """
    if not isinstance(answer, Credential):
        return "is not a credential"
    needed = ("bearer_token",) if answer.kind is Kind.BEARER else ("access_key_id", "access_key_secret")
    for name in ("access_key_id", "access_key_secret", "security_token", "bearer_token"):
        value = getattr(answer, name)
        fits = type(value) is str if name == "access_key_id" else isinstance(value, Secret | None)
        if not fits:
            return f"has {_article(name)} {name} of the wrong type"
        fault = _fault_of_text(name, part(answer, name), name in needed)
        if fault:
            return fault
    for name in ("version_id", "ram_user_name", "request_id"):
        if fault := _fault_of_line(name, getattr(answer, name)):
            return fault
    return _fault_of_creation(answer.created_at, now) or _fault_of_expiration(answer.expiration, now)


def _fault_of_text(name: str, text: str | None, needed: bool) -> str | None:
    if not text:
        return f"has no {name}" if needed or text == "" else None
    if len(text) > MAX_PART_BYTES:
        return f"has {_article(name)} {name} of more than {MAX_PART_BYTES} bytes"
    if not text.isascii() or not text.isprintable() or " " in text:
        return f"has {_article(name)} {name} with a blank, a control character or a character outside ASCII"
    return None


def _fault_of_line(name: str, text: object) -> str | None:
    fits = type(text) is str and len(text) <= MAX_LINE_CHARS and text.isprintable()
    return None if fits else f"has {_article(name)} {name} that is not one short line of text"


def _fault_of_creation(created_at: object, now: datetime) -> str | None:
    return None if created_at is None else _fault_of_moment("a time of creation", created_at, now)


def _fault_of_moment(what: str, moment: object, now: datetime) -> str | None:
    if type(moment) is not type(now):  # not `datetime`, which freezegun replaces in tests
        return f"has {what} of the wrong type"
    return f"has {what} without a time zone" if moment.utcoffset() is None else None


def _fault_of_expiration(expiration: object, now: datetime) -> str | None:
    if expiration is None:
        return None
    if fault := _fault_of_moment("an expiration", expiration, now):
        return fault
    assert isinstance(expiration, type(now))
    if expiration.year > MAX_YEAR:
        return f"has an expiration after the year {MAX_YEAR}: leave it out for a value that does not expire"
    if expiration <= now:
        return f"is already expired: it died at {rfc3339(expiration)}, and this machine's clock says {rfc3339(now)}"
    return None


def _article(name: str) -> str:
    return "an" if name[0] in "ae" else "a"
