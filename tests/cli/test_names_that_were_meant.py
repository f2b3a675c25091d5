"""A name that does not exist is repeated, with the one that was meant: credentials, users, groups."""

from __future__ import annotations

import grp
import pwd
import shlex
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from agent.cli.command_line import understood
from agent.cli.main import main
from agent.core.errors import EXIT_USAGE
from agent.core.settings import FilePath, FileSinkSettings
from agent.notifiers.exec_command import ExecSettings
from agent.notifiers.signal_process import SignalSettings
from agent.sinks.transaction.target import UnknownOwnerError, wanted_attributes
from agent.system.process import CommandError, run_command
from tests.support.vm import Vm

USER = max((entry.pw_name for entry in pwd.getpwall() if entry.pw_name.isalpha()), key=len)
GROUP = max((entry.gr_name for entry in grp.getgrall() if entry.gr_name.isalpha()), key=len)


def test_audit_show_says_that_there_is_no_such_credential(vm: Vm) -> None:
    """Exit 2 and the nearest name, of the config or of the log; one of them that has no record is no error."""
    vm.configure(vm.agent(), vm.credential(), vm.json())
    assert vm.keyturn("once").returncode == 0
    done = vm.keyturn("audit", "show", "--credential", "uplaoder")
    assert (
        (done.returncode, done.stdout) == (2, "")
        and "'uplaoder'" in done.stderr
        and done.stderr.endswith(f"; did you mean: keyturn --config {vm.config} audit show --credential uploader\n")
    )
    assert vm.keyturn("audit", "show", "--json", "--credential", "zzz").returncode == 2
    assert vm.keyturn("audit", "show", "--credential", "uploader").stdout
    vm.configure(vm.agent(), vm.credential("other"), vm.json("other"))
    assert vm.keyturn("audit", "show", "--credential", "uploader").returncode == 0, "it left the config, not the log"
    quiet = vm.keyturn("audit", "show", "--credential", "other")
    assert (quiet.returncode, quiet.stdout) == (0, "")


NAMED = {
    "refresh uplaoder": "refresh uploader",
    "rotate uplaoder --reason 'a key' --yes": "rotate uploader --reason 'a key' --yes",
    "plan uplaoder": "plan uploader",
    "once uploader uplaoder": "once uploader uploader",
    "credential uplaoder --format env": "credential uploader --format env",
    "policy --credential=uplaoder": "policy --credential=uploader",
    "audit report --credential uplaoder": "audit report --credential uploader",
}
"""What is typed, and the command that was meant."""


def test_a_credential_that_was_meant_is_put_into_the_command(
    vm: Vm, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """Ready to be pasted, and without waiting for a daemon, which would not have it either."""
    vm.configure(vm.agent(), vm.credential(), vm.json())
    assert vm.keyturn("once").returncode == 0
    monkeypatch.setenv("KEYTURN_CONFIG", str(vm.config))
    monkeypatch.setattr("agent.cli.credential.time", SimpleNamespace(monotonic=time.monotonic))  # without sleep
    for typed, meant in NAMED.items():
        assert main(shlex.split(typed)) == EXIT_USAGE
        assert capfd.readouterr().err.endswith(f"; did you mean: keyturn {meant}\n"), typed


def test_a_name_that_stands_twice_is_not_put_right_blindly(vm: Vm, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """The reason may be called as the credential is; and a name that is like none is only repeated."""
    vm.configure(vm.agent(), vm.credential(), vm.json())
    monkeypatch.setenv("KEYTURN_CONFIG", str(vm.config))
    assert main(["rotate", "uplaoder", "--reason", "uplaoder", "--yes"]) == EXIT_USAGE
    assert capfd.readouterr().err.endswith("; did you mean uploader?\n")
    assert main(["refresh", "it's \x1b[2J"]) == EXIT_USAGE
    said = capfd.readouterr().err
    assert said.rstrip("\n").isprintable() and "did you mean" not in said


@pytest.mark.parametrize(("key", "name"), [("owner", USER), ("group", GROUP)])
def test_an_owner_or_a_group_that_was_meant_is_named(key: str, name: str, vm: Vm) -> None:
    """By the config, and by the sink where the account went away later."""
    typo = name[:-2] + name[-1] + name[-2] if name[-1] != name[-2] else name + "x"
    vm.configure(vm.agent(), vm.credential(), vm.json() + f'{key} = "{typo}"\n')
    done = vm.keyturn("check", "--offline")
    assert done.returncode == 78 and f'"{typo}"; did you mean "{name}"?' in done.stderr
    with pytest.raises(UnknownOwnerError) as caught:
        wanted_attributes(FileSinkSettings(type="json", path=FilePath("/x"), **{key: typo}))
    assert caught.value.remedy == f"did you mean {name}?"


def test_a_user_of_a_hook_that_was_meant_is_named() -> None:
    """Of a command, of a signal's process, and where a command is run."""
    typo = USER + "x"
    for settings in (
        ExecSettings(type="exec", command=("/bin/true",), user=typo),
        SignalSettings(type="signal", exe=FilePath("/bin/true"), user=typo),
    ):
        assert dict(settings.problems())["user"].endswith(f"{typo}; did you mean {USER}?")
    with pytest.raises(CommandError) as caught:
        run_command(["/bin/true"], timeout_s=5, cancel=threading.Event(), user=typo)
    assert caught.value.remedy == f"did you mean {USER}?"


def test_a_command_line_that_lacks_something_gets_the_example(capfd: pytest.CaptureFixture[str]) -> None:
    """At three in the morning: what is missing is named, and behind it stands a command that has it."""
    with pytest.raises(SystemExit) as ended:
        understood(["rotate", "uploader", "--disable-old"])
    assert ended.value.code == EXIT_USAGE
    said = capfd.readouterr().err.splitlines()[-1]
    assert "--reason; example: keyturn rotate uploader --reason" in said
