"""What `check` says of `[fleet]`: files, server, the rights there, another machine by this host's name. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.app import wiring
from agent.app.check_ram_user import leased_users, owner_finding
from agent.app.fleet import open_board
from agent.core.errors import KeyturnError
from agent.core.finding import Finding
from agent.core.lease import Lease
from agent.core.settings import FleetSettings, Settings
from agent.core.text import first_few
from agent.system.clock import Clock
from agent.system.questions import Questions

if TYPE_CHECKING:
    from agent.fleet.board import Board, Host

PLACE = "fleet"
ASK_S = 15.0
"""Seconds for all that is asked of the server."""


@dataclass(frozen=True, slots=True)
class _Seen:
    missing: Mapping[str, str]
    hosts: Mapping[str, list[Host]]
    leases: Mapping[str, Lease]


def findings(settings: Settings, hostname: str, environ: Mapping[str, str], *, offline: bool) -> Iterator[Finding]:
    """Look at `[fleet]`, where the config has it.

    Args:
        settings: the config.
        hostname: what this host is called where the config does not say.
        environ: the environment of the agent.
        offline: ask no server.
    """
    fleet = settings.fleet
    if fleet is None:
        return
    try:
        board = open_board(fleet, environ=environ)
    except KeyturnError as error:
        yield from _cannot_open(fleet, environ, error)
        return
    from agent.fleet.member import (  # imports the client of Redis, which open_board has checked
        machine_id,
        shared_credentials,
    )

    names, leased = list(shared_credentials(settings)), leased_users(settings)
    if names:
        yield Finding(
            "ok",
            PLACE,
            f"these credentials take part, under the same names on every host: {', '.join(first_few(names))}",
        )
    elif not leased:
        yield Finding(
            "warning", PLACE, "no credential takes part: none is the value of a KMS secret", "leave [fleet] out"
        )
    if fleet.password_from_file_path is None:
        remedy = "give the hosts a user and a password (docs/fleet.md)"
        yield Finding("warning", PLACE, "there is no password: whoever reaches the server may write the board", remedy)
    if offline:
        return
    yield Finding.begins(f"{PLACE}.url", "the server is asked")
    questions, host = Questions(ASK_S), fleet.host or hostname
    machine = machine_id(wiring.paths(settings)[0])
    users = sorted({plan.user for plan in leased.values()})
    try:
        seen = questions.answer(questions.ask(lambda: _asked(board, names, users, host, machine)))
    except KeyturnError as error:
        yield Finding.of("error", f"{PLACE}.url", error.as_problem())
        return
    yield from _rights(seen.missing)
    yield from _hosts(seen.hosts, host, machine)
    for name, plan in leased.items():
        if plan.user in seen.leases:
            yield owner_finding(name, plan, seen.leases[plan.user], Clock().now())


def _cannot_open(fleet: FleetSettings, environ: Mapping[str, str], error: KeyturnError) -> Iterator[Finding]:
    """Yield why there is no board, at the key of the config that it is about."""
    try:
        from agent.fleet.client import password_of, trust_of
    except ImportError:
        yield Finding.of("error", PLACE, error.without_place().as_problem())
        return
    looks: dict[str, Callable[[], object]] = {}
    if fleet.password_from_file_path is not None:
        looks["password_from_file_path"] = lambda: password_of(fleet, environ)
    if fleet.url.startswith("rediss:"):
        looks["ca_file"] = lambda: trust_of(fleet)
    for key, look in looks.items():
        try:
            look()
        except KeyturnError as wrong:
            yield Finding.of("error", f"{PLACE}.{key}", wrong.as_problem())


def _asked(board: Board, names: list[str], users: list[str], host: str, machine: str) -> _Seen:
    from agent.fleet.lease import RamUserLease

    with closing(board):
        missing = board.missing_rights(has_leases=bool(users))
        if missing:
            return _Seen(missing, {}, {})
        leases = {user: RamUserLease(board, user, host, machine).look() for user in users}
        return _Seen(missing, {name: board.hosts(name) for name in names}, leases)


def _rights(missing: Mapping[str, str]) -> Iterator[Finding]:
    if not missing:
        yield Finding("ok", f"{PLACE}.url", "the board is reached, and its user may do all that a host does")
        return
    allow = " ".join(f"+{command.lower()}" for command in missing)
    said = ", ".join(f"{command} ({words})" for command, words in missing.items())
    remedy = f"give that user the rules of docs/fleet.md: ~keyturn:* {allow}"
    yield Finding("error", f"{PLACE}.username", f"the server refuses what a host has to do: {said}", remedy)


def _hosts(found: Mapping[str, list[Host]], own: str, machine: str) -> Iterator[Finding]:
    clash = {
        name
        for name, hosts in found.items()
        for one in hosts
        if one.name == own
        and one.is_live
        and one.state is not None
        and (one.state.twins or one.state.machine != machine)
    }
    if clash:
        text = f"another machine goes by the name {own} on the board, so no emergency can tell the two apart"
        yield Finding(
            "error", f"{PLACE}.host", text, "give one of them another `[fleet] host`, the same for all its credentials"
        )
    for name, hosts in found.items():
        live, absent = (sorted(one.name for one in hosts if one.is_live is wanted) for wanted in (True, False))
        said = f"live hosts: {len(live)}"
        said += f"; absent: {len(absent)} ({', '.join(first_few(absent))})" if absent else ""
        yield Finding("ok", PLACE, f"credentials.{name}: {said}")
