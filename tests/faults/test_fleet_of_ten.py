"""Ten real daemons, each with an application that signs all the time, and an emergency at one of them: nobody is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.support.fleet import FleetRig, secrets_on
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.station import Station
from tests.support.vm import Vm, eventually

HOSTS = 10
PER_SECOND = 8


class Application:
    """One host's application: the one of `keyturn demo`, which reads the file on SIGHUP and signs with what it read."""

    def __init__(self, vm: Vm, endpoint: str) -> None:
        self._vm, self._endpoint = vm, endpoint
        self.pid_file, self.in_use = vm.directory / "application.pid", vm.directory / "application.in-use"
        self._said = vm.directory / "application.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def notify(self) -> str:
        probe = json.dumps(["grep", "-qFf", str(self.in_use), str(self._vm.ini_path())])
        return (
            f'[[credentials.uploader.notify]]\ntype = "signal"\npid_file = "{self.pid_file}"\nsignal = "SIGHUP"\n'
            f"pickup = {{ command = {probe} }}\n"
        )

    def start(self) -> None:
        files = [f"--{name}={path}" for name, path in (
            ("credentials", self._vm.ini_path()), ("ca", self._vm.directory / "ca.pem"),
            ("pid-file", self.pid_file), ("in-use", self.in_use),
        )]  # fmt: skip
        command = [sys.executable, "-m", "agent.demo.dependent", *files]
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [*command, f"--endpoint={self._endpoint}", f"--per-second={PER_SECOND}"],
                stdin=subprocess.DEVNULL, stdout=said, env=self._vm.environ, cwd=ROOT,
            )  # fmt: skip

    def works_with(self, key: str) -> bool:
        return self.in_use.exists() and self.in_use.read_text().strip() == key

    def stop(self) -> dict[str, dict[str, int]]:
        """End it; return what came of its calls, by key."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(60)
        last = json.loads(self._said.read_text().splitlines()[-1])
        assert last["event"] == "ended", last
        return dict(last["keys"])

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def test_nobody_is_refused_while_the_old_key_ends(make_vm: Callable[..., Vm], tmp_path: Path) -> None:
    """The old key is disabled at the moment of convergence; of ten applications that sign all the time, no call is refused."""
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(tmp_path / "redis"))
        server.grow_old()
        fleet, applications = FleetRig(make_vm, server), []
        for number in range(1, HOSTS + 1):
            vm = fleet.add(host := f"web-{number}")
            station = Station(vm) if number == 1 else None
            application = Application(vm, fleet.first.server.endpoint_of("sts"))
            stack.callback(application.kill)
            applications.append(application)
            tables = [station.emergency()] if station else []
            fleet.configure(host, *tables, notify=application.notify, jitter="2s")
        fleet.start()
        first, old = fleet.first, fleet.first.cloud.current_key("uploader-ak").access_key_id
        first.cloud.old_key_life_s = 48 * 3600.0
        for application, daemon in zip(applications, fleet.daemons.values(), strict=True):
            application.start()
            assert daemon.process.poll() is None
        eventually(lambda: all(one.works_with(old) for one in applications), "every application signs with the key")
        eventually(lambda: first.keyturn("fleet", "status").returncode == 0, "every host is current")
        shown = json.loads(first.keyturn("fleet", "status", "--json").stdout)
        assert len(shown["credentials"]["uploader"]["hosts"]) == HOSTS

        command = ("rotate", "uploader", "--reason", "leaked", "--disable-old", "--yes", "--json")
        done = first.keyturn(*command)
        result = json.loads(done.stdout)
        assert (done.returncode, result["safe"], result["all_moved"]) == (0, True, True), done
        assert [row["moved"] for row in result["fleet"]] == [True] * (HOSTS - 1)
        new = first.cloud.current_key("uploader-ak").access_key_id
        assert all(one.works_with(new) for one in applications), "everybody signs with the new key by then"

        tallies = [one.stop() for one in applications]
        for tally in tallies:
            assert set(tally) == {old, new}
            assert [one["refused"] for one in tally.values()] == [0, 0]
            assert all(one["sent"] for one in tally.values())
        for vm in list(fleet.vms.values())[1:]:
            assert vm.audit("published")[-1]["trigger"] == "fleet"
        assert secrets_on(server, fleet.vms.values()) == []
