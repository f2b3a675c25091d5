"""Third parties' providers in real processes: the example, installed by pip, and one that does whatever is bad."""

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
from tests.support.vm import Daemon, Done, Vm, eventually

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


# -- one that does whatever is bad ------------------------------------------------------------------------

PLUGIN = '''
"""Each of its parts runs the file of that name beside it, if there is one."""
import asyncio, logging, os, sys, threading, time, warnings
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from agent.core import errors
from agent.core.credential import Credential
from agent.core.provider import Finding, Provider
from agent.core.secret import Secret
from agent.core.settings import ProviderSettings

ACTS = Path(__file__).with_name("acts")
CANARY = "CanaryOfAThirdParty0123"

def act(part, names=None):
    file = ACTS / part
    space = {**globals(), **(names or {})}
    if file.exists():
        exec(file.read_text(), space)
    return space.get("answer")

act("import")

@dataclass(frozen=True, kw_only=True)
class Settings(ProviderSettings):
    words: str = ""

    def problems(self):
        yield from act("problems") or ()

class Hostile(Provider):
    type_name, Settings = "hostile", Settings

    def __init__(self, settings, context):
        act("construct")
        super().__init__(settings, context)

    def _fetch(self, timeout_s):
        key = (ACTS / "key").read_text().split()
        return act("fetch") or Credential(access_key_id=key[0], access_key_secret=Secret(key[1]))

    @property
    def poll_interval_s(self):
        return act("pace") or 3600.0

    def inspect(self):
        return iter(act("inspect") or ())

    def close(self):
        act("close")
'''


class Hostile:
    """The plug-in on a VM, and what its parts do."""

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        site = vm.directory / "site"
        self._acts = site / "acts"
        self._acts.mkdir(parents=True)
        info = site / "hostile-1.0.dist-info"
        info.mkdir()
        (site / "hostile.py").write_text(PLUGIN)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[keyturn.providers]\nhostile = hostile:Hostile\n")
        vm.environ["PYTHONPATH"] += os.pathsep + str(site)
        self.table = vm.credential("rude", provider='type = "hostile"\n', settings='verify = "off"')
        vm.configure(self.table)
        self.keys = 0
        self.turn()

    def turn(self) -> str:
        """Another key at its source."""
        self.keys += 1
        (self._acts / "key").write_text(f"LTAI5tHostile{self.keys:04} {'s' * 26}{self.keys:04}")
        return f"LTAI5tHostile{self.keys:04}"

    def does(self, **acts: str) -> None:
        """From now on its parts run this code, and the others behave."""
        for file in self._acts.iterdir():
            if file.name != "key":
                file.unlink()
        for part, code in acts.items():
            (self._acts / part).write_text(code)

    def holds(self, key: str) -> bool:
        return self.vm.holds(key, self.vm.ini_path("rude"), self.vm.env_path("rude"))

    def no_canary(self, *outputs: Done | Daemon) -> None:
        """The canary is in no output and in no file but those that tell the plug-in to say it."""
        said = {f"output {n}": o.log if isinstance(o, Daemon) else o.stdout + o.stderr for n, o in enumerate(outputs)}
        for path in self.vm.directory.rglob("*"):
            if path.is_file() and "site" not in path.relative_to(self.vm.directory).parts:
                said[str(path)] = path.read_bytes().decode("utf-8", "replace")
        assert [where for where, text in said.items() if "CanaryOfA" in text] == []


@pytest.fixture
def hostile(vm: Vm) -> Hostile:
    return Hostile(vm)


def refreshed(vm: Vm, name: str | None = None) -> dict[str, Any]:
    """Have the daemon refresh now; what came of the one credential."""
    answer, _code = client.ask(vm.run_directory, {"command": "refresh", "names": [name] if name else []})
    (row,) = answer["credentials"]
    return dict(row)


