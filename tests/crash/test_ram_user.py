"""kill -9 at each system call of a whole pass that makes, publishes, disables and deletes keys of a RAM user.

The account is an emulator in this process, so it outlives every death. Each death begins at the same moment: one key is published
and due; `once` makes the next one, publishes it, and disables and deletes the one before.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.state.ram_record import GUESSED
from agent.state.store import StateStore
from tests.support.crash.surviving import Death, deaths_at
from tests.support.ram_station import prepare
from tests.support.vm import ROOT, Vm

pytestmark = pytest.mark.usefixtures("knife")
AT_ONCE = 'owner = true\nevery = "1s"\ndisable_after = "0s"\ndelete_after = "0s"'
PLACES = ("state", "app", "log")
PARTS = 4
ID = re.compile(r"LTAI\w+")


class Account:
    """A VM, its account, and the surgeon; `restore` puts both back to where one key is published and due."""

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        prepare(vm, AT_ONCE)
        self._surgeon = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crash.surgeon"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self._answer()
        assert self.once()["ended"] == 0, self.said()
        time.sleep(1.0)  # then that key is due
        self._keys = copy.deepcopy(vm.cloud._access_keys)
        for place in PLACES:
            shutil.copytree(vm.directory / place, vm.directory / f"saved-{place}", symlinks=True)

    def restore(self) -> None:
        self.vm.cloud._access_keys.clear()
        self.vm.cloud._access_keys.update(copy.deepcopy(self._keys))
        for place in PLACES:
            shutil.rmtree(self.vm.directory / place)
            shutil.copytree(self.vm.directory / f"saved-{place}", self.vm.directory / place, symlinks=True)

    def once(self, **request: Any) -> dict[str, Any]:
        common = {
            "root": str(self.vm.directory), "log": str(self.vm.directory / "said"), "environ": self.vm.environ,
            "arguments": ["--config", str(self.vm.config), "once", "--retry-for", "0s"],
        }  # fmt: skip
        assert self._surgeon.stdin is not None
        self._surgeon.stdin.write(json.dumps(common | request) + "\n")
        self._surgeon.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._surgeon.stdout is not None
        line = self._surgeon.stdout.readline()
        assert line, f"the surgeon died: {self.said()}"
        return dict(json.loads(line))

    def said(self) -> str:
        path = self.vm.directory / "said"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        assert self._surgeon.stdin is not None
        self._surgeon.stdin.close()
        self._surgeon.wait(30)

    # -- looking ------------------------------------------------------------------------------------

    def keys(self) -> dict[str, str]:
        return {one.access_key_id: one.status for one in self.vm.cloud.keys_of("batch")}

    def in_files(self) -> set[str]:
        paths = (self.vm.ini_path(), self.vm.env_path())
        return {name for path in paths for name in ID.findall(path.read_text())}

    def dies(self, death: Death) -> bool:
        return self.once(trace=True, begin="start", kill=vars(death))["ended"] == -signal.SIGKILL

    def look_after(self, death: Death) -> None:
        """At the moment of death, and after two more passes."""
        assert all(self.keys().get(name) == "Active" for name in self.in_files()), (death, self.keys(), self.in_files())
        for _ in range(2):
            assert self.once()["ended"] == 0, (death, self.said()[-2000:])
        (published,) = self.in_files()
        record = StateStore(self.vm.state).peek("uploader").ram.record
        waits = record.lost or any(one.origin == GUESSED for one in record.keys)
        left = set(self.keys()) - {published}
        assert self.keys()[published] == "Active" and len(left) <= bool(waits), (death, self.keys(), record)
        assert record.intent is None, (death, record)


@pytest.fixture
def account(make_vm: Callable[..., Vm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Account(make_vm())
    yield made
    made.close()


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_each_system_call_of_a_rotation(
    account: Account, part: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key in the files works at each; afterwards nothing is left but, at most, one key whose reply was lost."""
    account.restore()
    calls = account.once(trace=True, begin="start")["calls"]
    assert sum("state/credentials/uploader.state" in call for call in calls) >= 8, calls
    deaths = deaths_at(calls)[part::PARTS]
    died = 0
    for death in deaths:
        account.restore()
        if account.dies(death):  # threads take turns: a call may come a time less often
            died += 1
            account.look_after(death)
    with capsys.disabled():
        print(f"\n{died} of {len(deaths)} deaths")
    assert died > 0.9 * len(deaths)
