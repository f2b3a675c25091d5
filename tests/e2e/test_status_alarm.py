"""`keyturn status` as an alarm, with a daemon and without, and the check that the docs give to monitoring systems."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest

from tests.support.processes import KEYTURN, ROOT
from tests.support.vm import Vm, eventually

CHECK = ROOT / "docs" / "monitoring" / "check_keyturn"


def plugin(vm: Vm, *arguments: str) -> tuple[int, str]:
    """Run the check as a monitoring system does; return its exit code and its line."""
    shim = vm.directory / "bin"
    shim.mkdir(exist_ok=True)
    (shim / "keyturn").write_text(f'#!/bin/sh\nexec {shlex.join([*KEYTURN, "--config", str(vm.config)])} "$@"\n')
    (shim / "keyturn").chmod(0o755)
    environ = {**vm.environ, "PATH": f"{shim}:{vm.environ['PATH']}"}
    done = subprocess.run([CHECK, *arguments], env=environ, capture_output=True, text=True, cwd="/", check=False)
    (line,) = done.stdout.splitlines()
    return done.returncode, line


def test_an_alarm_is_an_exit_code(vm: Vm) -> None:
    """Of what is shown: 1 where it is true of one, with a daemon or without; names choose, in the JSON too."""
    lazy = vm.hook(["/bin/false"], "lazy", 'retry_for = "10m"')
    vm.configure(vm.credential(), vm.credential("lazy", notify=lazy))
    daemon = vm.daemon().ready()
    eventually(lambda: vm.status()["credentials"]["lazy"]["state"] == "pending")
    assert vm.keyturn("status", "--fail-if", "failing,stale,expired").returncode == 0
    alarmed = vm.keyturn("status", "--fail-if", "stale", "--fail-if", "owed", "--json")
    assert (alarmed.returncode, list(json.loads(alarmed.stdout)["credentials"])) == (1, ["uploader", "lazy"])
    assert vm.keyturn("status", "uploader", "--fail-if", "owed").returncode == 0
    chosen = vm.keyturn("status", "uploader", "--json")
    assert list(json.loads(chosen.stdout)["credentials"]) == ["uploader"]
    for words in (("uploda",), ("--fail-if", "stael"), ("--fail-if", "owed", "--watch")):
        assert vm.keyturn("status", *words).returncode == 2
    daemon.process.kill()
    daemon.process.wait()
    assert vm.keyturn("status", "--fail-if", "owed").returncode == 1
    assert vm.keyturn("status", "--fail-if", "expired").returncode == 69


@pytest.mark.slow
def test_a_monitoring_system_is_told_in_one_line_and_by_its_codes(vm: Vm) -> None:
    """0, 1, 2 and 3 mean what they mean for Nagios; the line is the sum, or the error."""
    lazy = vm.hook(["/bin/false"], "lazy", 'retry_for = "10m"')
    vm.configure(vm.credential(), vm.credential("lazy", notify=lazy))
    daemon = vm.daemon().ready()
    eventually(lambda: vm.status()["credentials"]["lazy"]["state"] == "pending")
    code, line = plugin(vm)
    assert code == 1 and line.startswith("WARNING: 2 credentials: 1 pending, 1 fresh; 1 dependent to be told")
    code, line = plugin(vm, "uploader")
    assert code == 0 and line.startswith("OK: 1 credential: 1 fresh")
    daemon.process.kill()
    daemon.process.wait()
    code, line = plugin(vm)
    assert code == 2 and "does not run; 2 credentials" in line
    vm.config.write_text("[agent")
    code, line = plugin(vm)
    assert code == 3 and str(vm.config) in line


def test_once_says_in_one_object_what_came_of_each(vm: Vm) -> None:
    """On failure too; people get each as it ends, and one failure of two is the exit code."""
    vm.cloud.add_ram_secret("reporter-ak", user="reporter")
    vm.configure(
        vm.credential(notify=vm.hook(["/bin/true"])),
        vm.credential("reporter", secret="reporter-ak"),
        vm.credential("nothing", secret="no-such-secret"),
    )
    done = vm.keyturn("once", "--json")
    answer = json.loads(done.stdout)
    rows = {row["credential"]: row for row in answer["credentials"]}
    assert (done.returncode, answer["exit_code"], list(rows)) == (1, 1, ["uploader", "reporter", "nothing"])
    assert [rows[name]["outcome"] for name in rows] == ["published", "published", "failed"]
    assert rows["uploader"]["generation"] == 1 and rows["uploader"]["notify"][0]["last_outcome"] == "told"
    assert "no-such-secret" in rows["nothing"]["error"] or "no such secret" in rows["nothing"]["error"]
    again = vm.keyturn("once")
    assert {line.split(":")[0] for line in again.stdout.splitlines()} == set(rows)
    assert "refreshed" not in again.stderr, "a counter is for terminals"
    wrong = vm.keyturn("once", "--json", "uplaoder")
    assert (wrong.returncode, json.loads(wrong.stdout)["exit_code"]) == (2, 2)
    assert "uploader" in json.loads(wrong.stdout)["error"]
    wrong = vm.keyturn("refresh", "--json", "uplaoder")
    assert (wrong.returncode, json.loads(wrong.stdout)["credentials"]) == (2, [])
