"""An application that knows nothing of keyturn, as a unit: it signs requests all the time with what its file says.

    dependent.py CREDENTIALS.INI HOST:PORT CA.PEM TALLY.JSON

Twenty times a second a real STS GetCallerIdentity. The file is read at the start and on SIGHUP, never else, as the
SDKs do. TALLY.JSON, replaced as a whole, says what came of the requests: `key` (the id that the last answered one was
signed with), `sent`, `answered`, `unanswered` (no connection, or a 5xx) and `refused` (a 4xx) by code.
"""

from __future__ import annotations

import configparser
import http.client
import json
import os
import signal
import ssl
import sys
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from agent.cloud.acs3 import sign
from agent.core.credential import Credential
from agent.core.secret import Secret
from agent.system.systemd_notify import ServiceManager

SIGNALS = {signal.SIGHUP, signal.SIGTERM}
PAUSE_S = 0.05


class Dependent:
    """Signs, and counts."""

    def __init__(self, credentials: Path, endpoint: str, ca: str, tally: Path) -> None:
        self._credentials, self._endpoint, self._tally_file = credentials, endpoint, tally
        self._context = ssl.create_default_context(cafile=ca)
        self._channel = self._connection()
        self._identity: Credential | None = None
        self._tally: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._key = ""

    def _connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._endpoint, context=self._context, timeout=10)

    def run(self) -> None:
        """Work until SIGTERM."""
        self._read()
        while (got := signal.sigtimedwait(SIGNALS, PAUSE_S)) is None or got.si_signo == signal.SIGHUP:
            if got is not None:
                self._tally["told"] += 1
                self._read()
            if self._identity is not None:
                self._send(self._identity)
            self._write()

    def _read(self) -> None:
        parser = configparser.ConfigParser(interpolation=None)
        if parser.read(self._credentials):
            profile = parser["default"]
            self._identity = Credential(profile["access_key_id"], Secret(profile["access_key_secret"]))

    def _send(self, identity: Credential) -> None:
        signed = sign(
            "GetCallerIdentity", "2015-04-01", {}, identity,
            host=self._endpoint, at=datetime.now(UTC), nonce=uuid.uuid4().hex,
        )  # fmt: skip
        self._tally["sent"] += 1
        try:
            self._channel.request("POST", f"/?{signed.query}", headers=dict(signed.headers))
            reply = self._channel.getresponse()
            body = reply.read()
        except (OSError, http.client.HTTPException):
            self._channel.close()
            self._tally["unanswered"] += 1
        else:
            self._count(identity.access_key_id, reply.status, body)

    def _count(self, key: str, status: int, body: bytes) -> None:
        if status == 200:
            self._tally["answered"] += 1
            self._key = key
        elif status < 500:
            self._refused[json.loads(body)["Code"]] += 1
        else:
            self._tally["unanswered"] += 1

    def _write(self) -> None:
        fresh = self._tally_file.with_suffix(".new")
        fresh.write_text(json.dumps({**self._tally, "key": self._key, "refused": self._refused, "pid": os.getpid()}))
        fresh.replace(self._tally_file)


def main() -> None:
    # Blocked and waited for: none is lost, and none comes between a request and its count.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    ServiceManager(os.environ).ready(
        "reads its file on SIGHUP"
    )  # not before: a reload while Python loads would kill it
    credentials, endpoint, ca, tally = sys.argv[1:]
    Dependent(Path(credentials), endpoint, ca, Path(tally)).run()


if __name__ == "__main__":
    main()
