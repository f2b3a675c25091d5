"""`keyturn run`: the engine for systemd or any other supervisor, in the foreground.

READY is said once the first pass over all credentials has ended, whatever its outcome (one whose files stand as
they were published has passed: it serves already, and is looked at when it is time). Until then STATUS= names
the credentials that it waits for, and the manager is asked for more time again and again, since a pass may last
longer than any limit of a unit (`verify_timeout` is the operator's); afterwards STATUS= follows what `status` would
say. Both this request and the watchdog's are made by the scheduler, so they stop when it does.
SIGHUP builds all parts of the new config before it touches the old ones, and a bad config leaves
everything as it is; whatever comes of it, READY=1 ends the RELOADING=1. A refusal stays in STATUS=, `status` and
the metrics until a good config is loaded. SIGUSR1 refreshes everything. Either is
heard from the first moment on (agent/cli/run.py) and done once the loop runs.
SIGTERM and SIGINT: hooks and calls under way are told to come back, what is owed stays on disk, and the
process ends within seconds; a publish is never cut short, because it runs on the same thread that would have to stop.
"""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Sequence
from functools import partial
from typing import Any

from agent.app import status, wiring
from agent.app.clients import counted
from agent.app.commands import Commands
from agent.app.config_reads import READ_S, ConfigReads, NewConfig, read_config
from agent.app.fleet import FleetPart
from agent.app.rotations import rotations_of, terms_in_force
from agent.app.uri_tokens import token_request
from agent.app.wiring import Application
from agent.audit.log import AuditLog
from agent.canary.canary import Canary
from agent.control.protocol import served
from agent.control.runtime_directory import RuntimeDirectory
from agent.control.server import ControlServer, Handler, Send
from agent.core.errors import BusyError, CancelledError, ConfigError, KeyturnError, UsageError
from agent.core.events import Actor, Cause, Event, Trigger
from agent.core.settings import Settings
from agent.core.timestamps import rfc3339_micros
from agent.emergency.request import emergency_request
from agent.endpoint.gate import Gate
from agent.endpoint.listening import Endpoint
from agent.engine.engine import Engine
from agent.logs.log import describe, log
from agent.logs.setup import set_up
from agent.metrics.exporter import MetricsExporter
from agent.metrics.snapshot import FleetFigures
from agent.runtime.event_loop import answer_of, safely
from agent.serving.serving import Serving
from agent.system import systemd_credentials
from agent.system.accounts import SystemAccounts, actor_name
from agent.system.signals import deliver_kept
from agent.system.systemd_notify import ServiceManager
from agent.systemd_setup.unit import credential_sources

LINGER_S = 3.0
"""Seconds that the end waits for hooks and calls to come back."""
STATUS_SHARE = 0.05
"""The part of the loop's time that STATUS= may cost: with a thousand credentials it is not made anew at each turn."""
START_PULSE_S = 5.0
"""Seconds between two requests for more time while the first pass is under way."""
START_EXTENSION_S = 30.0
"""Seconds asked for each time: a daemon that is stuck before READY is ended that much later."""


