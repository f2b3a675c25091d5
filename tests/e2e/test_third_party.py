"""Third parties' providers in real processes: the example, installed by pip, and one that fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent.control import client
from tests.support.vm import Vm, eventually

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CANARY = "CanaryOfAThirdParty0123"
PROMPT_S = 8.0
"""Far above the three seconds that the daemon gives its workers at its end, far below a hanging fetch's deadline."""


# -- the example ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's package, installed by pip without a network; from a copy, since pip builds in the source's place."""
    source, target = tmp_path_factory.mktemp("source") / "example", tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs" / "example_provider", source)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--target", str(target), str(source)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return target


def put_key(vm: Vm, path: Path) -> str:
    """What the other tool does: write the key that KMS has now, as one rename."""
    key = vm.cloud.current_key("uploader-ak")
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"id": key.access_key_id, "secret": key.access_key_secret}))
    fresh.replace(path)
    return str(key.access_key_id)


def test_the_example_works_like_a_built_in_provider(vm: Vm, installed: Path) -> None:
    """Installed by pip: `check` is clean, `once` publishes a proved key, the daemon follows the file and outlives a torn one."""
    vm.environ["PYTHONPATH"] += os.pathsep + str(installed)
    path = vm.directory / "key.json"
    vm.configure(vm.credential(provider=f'type = "json_file"\npath = "{path}"\n'))
    missing = vm.keyturn_cold("check", "--json")
    assert missing.returncode == 1
    assert "gives no id and secret (FileNotFoundError)" in missing.stdout
    first = put_key(vm, path)
    found = json.loads(vm.keyturn_cold("check", "--json").stdout)
    assert found["ok"], found
    assert any(first in row["text"] for row in found["findings"])
    assert vm.keyturn_cold("once").returncode == 0
    assert vm.holds(first)
    daemon = vm.daemon().ready()
    vm.cloud.rotate("uploader-ak")
    second = put_key(vm, path)
    daemon.signal(signal.SIGUSR1)
    eventually(lambda: vm.holds(second))
    path.write_text('{"id": "LTAI5t')
    row = refreshed(vm)
    assert "gives no id and secret (JSONDecodeError)" in row["error"]
    assert vm.holds(second)
    vm.cloud.rotate("uploader-ak")
    third = put_key(vm, path)
    assert refreshed(vm)["outcome"] == "published"
    assert vm.holds(third)
    status = vm.status()["credentials"]["uploader"]
    assert (status["provider"], status["state"], status["verified"]) == ("json_file", "fresh", True)
    assert daemon.stop() == 0


# -- one that fails ---------------------------------------------------------------------------------------

PLUGIN = '''
"""Each of its parts runs the file of that name beside it, if there is one."""
import os, sys, time
from pathlib import Path
from agent.core.credential import Credential
from agent.core.provider import Provider
from agent.core.secret import Secret
from agent.core.settings import ProviderSettings

ACTS = Path(__file__).with_name("acts")

def act(part):
    file = ACTS / part
    if file.exists():
        exec(file.read_text(), globals())

class Faulty(Provider):
    type_name, Settings = "faulty", ProviderSettings

    def __init__(self, settings, context):
        act("construct")
        super().__init__(settings, context)

    def _fetch(self, timeout_s):
        act("fetch")
        key = (ACTS / "key").read_text().split()
        return Credential(access_key_id=key[0], access_key_secret=Secret(key[1]))

    @property
    def poll_interval_s(self):
        return 3600.0

    def close(self):
        act("close")
'''


class Faulty:
    """The plug-in on a VM, and what its parts do."""

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        site = vm.directory / "site"
        self._acts = site / "acts"
        self._acts.mkdir(parents=True)
        info = site / "faulty-1.0.dist-info"
        info.mkdir()
        (site / "faulty.py").write_text(PLUGIN)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[keyturn.providers]\nfaulty = faulty:Faulty\n")
        vm.environ["PYTHONPATH"] += os.pathsep + str(site)
        self.table = vm.credential("foreign", provider='type = "faulty"\n', settings='verify = "off"')
        vm.configure(self.table)
        self.keys = 0
        self.turn()

    def turn(self) -> str:
        """Put another key at its source and return the key's id."""
        self.keys += 1
        (self._acts / "key").write_text(f"LTAI5tFaulty{self.keys:04} {'s' * 26}{self.keys:04}")
        return f"LTAI5tFaulty{self.keys:04}"

    def does(self, **acts: str) -> None:
        """From now on its parts run this code, and the others behave."""
        for file in self._acts.iterdir():
            if file.name != "key":
                file.unlink()
        for part, code in acts.items():
            (self._acts / part).write_text(code)

    def holds(self, key: str) -> bool:
        return self.vm.holds(key, self.vm.ini_path("foreign"), self.vm.env_path("foreign"))


