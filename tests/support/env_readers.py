"""The readers of env files, as they are: sh, python-dotenv, systemd's parser and docker's command line.

systemd's (`src/basic/env-file.c`, the one behind EnvironmentFile=) runs in its environment.d generator, which needs no
service manager; docker's in its own command line, against a daemon on loopback that only writes down what it was sent.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from dotenv import dotenv_values

GENERATOR = Path("/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator")
SECONDS = 60
NOISE = {"PWD", "OLDPWD", "SHLVL", "_"}

Seen = dict[str, str]


def by_sh(path: Path) -> Seen:
    """`set -a; . file`, as the contract's users write it."""
    script = 'set -eua; . "$0"; exec env -0'
    return _environment(["/bin/sh", "-c", script, str(path)], {})


def exported_by_sh(path: Path) -> Seen:
    """`. file`, without `set -a`: what a program gets that is started then."""
    return _environment(["/bin/sh", "-c", '. "$0" >/dev/null; exec env -0', str(path)], {})


def by_dotenv(path: Path) -> Seen:
    """python-dotenv with its defaults, which expand `${NAME}`."""
    return {name: value for name, value in dotenv_values(path).items() if value is not None}


def by_systemd(path: Path) -> Seen:
    """systemd's own parser. The generator also expands `$NAME`, which no value of ours holds, and quotes what it prints."""
    if not GENERATOR.exists():
        pytest.skip("systemd is not installed here")
    directory = path.parent / "config" / "environment.d"
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, directory / "50-app.conf")
    environment = {"XDG_CONFIG_HOME": str(path.parent / "config"), "HOME": str(path.parent)}
    done = subprocess.run([GENERATOR], capture_output=True, check=True, env=environment, timeout=SECONDS)
    pairs = (line.split("=", 1) for line in done.stdout.decode().splitlines())
    return {name: _unescaped(value) for name, value in pairs}


def _unescaped(value: str) -> str:
    """As systemd prints a value that a shell would change: in double quotes, with C's escapes."""
    return value[1:-1].encode().decode("unicode_escape") if value[:1] == '"' else value


def by_docker(path: Path) -> Seen:
    """`docker create --env-file`: what the command line tells the daemon."""
    if not shutil.which("docker"):
        pytest.skip("docker's command line is not installed here")
    with _docker_daemon() as (address, told):
        environment = {
            **os.environ,
            "DOCKER_HOST": address,
            "DOCKER_CONFIG": str(path.parent),
            "HOME": str(path.parent),
        }
        command = ["docker", "create", "--env-file", str(path), "image"]
        subprocess.run(command, capture_output=True, env=environment, timeout=SECONDS, check=False)
    (body,) = told
    return dict(entry.split("=", 1) for entry in json.loads(body)["Env"])


READERS: dict[str, Callable[[Path], Seen]] = {
    "shell": by_sh, "dotenv": by_dotenv, "systemd": by_systemd, "docker": by_docker,
}  # fmt: skip


def _environment(command: list[str], environment: dict[str, str]) -> Seen:
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=SECONDS)
    return dict(
        line.split("=", 1) for line in done.stdout.split("\0") if "=" in line and line.split("=", 1)[0] not in NOISE
    )


@contextmanager
def _docker_daemon() -> Iterator[tuple[str, list[bytes]]]:
    told: list[bytes] = []

    class Daemon(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(200)

        do_GET = do_HEAD

        def do_POST(self) -> None:
            told.append(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(409)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Api-Version", "1.44")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Daemon) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.server_address[1]}", told
        finally:
            server.shutdown()
            thread.join()