class Daemon:
    """One run of the daemon, from the first audit record to the last."""

    def __init__(self, application: Application, manager: ServiceManager) -> None:
        self._application, self._manager = application, manager
        self._engine: Engine = application.engine
        self._audit: AuditLog = application.audit
        self._serving = Serving(self._engine, SystemAccounts(), self._audit)
        gate = Gate(application.tokens, self._serving.offers, self._serving.service, self._engine.clock.now)
        self._endpoint = Endpoint(gate)
        self._canary = Canary(self._engine, self._audit, self._serving.offered, self._is_behind, self._show_change)
        self._rotations = rotations_of(application)
        self._fleet = FleetPart(application)
        self._commands = Commands(
            application,
            self._engine.clock.now(),
            self._serving.fetches,
            canary_of=self._canary.as_json,
            rotation_of=self._rotations.as_json,
            fleet=self._fleet.as_json,
            keeps_leases=True,
        )
        self._metrics = MetricsExporter(
            self._engine, application.in_force, self._count_clients, self._canary.figures, self._fleet_figures
        )
        self._ready = False
        self._beaten_at = float("-inf")
        self._reads = ConfigReads(
            self._engine, application.config_path, partial(read_config, application), self._has_read
        )
        self._status, self._status_again_at = "", float("-inf")
        self._handlers: dict[str, Handler] = {
            "status": self._on_status,
            "refresh": self._on_refresh,
            "rotate": self._on_rotate,
            "plan": self._on_plan,
            "adopt": self._on_adopt,
            "uri_tokens": self._on_uri_tokens,
            "rotate_uri_token": self._on_rotate_uri_token,
        }

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            BusyError: another daemon serves the runtime directory; nothing was done.
            StateError: that directory cannot be used.
        """
        _state, runtime, _audit = wiring.paths(self._application.settings)
        mine = self._served()
        with RuntimeDirectory(runtime, f"config {mine['config']}, state {mine['state']}") as directory:
            self._serve(directory)

    def _serve(self, directory: RuntimeDirectory) -> None:
        self._record(Event.AGENT_STARTED, error="; ".join(self._audit.remarks) or None)
        for remark in self._audit.remarks:
            log.error("the audit log was not as it should be", detail=remark)
        self._begin_to_beat()
        self._engine.recover(self._beat_when_due)
        self._directory = directory
        self._follow_serving()
        self._follow_endpoint()
        self._follow_canary()
        self._engine.when_passed(self._follow_rotations)
        safely(self._fleet.follow)
        settings = self._application.settings
        server = ControlServer(directory, settings.agent.control_group, self._handle)
        self._hear_signals()
        self._engine.when_passed(self._say_ready)
        self._engine.after_turns(self._say_status)
        self._engine.after_turns(self._say_head)
        safely(partial(self._metrics.follow, settings.agent))
        log.info("started", config=self._application.config_path, credentials=len(settings.credentials))
        self._engine.start_all()  # which may be ready at once
        self._say_status()
        try:
            self._engine.run()
        finally:
            self._manager.stopping()
            self._fleet.close()
            self._endpoint.close()
            self._serving.close()
            server.close()
            self._engine.linger(LINGER_S)
            safely(self._rotations.close)
            safely(self._metrics.close)
            self._record(Event.AGENT_STOPPED)
            log.info("stopped")

    # -- signals ------------------------------------------------------------------------------------

    def _hear_signals(self) -> None:
        post = self._engine.post
        self._engine.wake_on_signals()
        signal.signal(signal.SIGTERM, lambda *_: post(self._engine.stop))
        signal.signal(signal.SIGINT, lambda *_: post(self._engine.stop))
        signal.signal(signal.SIGHUP, lambda *_: post(self._reload))
        signal.signal(signal.SIGUSR1, lambda *_: post(self._refresh_all))
        deliver_kept()

    def _refresh_all(self) -> None:
        self._engine.refresh_all(Trigger.SIGNAL)
        self._rotations.look_now()

    def _reload(self) -> None:
        self._manager.reloading()
        self._reads.ask()

    def _has_read(self, read: NewConfig | None, error: BaseException | None) -> None:
        was_ready = self._ready
        try:
            if read is None:
                raise error or CancelledError("nothing was read")
            self._take_over(read)
        except KeyturnError as failure:
            self._refuse(failure.problems if isinstance(failure, ConfigError) else (str(failure),))
        except Exception as failure:  # a third party's provider, for example
            log.error("a fault while the config was reloaded", exc_info=failure)
            self._refuse((f"a fault while it was taken over ({describe(failure)}); see the log",))
        else:
            log.info("config reloaded", credentials=len(self._application.settings.credentials))
            self._record(Event.CONFIG_RELOADED, trigger=str(Trigger.SIGNAL))
        finally:
            safely(self._look_at_credentials)
            if was_ready:  # else the end of the first pass says it, or has just said it
                self._note_status()
                self._manager.ready(self._status)

    def _look_at_credentials(self) -> None:
        for path in systemd_credentials.outdated(credential_sources(), self._application.environ):
            log.warning(f"{path} was replaced, and systemd has not handed it over: `systemctl restart keyturn` does")

    def _take_over(self, new: NewConfig) -> None:
        application, settings = self._application, new.settings
        self._refuse_moves(settings)
        self._engine.reload(new.credentials, float(settings.agent.settle))
        before = application.settings.agent
        application.adopt(settings, new.factory, new.read_at)
        if (before.log_level, before.log_format) != (settings.agent.log_level, settings.agent.log_format):
            set_up(settings.agent.log_level, settings.agent.log_format, application.environ)
        safely(partial(self._metrics.follow, settings.agent))
        safely(self._follow_serving)
        safely(self._follow_endpoint)
        self._follow_canary()
        self._follow_rotations()
        safely(self._fleet.follow)

    def _count_clients(self, name: str, generation: int) -> tuple[int, int]:
        return counted(self._serving.fetches, name, generation, self._engine.clock.now())

    def _show_change(self) -> None:
        self._metrics.changed()

    def _is_behind(self, name: str, generation: int) -> bool:
        return self._count_clients(name, generation)[1] > 0

    def _follow_canary(self) -> None:
        settings, factory = self._application.settings, self._application.factory
        if any(one.canary for one in settings.credentials.values()):
            self._canary.follow(factory.cloud(shares=True))

    def _follow_rotations(self) -> None:
        self._rotations.follow(terms_in_force(self._application))

    def _fleet_figures(self) -> FleetFigures | None:
        figures = self._fleet.figures()
        return dataclasses.replace(figures, rotates=self._rotations.owners()) if figures is not None else None

    def _follow_serving(self) -> None:
        directory, application = self._directory, self._application
        config = self._served()["config"]
        self._serving.follow(application.settings, config, directory.listen_to_all, directory.take_away)

    def _follow_endpoint(self) -> None:
        self._endpoint.follow(self._application.settings.agent)

    def _refuse(self, problems: Sequence[str]) -> None:
        for problem in problems:
            log.error("the new config is refused, the old one stays", error=problem)
        self._application.in_force.refused(self._engine.clock.now(), problems)
        self._metrics.changed()
        self._record(Event.CONFIG_REJECTED, trigger=str(Trigger.SIGNAL), error="; ".join(problems)[:8000])

    def _refuse_moves(self, settings: Settings) -> None:
        before = self._application.settings
        for old, new, name in zip(
            _fixed(before),
            _fixed(settings),
            (
                "agent.state_directory",
                "agent.runtime_directory",
                "agent.audit.path",
                "agent.audit.hmac_key_file",
                "agent.control_group",
            ),
            strict=True,
        ):
            if old != new:
                raise UsageError(
                    f"{self._application.config_path}: {name} cannot change while keyturn runs", "restart keyturn"
                )

    # -- the service manager ------------------------------------------------------------------------

    def _say_ready(self) -> None:
        if not self._ready:
            self._ready = True
            self._note_status()
            self._manager.ready(self._status)
            log.info("ready", status=self._status)

    def _say_status(self) -> None:
        """Say what has changed; where that was said just now and costs much, say it later."""
        if not self._manager.present:
            return
        wait_s = self._status_again_at - self._engine.clock.boottime()
        if wait_s > 0:
            self._engine.after(wait_s, _turn_once_more)
            return
        before = self._status
        self._note_status()
        if self._status != before:
            self._manager.status(self._status)

    def _say_head(self) -> None:
        wait_s = self._application.heads.say()
        if wait_s > 0:
            self._engine.after(wait_s, self._say_head)

    def _note_status(self) -> None:
        began = self._engine.clock.boottime()
        refused, fleet = self._application.in_force.summary(), self._fleet.summary()
        self._status = status.summary(self._engine.snapshot(), refused, fleet)
        ended = self._engine.clock.boottime()
        self._status_again_at = ended + (ended - began) / STATUS_SHARE

    def _begin_to_beat(self) -> None:
        """Begin to say that the scheduler moves: to the watchdog, where there is one, and for the time limit of a start."""
        self._beat()
        self._engine.every(self._beat_pause_s, self._beat)

    def _beat_when_due(self) -> None:
        pause_s = self._beat_pause_s()
        if pause_s is not None and self._engine.clock.boottime() - self._beaten_at >= pause_s:
            self._beat()

    def _beat(self) -> None:
        self._beaten_at = self._engine.clock.boottime()
        if not self._ready:
            self._manager.starting(START_EXTENSION_S)
        if self._manager.watchdog_interval_s is not None:
            self._manager.alive()

    def _beat_pause_s(self) -> float | None:
        pauses_s = [self._manager.watchdog_interval_s, None if self._ready else START_PULSE_S]
        wanted_s = [pause_s for pause_s in pauses_s if pause_s is not None]
        return min(wanted_s) if wanted_s and self._manager.present else None

    # -- the control socket -------------------------------------------------------------------------

    def _handle(self, request: dict[str, Any], actor: Actor, send: Send) -> tuple[dict[str, Any], int]:
        self._refuse_for_others(request)
        handler = self._handlers.get(str(request.get("command")))
        if handler is None:
            raise UsageError("the daemon does not know this command", "restart it: it may be older than this keyturn")
        return handler(request, actor, send)

    def _served(self) -> dict[str, str]:
        application = self._application
        return served(application.config_path, wiring.paths(application.settings)[0])

    def _refuse_for_others(self, request: dict[str, Any]) -> None:
        """Refuse a command that means another config and another state: it would be done to the wrong credentials."""
        meant, mine = request.get("meant"), self._served()
        if isinstance(meant, dict) and not any(meant.get(key) == value for key, value in mine.items()):
            raise BusyError(
                f"the keyturn that answers here (pid {os.getpid()}) works with the config {mine['config']} and the state "
                f"{mine['state']}, not with the config {meant.get('config')}; nothing was done",
                "name that config with --config, or give this one an `agent.runtime_directory` of its own",
            )

    def _on_status(self, request: dict[str, Any], _actor: Actor, _send: Send) -> tuple[dict[str, Any], int]:
        if request.get("after_reload"):
            self._wait_for_reload()
        return self._commands.status(), 0

    def _wait_for_reload(self) -> None:
        """Wait until a reload that was asked for before has ended: only then is it known whether it was refused.

        Raises:
            CancelledError: it takes too long.
        """
        wait_s = 3 * READ_S  # what was asked for during a read is read behind it
        late = CancelledError(f"{self._application.config_path} is still being read", "see the log of keyturn")
        answer_of(answer_of(self._engine.submit(self._reads.when_done), READ_S, late), wait_s, late)

    def _on_refresh(self, request: dict[str, Any], actor: Actor, send: Send) -> tuple[dict[str, Any], int]:
        answer = self._commands.refresh(_names(request), Cause(Trigger.OPERATOR, actor), send)
        self._engine.post(partial(self._rotations.look_now, _names(request)))
        return self._dated(answer), int(answer["exit_code"])

    def _dated(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return an answer with when the config was read: who asked compares that with the file's times, and need not judge it."""
        return {**answer, "config_loaded_at": rfc3339_micros(self._application.in_force.loaded_at)}

    def _on_rotate(self, request: dict[str, Any], actor: Actor, send: Send) -> tuple[dict[str, Any], int]:
        result = self._commands.rotate(emergency_request(request, actor), send)
        return self._dated(result.as_json()), result.exit_code

    def _on_plan(self, request: dict[str, Any], actor: Actor, _send: Send) -> tuple[dict[str, Any], int]:
        meant = request.get("rotate")
        wanted = emergency_request(meant, actor) if isinstance(meant, dict) else None
        deadline_s = request.get("deadline_s")
        return self._commands.plan(str(request.get("credential")), wanted, deadline_s), 0

    def _on_adopt(self, request: dict[str, Any], actor: Actor, _send: Send) -> tuple[dict[str, Any], int]:
        name, agreed = str(request.get("credential")), str(request.get("access_key_id") or "")
        answer = self._commands.adopt(name, agreed, Cause(Trigger.OPERATOR, actor))
        if agreed:
            self._engine.post(partial(self._rotations.look_again, name))
        return self._dated(answer), 0

    def _on_uri_tokens(self, request: dict[str, Any], _actor: Actor, _send: Send) -> tuple[dict[str, Any], int]:
        return self._commands.uri_tokens(_names(request)), 0

    def _on_rotate_uri_token(self, request: dict[str, Any], actor: Actor, _send: Send) -> tuple[dict[str, Any], int]:
        return self._commands.rotate_uri_token(token_request(request, actor)), 0

    # -- ends ---------------------------------------------------------------------------------------

    def _record(self, event: Event, **fields: Any) -> None:
        uid = os.geteuid()
        try:
            self._audit.record(event, actor=Actor(uid, actor_name(uid), os.getpid()).as_json(), **fields)
        except KeyturnError as error:
            log.error("the audit log cannot be written", error=str(error), audit_event=str(event))


def _names(request: dict[str, Any]) -> list[str]:
    names = request.get("names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError("not a request of keyturn's: names is no list of names", "use the keyturn command")
    return names


def _fixed(settings: Settings) -> tuple[object, ...]:
    """Return what a reload does not change."""
    agent = settings.agent
    return (*wiring.paths(settings), agent.audit.hmac_key_file, agent.control_group)


def _turn_once_more() -> None:
    """Do nothing: at the end of the turn that this begins, what was put off is said."""
