"""A fleet as a part of the daemon: nothing of it is imported before a config has `[fleet]`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.app.wiring import Application, paths
from agent.core.errors import CancelledError, KeyturnError, UsageError
from agent.core.lease import LeaseBoard
from agent.core.settings import FleetSettings, Settings
from agent.engine.version_held import VersionHeld
from agent.logs.log import log
from agent.metrics.snapshot import FleetFigures
from agent.ram_rotation.tenure import OpenLease
from agent.runtime.event_loop import answer_of
from agent.system.questions import Questions

if TYPE_CHECKING:
    from agent.app.other_hosts import AskHosts, Host
    from agent.fleet.board import Board
    from agent.fleet.member import Member
    from agent.fleet.rotation import FleetRotation


CALL_S = 60.0
TELL_S = 10.0
"""Seconds that `once` may take to tell its fleet."""


class FleetPart:
    """This host's part in a fleet, where it has one. On the loop's thread; `as_json` is for any."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._member: Member | None = None
        self._problem: KeyturnError | None = None

    def follow(self) -> None:
        """Begin, go on or end to be in a fleet as the config in force says.

        That the client of Redis is not installed ends nothing: it is said as a board is that is away.
        """
        application = self._application
        wanted, self._problem = application.settings.fleet, None
        if wanted is None and self._member is None:
            return
        if self._member is None:
            try:
                require_client()
            except UsageError as error:
                self._problem = error
                log.error("there is no fleet; everything else goes on as on one host", error=str(error))
                return
            from agent.fleet.member import Member, machine_id

            machine = machine_id(paths(application.settings)[0])
            self._member = Member(application.engine, application.factory.hostname, machine)
        self._member.follow(
            application.settings, partial(open_board, wanted, environ=application.environ) if wanted else _nothing
        )

    def as_json(self) -> dict[str, Any] | None:
        """Return what `status --json` shows of the connection; None where the config has no fleet."""
        health = self._member.health if self._member is not None else None
        if self._problem is not None:
            host = getattr(self._application.settings.fleet, "host", None) or self._application.factory.hostname
            return {"host": host, "connected": False, "down_for_s": None, "error": str(self._problem)}
        if health is None or self._member is None:
            return None
        down_since, now = health.down_since, self._application.engine.clock.boottime()
        return {
            "host": self._member.host,
            "connected": health.up_since is not None,
            "down_for_s": None if down_since is None else round(now - down_since, 1),
            "error": health.error or None,
        }

    def summary(self) -> str:
        """Return what the line of the service manager says of the fleet: "" unless its board is away for long."""
        if self._problem is not None:
            return f"no fleet: {self._problem.problem.removeprefix('fleet: ')}"
        return "the fleet's board is away" if self._member is not None and self._member.away_for_long else ""

    def figures(self) -> FleetFigures | None:
        """Return what metrics show of the fleet; None without one."""
        member = self._member
        health = member.health if member is not None else None
        if self._problem is not None:
            return FleetFigures(is_connected=False, hosts={}, converged_s={})
        if member is None or health is None:
            return None
        hosts = {name: dataclasses.asdict(one) for name, one in member.counts.items()}
        return FleetFigures(health.up_since is not None, hosts, dict(member.converged_s))

    def close(self) -> None:
        """End the connections."""
        if self._member is not None:
            self._member.close()