FETCHES = {
    "raises, with a secret in the text": (
        "raise RuntimeError(f'https://kms/?Signature={CANARY}')",
        "with RuntimeError",
    ),
    "raises from a cause that holds one": (
        "try:\n    int(CANARY)\nexcept ValueError as error:\n    raise OSError(CANARY) from error",
        "failed with OSError",
    ),
    "ends the process": ("sys.exit(CANARY)", "failed with SystemExit"),
    "is cancelled": ("raise asyncio.CancelledError(CANARY)", "failed with CancelledError"),
    "is interrupted on its thread": ("raise GeneratorExit(CANARY)", "failed with GeneratorExit"),
    "returns rubbish": ("answer = {'secret': CANARY}", "is not a credential"),
    "returns text for a secret": ("answer = Credential('LTAI5tX', CANARY)", "an access_key_secret of the wrong type"),
    "returns a secret with a line break": ("answer = Credential('LTAI5tX', Secret(CANARY + '\\n'))", "with a blank"),
    "returns an expired one": (
        "answer = Credential('LTAI5tX', Secret(CANARY), expiration=datetime(2020, 1, 1, tzinfo=timezone.utc))",
        "is already expired: it died at 2020-01-01T00:00:00Z",
    ),
    "returns a class of its own for a time": (
        "class Moment(datetime): ...\n"
        "answer = Credential('LTAI5tX', Secret(CANARY), expiration=Moment(2099, 1, 1, tzinfo=timezone.utc))",
        "an expiration of the wrong type",
    ),
    "returns a version in two lines": (
        "answer = Credential('LTAI5tX', Secret(CANARY), version_id='v1\\n' + CANARY)",
        "a version_id that is not one short line",
    ),
    "returns a user that is none": (
        "answer = Credential('LTAI5tX', Secret(CANARY), ram_user_name={'name': CANARY})",
        "a ram_user_name that is not one short line",
    ),
    "says no with control characters": (
        "raise errors.SourceRefusedError('sealed \\x1b[31m\\nred', 'unseal\\r\\nit')",
        "sealed  [31m red; unseal  it",
    ),
    "says no without end": ("raise errors.SourceUnavailableError('sealed' + 'x' * 100_000)", "sealedxxx"),
    "says no in bytes": ("raise errors.BadAnswerError(b'sealed', 7)", "failed and does not say why"),
    "says no as it should": (
        "raise errors.SourceRefusedError('credentials.rude: the vault is sealed', 'unseal it')",
        "credentials.rude: the vault is sealed; unseal it",
    ),
}


def test_whatever_a_fetch_does_the_old_value_stays_and_it_recovers(hostile: Hostile) -> None:
    """For each: the sinks keep the old value, `status` has the reason, the audit has it once, and it mends by itself."""
    vm, old = hostile.vm, hostile.turn()
    daemon = vm.daemon().ready()
    assert hostile.holds(old)
    for what, (code, words) in FETCHES.items():
        hostile.does(fetch=code)
        before = len(vm.audit("fetch_failed"))
        rows = [refreshed(vm, "rude") for _ in range(3)]
        assert all(words in row["error"] and row["error"].isprintable() for row in rows), (what, rows)
        assert hostile.holds(old), what
        status = vm.status()["credentials"]["rude"]
        assert status["state"] == "failing" and words in status["last_error"], what
        (record,) = vm.audit("fetch_failed")[before:]
        assert words in record["error"], what
        hostile.does()
        old = hostile.turn()
        assert refreshed(vm, "rude")["outcome"] == "published", what
        assert vm.status()["credentials"]["rude"]["state"] == "fresh", what
        assert hostile.holds(old), what
    assert len(vm.audit("recovered")) == len(FETCHES)
    assert daemon.stop() == 0
    assert vm.keyturn_cold("audit", "verify").returncode == 0
    hostile.no_canary(daemon)


def test_it_mends_without_being_asked(hostile: Hostile) -> None:
    """A daemon that starts with a provider that raises is ready, failing, and fresh by itself when that behaves again."""
    hostile.does(fetch="raise RuntimeError(CANARY)")
    daemon = hostile.vm.daemon().ready()
    assert hostile.vm.status()["credentials"]["rude"]["state"] == "failing"
    hostile.does()
    eventually(lambda: hostile.holds("LTAI5tHostile0001"))
    assert daemon.stop() == 0
    hostile.no_canary(daemon)


