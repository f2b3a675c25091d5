"""The application of the demo: a long-running program that uses a key and knows nothing of keyturn.

    python -m agent.demo.dependent --credentials FILE --endpoint HOST:PORT --ca FILE --pid-file FILE --in-use FILE

It reads `credentials.ini` by itself, once, as the SDKs do, and again on SIGHUP. Twenty times a second it signs a real
STS GetCallerIdentity with what it read, and counts the answers for each key. It reports in JSON lines, and writes into
the file `--in-use` the id of the key that signed its last answered request: the evidence that a pickup probe looks for.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.cloud.openapi import Sts
from agent.cloud.transport import Transport
from agent.core.credential import Credential
from agent.core.errors import KeyturnError, NotPermittedError, SourceRefusedError
from agent.core.secret import Secret
from agent.logs.setup import set_up

SIGNALS = {signal.SIGHUP, signal.SIGTERM, signal.SIGINT}


@dataclass
class Tally:
    """The results of the requests that were signed with one key."""

    sent: int = 0
    refused: int = 0
    unanswered: int = 0


class Application:
    """An application that signs requests until it is told to end."""

    def __init__(self, credentials: Path, in_use: Path, sts: Sts) -> None:
        self._credentials, self._in_use, self._sts = credentials, in_use, sts
        self._key: Credential | None = None
        self._seen_working = ""
        self._tallies: dict[str, Tally] = {}

    def run(self, pause_s: float) -> None:
        """Run until SIGTERM or SIGINT; SIGHUP makes it read the credentials again. All three must be blocked."""
        self._read()
        if self._key is None:
            self._say("waiting", pid=os.getpid())
        while True:
            # With nothing to sign there is nothing to do before a signal comes.
            got = signal.sigtimedwait(SIGNALS, pause_s) if self._key else signal.sigwaitinfo(SIGNALS)
            if got is None:
                self._sign()
            elif got.si_signo == signal.SIGHUP:
                self._say("told", signal="SIGHUP", pid=os.getpid())
                self._read()
            else:
                break
        self._say("ended", keys={key: vars(tally) for key, tally in self._tallies.items()}, **self._totals())

    def _read(self) -> None:
        parser = configparser.ConfigParser(interpolation=None)
        if not parser.read(self._credentials, encoding="utf-8"):
            return
        profile = parser["default"]
        self._key = Credential(profile["access_key_id"], Secret(profile["access_key_secret"]))

    def _sign(self) -> None:
        assert self._key is not None
        name = self._key.access_key_id
        tally = self._tallies.setdefault(name, Tally())
        tally.sent += 1
        try:
            self._sts.get_caller_identity(self._key, now=datetime.now(UTC))
        except (SourceRefusedError, NotPermittedError) as error:
            tally.refused += 1
            self._say("refused", access_key_id=name, code=error.code, **self._totals())
        except KeyturnError as error:
            tally.unanswered += 1
            self._say("unanswered", access_key_id=name, error=str(error))
        else:
            self._note_that_it_works(name)

    def _note_that_it_works(self, name: str) -> None:
        if name == self._seen_working:
            return
        self._seen_working = name
        fresh = self._in_use.with_name(self._in_use.name + ".new")
        fresh.write_text(name + "\n")
        fresh.replace(self._in_use)
        self._say("signing", access_key_id=name, **self._totals())

    def _totals(self) -> dict[str, int]:
        tallies = self._tallies.values()
        return {name: sum(getattr(tally, name) for tally in tallies) for name in ("sent", "refused", "unanswered")}

    def _say(self, what: str, **more: object) -> None:
        print(json.dumps({"event": what, **more}), flush=True)


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="agent.demo.dependent", description="the application of `keyturn demo`")
    for option in ("--credentials", "--pid-file", "--in-use"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--endpoint", required=True, help="of STS, HOST:PORT")
    parser.add_argument("--ca", required=True, help="who is trusted to be STS")
    parser.add_argument("--per-second", type=float, default=20.0, help="requests, at most")
    options = parser.parse_args()
    set_up("critical", "plain", os.environ)
    # Blocked and waited for: so none is lost, and none comes between a request and its count.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    options.pid_file.write_text(f"{os.getpid()}\n")
    options.pid_file.chmod(0o644)
    try:
        Application(options.credentials, options.in_use, Sts(Transport(options.ca), options.endpoint)).run(
            1 / options.per_second
        )
    finally:
        options.pid_file.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
