"""`keyturn run`: the engine for systemd or any other supervisor, in the foreground.

READY is said once the first pass over all credentials has ended, whatever its outcome (one whose files stand as
they were published has passed: it serves already, and is looked at when it is time). Until then STATUS= names
whom it waits for, and the manager is asked for more time again and again, since a pass may last longer than any limit
of a unit (`verify_timeout` is the operator's); afterwards STATUS= follows what `status` would say. Both this request
and the watchdog hang on the loop's own timer, so they are made only while the scheduler moves.
SIGHUP builds the whole new world from the config before it touches the old one, and a bad config leaves
everything as it is; whatever comes of it, READY=1 ends the RELOADING=1. SIGUSR1 refreshes everything. Either is
heard from the first moment on (agent/cli/main.py) and done once the loop runs.
SIGTERM and SIGINT: hooks and calls under way are told to come back, what is owed stays on disk, and the
process ends within seconds; a publish is never cut short, because it runs on the same thread that would
have to stop.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from agent.app import status, wiring
from agent.app.refresh_now import chosen, refresh
from agent.app.wiring import Application
from agent.audit import AuditLog
from agent.control.server import ControlServer, Send
from agent.core.errors import ConfigError, KeyturnError, UsageError
from agent.core.events import Actor, Cause, Event, Trigger
from agent.core.settings import Settings
from agent.emergency.procedure import Emergency
from agent.emergency.report import emergency_request
from agent.engine.engine import Engine
from agent.engine.reload import take_over
from agent.logs.log import describe, log
from agent.logs.setup import set_up
from agent.metrics.exporter import MetricsExporter
from agent.runtime.event_loop import safely
from agent.system import systemd_credentials
from agent.system.accounts import actor_name
from agent.system.signals import deliver_kept
from agent.system.systemd_notify import ServiceManager
from agent.systemd_setup.unit import credential_sources

LINGER_S = 3.0
"""How long the end waits for hooks and calls to come back."""
START_PULSE_S = 5.0
"""How often more time is asked for while the first pass is under way."""
START_EXTENSION_S = 30.0
"""For how long: a daemon that is stuck before READY is ended that much later."""


class Daemon:
    """One run, from the first record to the last."""

    def __init__(self, house: Application, manager: ServiceManager) -> None:
        self._house, self._manager = house, manager
        self._engine: Engine = house.engine
        self._audit: AuditLog = house.audit
        self._started_at: datetime = self._engine.clock.now()
        self._outlook = MetricsExporter(self._engine)
        self._ready = False
        self._status = ""
        self._commands: dict[str, Callable[[dict[str, Any], Actor, Send], tuple[dict[str, Any], int]]] = {
            "status": self._on_status,
            "refresh": self._on_refresh,
            "rotate": self._on_rotate,
        }

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        self._record(Event.AGENT_STARTED, error="; ".join(self._audit.remarks) or None)
        for remark in self._audit.remarks:
            log.error("the audit log was not as it should be", detail=remark)
        self._beat()
        self._engine.recover()
        _state, runtime, _audit = wiring.paths(self._house.settings)
        server = ControlServer(runtime, self._house.settings.agent.control_group, self._handle)
        self._hear_signals()
        self._engine.on_first_pass = self._say_ready
        self._engine.on_turn = self._say_status
        safely(partial(self._outlook.follow, self._house.settings.agent))
        log.info("started", config=self._house.config_path, credentials=len(self._engine.desks))
        self._engine.start_all()  # which may be ready at once
        self._say_status()
        try:
            self._engine.run()
        finally:
            self._manager.stopping()
            server.close()
            self._linger()
            safely(self._outlook.close)
            self._record(Event.AGENT_STOPPED)
            log.info("stopped")

    # -- signals ------------------------------------------------------------------------------------

    def _hear_signals(self) -> None:
        post = self._engine.loop.post
        self._engine.loop.wake_on_signals()
        signal.signal(signal.SIGTERM, lambda *_: post(self._engine.stop))
        signal.signal(signal.SIGINT, lambda *_: post(self._engine.stop))
        signal.signal(signal.SIGHUP, lambda *_: post(self._reload))
        signal.signal(signal.SIGUSR1, lambda *_: post(partial(self._engine.refresh_all, Trigger.SIGNAL)))
        deliver_kept()

    def _reload(self) -> None:
        self._manager.reloading()
        was_ready = self._ready
        try:
            self._take_over()
        except KeyturnError as error:
            self._refuse(error.problems if isinstance(error, ConfigError) else (str(error),))
        except Exception as error:  # a third party's provider, for example
            log.error("a fault while the config was reloaded", exc_info=True)
            self._refuse((f"a fault while it was taken over ({describe(error)}); see the log",))
        else:
            log.info("config reloaded", credentials=len(self._engine.desks))
            self._record(Event.CONFIG_RELOADED, trigger=str(Trigger.SIGNAL))
        finally:
            safely(self._look_at_credentials)
            if was_ready:  # else the end of the first pass says it, or has just said it
                self._status = self._summary()
                self._manager.ready(self._status)

    def _look_at_credentials(self) -> None:
        for path in systemd_credentials.outdated(credential_sources(), self._house.environ):
            log.warning(f"{path} was replaced, and systemd has not handed it over: `systemctl restart keyturn` does")

    def _take_over(self) -> None:
        house = self._house
        settings = wiring.load_settings(house.config_path, house.environ)
        self._refuse_moves(settings)
        parts = wiring.Factory(settings, house.environ, self._engine.shelf)
        take_over(self._engine, parts.credentials(), float(settings.agent.settle))
        before, house.settings, house.parts = house.settings.agent, settings, parts
        if (before.log_level, before.log_format) != (settings.agent.log_level, settings.agent.log_format):
            set_up(settings.agent.log_level, settings.agent.log_format, house.environ)
        safely(partial(self._outlook.follow, settings.agent))

    def _refuse(self, problems: Sequence[str]) -> None:
        for problem in problems:
            log.error("the new config is refused, the old one stays", error=problem)
        self._record(Event.CONFIG_REJECTED, trigger=str(Trigger.SIGNAL), error="; ".join(problems)[:8000])

    def _refuse_moves(self, settings: Settings) -> None:
        before = self._house.settings
        for old, new, name in zip(
            (*wiring.paths(before), before.agent.control_group),
            (*wiring.paths(settings), settings.agent.control_group),
            ("agent.state_directory", "agent.runtime_directory", "agent.audit.path", "agent.control_group"),
            strict=True,
        ):
            if old != new:
                raise UsageError(
                    f"{self._house.config_path}: {name} cannot change while keyturn runs", "restart keyturn"
                )

    # -- the service manager ------------------------------------------------------------------------

    def _say_ready(self) -> None:
        if not self._ready:
            self._ready = True
            self._status = self._summary()
            self._manager.ready(self._status)
            log.info("ready", status=self._status)

    def _say_status(self) -> None:
        if not self._manager.present:
            return
        text = self._summary()
        if text != self._status:
            self._status = text
            self._manager.status(text)

    def _summary(self) -> str:
        desks = self._engine.desks
        if not self._ready:
            return status.starting([name for name, desk in desks.items() if not desk.tried], len(desks))
        return status.summary((desk.managed for desk in desks.values()), self._engine.clock.now())

    def _beat(self) -> None:
        """Say that the scheduler moves: for the watchdog, where there is one, and for the limit of a start."""
        pauses_s = [self._manager.watchdog_interval_s, None if self._ready else START_PULSE_S]
        wanted_s = [pause_s for pause_s in pauses_s if pause_s is not None]
        if not self._ready:
            self._manager.starting(START_EXTENSION_S)
        if self._manager.watchdog_interval_s is not None:
            self._manager.alive()
        if wanted_s and self._manager.present:
            self._engine.timers["heartbeat"] = self._beat
            self._engine.scheduler.set("heartbeat", min(wanted_s))

    # -- the control socket -------------------------------------------------------------------------

    def _handle(self, request: dict[str, Any], actor: Actor, send: Send) -> tuple[dict[str, Any], int]:
        command = self._commands.get(str(request.get("command")))
        if command is None:
            raise UsageError("the daemon does not know this command", "restart it: it may be older than this keyturn")
        return command(request, actor, send)

    def _on_status(self, _request: dict[str, Any], _actor: Actor, _send: Send) -> tuple[dict[str, Any], int]:
        return self._engine.loop.call(self._look), 0

    def _look(self) -> dict[str, Any]:
        managed = [desk.managed for desk in self._engine.desks.values()]
        for one in managed:
            status.look_at_sinks(one)
        return status.whole(managed, self._engine.clock, self._house.config_path, os.getpid(), self._started_at)

    def _on_refresh(self, request: dict[str, Any], actor: Actor, _send: Send) -> tuple[dict[str, Any], int]:
        names = [str(name) for name in request.get("names", [])]
        answer = refresh(self._engine, names, Cause(Trigger.OPERATOR, actor))
        return answer, int(answer["exit_code"])

    def _on_rotate(self, request: dict[str, Any], actor: Actor, send: Send) -> tuple[dict[str, Any], int]:
        wanted = emergency_request(request, actor)
        (name,) = chosen(self._engine, [wanted.credential])
        parts = self._house.parts
        result = Emergency(
            self._engine, self._engine.desks[name].managed, parts.authority(name), parts.cloud(), wanted
        ).run(send)
        return result.as_json(), result.exit_code

    # -- ends ---------------------------------------------------------------------------------------

    def _linger(self) -> None:
        """Let hooks be killed and calls come back, within reason."""
        clock = self._engine.clock
        deadline = clock.boottime() + LINGER_S
        while self._engine.loop.busy() and clock.boottime() < deadline:
            self._engine.loop.turn(min(deadline, clock.boottime() + 0.1))
        self._engine.loop.drain()

    def _record(self, event: Event, **fields: Any) -> None:
        uid = os.geteuid()
        try:
            self._audit.record(event, actor=Actor(uid, actor_name(uid), os.getpid()).as_json(), **fields)
        except KeyturnError as error:
            log.error("the audit log cannot be written", error=str(error), audit_event=str(event))
