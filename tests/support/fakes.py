"""A source and dependents that do what a test says, and remember what was done to them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agent.core.credential import Credential
from agent.core.errors import NotifyError
from agent.core.events import PublishEvent
from agent.core.provider import Provider, ProviderContext
from agent.core.secret import Secret
from agent.core.settings import Duration, NotifierSettings, ProviderSettings
from agent.engine.base_credentials import BaseCredentials, NamedBase
from agent.notifiers.interface import Notifier, Pickup, Told

PATIENCE_S = 60.0
"""Only a broken product uses it up."""


def _now() -> datetime:
    return datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def key(number: int = 1, **more: Any) -> Credential:
    """A value of which version, id and secret belong together."""
    named = {"access_key_id": f"LTAI5tKey{number:06}", "version_id": f"v{number}", **more}
    return Credential(access_key_secret=Secret(f"secretOf{number:06}"), **named)


@dataclass(frozen=True, kw_only=True)
class FakeSettings(ProviderSettings):
    base: ProviderSettings | str | None = None


class Source(Provider):
    """Answers with `value`, which may be an exception, or a function of the base's value; `calls` counts.

    Two sources with the same `label` are asked in the same way, as far as the config says.
    """

    type_name = "fake"
    Settings = FakeSettings

    def __init__(
        self,
        name: str,
        poll_s: float = 60.0,
        *,
        label: str = "fake",
        base: str | None = None,
        bases: BaseCredentials | None = None,
    ) -> None:
        super().__init__(FakeSettings(type="fake", base=base), ProviderContext(name))
        self._base = NamedBase(name, base, bases, self._nobody, _now) if base and bases else None
        self.label = label
        self.value: Any = key()
        self.calls = 0
        self.closed = False
        self.gate: threading.Event | None = None
        self._poll_s = poll_s

    @property
    def poll_interval_s(self) -> float:
        return self._poll_s

    def hold(self) -> threading.Event:
        """Have the next calls wait until the returned gate is set."""
        self.gate = threading.Event()
        return self.gate

    def _fetch(self, timeout_s: float) -> Credential:
        self.calls += 1
        gate, value = self.gate, self.value
        if gate is not None:
            gate.wait(PATIENCE_S)
        if isinstance(value, BaseException):
            raise value
        return value(self._base.newest(timeout_s)) if self._base else value  # type: ignore[no-any-return]

    def _nobody(self) -> Provider:
        raise AssertionError("the engine asks the base, not the provider")

    def close(self) -> None:
        self.closed = True


class FakeDependent(Notifier):
    """Told by a call of `tell`; fails while `broken`, waits while `gate` is shut."""

    type_name = "fake"
    Settings = NotifierSettings

    def __init__(self, name: str, **settings: Any) -> None:
        durations = {k: Duration(v) if k in ("retry_for", "splay", "timeout") else v for k, v in settings.items()}
        super().__init__(NotifierSettings(type="fake", **durations))
        self.name = name
        self.events: list[PublishEvent] = []
        self.broken = False
        self.said = "it is down"
        self.gate: threading.Event | None = None
        self.evidence = Pickup.ASSUMED
        self.on_tell: Callable[[PublishEvent], None] = lambda _event: None

    @property
    def target(self) -> str:
        return self.name

    @property
    def identity(self) -> tuple[str, ...]:
        return ("fake", self.name)

    @property
    def generations(self) -> list[int]:
        return [event.generation for event in self.events]

    def tell(self, event: PublishEvent, cancel: threading.Event) -> Told:
        self.events.append(event)
        self.on_tell(event)
        if self.gate is not None:
            self.gate.wait(PATIENCE_S)
        if self.broken:
            raise NotifyError(f"{self.name}: {self.said}", "mend it")
        return Told(f"told {self.name}")

    def pickup(self, since: datetime) -> Pickup:
        return self.evidence
