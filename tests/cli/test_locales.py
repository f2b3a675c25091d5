"""Under any locale: no letter that the output's encoding lacks ends a command, least of all an emergency."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from agent.core.errors import EXIT_DAEMON_UNREACHABLE, EXIT_DONE
from agent.system.file_names import typed_text
from tests.support.processes import KEYTURN
from tests.support.station import Station
from tests.support.vm import Vm

pytestmark = pytest.mark.slow

ENCODINGS = ["gbk", "ascii"]
NAME = "hook-é-密-✓"
"""No encoding but a Unicode one has all of these letters."""


def keyturn(vm: Vm, encoding: str, *arguments: str, typed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A command whose three streams have this encoding, as under a locale of that name, and are strict about it."""
    environ = {**vm.environ, "PYTHONIOENCODING": f"{encoding}:strict"}
    command = [*KEYTURN, "--config", str(vm.config), *arguments]
    return subprocess.run(command, input=typed, capture_output=True, timeout=120, env=environ, cwd="/", check=False)


def with_foreign_names(station: Station) -> Vm:
    """A VM whose hook has such a name."""
    vm = station.vm
    hook = vm.app / NAME
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    vm.configure(vm.credential(notify=vm.hook([hook])), station.table)
    return vm


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("through", ["the daemon", "the command itself"])
def test_the_outcome_of_an_emergency_is_never_lost(station: Station, encoding: str, through: str) -> None:
    """The steps name a hook with foreign letters: it ends safe, with exit code 0, and says so."""
    vm = with_foreign_names(station)
    if through == "the daemon":
        vm.daemon().listener.wait("READY=1")
    done = keyturn(vm, encoding, "rotate", "uploader", "--reason", "clé 🔑", "--disable-old", "--yes")
    assert done.returncode == EXIT_DONE, done.stderr
    shown = done.stdout.decode(encoding)
    assert "pickup" in shown and "safe" in shown.splitlines()[-1]
    assert b"hook-" in done.stdout


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_command_that_shows_something_does_so(station: Station, encoding: str) -> None:
    """Whatever stands in the config, the state and the audit log; what is JSON stays JSON, without a letter lost."""
    vm = with_foreign_names(station)
    assert keyturn(vm, encoding, "once").returncode == EXIT_DONE
    for arguments, code in (
        (["status"], EXIT_DAEMON_UNREACHABLE),
        (["status", "--json"], EXIT_DAEMON_UNREACHABLE),
        (["audit", "show"], EXIT_DONE),
        (["audit", "verify"], EXIT_DONE),
        (["refresh"], EXIT_DONE),
        (["check", "--offline"], None),
    ):
        done = keyturn(vm, encoding, *arguments)
        assert done.stdout and b"Traceback" not in done.stderr and b"fault of keyturn" not in done.stderr, arguments
        assert code in (None, done.returncode), (arguments, done.stderr)
    shown = keyturn(vm, encoding, "audit", "show", "--json").stdout.decode(encoding)
    told = [record for record in map(json.loads, shown.splitlines()) if record["event"] == "notified"]
    assert [Path(str(each["notified"]).removeprefix("exec ")).name for each in told] == [NAME]


def test_what_cannot_be_shown_in_an_error_is_escaped(vm: Vm) -> None:
    """A path that is no text in any encoding, in a refusal."""
    missing = os.fsdecode(b"/nowhere/\xff\xe9.toml")
    command = [*KEYTURN, "--config", missing, "check"]
    environ = {**vm.environ, "PYTHONIOENCODING": "gbk:strict"}
    done = subprocess.run(command, capture_output=True, timeout=120, env=environ, cwd="/", check=False)
    assert done.stderr.startswith(b"keyturn: ") or b"/nowhere/" in done.stderr
    assert b"fault of keyturn" not in done.stderr and b"Traceback" not in done.stderr


def test_a_reason_is_recorded_as_it_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the bytes of zh_CN.GBK, which are no UTF-8: the record of an emergency cannot be mended later."""
    monkeypatch.setattr("locale.getencoding", lambda: "gbk")
    reason = "密钥出现在公开仓库"
    assert typed_text(os.fsdecode(reason.encode("gbk"))) == typed_text(os.fsdecode(reason.encode())) == reason
    assert typed_text("\udcff") == "\ufffd"
