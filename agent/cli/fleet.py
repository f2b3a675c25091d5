"""`keyturn fleet status` and `keyturn fleet leave`: read from the board itself, so they need no daemon."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from agent.app import wiring
from agent.app.fleet import open_board, require_client
from agent.cli import output
from agent.core.errors import EXIT_DONE, EXIT_FAILED, KeyturnError, UsageError
from agent.core.names import known_names
from agent.core.ram_user import HasRamUser
from agent.core.settings import FleetSettings, Settings
from agent.core.spans import span
from agent.system.clock import Clock
from agent.system.terminal import cleared, is_terminal
from agent.systemd_setup.unit import with_credentials

WATCH_S = 2.0
MOODS = {"current": "good", "behind": "so-so", "absent": "bad"}


def status(options: argparse.Namespace) -> int:
    """Print every host of every credential, or again and again; return 1 where one is behind or absent, else 0."""
    settings, fleet = _settings(options.config)
    names = _names(settings, options.names)
    if not options.watch:
        found = _found(settings, fleet, names)
        _print(found, options)
        return EXIT_DONE if all(one["state"] == "current" for one in _hosts(found)) else EXIT_FAILED
    try:
        while True:
            _print_again(settings, fleet, names, options)
            time.sleep(WATCH_S)
    except KeyboardInterrupt:
        return EXIT_DONE


def leave(options: argparse.Namespace) -> int:
    """Take this host, or the named one, off the board; return the exit code."""
    settings, fleet = _settings(options.config)
    host = options.host or _own(settings, fleet)
    with closing(open_board(fleet, environ=with_credentials(os.environ))) as board:
        from agent.fleet.lease import RamUserLease

        gone = board.forget(host, _names(settings, []))
        leases = [RamUserLease(board, user, host, "") for user in _ram_users(settings)]
        let_go = [lease.user for lease in leases if lease.forget()]
    if not gone and not let_go:
        raise UsageError(f"fleet: no host {host!r} is on the board", "see `keyturn fleet status`")
    result = {"fleet": fleet.name, "host": host, "credentials": gone, "leases": let_go}
    said = f"{host} left the fleet, with {gone} credentials"
    said += f" and the rotation of RAM user {', '.join(let_go)}" if let_go else ""
    print(json.dumps(result) if options.json else said, file=options.out)
    if host == _own(settings, fleet) and not options.json:
        print("keyturn: a daemon that still runs here puts it back within a minute: stop it first", file=sys.stderr)
    return EXIT_DONE


def _settings(config: str) -> tuple[Settings, FleetSettings]:
    settings = wiring.load_settings(config, os.environ)
    if settings.fleet is None:
        raise UsageError(
            f"{config}: there is no [fleet]", 'name its Redis or Tair there: [fleet], then url = "rediss://host:6379/0"'
        )
    require_client()
    return settings, settings.fleet


def _ram_users(settings: Settings) -> dict[str, list[str]]:
    """Return the RAM users whose keys a host of the fleet rotates, each with the names of its credentials."""
    found: dict[str, list[str]] = {}
    for name, entry in settings.credentials.items():
        if isinstance(entry.provider, HasRamUser):
            found.setdefault(entry.provider.ram_user.user, []).append(name)
    return found


def _own(settings: Settings, fleet: FleetSettings) -> str:
    return fleet.host or wiring.Factory(settings, os.environ).hostname


def _names(settings: Settings, wanted: Sequence[str]) -> list[str]:
    from agent.fleet.member import shared_credentials  # imports the client of Redis, which `_settings` asked for

    shared = list(shared_credentials(settings))
    known_names(list(settings.credentials), wanted)
    for name in wanted:
        if name not in shared:
            raise UsageError(
                f"credentials.{name}: no other host can have its value, so it is not on the board",
                f"those that are: {', '.join(shared) or 'none'}",
            )
    return list(wanted) or shared


def _found(settings: Settings, fleet: FleetSettings, names: Sequence[str]) -> dict[str, Any]:
    from agent.fleet.convergence import newest_version  # imports the client of Redis, which `_settings` asked for

    own = _own(settings, fleet)
    with closing(open_board(fleet, environ=with_credentials(os.environ))) as board:
        recent = board.recent(names, 10)
        credentials = {}
        for name in names:
            hosts = board.hosts(name)
            newest = newest_version(hosts, [one for _entry, one in recent[name] if one is not None])
            credentials[name] = {"newest": newest, "hosts": [_row(one, newest) for one in hosts]}
        leases = {user: _lease(board, user, mine) for user, mine in _ram_users(settings).items()}
    return {"fleet": fleet.name, "host": own, "credentials": credentials, "ram_users": leases}


def _lease(board: Any, user: str, names: Sequence[str]) -> dict[str, Any]:
    """Return who rotates the keys of a RAM user, or did last."""
    from agent.fleet.lease import RamUserLease  # imports the client of Redis, which `_settings` asked for

    lease = RamUserLease(board, user, "", "").look()
    return {
        "credentials": list(names),
        "host": lease.host or None,
        "by": "owner" if lease.is_claimed else "lease",
        "number": lease.number or None,
        "left_s": round(lease.left_s, 1),
        "silent_s": round(lease.silent_s, 1) if lease.host else None,
    }


def _row(host: Any, newest: str | None) -> dict[str, Any]:
    from agent.fleet.convergence import is_current  # likewise

    state, moved = host.state, is_current(host, newest)
    said = {} if state is None else {
        "version_id": state.version_id, "generation": state.generation, "access_key_id_tail": state.access_key_id_tail,
        "owed": state.owed, "failed": state.failed or None, "twins": state.twins,
    }  # fmt: skip
    return {
        "host": host.name,
        "state": "absent" if not host.is_live else "current" if moved else "behind",
        "age_s": round(host.age_s, 1),
        **said,
    }


def _hosts(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for one in found["credentials"].values():
        yield from one["hosts"]


def _print_again(settings: Settings, fleet: FleetSettings, names: Sequence[str], options: argparse.Namespace) -> None:
    try:
        found = _found(settings, fleet, names)
    except KeyturnError as error:
        print(output.dated(Clock().now(), output.one_line(f"keyturn: {error}")), file=sys.stderr)
        return
    if options.json:
        print(json.dumps(found), file=options.out, flush=True)
        return
    lines = [output.dated(Clock().now(), ""), *_lines(found)]
    print(cleared() + "\n".join(output.fitting(lines) if is_terminal() else lines), flush=True)


def _print(found: dict[str, Any], options: argparse.Namespace) -> None:
    print(json.dumps(found) if options.json else "\n".join(_lines(found)), file=options.out)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    if not found["credentials"] and not found["ram_users"]:
        yield "no credential of this config is shared with other hosts: none is the value of a KMS secret"
    for name, one in found["credentials"].items():
        counted = {state: sum(host["state"] == state for host in one["hosts"]) for state in MOODS}
        summary = ", ".join(f"{count} {state}" for state, count in counted.items() if count) or "no host yet"
        yield f"{output.one_line(name)}: {summary}"
        rows = sorted(one["hosts"], key=lambda host: (host["state"] == "current", host["host"]))
        if rows:
            heading = ("  host", "state", "version", "owed", "seen", "failing")
            yield from output.table([heading, *map(_cells, rows)], [MOODS[row["state"]] for row in rows])

    for user, lease in found["ram_users"].items():
        yield f"RAM user {output.one_line(user)}: {_who_rotates(lease)}"


def _who_rotates(lease: dict[str, Any]) -> str:
    host, silent = lease["host"], f"heard {lease['silent_s'] or 0:.0f} s ago"
    if host is None:
        return "no host rotates its keys yet"
    if lease["by"] == "owner":
        return f"{host} rotates its keys (owner = true; {silent})"
    if not lease["left_s"]:
        return f"nobody rotates its keys: {host} had the lease last ({silent})"
    return f"{host} rotates its keys (the lease {lease['number']}, {lease['left_s']:.0f} s left; {silent})"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    failing = "two machines go by this name" if row.get("twins") else row.get("failed") or ""
    version = row.get("version_id") or "?"
    return (
        f"  {row['host']}", row["state"], output.one_line(version if len(version) <= 24 else version[:23] + "…"),
        str(row.get("owed", "?")), f"{span(row['age_s'])} ago", output.spoken(failing),
    )  # fmt: skip
