"""Where records come from: the host in each of them; in some also which keyturn, and by which config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.events import Event

OF_A_CONFIG = frozenset({Event.AGENT_STARTED, Event.CONFIG_RELOADED, Event.PUBLISHED, Event.ROTATION_STARTED})
"""The events whose records name the version of keyturn and the config: what an auditor asks of a new key, and where they change."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The fields that records have in common; what is empty is left out of them.

    Attributes:
        host: the host's name.
        agent_version: of keyturn.
        config: the digest of the config in force (agent/core/settings.py).
    """

    host: str = ""
    agent_version: str = ""
    config: str = ""

    def under(self, config: str) -> Origin:
        """Return the same origin under another config."""
        return dataclasses.replace(self, config=config)

    def of_all(self) -> Mapping[str, str]:
        """Return the fields of every record."""
        return _told(host=self.host)

    def of_a_config(self) -> Mapping[str, str]:
        """Return the fields of the records in `OF_A_CONFIG`."""
        return _told(host=self.host, agent_version=self.agent_version, config=self.config)


def _told(**fields: str) -> Mapping[str, str]:
    return {name: value for name, value in fields.items() if value}