class OnePass:
    """This host in its fleet while it does one pass, `keyturn once`, with no daemon. On a thread that is not the loop's."""

    def __init__(self, application: Application, warn: Callable[[str], None]) -> None:
        """Note what is held before the pass, where the config has a fleet.

        Args:
            application: whose engine runs.
            warn: called with why the fleet could not be told: that ends nothing.
        """
        self._application, self._warn, self._board = application, warn, None
        fleet = application.settings.fleet
        if fleet is None:
            return
        try:
            self._board = open_board(fleet, environ=application.environ)
        except KeyturnError as error:
            warn(f"the fleet was not told: {error}")
            return
        from agent.fleet.one_pass import Failures  # imports the client of Redis, which open_board has checked

        self._failures = Failures()
        self._before = self._look(partial(application.engine.observe, self._failures))

    def tell(self) -> None:
        """Say how this host stands now, and announce a version that came meanwhile; within `TELL_S`."""
        board, settings = self._board, self._application.settings
        if board is None or settings.fleet is None:
            return
        from agent.fleet.member import machine_id
        from agent.fleet.one_pass import tell

        host = settings.fleet.host or self._application.factory.hostname
        now, at = self._look(), self._application.engine.clock.now().timestamp()
        machine = machine_id(paths(settings)[0])
        failed = dict(self._failures.last)
        questions = Questions(TELL_S)
        try:
            telling = questions.ask(lambda: tell(board, host, machine, self._before, now, failed, at))
            if questions.answer(telling):
                self._warn(
                    f"another machine goes by the name {host} in the fleet; give one of them another `[fleet] host`"
                )
        except KeyturnError as error:
            self._warn(f"the fleet was not told: {error}")

    def _look(self, also: Callable[[], None] = lambda: None) -> dict[str, VersionHeld]:
        """Return what is held of each credential that takes part."""
        from agent.fleet.member import shared_credentials

        engine, settings = self._application.engine, self._application.settings

        def look() -> dict[str, VersionHeld]:
            also()
            found = {name: engine.version_held(name) for name in shared_credentials(settings)}
            return {name: held for name, held in found.items() if held is not None}

        return answer_of(engine.submit(look), CALL_S, CancelledError("the agent did not answer in time"))


def rotation_over(settings: Settings, hostname: str, environ: Mapping[str, str], name: str) -> FleetRotation | None:
    """Return the fleet for a rotation of one credential; None where it has none. Connects to nothing yet.

    Args:
        settings: the config in force.
        hostname: what this host is called where the config does not say.
        environ: the environment of the agent.
        name: of the credential.

    Raises:
        KeyturnError: as `open_board`.
    """
    if settings.fleet is None or not any(settings.credentials[name].provider.own_secrets()):
        return None
    board = open_board(settings.fleet, environ=environ)
    from agent.fleet.member import machine_id
    from agent.fleet.rotation import FleetRotation

    return FleetRotation(board, settings.fleet.host or hostname, machine_id(paths(settings)[0]), name)


def lease_opener(settings: Settings, hostname: str, environ: Mapping[str, str], user: str) -> OpenLease | None:
    """Return what opens a connection to the board for the lease of a RAM user's rotation; None where there is no fleet.

    Args:
        settings: the config in force.
        hostname: what this host is called where the config does not say.
        environ: the environment of the agent.
        user: the RAM user.
    """
    fleet = settings.fleet
    if fleet is None:
        return None

    def opened() -> LeaseBoard:
        board = open_board(fleet, environ=environ)
        from agent.fleet.lease import RamUserLease
        from agent.fleet.member import machine_id

        return RamUserLease(board, user, fleet.host or hostname, machine_id(paths(settings)[0]))

    return opened


def asking_hosts(settings: Settings, hostname: str, environ: Mapping[str, str], name: str) -> AskHosts | None:
    """Return what reads the other hosts that have a credential, for another thread; None where there is no fleet to ask.

    Args:
        settings: the config in force.
        hostname: what this host is called where the config does not say.
        environ: the environment of the agent.
        name: of the credential.
    """
    if settings.fleet is None or not any(settings.credentials[name].provider.own_secrets()):
        return None

    def ask() -> Sequence[Host]:
        rotation = rotation_over(settings, hostname, environ, name)
        assert rotation is not None
        with closing(rotation):
            return rotation.others()

    return ask


def require_client() -> None:
    """Return where the client of Redis is installed.

    Raises:
        UsageError: it is not.
    """
    try:
        import agent.fleet.client  # noqa: F401
    except ImportError as error:
        if error.name != "redis":
            raise
        raise UsageError(
            "fleet: the client of Redis is not installed", "install keyturn with it: pip install 'keyturn[fleet]'"
        ) from None


def open_board(settings: FleetSettings, wait_s: float = 0.0, *, environ: Mapping[str, str] = os.environ) -> Board:
    """Return the board of a fleet (agent/fleet/client.py).

    Raises:
        UsageError: the client of Redis is not installed.
        KeyturnError: the password or the CA file cannot be used.
    """
    require_client()
    from agent.fleet.client import opened

    return opened(settings, environ, wait_s)


def _nothing(_wait_s: float) -> Board:
    raise KeyturnError("there is no fleet")
