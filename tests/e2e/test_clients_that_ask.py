"""Programs of Alibaba's SDK for Python, unchanged and told nothing, move to each new key: bench/clients.py in small."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.consumers import QUIET
from tests.support.processes import PATIENCE_S, ROOT
from tests.support.vm import Vm, quoted

PROCESSES, CLIENTS = 2, 3


class Clients:
    """Two processes of clients; what they say, in one queue."""

    def __init__(self, vm: Vm, home: Path) -> None:
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        environ = {**vm.environ, **QUIET, "HOME": str(home)}
        options = ["play", vm.server.endpoint, str(vm.directory / "ca.pem"), str(CLIENTS), "0.15"]
        argv = [sys.executable, str(ROOT / "bench/clients.py"), *options]
        self._processes = [
            subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            for _number in range(PROCESSES)
        ]
        for process in self._processes:
            threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._said.put({"who": process.pid, **json.loads(line)})

    def hear(self) -> dict[str, Any]:
        return self._said.get(timeout=PATIENCE_S)

    def all_sign_with(self, access_key_id: str) -> None:
        """Return once each client has signed with this key; fail where one was refused, or raised."""
        there: set[tuple[int, int]] = set()
        while len(there) < PROCESSES * CLIENTS:
            said = self.hear()
            assert said["event"] == "signing", said
            if said["access_key_id"] == access_key_id:
                there.add((said["who"], said["client"]))

    def end(self) -> list[dict[str, Any]]:
        """Their last reports."""
        for process in self._processes:
            process.terminate()
        return [self.hear() for _process in self._processes]

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
def clients(vm: Vm) -> Iterator[Clients]:
    """A daemon that serves a profile without a key, and the clients that find it in their home."""
    home = vm._made("home")
    (home / ".aliyun").mkdir()
    sink = f'[[credentials.uploader.sinks]]\ntype = "aliyun_cli"\npath = {quoted(home / ".aliyun/config.json")}\n'
    serve = '[credentials.uploader.serve]\nusers = ["root"]\nhold = "1s"\n'
    vm.configure(vm.credential(sinks=f'{sink}profile_mode = "External"\n{serve}'))
    vm.daemon().ready()
    made = Clients(vm, home)
    yield made
    made.kill()


def test_running_clients_move_to_each_new_key_and_none_is_refused(vm: Vm, clients: Clients) -> None:
    """No restart, no signal, no notifier; the key before is dead as soon as the last of them has moved."""
    clients.all_sign_with(vm.cloud.current_key("uploader-ak").access_key_id)
    for _rotation in range(2):
        before = vm.cloud.current_key("uploader-ak").access_key_id
        newest = vm.cloud.rotate("uploader-ak").access_key_id
        assert vm.keyturn("refresh").returncode == 0
        clients.all_sign_with(newest)
        vm.cloud.set_status(before, "Inactive")
    reports = clients.end()
    assert [(one["event"], one["refused"], one["unanswered"]) for one in reports] == [("ended", 0, 0)] * PROCESSES
    assert [record["generation"] for record in vm.audit("published")] == [1, 2, 3] and not vm.audit("notified")
