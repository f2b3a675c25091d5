"""The emulated cloud as a unit inside a bed: what `keyturn emulator` serves, and a socket by which a test drives it.

    cloud.py DIRECTORY

DIRECTORY gets what `keyturn emulator` writes there, and `control.sock`: one JSON request, one answer, per connection.
The emulator's own admin API cannot take orders back, set its clock, or be away for a while with its memory intact.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from providers.emulator import Cloud, EmulatorServer
from providers.emulator.calls import as_json
from providers.emulator.directory import write_directory
from providers.emulator.faults import Fault
from providers.emulator.pki import client_key_file

SECRET, USER = "uploader-ak", "uploader"


class Stage:
    """A cloud, its server, and what a test may order."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._skew_s = directory, 0.0
        self._cloud = Cloud(now=lambda: time.time() + self._skew_s)
        before = self._remembered()
        self._cloud.add_user(USER)
        self._cloud.add_access_key(USER, **before["key"])
        self._cloud.add_ram_secret(SECRET, user=USER)
        self._server = EmulatorServer(self._cloud, directory, port=before["port"])
        self._server.start()
        write_directory(directory, self._cloud, self._server.endpoint)
        self._remember()

    def _remembered(self) -> dict[str, Any]:
        """The newest key and the port, from before a restart of this program: a cloud forgets neither."""
        memory = self._directory / "memory.json"
        return json.loads(memory.read_text()) if memory.exists() else {"key": {}, "port": 0}

    def _remember(self) -> None:
        key = self._cloud.current_key(SECRET)
        parts = {"access_key_id": key.access_key_id, "access_key_secret": key.access_key_secret}
        (self._directory / "memory.json").write_text(json.dumps({"key": parts, "port": self._port}))

    @property
    def _port(self) -> int:
        return int(self._server.endpoint.rpartition(":")[2])

    def do(self, request: Mapping[str, Any]) -> object:
        """Carry out one order; its name is the method's."""
        orders = {key: value for key, value in request.items() if key != "do"}
        return getattr(self, f"on_{request['do']}")(**orders)

    def on_endpoint(self) -> str:
        """Where everything is served, HOST:PORT."""
        return self._server.endpoint

    def on_rotate(self) -> str:
        """Rotate as KMS does on its schedule; the id of the new key."""
        key = self._cloud.rotate(SECRET)
        self._remember()
        return key.access_key_id

    def on_current(self) -> str:
        """The id of the key that KMS hands out."""
        return self._cloud.current_key(SECRET).access_key_id

    def on_retire(self) -> None:
        """Let every key before the present one die now."""
        with self._cloud.locked():
            for version in self._cloud.secret(SECRET).versions[:-1]:
                if version.access_key is not None:
                    version.access_key.dies_at = self._cloud.now()

    def on_fault(self, fault: str, action: str, times: int = 100_000) -> None:
        """Have the next calls of an action suffer this."""
        self._cloud.inject(Fault(fault), action=action, times=times)

    def on_fail(self, status: int, action: str, times: int = 100_000) -> None:
        """Have the next calls of an action fail with this status."""
        self._cloud.fail_next(status, action=action, times=times)

    def on_clear(self) -> None:
        """Take every order back."""
        self._cloud.faults.clear()
        self._skew_s = 0.0
        for key in self._cloud.client_keys():
            key.status = "Active"
        self.on_come()

    def on_skew(self, seconds: float) -> None:
        """Put the cloud's clock off: the VM's is wrong by as much, seen from there."""
        self._skew_s = seconds

    def on_go(self) -> None:
        """Serve no more: connections are refused. What the cloud knows stays."""
        self._server.stop()

    def on_come(self) -> None:
        """Serve again, at the same port."""
        if self._server.stopping.is_set():
            self._server = EmulatorServer(self._cloud, self._directory, port=self._port)
            self._server.start()

    def on_calls(self, since: int = 0) -> list[dict[str, object]]:
        """Who called what."""
        return [as_json(call) for call in self._cloud.log.since(since)]

    def on_disable_old_client_keys(self) -> None:
        """Every ClientKey but the newest is no good any more."""
        for key in self._cloud.client_keys()[:-1]:
            key.status = "Disabled"

    def on_new_client_key(self, password: str) -> str:
        """A ClientKey besides the first, as the console hands it out."""
        return client_key_file(self._cloud.add_client_key(), password)


def serve(stage: Stage, place: Path) -> None:
    """Answer until the end of the process."""
    place.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen(8)
        notify_ready()
        while True:
            channel, _ = listener.accept()
            with channel, channel.makefile("rw") as lines:
                lines.write(json.dumps(stage.do(json.loads(lines.readline()))) + "\n")


def notify_ready() -> None:
    """Tell systemd: Type=notify, so that who is ordered after us finds us serving."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect(os.environ["NOTIFY_SOCKET"])
        channel.sendall(b"READY=1")


if __name__ == "__main__":
    serve(Stage(Path(sys.argv[1])), Path(sys.argv[1]) / "control.sock")
