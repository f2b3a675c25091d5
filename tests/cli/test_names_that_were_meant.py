"""A name that does not exist is repeated, with the one that was meant: credentials, users, groups."""

from __future__ import annotations

import grp
import pwd
import threading

import pytest

from agent.cli.command_line import understood
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
        and "did you mean uploader?" in done.stderr
    )
    assert vm.keyturn("audit", "show", "--json", "--credential", "zzz").returncode == 2
    assert vm.keyturn("audit", "show", "--credential", "uploader").stdout
    vm.configure(vm.agent(), vm.credential("other"), vm.json("other"))
    assert vm.keyturn("audit", "show", "--credential", "uploader").returncode == 0, "it left the config, not the log"
    quiet = vm.keyturn("audit", "show", "--credential", "other")
    assert (quiet.returncode, quiet.stdout) == (0, "")


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
