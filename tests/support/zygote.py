"""Runs keyturn commands as forks of a process that has imported everything: a real process in 20 ms instead of 600.

Started by `vm.py`. Listens on an abstract socket; each connection brings one JSON request (arguments, environment,
files for the two outputs) and takes back the exit code. The process itself stays single-threaded, so forking is safe.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from typing import Any

import agent.app.check
import agent.cli.refresh
import agent.cli.status
import agent.config.load
import providers.kms.secret
from agent.app import wiring
from agent.cli.main import main

IMPORTED = (agent.app.check, agent.cli.status, agent.cli.refresh, agent.config.load, providers.kms.secret)
"""Named, so that nobody takes the imports for unused."""


def preload() -> None:
    for place in (*wiring.SINKS.values(), *wiring.NOTIFIERS.values()):
        wiring.named(place)


def play(request: dict[str, Any]) -> int:
    """Become the command."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir("/")
    try:
        return main(request["arguments"])
    except SystemExit as error:
        return int(error.code or 0)
    except BaseException:
        traceback.print_exc()
        return 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def serve(address: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0" + address)
    listener.listen(64)
    print("listening", flush=True)
    while True:
        channel, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with channel:
                code = play(json.loads(channel.makefile().readline()))
                channel.sendall(f"{code}\n".encode())
            os._exit(0)
        channel.close()


if __name__ == "__main__":
    preload()
    serve(sys.argv[1])