def test_one_that_hangs_holds_up_nobody(hostile: Hostile) -> None:
    """Another credential is published meanwhile, the one that hangs recovers when it comes back, SIGTERM waits for nobody."""
    vm, old = hostile.vm, hostile.turn()
    gate = vm.directory / "gate"
    vm.configure(hostile.table + vm.credential(poll="1s"))
    daemon = vm.daemon().ready()
    hang = f"while not os.path.exists({str(gate)!r}): time.sleep(0.02)"
    hostile.does(fetch=f"open({str(vm.directory / 'begun')!r}, 'w').close()\n{hang}")
    daemon.signal(signal.SIGUSR1)
    eventually((vm.directory / "begun").exists)
    newest = vm.cloud.rotate("uploader-ak")
    eventually(lambda: vm.holds(newest.access_key_id))
    assert hostile.holds(old)
    hostile.turn()
    gate.touch()
    eventually(lambda: hostile.holds(hostile.turn()) or refreshed(vm, "rude")["outcome"] == "published")
    gate.unlink()
    (vm.directory / "begun").unlink()
    daemon.signal(signal.SIGUSR1)
    eventually((vm.directory / "begun").exists)
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < PROMPT_S, "it waited for a provider that hangs"
    assert vm.audit()[-1]["event"] == "agent_stopped"


PRINTS = """
print(CANARY)
print(CANARY, file=sys.stderr)
sys.__stdout__.write(CANARY)
sys.stdout.buffer.write(CANARY.encode())
sys.stderr.writelines([CANARY])
logging.getLogger("vendor.sdk").error(CANARY)
logging.StreamHandler().handle(logging.makeLogRecord({"msg": CANARY}))
warnings.warn(CANARY)
thread = threading.Thread(target=lambda: (print(CANARY), print(CANARY, file=sys.stderr), int(CANARY)))
thread.start()
thread.join()
class Leaky:
    def __del__(self): raise RuntimeError(CANARY)
Leaky()
sys.stdout.close()
"""
EVERYWHERE = dict.fromkeys(("import", "problems", "construct", "fetch", "pace", "inspect", "close"), PRINTS)


def test_one_that_prints_garbles_no_output_and_shows_nothing(hostile: Hostile) -> None:
    """Whatever every part of it prints, `--json` is one object, each command's words are its own, and no canary is
    anywhere."""
    hostile.does(**EVERYWHERE)
    looked = hostile.vm.keyturn_cold("check", "--json")
    found = json.loads(looked.stdout)
    assert found["ok"], found
    warned = [row["text"] for row in found["findings"] if row["level"] == "warning"]
    assert "provider hostile wrote to standard output; it was dropped" in warned
    assert "provider hostile wrote to standard error; it was dropped" in warned
    asked = hostile.vm.keyturn_cold("refresh", "--json")  # no daemon: it does the work itself, as `once` does
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["credentials"][0]["outcome"] == "published"
    once = hostile.vm.keyturn_cold("once")
    assert (once.returncode, once.stdout) == (0, "rude: unchanged, generation 1, LTAI5tHostile0001\n")
    shown = hostile.vm.keyturn_cold("status", "--json")
    assert json.loads(shown.stdout)["credentials"]["rude"]["generation"] == 1
    assert (looked.stderr, asked.stderr, once.stderr, shown.stderr) == ("", "", "", "")
    hostile.no_canary(looked, asked, once, shown)


def test_the_log_says_once_that_it_prints(hostile: Hostile) -> None:
    """In the daemon: one line for each stream, whatever it writes and how often, and keyturn's own lines as ever."""
    daemon = hostile.vm.daemon({"PYTHONWARNINGS": "always"}).ready()
    hostile.does(**EVERYWHERE)
    for _ in range(3):
        assert "error" not in refreshed(hostile.vm, "rude")
    hostile.vm.configure(hostile.table.replace('type = "hostile"', 'type = "hostile"\nwords = "other"'))
    daemon.signal(signal.SIGHUP)  # the provider before is closed, and prints
    daemon.listener.wait("READY=1", 2)
    eventually(lambda: hostile.vm.audit("config_reloaded"))
    assert daemon.stop() == 0
    for stream in ("output", "error"):
        assert daemon.log.count(f"provider hostile wrote to standard {stream}; it was dropped") == 1
    assert "info: stopped" in daemon.log
    hostile.no_canary(daemon)


