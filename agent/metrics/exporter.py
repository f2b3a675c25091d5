"""The listener and the file that the config asks for: one of them, neither, or both."""

from __future__ import annotations

from functools import partial

from agent.core.config_in_force import ConfigInForce
from agent.core.settings import AgentSettings
from agent.engine.engine import Engine
from agent.http.listener import Answer, Listener, Manner
from agent.metrics.counters import Counters
from agent.metrics.endpoints import Endpoints
from agent.metrics.snapshot import (
    CanaryOf,
    ClientsOf,
    FleetOf,
    SnapshotReader,
    no_canary,
    no_clients,
    no_fleet,
    take,
)
from agent.metrics.textfile import Textfile

MANNER = Manner("metrics")


class MetricsExporter:
    """The metrics of a daemon, as its config asks for them. Belongs to the loop's thread."""

    def __init__(
        self,
        engine: Engine,
        in_force: ConfigInForce,
        clients_of: ClientsOf = no_clients,
        canary_of: CanaryOf = no_canary,
        fleet_of: FleetOf = no_fleet,
    ) -> None:
        self._engine, self._shown = engine, (in_force, clients_of, canary_of, fleet_of)
        self._counts: Counters | None = None
        self._listener: Listener | None = None
        self._textfile: Textfile | None = None

    def follow(self, agent: AgentSettings) -> None:
        """Begin, move or end listener and file as this config says; what it says as before goes on undisturbed."""
        if self._counts is None:
            if not (agent.metrics_listen or agent.metrics_textfile):
                return
            self._counts = Counters()
            self._glass = SnapshotReader(self._engine, self._counts, *self._shown)
            self._engine.observe(self._counts)
        self._listen(agent.metrics_listen)
        self._write(agent.metrics_textfile)
        self._counts.changed()

    def changed(self) -> None:
        """Note that there is something new to show, such as a refused config."""
        if self._counts is not None:
            self._counts.changed()

    def close(self) -> None:
        """Stop listening, and write the file a last time; it stays."""
        if self._listener is not None:
            self._listener.close()
        if self._textfile is not None and self._counts is not None:
            self._textfile.close(take(self._engine, self._counts, *self._shown))

    def _listen(self, address: str | None) -> None:
        if self._listener is not None and self._listener.address != address:
            self._listener.close()
            self._listener = None
        if address is not None and self._listener is None:
            self._listener = Listener(address, partial(_answers, self._glass), MANNER)

    def _write(self, path: str | None) -> None:
        assert self._counts is not None
        if self._textfile is not None and self._textfile.path != path:
            self._textfile.close(remove=True)
            self._textfile, self._counts.on_change = None, lambda: None
        if path is not None and self._textfile is None:
            self._textfile = Textfile(path, self._glass)
            self._counts.on_change = self._textfile.changed


def _answers(glass: SnapshotReader) -> Answer:
    endpoints = Endpoints(glass)
    return lambda request, _channel: endpoints.answer(request)
