"""An order to an emulator that runs: its admin API, by the token that lies in its directory (docs/emulator.md)."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

from agent.cloud.tls import context_for
from agent.core.errors import KeyturnError, UsageError

TIMEOUT_S = 30.0
LOOKS = frozenset({"access_keys", "calls", "summary"})
"""The routes that only tell something, and take no body."""


def order(directory: Path, endpoint: str, route: str, body: dict[str, Any]) -> dict[str, Any]:
    """Send an order, and return the answer.

    Args:
        directory: of the emulator.
        endpoint: its "host:port".
        route: such as `rotate`, or `calls?since=7`.
        body: what goes with it; not looked at where the route only tells something.

    Raises:
        UsageError: no emulator works in that directory, or its token is somebody else's.
        KeyturnError: it refuses.
    """
    looks = route.partition("?")[0] in LOOKS
    try:
        token = (directory / "admin-token").read_text()
        channel = http.client.HTTPSConnection(
            endpoint, context=context_for((str(directory / "ca.pem"),)), timeout=TIMEOUT_S
        )
        try:
            channel.request(
                "GET" if looks else "POST",
                f"/_emulator/{route}",
                None if looks else json.dumps(body),
                {"X-Emulator-Token": token},
            )
            reply = channel.getresponse()
            told = json.loads(reply.read())
        finally:
            channel.close()
    except (OSError, KeyturnError, http.client.HTTPException, ValueError) as error:
        raise UsageError(
            f"no emulator answers for {directory} ({type(error).__name__})",
            f"start one: keyturn emulator --directory {directory}",
        ) from None
    if reply.status != 200:
        raise KeyturnError(
            f"the emulator refused `{route}`: {told.get('error', reply.status)}",
            "what can be ordered: docs/emulator.md",
        )
    return dict(told)
