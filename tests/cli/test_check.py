"""`keyturn check` on a terminal, in a pipe, as JSON, of a config that is none, and broken off."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import tomllib

from providers.emulator.faults import Fault
from tests.support.processes import KEYTURN, PATIENCE_S, eventually
from tests.support.vm import Vm, quoted

CANARY = "c4n4ry-of-a-misplaced-secret"


def broken(vm: Vm) -> None:
    """Two credentials that suffer from one cause, a sink without its directory, and a warning for each."""
    loose = vm.directory / "loose.json"
    loose.write_bytes((vm.directory / "clientKey.json").read_bytes())
    loose.chmod(0o644)
    own = quoted(vm.directory / "clientKey.json")
    vm.configure(
        vm.credential("nowhere", sinks=vm.ini("nowhere", vm.app / "no" / "x.ini"))
        + vm.credential("one").replace(own, quoted(loose))
        + vm.credential("two").replace(own, quoted(loose))
    )


def test_errors_stand_at_the_end_each_once_with_its_line_and_what_to_do_first(vm: Vm) -> None:
    """What is in order scrolls away; the last lines are the warnings, the errors and the summary; no escapes in a pipe."""
    broken(vm)
    done = vm.keyturn("check", "--offline")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    levels = [line.split()[0] for line in done.stdout.splitlines()[:-1] if not line.startswith(" ")]
    assert levels == ["ok"] * levels.count("ok") + ["warning", "error", "error"]
    config = str(vm.config)
    lines = [line.strip() for line in done.stdout.splitlines() if line.startswith("        ")]
    assert all(re.match(rf"in {re.escape(config)}:\d+", line) for line in lines) and len(lines) == 3
    assert re.search(r"; also credentials\.two\.provider \(line \d+\)", lines[-1])
    loose = vm.directory / "loose.json"
    assert (
        done.stdout.splitlines()[-1] == f"2 errors, 1 warning; do first: chmod 600 {loose} (credentials.one.provider)"
    )


def test_json_has_every_finding_with_its_line_and_the_summary(vm: Vm) -> None:
    """Nothing is left out for programs, and nothing that was there has another form."""
    broken(vm)
    done = vm.keyturn("check", "--offline", "--json")
    whole = json.loads(done.stdout)
    assert done.returncode == 1 and done.stderr == ""
    assert (whole["ok"], whole["errors"], whole["warnings"]) == (False, 2, 1)
    assert whole["do_first"]["place"] == "credentials.one.provider"
    text = vm.config.read_text().splitlines()
    for row in whole["findings"]:
        assert row["level"] in ("ok", "warning", "error")
        if row["place"].startswith("credentials."):
            assert "credentials." in text[row["line"] - 1] or "=" in text[row["line"] - 1], row
    places = [row["place"] for row in whole["findings"] if row["level"] == "error"]
    assert places.count("credentials.one.provider") == places.count("credentials.two.provider") == 1


def test_a_config_that_is_none_is_said_with_lines_and_carets_and_no_secret(vm: Vm) -> None:
    """On standard error, 78; each problem is one line that begins with file, line and column, then the line with a caret."""
    vm.configure(vm.credential() + f'[credentials.uploader.serve]\nusers = 7\npassword = "{CANARY}"\nhold = 60\n')
    done = vm.keyturn("check")
    assert (done.returncode, done.stdout) == (78, "")
    said = done.stderr.splitlines()
    problems = [line for line in said if line.startswith(f"{vm.config}:")]
    assert [re.sub(r"^.*toml:\d+:\d+: (\S+): .*", r"\1", line) for line in problems] == [
        "credentials.uploader.serve.users",
        "credentials.uploader.serve.password",
        "credentials.uploader.serve.hold",
    ]
    assert sum("^" in line for line in said) == 3
    assert said[-1].startswith("3 errors in the config; do first: ")
    assert CANARY not in done.stderr
    run = vm.keyturn("run")
    assert run.returncode == 78 and CANARY not in run.stderr and run.stderr.splitlines()[:-1] == said[:-2]


def test_a_config_that_is_none_is_json_too(vm: Vm) -> None:
    """File, line and column are fields; standard error has the sentences alone, for whoever reads only that."""
    vm.configure(vm.credential() + "[credentials.uploader.serve]\nusers = 7\n")
    done = vm.keyturn("check", "--json")
    whole = json.loads(done.stdout)
    (row,) = whole["findings"]
    assert done.returncode == 78 and len(done.stderr.splitlines()) == 1
    assert (row["level"], row["place"], row["file"]) == ("error", "credentials.uploader.serve.users", str(vm.config))
    assert vm.config.read_text().splitlines()[row["line"] - 1][row["column"] - 1 :] == "7"
    vm.config.unlink()
    gone = json.loads(vm.keyturn("check", "--json").stdout)
    assert gone["ok"] is False and "line" not in gone["findings"][0]


def test_a_terminal_shows_what_is_waited_for_and_takes_it_away(vm: Vm) -> None:
    """A source that does not answer is named when it is asked, and Ctrl-C shows what was found until then."""
    vm.configure(vm.credential(sinks=vm.ini("uploader", vm.app / "no" / "x.ini")))
    vm.cloud.inject(Fault.HANG, times=100, action="GetSecretValue")
    master, slave = pty.openpty()
    command = [*KEYTURN, "--config", str(vm.config), "check"]
    environ = {**vm.environ, "TERM": "xterm", "COLUMNS": "60"}
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True)
    os.close(slave)
    seen = b""

    def waits() -> bool:
        nonlocal seen
        seen += os.read(master, 4096)
        return b"is asked" in seen

    eventually(waits)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 130
    try:
        while more := os.read(master, 4096):
            seen += more
    except OSError:  # the other end was closed
        pass
    os.close(master)
    shown = seen.decode()
    waited = re.findall(r"\.\.\.     [^\r\n\x1b]*", shown)
    assert waited and all(len(line) < 60 for line in waited)
    after = shown[shown.rindex(waited[-1]) :]
    assert "\x1b[K" in after and "sinks[0]" in after and "broken off" in after


def test_the_config_as_it_takes_effect_is_a_config(vm: Vm) -> None:
    """It can be written to a file and used; `--json` has the same with the defaults by name."""
    vm.configure(vm.credential())
    done = vm.keyturn("check", "--show-config")
    assert done.returncode == 0 and done.stderr == ""
    assert tomllib.loads(done.stdout)["credentials"]["uploader"]["provider"]["secret_name"] == "uploader-ak"
    assert 'log_level = "info"  # default' in done.stdout
    whole = json.loads(vm.keyturn("check", "--show-config", "--json").stdout)
    assert whole["config"] == str(vm.config) and "agent.log_level" in whole["defaults"] and whole["hidden"] == []
    vm.config.write_text(done.stdout)
    again = vm.keyturn("check", "--show-config", "--json")
    assert json.loads(again.stdout)["settings"] == whole["settings"]
    assert vm.keyturn("once").returncode == 0
