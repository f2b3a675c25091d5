"""What a provider with a `base` builds on: another credential of the config, or an inline provider.

The engine keeps the newest proved value of each credential here, and refreshes a base before the credentials
that build on it (agent/engine/refresher.py). A base that fails while its kept value still lives holds up nobody; one
that has none is named as the cause (docs/adr/0014). Without an engine (`keyturn check`) a named base is asked directly.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime

from agent.core.credential import Credential
from agent.core.errors import KeyturnError, NotPermittedError, SourceRefusedError, SourceUnavailableError
from agent.core.finding import Finding
from agent.core.provider import Provider


class BaseCredentials:
    """The newest value of each credential. Written on the loop's thread, read by workers; in memory only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, Credential] = {}
        self._errors: dict[str, KeyturnError] = {}
        self._made: dict[str, Credential] = {}

    def hand(self, name: str, value: Credential) -> None:
        """Keep a value that was made here and is not published yet: its source will not show it again."""
        with self._lock:
            self._made[name] = value

    def forsake(self, name: str) -> None:
        """Forget that value."""
        with self._lock:
            self._made.pop(name, None)

    def made(self, name: str) -> Credential | None:
        """Return that value; None where there is none, or it has been published."""
        with self._lock:
            return self._made.get(name)

    def newest(self, name: str) -> Credential | None:
        """Return the value that was made here, else the one that was published last; None where neither is known."""
        with self._lock:
            return self._made.get(name) or self._values.get(name)

    def put(self, name: str, value: Credential) -> None:
        """Keep the value that was published last."""
        with self._lock:
            self._values[name] = value
            self._errors.pop(name, None)
            made = self._made.get(name)
            if made is not None and made.access_key_id == value.access_key_id:
                del self._made[name]

    def failed(self, name: str, error: KeyturnError) -> None:
        """Keep the error for which there is no newer value."""
        with self._lock:
            self._errors[name] = error

    def drop(self, name: str) -> None:
        """Forget a credential that left the config, or whose source changed."""
        with self._lock:
            self._values.pop(name, None)
            self._errors.pop(name, None)

    def look(self, name: str, now: datetime) -> Credential | KeyturnError | None:
        """Return the value while it lives, else the error for which there is none, else None: nobody has asked yet."""
        with self._lock:
            value = self._values.get(name)
            if value is not None and (value.expiration is None or value.expiration > now):
                return value
            return self._errors.get(name)


class NamedBase:
    """A base that is another credential of the config."""

    def __init__(
        self, owner: str, name: str, bases: BaseCredentials, make: Callable[[], Provider], now: Callable[[], datetime]
    ) -> None:
        """Keep what is needed; no I/O.

        Args:
            owner: of the provider that builds on this, for the texts.
            name: of the credential that is built on.
            bases: where its newest value lies.
            make: its provider, for the case that nobody else asks it.
            now: the wall clock.
        """
        self._owner, self._name, self._bases, self._make, self._now = owner, name, bases, make, now
        self._provider: Provider | None = None

    def newest(self, timeout_s: float) -> Credential:
        """Return the kept value, or the source's own.

        Raises:
            KeyturnError: there is none; the base is named as the cause.
        """
        found = self._bases.look(self._name, self._now())
        if isinstance(found, Credential):
            return found
        try:
            if found is not None:
                raise found
            return self._asked().fetch(self._now(), timeout_s)
        except KeyturnError as error:
            cause = error
        raise blamed(self._owner, self._name, cause)

    def inspect(self) -> Iterator[Finding]:
        """Return no findings: the base has lines of its own in `check`."""
        return iter(())

    def close(self) -> None:
        """Close the provider, if it was needed."""
        if self._provider is not None:
            self._provider.close()

    def _asked(self) -> Provider:
        if self._provider is None:
            self._provider = self._make()
        return self._provider


class InlineBase:
    """A base that is a provider inside of another one's table."""

    def __init__(self, provider: Provider, now: Callable[[], datetime]) -> None:
        self._provider, self._now = provider, now

    def newest(self, timeout_s: float) -> Credential:
        """Ask the provider.

        Raises:
            KeyturnError: its own, which names its place in the config.
        """
        return self._provider.fetch(self._now(), timeout_s)

    def inspect(self) -> Iterator[Finding]:
        """Return the provider's own findings."""
        return self._provider.inspect()

    def close(self) -> None:
        """Close the provider."""
        self._provider.close()


def blamed(owner: str, name: str, cause: KeyturnError) -> KeyturnError:
    """Return the error of a credential whose base failed: with the cause's text and remedy, and retryable if the cause is."""
    base = f"credentials.{name}"
    said = cause.problem.removeprefix(f"{base}: ")
    kind = SourceUnavailableError if cause.retryable else SourceRefusedError
    if isinstance(cause, NotPermittedError):
        kind = NotPermittedError  # type: ignore[assignment]
    text = f"its base {base} failed: {said}"
    return kind(text, cause.remedy, code=cause.code, request_id=cause.request_id).at(f"credentials.{owner}")
