"""The listener that the config asks for, over reloads."""

from __future__ import annotations

from agent.core.settings import AgentSettings
from agent.endpoint.gate import Gate, without_body
from agent.http.listener import Listener, Manner

MAX_CONNECTIONS = 64
MANNER = Manner("the credentials endpoint", MAX_CONNECTIONS, without_body)


class Endpoint:
    """The credentials endpoint of a daemon, as its config asks for it. Belongs to the loop's thread."""

    def __init__(self, gate: Gate) -> None:
        """Begin without a listener."""
        self._gate = gate
        self._listener: Listener | None = None

    def follow(self, agent: AgentSettings) -> None:
        """Begin, move or end the listener as this config says; clients of one that stays notice nothing."""
        address = agent.endpoint.listen if agent.endpoint is not None else None
        if self._listener is not None and self._listener.address != address:
            self.close()
        if address is not None and self._listener is None:
            self._listener = Listener(address, lambda: self._gate.answer, MANNER)

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
