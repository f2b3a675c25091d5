"""The listener that the config asks for, over reloads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.core.settings import AgentSettings
from agent.endpoint.gate import Gate, without_body
from agent.endpoint.tokens import TokenBook
from agent.http.listener import Listener, Manner
from agent.sinks.interface import Sink

MAX_CONNECTIONS = 64
MANNER = Manner("the credentials endpoint", MAX_CONNECTIONS, without_body)


class Endpoint:
    """The credentials endpoint of a daemon, as its config asks for it. Belongs to the loop's thread."""

    def __init__(self, gate: Gate, book: TokenBook) -> None:
        """Begin without a listener."""
        self._gate, self._book = gate, book
        self._listener: Listener | None = None

    def follow(self, agent: AgentSettings, sinks: Mapping[str, Iterable[Sink]]) -> None:
        """Begin, move or end the listener as this config says; clients of one that stays notice nothing.

        Args:
            agent: `[agent]`.
            sinks: of each credential, those that the engine publishes to from now on.
        """
        self._book.follow(sinks)
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
