"""A file that changed is not a process that changed: where the news cannot take effect, `check` and `status` say so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT
from tests.support.vm import PATIENCE_S, Vm, eventually

PYTHON_SDK = """\
import os, signal, sys
from alibabacloud_credentials.client import Client
client = Client()
def hup(*_):
    print(client.get_credential().access_key_id, flush=True)
signal.signal(signal.SIGHUP, hup)
hup()
while True: signal.pause()
"""
"""An application as Alibaba's documentation writes them: one client, made at the start."""

READS_AGAIN = """\
import json, signal, sys
def hup(*_):
    print(json.load(open(sys.argv[1]))["AccessKeyId"], flush=True)
signal.signal(signal.SIGHUP, hup)
hup()
while True: signal.pause()
"""
"""An application that reads its file whenever it is told."""


@dataclass(frozen=True)
class Case:
    """A dependent that gets SIGHUP, and what is to be said of that."""

    sink: Callable[[Vm], str]
    program: str
    environ: Callable[[Vm], dict[str, str]]
    takes_effect: bool
    pickup: str
    says: str


def json_sink(vm: Vm) -> str:
    return f'[[credentials.uploader.sinks]]\ntype = "json"\npath = "{vm.app}/uploader.json"\n'


def read_env(vm: Vm) -> dict[str, str]:
    """As systemd does with an EnvironmentFile=: at the start, and never again."""
    return dict(line.split("=", 1) for line in vm.env_path().read_text().splitlines())


CASES = {
    "an env file": Case(Vm.env, PYTHON_SDK, read_env, False, "not picked up", "does not change the environment"),
    "credentials.ini": Case(
        Vm.ini,
        PYTHON_SDK,
        lambda vm: {"ALIBABA_CLOUD_CREDENTIALS_FILE": str(vm.ini_path())},
        False,
        "assumed",
        "read the file once for each client",
    ),
    "a file that is read again": Case(json_sink, READS_AGAIN, lambda _vm: {}, True, "assumed", ""),
}


def started(vm: Vm, case: Case) -> tuple[subprocess.Popen[str], Path]:
    pid_file = vm.directory / "app.pid"
    environ = {"PATH": os.environ["PATH"], "HOME": str(vm.directory), "PYTHONPATH": str(ROOT), **case.environ(vm)}
    argv = [sys.executable, "-c", case.program, f"{vm.app}/uploader.json"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environ)
    pid_file.write_text(f"{process.pid}\n")
    return process, pid_file


def heard_of(vm: Vm) -> dict[str, Any]:
    return dict(vm.status()["credentials"]["uploader"]["notify"][0])


@pytest.mark.parametrize("name", CASES)
def test_what_is_said_of_a_reload_is_what_happens(vm: Vm, name: str) -> None:
    """The real SDK keeps the old key after SIGHUP, and both commands say that; a program that reads again is not doubted."""
    case = CASES[name]
    notify = f'[[credentials.uploader.notify]]\ntype = "signal"\npid_file = "{vm.directory}/app.pid"\n'
    sinks = case.sink(vm)
    vm.configure(vm.credential(sinks=sinks))
    first = vm.cloud.current_key("uploader-ak").access_key_id
    assert vm.keyturn("once").returncode == 0
    application, _pid_file = started(vm, case)
    try:
        assert application.stdout is not None
        assert application.stdout.readline().strip() == first
        vm.configure(vm.credential(sinks=sinks, notify=notify))
        vm.daemon().ready()
        second = vm.cloud.rotate("uploader-ak").access_key_id
        assert vm.keyturn("refresh").returncode == 0
        in_use = application.stdout.readline().strip()
        assert in_use == (second if case.takes_effect else first)
        shown = eventually(lambda: heard_of(vm) if not heard_of(vm)["owed"] else None)
        assert shown["pickup"] == case.pickup
        assert shown["last_outcome"] == "told" if case.takes_effect else case.says in shown["last_outcome"]
        people = vm.keyturn("status").stdout
        found = json.loads(vm.keyturn("check", "--offline", "--json").stdout)["findings"]
        warned = [one for one in found if one["level"] == "warning" and "notify" in one["place"]]
        assert bool(warned) is not case.takes_effect
        assert case.takes_effect or (case.says in people and case.says in warned[0]["text"] and warned[0]["remedy"])
    finally:
        application.send_signal(signal.SIGKILL)
        application.wait(PATIENCE_S)
