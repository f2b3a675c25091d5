"""Dependents that a drill only names: whom the emergency would tell, and how. Nobody is told, run, posted to or asked."""

from __future__ import annotations

import threading

from agent.app import wiring
from agent.core.events import PublishEvent
from agent.core.settings import NotifierSettings
from agent.notifiers.interface import NoEffect, Notifier, Told
from agent.notifiers.systemd import SystemdNotifier, SystemdSettings


class NamedOnly(Notifier):
    """A dependent in a drill: it has the name and the identity of the real one, and telling it does nothing."""

    Settings = NotifierSettings

    def __init__(self, settings: NotifierSettings) -> None:
        """Make the real one for what it is called; it is never told, nor asked for its pickup."""
        super().__init__(settings)
        # systemctl is looked for nowhere: what the unit can do stays unknown, and nothing is run to find out.
        self._real = (
            SystemdNotifier(settings, search_path="")
            if isinstance(settings, SystemdSettings)
            else wiring.notifier_of(settings)
        )

    @property
    def type_name(self) -> str:  # type: ignore[override]
        """The type in the config."""
        return self._real.type_name

    @property
    def target(self) -> str:
        """The dependent's name."""
        return self._real.target

    @property
    def identity(self) -> tuple[str, ...]:
        """The dependent's identity: one that several credentials name is told once, as in an emergency."""
        return self._real.identity

    @property
    def act(self) -> str:
        """The way in which the emergency would tell it."""
        return self._real.act

    def tell(self, event: PublishEvent, cancel: threading.Event) -> Told:
        """Tell nobody."""
        return Told(f"a drill: not told; the emergency would: {self.act}")

    def by_hand(self) -> str:
        """Return how an operator moves it; see `Notifier.by_hand`."""
        return self._real.by_hand()

    def hindered(self, sink_types: frozenset[str]) -> NoEffect | None:
        """Return why the notification cannot take effect, as far as the config alone says; see `Notifier.hindered`."""
        return self._real.hindered(sink_types)
