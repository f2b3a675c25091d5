"""A real redis-server on loopback, of Debian's package, for one test.

    with RedisServer(tmp_path) as server: FleetSettings(url=server.url)

Without persistence unless `appendonly`; `kill` and `start` again at the same port, with the same directory.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest
import redis

from tests.support.processes import eventually

PROGRAM = shutil.which("redis-server") or "/usr/bin/redis-server"


class RedisServer:
    """The server, which ends with the test."""

    def __init__(self, directory: Path, *options: str, appendonly: bool = False, tls: bool = False) -> None:
        """Choose a port; nothing runs yet.

        Args:
            directory: for its data.
            options: of redis.conf, such as "--requirepass", "x".
            appendonly: whether it remembers over a kill.
            tls: whether it also listens for TLS, at `tls_url`; its certificate is among the options.
        """
        if not Path(PROGRAM).exists():
            pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._options, self._appendonly = directory, options, appendonly
        self.port = _free_port()
        self.tls_port = _free_port() if tls else 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, as a config names it."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def tls_url(self) -> str:
        """Its address for TLS."""
        return f"rediss://127.0.0.1:{self.tls_port}/0"

    def admin(self) -> redis.Redis:
        """A client that may do everything."""
        return redis.Redis(port=self.port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def start(self) -> None:
        """Run it, until it answers."""
        self._process = subprocess.Popen(
            [
                PROGRAM, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._directory), "--save", "",
                "--appendonly", "yes" if self._appendonly else "no", "--appendfsync", "always",
                "--tls-port", str(self.tls_port), *self._options,
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(self._answers, "redis-server answers")

    def grow_old(self, *credentials: str, fleet: str = "fleet") -> None:
        """Have it look as if it had been there for an hour: before, an emergency waits for hosts that may be missing."""
        now = time.time()
        with self.admin() as client:
            for name in credentials or ("uploader",):
                client.zadd(f"keyturn:{{{fleet}}}:{name}:kept", {"from": now - 3600, "until": now})

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as channel:
                channel.sendall(b"PING\r\n")
                return bool(channel.recv(64))
        except OSError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
