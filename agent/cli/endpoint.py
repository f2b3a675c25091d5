"""`keyturn endpoint`: the tokens of credentials URIs, through the daemon, or by this process where no daemon runs."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from typing import Any

from agent.cli import output
from agent.cli.daemon_client import find
from agent.cli.option_types import seconds
from agent.control import client
from agent.core.errors import EXIT_DONE, DaemonUnreachableError
from agent.system.clock import Clock
from agent.system.file_names import typed_text
from agent.system.local_time import LocalTime


def tokens(options: argparse.Namespace) -> int:
    """Print which tokens there are; return the exit code."""
    reach = find(options)
    try:
        found, _code = reach.ask({"command": "uri_tokens", "names": options.names})
    except client.ConnectionLostError:
        raise
    except DaemonUnreachableError:
        from agent.app.commands import uri_tokens_from_disk  # the engine

        found = uri_tokens_from_disk(reach.own_settings, os.environ, options.names)
    _print(found, options)
    return EXIT_DONE


def rotate_token(options: argparse.Namespace) -> int:
    """Write new tokens and print which there are now; return the exit code."""
    reach = find(options)
    request = {
        "command": "rotate_uri_token",
        "credential": options.name,
        "path": os.path.abspath(options.path) if options.path else "",
        "overlap_s": seconds(options.overlap, "--overlap"),
        "reason": typed_text(options.reason),
    }
    try:
        found, _code = reach.ask(request)
    except client.ConnectionLostError:
        raise
    except DaemonUnreachableError:
        from agent.app.uri_tokens import token_request  # the engine
        from agent.cli.without_daemon import run_here, this_user

        wanted = token_request(request, this_user())
        found = run_here(reach.own_settings, options.config, lambda commands: commands.rotate_uri_token(wanted))
    _print(found, options)
    return EXIT_DONE


def _print(found: dict[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(found), file=options.out)
    else:
        print("\n".join(_lines(found)))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    if not found["credentials"]:
        yield "no credential has a token: none has a sink of type credentials_uri that was published"
        return
    heading = ("credential", "file", "token", "opens until", "last used")
    local = LocalTime(Clock().now())
    yield from output.table(
        [heading, *(_row(name, one, local) for name, rows in found["credentials"].items() for one in rows)]
    )
    if local.is_told:
        yield f"times in {local.zone}"
    if any(one["until"] for rows in found["credentials"].values() for one in rows):
        yield (
            "a process reads its URI when it starts: restart what uses an older token before that dies, or it is refused then"
        )


def _row(name: str, one: dict[str, Any], local: LocalTime) -> tuple[str, ...]:
    by = f" by uid {one['last_used_by']}" if one["last_used_by"] is not None else ""
    used = f"{local.told(one['last_used_at'])}{by}" if one["last_used_at"] else "not since keyturn was started"
    return (
        name,
        output.one_line(one["path"]),
        f"{one['token']}...",
        local.told(one["until"] or "it is replaced"),
        used,
    )
