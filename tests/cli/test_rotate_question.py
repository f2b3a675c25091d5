"""The question before an emergency, on a real terminal: who else holds the key, and whom no notification will move."""

from __future__ import annotations

import io
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.cli import plan_output, rotate_output
from agent.cli.daemon_client import Reach
from agent.cli.main import main
from agent.emergency.report import Result
from tests.support.processes import KEYTURN
from tests.support.station import Station
from tests.support.vm import Vm


def asked(vm: Vm, *options: str) -> str:
    """What is asked; the answer is no."""
    ours, theirs = pty.openpty()
    os.write(ours, b"n\n")
    command = [*KEYTURN, "--config", str(vm.config), "rotate", "uploader", "--reason", "leaked", *options]
    done = subprocess.run(command, stdin=theirs, capture_output=True, text=True, env=vm.environ, cwd="/", check=False)
    os.close(ours)
    os.close(theirs)
    assert "nothing was done" in done.stderr
    assert done.stdout == ""
    return done.stderr


def configured(station: Station) -> tuple[Vm, Path]:
    """Two credentials of one secret; the dependent of the second keeps its environment at a SIGHUP."""
    vm, pid_file = station.vm, station.vm.directory / "app.pid"
    told = f'[[credentials.backup.notify]]\ntype = "signal"\npid_file = "{pid_file}"\n'
    backup = vm.credential("backup", sinks=vm.env("backup"), notify=told)
    vm.configure(vm.credential(), station.table, backup)
    return vm, pid_file


@pytest.mark.parametrize("through", ["the daemon", "the state on disk"])
def test_it_names_who_holds_the_key_and_who_would_be_left_behind(station: Station, through: str) -> None:
    """Before anything happens, with or without a daemon; and that the old key is not disabled over them."""
    vm, pid_file = configured(station)
    if through == "the daemon":
        vm.daemon().ready()
    told = asked(vm, "--disable-old")
    assert "held by backup" in told
    assert str(vm.env_path("backup")) in told and "it tells: SIGHUP to the process in" in told
    assert "other hosts are not known to it" in told
    assert f"signal {pid_file} of credentials.backup" in told and "restart the process" in told
    assert "--force" in told
    assert "--force" not in asked(vm)
    assert station.asked("RotateSecret") == 0


def test_the_wait_for_those_who_fetched_is_given_as_usual_and_at_most(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that nobody takes the latest time for the usual one; each process once."""
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    held = [{"who": "pid 7", "until": f"2030-01-01T00:0{minute}:00Z", "hold_s": 60.0} for minute in (4, 9)]
    nothing: dict[str, Any] = {name: [] for name in ("files", "credentials", "dependents", "left_behind", "in_the_way")}
    plan = {"credential": "uploader", **nothing, "processes": {"found": []}, "fetched": held}
    plan_output.agreed("uploader", plan, disable_old=True, delete_old=False)
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "pid 7" in one]
    assert "usually within 60 s" in line and "00:09:00 UTC" in line and line.count("pid 7") == 1


def test_other_hosts_are_named_live_and_absent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With when each was seen; where the board is away, that is said, and a daemon of before does not know of it."""
    nothing: dict[str, Any] = {name: [] for name in ("files", "credentials", "dependents", "left_behind", "in_the_way")}
    plan = {"credential": "uploader", **nothing, "processes": {"found": []}, "fetched": None}
    hosts = [{"host": host, "state": state, "age_s": age_s} for host, state, age_s in
             (("web-2", "live", 3.0), ("web-3", "absent", 7200.0), ("web-4", "live", 9.0))]  # fmt: skip
    cases: list[tuple[dict[str, Any], str]] = [
        ({"other_hosts": {"problem": None, "hosts": hosts}},
         "other live hosts: 2 (web-2, seen 3s ago, web-4, seen 9s ago); absent: 1 (web-3, seen 2h ago)"),
        ({"other_hosts": {"problem": "no connection", "hosts": None}}, "the fleet is not known: no connection"),
        ({}, "other hosts are not known to it"),
    ]  # fmt: skip
    for more, words in cases:
        monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
        plan_output.agreed("uploader", plan | more, disable_old=True, delete_old=False)
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "yes"), [("y\n", True), ("n\n", False), ("", False), ("\ufffd\n", False)])
def test_it_is_asked_even_where_that_is_not_known(
    answer: str, yes: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That the daemon cannot say it keeps nobody from an emergency: the question says why; only a yes is one."""
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert plan_output.agreed("uploader", {"unknown": "it is older"}, disable_old=True, delete_old=False) is yes
    told = capsys.readouterr().err
    assert "not known: it is older" in told and told.rstrip().endswith("[y/N]")


def test_a_rotation_that_the_operator_no_longer_watches_is_said_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Ctrl-C ends the command, not what the daemon does; and a command that did nothing says no more than that."""

    def interrupted(*_asked: object, **_how: object) -> None:
        raise KeyboardInterrupt

    config = tmp_path / "keyturn.toml"
    config.write_text("[agent]\n")
    monkeypatch.setattr(Reach, "ask", interrupted)
    assert main(["--config", str(config), "rotate", "uploader", "--reason", "leaked", "--yes"]) == 130
    assert "keyturn audit show --credential uploader" in capsys.readouterr().err
    rotate_output.rotated(Result("uploader", error="a `keyturn rotate` is under way").as_json())
    assert capsys.readouterr().out == "this command did nothing itself\n"
