"""The emulated cloud in a process of its own, with as many secrets as wanted: what the benchmarks ask.

    python -m bench.cloud_process DIRECTORY SECRETS

It answers at once. It is a dependent too, which takes every news and does nothing: by `http` at `told_url`, by SIGUSR2.
Each line on standard input is a command, each line on standard output its answer, a JSON object: `rotate` gives every
secret a new key, `overlap` lets one be rotated again at once, `slow` has each answer take 20 ms from then on, `count` tells
the calls so far by action. It ends with its standard input.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from providers.emulator.cloud import Cloud
from providers.emulator.directory import write_directory
from providers.emulator.listener import Listener
from providers.emulator.reception import Reply
from providers.emulator.server import EmulatorServer
from providers.emulator.signatures import Request

ROOT = Path(__file__).resolve().parent.parent
FAR_S = 0.02


def secret_name(number: int) -> str:
    return f"c{number:04}"


class CloudProcess:
    """The benchmark's end of it."""

    def __init__(self, directory: Path, secrets: int) -> None:
        argv = [sys.executable, "-m", "bench.cloud_process", str(directory), str(secrets)]
        self._process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        told = self._answer()
        self.properties, self.ca = directory / "secretsmanager.properties", directory / "ca.pem"
        self.endpoints: dict[str, str] = told["endpoints"]
        self.told_url: str = told["told_url"]

    def ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


class Server(EmulatorServer):
    """The cloud, which may be far away."""

    answers_after_s = 0.0

    def answer(self, request: Request) -> Reply:
        time.sleep(self.answers_after_s)
        return super().answer(request)


class Told(Listener):
    """A dependent that takes every news."""

    def answer(self, request: Request) -> Reply:
        return Reply(200, b"{}")


def serve(directory: Path, secrets: int) -> None:
    cloud = Cloud()
    names = [secret_name(number) for number in range(secrets)]
    for name in names:
        cloud.add_ram_secret(name, user=name)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    with Server(cloud, directory) as server, Told(cloud, None, 0) as told:
        write_directory(directory, cloud, server.endpoint, endpoints=server.endpoints, secret=names[0], user=names[0])
        print(json.dumps({"endpoints": server.endpoints, "told_url": f"http://{told.endpoint}"}), flush=True)
        for line in sys.stdin:
            if line.strip() == "rotate":
                for name in names:
                    cloud.rotate(name)
            cloud.allow_overlapping_rotation |= line.strip() == "overlap"
            server.answers_after_s = FAR_S if line.strip() == "slow" else server.answers_after_s
            print(json.dumps(cloud.log.summary()["by_action"]), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
