"""`keyturn plan`: who holds a key, who would be told of a new one, and what is in the way; and what `rotate` makes of that.

Which processes hold the key is looked for here and not by the daemon: whoever asks sees what the kernel shows to them, which
for root is everything, and the daemon's rights are lent to nobody.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from agent.cli import output, plan_output
from agent.cli.daemon_client import Reach, find
from agent.control import client
from agent.core.errors import EXIT_DONE, DaemonUnreachableError, KeyturnError
from agent.core.timestamps import moment_of, rfc3339
from agent.emergency.request import PLAN_S, emergency_request
from agent.system.process_search import Holding, Search, Wanted

SEARCH_S = 5.0
"""Seconds for the look at all processes: one that is stuck in the kernel must not hold up the rest."""
MARGIN_S = 10.0
"""Seconds that the daemon may take besides those that it waits for the cloud."""


def plan(options: argparse.Namespace) -> int:
    """Print the plan; return 0 where there is one, whatever is in the way."""
    try:
        found = planned(find(options), options.name)
    except KeyturnError as error:
        return failed(options, error)
    if options.json:
        print(json.dumps(found), file=options.out)
    else:
        print("\n".join(plan_output.lines(found)))
    return EXIT_DONE


def dry_run(options: argparse.Namespace, request: dict[str, Any]) -> int:
    """Print the plan of one `rotate`, and whether it could be done; return 0, or the exit code of what is in the way first.

    Args:
        options: of the command line.
        request: the emergency, as the daemon would be asked for it.
    """
    try:
        emergency_request(request, None)  # before anything of it leaves this process: --leaked may be a secret
        found = planned(find(options), options.name, request)
    except KeyturnError as error:
        return failed(options, error)
    if options.json:
        print(json.dumps(found), file=options.out)
    else:
        print("\n".join([*plan_output.lines(found), "", plan_output.verdict(found)]))
    return int(found["in_the_way"][0]["exit_code"]) if found["in_the_way"] else EXIT_DONE


def failed(options: argparse.Namespace, error: KeyturnError) -> int:
    """Print why there is no plan, with `--json` as an object; return the exit code.

    Raises:
        KeyturnError: that error, without `--json`.
    """
    if not options.json:
        raise error
    print(json.dumps({"credential": options.name, "error": str(error)}), file=options.out)
    return error.exit_code


def planned(
    reach: Reach, name: str, rotate: dict[str, Any] | None = None, deadline_s: float = PLAN_S
) -> dict[str, Any]:
    """Return the object of `plan --json`: from the daemon, or from the state on disk where none runs.

    Args:
        reach: where the daemon would be.
        name: of the credential.
        rotate: the emergency that is meant; None: any.
        deadline_s: seconds within which the cloud is heard.

    Raises:
        KeyturnError: it cannot be made, such as for a name that is not in the config.
    """
    asked = {"command": "plan", "credential": name, "rotate": rotate, "deadline_s": deadline_s}
    try:
        found = reach.ask(asked, output.wait, deadline_s + MARGIN_S)[0]
    except client.ConnectionLostError:
        raise
    except DaemonUnreachableError:
        from agent.app.commands import plan_from_disk  # with all that a credential consists of
        from agent.systemd_setup.unit import with_credentials

        request = emergency_request(rotate, None) if rotate is not None else None
        found = plan_from_disk(reach.own_settings, with_credentials(os.environ), name, request, deadline_s)
    return {**found, "processes": _processes(found)}


# -- the processes ------------------------------------------------------------------------------------


def _processes(found: dict[str, Any]) -> dict[str, Any]:
    """Return the processes that hold one of the keys, as far as this user may see them."""
    files = [one for one in found["files"] if one["offers"] == "value"]
    search = Search()
    wanted = Wanted(
        paths=[path for one in files for path in one["paths"]],
        key_ids=list(dict.fromkeys(one["access_key_id"] for one in found["credentials"] if one["access_key_id"])),
        units=[one["target"] for one in found["dependents"] if one["type"] == "systemd"],
    )

    def look() -> None:
        with suppress(Exception):  # then it is not complete, which is said
            search.run(wanted)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(SEARCH_S)
    return {
        "found": [_process(one, found) for one in tuple(search.found)],
        "unseen": search.unseen,
        "hidden": search.is_hidden,
        "complete": search.is_complete,
    }


def _process(one: Holding, found: dict[str, Any]) -> dict[str, Any]:
    names = _concerned(one, found)
    published = [moment_of(row["published_at"] or "") for row in found["credentials"] if row["credential"] in names]
    newest = max((each for each in published if each is not None), default=None)
    started = datetime.fromtimestamp(one.started_s, UTC)
    return {
        "pid": one.pid,
        "user": one.user,
        "executable": one.executable,
        "unit": one.unit or None,
        "credentials": names,
        "started_at": rfc3339(started),
        "started": None if newest is None else _since(started, newest),
        "opened": list(one.opened),
        "in_environment": list(one.key_ids),
    }


def _concerned(one: Holding, found: dict[str, Any]) -> list[str]:
    """Return the credentials for whose sake a process was found."""
    names = [row["credential"] for row in found["files"] if set(row["paths"]) & set(one.opened)]
    names += [row["credential"] for row in found["credentials"] if row["access_key_id"] in one.key_ids]
    names += [row["credential"] for row in found["dependents"] if (row["type"], row["target"]) == ("systemd", one.unit)]
    return list(dict.fromkeys(names))


def _since(started: datetime, published: datetime) -> str:
    """Return whether a process was started before its value was published; that stands in whole seconds."""
    passed_s = (started - published).total_seconds()
    if passed_s < 0:
        return "before the publish"
    return "after the publish" if passed_s >= 1 else "within a second of the publish"