UNUSABLE = {
    "raises at its import": ({"import": "raise RuntimeError(CANARY)"}, "cannot be imported: RuntimeError"),
    "ends the process at its import": ({"import": "sys.exit(CANARY)"}, "cannot be imported: SystemExit"),
    "raises in its constructor": ({"construct": "raise RuntimeError(CANARY)"}, "cannot be made (RuntimeError)"),
    "ends the process in its constructor": ({"construct": "sys.exit(0)"}, "cannot be made (SystemExit)"),
    "ends the process in its settings": ({"problems": "sys.exit(CANARY)"}, "refused by hostile.Settings (SystemExit"),
    "refuses in its constructor": (
        {"construct": "raise errors.ConfigError(['credentials.rude.provider.words: want some'])"},
        "credentials.rude.provider.words: want some",
    ),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_one_that_makes_the_config_unusable_is_named(hostile: Hostile, what: str) -> None:
    """Exit code 78 and one sentence from every command, nothing written; and all is well when it behaves again."""
    acts, words = UNUSABLE[what]
    hostile.does(**acts)
    for command in ("once", "check", "run"):
        done = hostile.vm.keyturn_cold(command)
        assert (done.returncode, len(done.stderr.splitlines())) == (78, 1), (command, done)
        assert words in done.stderr
        hostile.no_canary(done)
    assert not hostile.vm.ini_path("rude").exists()
    hostile.does()
    assert hostile.vm.keyturn_cold("once").returncode == 0


@pytest.mark.parametrize(
    "acts",
    [{"problems": "sys.exit(CANARY)"}, {"construct": "sys.exit(CANARY)"}, {"construct": "raise RuntimeError(CANARY)"}],
    ids=["its settings exit", "its constructor exits", "its constructor raises"],
)
def test_a_reload_that_meets_it_is_refused_and_the_daemon_goes_on(hostile: Hostile, acts: dict[str, str]) -> None:
    """The old config serves on, the audit says why, READY comes again, and the next reload is taken."""
    daemon = hostile.vm.daemon().ready()
    hostile.does(**acts)
    daemon.signal(signal.SIGHUP)
    daemon.listener.wait("READY=1", 2)
    (record,) = hostile.vm.audit("config_rejected")
    assert "hostile" in record["error"]
    hostile.does()
    newest = hostile.turn()
    assert refreshed(hostile.vm, "rude")["outcome"] == "published"
    assert hostile.holds(newest)
    daemon.signal(signal.SIGHUP)
    daemon.listener.wait("READY=1", 3)
    assert len(hostile.vm.audit("config_reloaded")) == 1
    assert daemon.stop() == 0
    hostile.no_canary(daemon)


def test_parts_that_fail_beside_the_fetch_do_no_harm(hostile: Hostile) -> None:
    """`poll_interval_s`, `inspect` and `close` that raise, exit or say nonsense: published, shown, let go all the same."""
    ends = "sys.exit(CANARY)"
    hostile.does(pace=ends, inspect=ends, close=ends)
    looked = hostile.vm.keyturn_cold("check", "--json")
    found = json.loads(looked.stdout)
    assert [row["text"] for row in found["findings"] if row["level"] == "error"] == [
        "provider hostile failed with SystemExit"
    ]
    daemon = hostile.vm.daemon().ready()
    assert hostile.holds("LTAI5tHostile0001")
    assert hostile.vm.status()["credentials"]["rude"]["state"] == "fresh"
    hostile.vm.configure(hostile.vm.credential())
    daemon.signal(signal.SIGHUP)
    daemon.listener.wait("READY=1", 2)
    assert set(hostile.vm.status()["credentials"]) == {"uploader"}
    assert daemon.stop() == 0
    hostile.no_canary(looked, daemon)
