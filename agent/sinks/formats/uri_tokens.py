"""The tokens of one credentials URI: the one that its env file holds, and those before it that are not dead yet.

A process reads the URI once, when it starts. So a token that is replaced goes on for a while, and then dies. The file itself
says so, in a second variable: that is one atomic write, which a crash finds done or not begun, and a restart needs no other
record. What it holds of an older token is its SHA-256: 256 bits of chance cannot be found by trying, so it opens nothing.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Self

from agent.core.secret import Secret
from agent.core.timestamps import moment_of, rfc3339

TOKEN_BYTES = 32
TOKEN = r"[A-Za-z0-9_-]{43}"
"""The form of a token: 32 random bytes in URL-safe Base64."""
MAX_BEFORE = 8
"""Older tokens that one file remembers; with more, the oldest dies early."""
_BEFORE = re.compile(r"(?P<until>[0-9TZ:-]{20})/(?P<digest>[0-9a-f]{64})")


def digest_of(token: str) -> bytes:
    """Return what a token is compared by: digests have one length, whatever a stranger sends."""
    return sha256(token.encode("utf-8", "replace")).digest()


@dataclass(frozen=True, slots=True)
class OldToken:
    """A token that was replaced: its digest, and when it dies."""

    digest: bytes
    until: datetime


@dataclass(frozen=True, slots=True)
class Tokens:
    """The token in the file, and the ones before it, oldest first."""

    current: Secret
    digest: bytes
    before: tuple[OldToken, ...] = ()

    @classmethod
    def of(cls, token: str, before: Iterable[OldToken] = ()) -> Self:
        """Return the tokens of a file."""
        return cls(Secret(token), digest_of(token), tuple(before))

    @classmethod
    def new(cls) -> Self:
        """Return a token that nobody knows yet."""
        return cls.of(secrets.token_urlsafe(TOKEN_BYTES))

    def followed(self, now: datetime, until: datetime) -> Self:
        """Return a new token; the present one goes on until `until`, and what is dead is forgotten."""
        living = [one for one in (*self.before, OldToken(self.digest, until)) if one.until > now]
        return type(self).of(secrets.token_urlsafe(TOKEN_BYTES), living[-MAX_BEFORE:])

    def digests(self, now: datetime) -> tuple[bytes, ...]:
        """Return the digests of all tokens that open at this moment."""
        return (self.digest, *(one.digest for one in self.before if one.until > now))

    def written(self) -> str | None:
        """Return what the file says of the older tokens; None for nothing."""
        return ",".join(f"{rfc3339(one.until)}/{one.digest.hex()}" for one in self.before) or None


def is_among(digest: bytes, known: Iterable[bytes]) -> bool:
    """Return whether a digest is one of `known`, in a time that says nothing of which, or how nearly."""
    found = False
    for one in known:
        found |= hmac.compare_digest(digest, one)
    return found


def read_before(text: str) -> tuple[OldToken, ...]:
    """Return the older tokens that a file speaks of; one that cannot be read has died."""
    return tuple(filter(None, map(_old_token, text.split(","))))[-MAX_BEFORE:]


def _old_token(text: str) -> OldToken | None:
    match = _BEFORE.fullmatch(text)
    until = moment_of(match["until"]) if match else None
    return OldToken(bytes.fromhex(match["digest"]), until) if match and until else None
