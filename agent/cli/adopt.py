"""`keyturn adopt`: a RAM user whose key was copied by hand comes under rotation, after a look that says what will be done."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from agent.cli import output
from agent.cli.daemon_client import Reach, find
from agent.cli.output import one_line, spoken
from agent.control import client
from agent.core.errors import CancelledError, DaemonUnreachableError, KeyturnError

LOOK_S = 60.0
"""Seconds for a look: six calls of ten seconds at most."""
_UNTRIED = (
    "not tried, since RAM has no harmless call for them: ram:CreateAccessKey, ram:UpdateAccessKey, ram:DeleteAccessKey; "
    "what it must be allowed"
)


def adopt(options: argparse.Namespace) -> int:
    """Look, ask, take the key; return the exit code."""
    try:
        found = _adopted(options)
    except KeyturnError as error:
        if not options.json:
            raise
        found = {"credential": options.name, "adopted": False, "error": str(error), "exit_code": error.exit_code}
    if options.json:
        print(json.dumps(found), file=options.out)
    elif found["error"]:
        print(spoken(f"keyturn: {found['error']}"), file=sys.stderr)
    return int(found["exit_code"])


def _adopted(options: argparse.Namespace) -> dict[str, Any]:
    reach = find(options)
    found = _look(reach, options.name)
    if not options.json:
        print("\n".join(_lines(found)), flush=True)
    if found["error"] or _is_done(found) or options.dry_run:
        return found
    asks = not options.yes and sys.stdin is not None and sys.stdin.isatty()
    if asks and not _is_agreed(found):
        raise CancelledError("nothing was done")
    taken = _take(reach, options, str(found["access_key_id"]))
    if taken["adopted"] and not options.json:
        generation = f", generation {taken['generation']}" if taken["generation"] else ""
        print(one_line(f"{taken['access_key_id']} of RAM user {taken['ram_user_name']} is under rotation{generation}"))
        at = taken["first_rotation_at"]
        print(one_line(f"its first rotation is due at {at}, and happens while `keyturn run` or its service runs"))
        for warning in taken["warnings"][len(found["warnings"]) :]:
            print(spoken(f"note: {warning}"))
    return taken


def _look(reach: Reach, name: str) -> dict[str, Any]:
    try:
        return reach.ask({"command": "adopt", "credential": name}, output.wait, LOOK_S)[0]
    except client.ConnectionLostError:
        raise
    except DaemonUnreachableError:
        from agent.app.adopt import adopt_from_disk  # with all that a credential consists of

        return adopt_from_disk(reach.own_settings, os.environ, name)


def _take(reach: Reach, options: argparse.Namespace, agreed: str) -> dict[str, Any]:
    try:
        return reach.ask({"command": "adopt", "credential": options.name, "access_key_id": agreed}, output.wait)[0]
    except client.ConnectionLostError:
        raise
    except DaemonUnreachableError:
        from agent.cli.without_daemon import run_here, this_user  # the engine
        from agent.core.events import Cause, Trigger

        cause = Cause(Trigger.OPERATOR, this_user())
        return run_here(
            reach.own_settings, options.config, lambda commands: commands.adopt(options.name, agreed, cause)
        )


def _is_done(found: dict[str, Any]) -> bool:
    """Return whether nothing is to be done: it is ours, and published. An older daemon publishes by itself what is ours."""
    return bool(found["already"] and found.get("published", True))


def _is_agreed(found: dict[str, Any]) -> bool:
    user = found["ram_user_name"]
    question = f"Take {found['access_key_id']} of RAM user {user} under rotation? No other host may rotate that user."
    print(one_line(question) + " [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield what was seen, and what will be done."""
    yield spoken(f"adopt {found['credential']}: RAM user {found['ram_user_name']}")
    yield ""
    yield "what is there"
    for one in found["files"]:
        yield spoken(f"  {one['sink']}: {one['access_key_id'] or one['problem']}")
    for one in found["keys"]:
        yield spoken(f"  {_key(one)}")
    if found["identity"]:
        yield spoken(f"  STS knows {found['access_key_id']} as {found['identity']}")
    if found["authority"]["identity"]:
        yield spoken(f"  the authority {found['authority']['access_key_id']} is {found['authority']['identity']}")
        yield spoken(f"  {_UNTRIED}: keyturn policy --credential {found['credential']}")
    for warning in found["warnings"]:
        yield spoken(f"  note: {warning}")
    if _is_done(found):
        yield ""
        yield "it is under rotation already; nothing is to be done"
        return
    if not found["error"]:
        yield ""
        yield "what will be done"
        times = [spoken(one["when"]) for one in found["steps"]]
        width = max(map(len, times))
        for when, one in zip(times, found["steps"], strict=True):
            yield spoken(f"  {when:<{width}}  {one['what']}")


def _key(one: dict[str, Any]) -> str:
    made = f", made {one['created_at']}" if one["created_at"] else ""
    used = f", used last {one['last_used_at']}" if one["last_used_at"] else ""
    service = f" for {one['service']}" if one["service"] else ""
    return f"{one['access_key_id']} {one['whose']}: {one['status'].lower()}{made}{used}{service}"