@pytest.fixture
def faulty(vm: Vm) -> Faulty:
    return Faulty(vm)


def refreshed(vm: Vm, name: str | None = None) -> dict[str, Any]:
    """Have the daemon refresh now; what came of the one credential."""
    answer, _code = client.ask(vm.run_directory, {"command": "refresh", "names": [name] if name else []})
    (row,) = answer["credentials"]
    return dict(row)


def test_whatever_a_fetch_raises_the_old_value_stays_and_it_recovers(faulty: Faulty) -> None:
    """An exception or sys.exit(): the sinks keep the old value, status and audit say why, the daemon goes on, and it mends."""
    vm, old = faulty.vm, faulty.turn()
    daemon = vm.daemon().ready()
    assert faulty.holds(old)
    for name in ("RuntimeError", "SystemExit"):
        faulty.does(fetch=f"raise {name}({CANARY!r})")
        rows = [refreshed(vm, "foreign") for _ in range(2)]
        assert all(f"failed with {name}" in row["error"] for row in rows), rows
        assert faulty.holds(old)
        assert vm.status()["credentials"]["foreign"]["state"] == "failing"
        faulty.does()
        old = faulty.turn()
        assert refreshed(vm, "foreign")["outcome"] == "published"
        assert vm.status()["credentials"]["foreign"]["state"] == "fresh"
        assert faulty.holds(old)
    assert len(vm.audit("fetch_failed")) == len(vm.audit("recovered")) == 2
    assert daemon.stop() == 0
    said = daemon.log + (vm.log_directory / "audit.jsonl").read_text()
    assert "failed with SystemExit" in said
    assert CANARY not in said


def test_one_that_hangs_holds_up_nobody(faulty: Faulty) -> None:
    """Another credential is published meanwhile, the one that hangs recovers when it comes back, SIGTERM waits for nobody."""
    vm, old = faulty.vm, faulty.turn()
    gate = vm.directory / "gate"
    vm.configure(faulty.table + vm.credential(poll="1s"))
    daemon = vm.daemon().ready()
    hang = f"while not os.path.exists({str(gate)!r}): time.sleep(0.02)"
    faulty.does(fetch=f"open({str(vm.directory / 'begun')!r}, 'w').close()\n{hang}")
    daemon.signal(signal.SIGUSR1)
    eventually((vm.directory / "begun").exists)
    newest = vm.cloud.rotate("uploader-ak")
    eventually(lambda: vm.holds(newest.access_key_id))
    assert faulty.holds(old)
    faulty.turn()
    gate.touch()
    eventually(lambda: faulty.holds(faulty.turn()) or refreshed(vm, "foreign")["outcome"] == "published")
    gate.unlink()
    (vm.directory / "begun").unlink()
    daemon.signal(signal.SIGUSR1)
    eventually((vm.directory / "begun").exists)
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < PROMPT_S, "it waited for a provider that hangs"
    assert vm.audit()[-1]["event"] == "agent_stopped"


def test_a_reload_that_meets_a_broken_constructor_is_refused_and_the_daemon_goes_on(faulty: Faulty) -> None:
    """The old config serves on, the audit says why, READY comes again, and the next reload lets go of it, even if that fails."""
    vm = faulty.vm
    assert vm.keyturn_cold("once").returncode == 0
    daemon = vm.daemon().ready()
    faulty.does(construct=f"sys.exit({CANARY!r})")
    done = vm.keyturn_cold("check")
    assert (done.returncode, len(done.stderr.splitlines())) == (78, 1), done
    assert "provider faulty cannot be made (SystemExit)" in done.stderr
    daemon.signal(signal.SIGHUP)
    daemon.listener.wait("READY=1", 2)
    (record,) = vm.audit("config_rejected")
    assert "cannot be made (SystemExit)" in record["error"] and CANARY not in record["error"]
    faulty.does(close="raise RuntimeError")
    newest = faulty.turn()
    assert refreshed(vm, "foreign")["outcome"] == "published"
    assert faulty.holds(newest)
    vm.configure(vm.credential())
    daemon.signal(signal.SIGHUP)
    daemon.listener.wait("READY=1", 3)
    assert set(vm.status()["credentials"]) == {"uploader"}
    assert daemon.stop() == 0


def test_one_that_prints_does_not_garble_json(faulty: Faulty) -> None:
    """What it prints comes on standard error; standard output of `--json` is one object, without a daemon too."""
    prints = "print('words of a library')"
    faulty.does(construct=prints, fetch=prints, close=prints)
    for command in (["check", "--json"], ["refresh", "--json"], ["status", "--json"]):
        done = faulty.vm.keyturn_cold(*command)
        assert isinstance(json.loads(done.stdout), dict), command
        assert "words of a library" in done.stderr, command
