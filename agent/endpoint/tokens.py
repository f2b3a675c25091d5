"""Which token opens which credential, and when each was used last. The tokens are the sinks' (their env files hold them)."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.core.errors import SinkError
from agent.core.timestamps import rfc3339
from agent.sinks.formats.credentials_uri import CredentialsUri
from agent.sinks.formats.uri_tokens import Tokens, digest_of, is_among
from agent.sinks.interface import Sink
from agent.sinks.transaction.plan import content_of

_NOBODY = digest_of("")
"""What a token is compared with where there is nothing to compare it with: an unknown name takes as long as a known one."""
SHOWN = 8
"""Hexadecimal digits of a digest by which a token is told from others."""


@dataclass(frozen=True, slots=True)
class Use:
    """The newest use of a token: when, and by whom, where that is known."""

    at: datetime
    uid: int | None


class TokenBook:
    """The tokens of one agent. Used by several threads."""

    def __init__(self) -> None:
        """Begin with no sink."""
        self._lock = threading.Lock()
        self._sinks: Mapping[str, tuple[CredentialsUri, ...]] = {}
        self._uses: dict[bytes, Use] = {}

    def follow(self, sinks: Mapping[str, Iterable[Sink]]) -> None:
        """Take these sinks for those of the config, by credential."""
        chosen = {name: tuple(one for one in some if isinstance(one, CredentialsUri)) for name, some in sinks.items()}
        with self._lock:
            self._sinks = chosen

    def sinks_of(self, credential: str) -> tuple[CredentialsUri, ...]:
        """Return the sinks of a credential that hold a token."""
        with self._lock:
            return self._sinks.get(credential, ())

    def is_right(self, credential: str, token: str, now: datetime) -> bool:
        """Return whether a token opens a credential at this moment, in a time that does not say how nearly."""
        known = [digest for sink in self.sinks_of(credential) for digest in _digests(sink, now)]
        return is_among(digest_of(token), known or [_NOBODY]) and bool(known) and bool(token)

    def died(self, credential: str, token: str, now: datetime) -> datetime | None:
        """Return when a token died that opened a credential once; None where it is not known, or lives."""
        digest = digest_of(token)
        found = [known(sink) for sink in self.sinks_of(credential)]
        dead = [one for tokens in found if tokens is not None for one in tokens.before if one.until <= now]
        return next((one.until for one in dead if is_among(digest, [one.digest])), None)

    def used(self, token: str, at: datetime, uid: int | None) -> None:
        """Take note that an answer was given for a token."""
        with self._lock:
            self._uses[digest_of(token)] = Use(at, uid)

    def shown(self, credential: str, now: datetime) -> list[dict[str, Any]]:
        """Return each token that opens a credential: its file, when it dies, when and by whom it was used last. No token."""
        return [row for sink in self.sinks_of(credential) for row in self._rows(sink, now)]

    def _rows(self, sink: CredentialsUri, now: datetime) -> list[dict[str, Any]]:
        tokens = known(sink)
        if tokens is None:
            return []
        before = [(one.digest, rfc3339(one.until)) for one in tokens.before if one.until > now]
        return [
            {"path": sink.path, "token": digest.hex()[:SHOWN], "until": until, **self._use(digest)}
            for digest, until in [(tokens.digest, None), *before]
        ]

    def _use(self, digest: bytes) -> dict[str, Any]:
        with self._lock:
            use = self._uses.get(digest)
        return {"last_used_at": rfc3339(use.at) if use else None, "last_used_by": use.uid if use else None}


def known(sink: CredentialsUri) -> Tokens | None:
    """Return the tokens of a sink, read from its file where they are not known yet; None where there are none."""
    if sink.tokens is not None:
        return sink.tokens
    try:
        return sink.learn(content_of(sink))
    except SinkError:  # `status` and the log say what is wrong with it
        return None


def _digests(sink: CredentialsUri, now: datetime) -> tuple[bytes, ...]:
    tokens = known(sink)
    return tokens.digests(now) if tokens is not None else ()
