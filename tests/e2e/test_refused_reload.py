"""A reload that was refused changed nothing: whoever looks is told, until a good config is loaded."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.plugins import packaged, wedge
from tests.support.scraper import Figures, free_port, get
from tests.support.vm import Daemon, Vm, eventually

REFUSED = 78
"""EXIT_CONFIG."""


def unknown_key(vm: Vm) -> None:
    """A typing error in a key."""
    vm.configure(vm.agent('log_levle = "info"') + vm.credential())


def no_toml(vm: Vm) -> None:
    """No config at all."""
    vm.config.write_text("no toml at all\nand more")


def another_place(vm: Vm) -> None:
    """Valid, and yet nothing that a daemon that runs can take over."""
    vm.configure(vm.agent('control_group = "another"') + vm.credential())


def reload(daemon: Daemon, times: int) -> None:
    daemon.signal(signal.SIGHUP)
    daemon.listener.wait("READY=1", times + 1)


GATED = {"GATED": "yes"}
"""The environment of a daemon that waits at the gate."""


def gated(vm: Vm) -> tuple[Path, str]:
    """A FIFO, and code by which a daemon, and no command, waits there until it is written to."""
    gate = vm.directory / "gate"
    os.mkfifo(gate)
    return gate, f"import os\nif 'GATED' in os.environ: open({str(gate)!r}).read()\n"


def opened(gate: Path) -> int | None:
    """A descriptor that keeps the gate shut until it is closed, once somebody waits there; None before."""
    try:
        return os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def said(daemon: Daemon) -> str:
    """The newest STATUS=."""
    lines = [line for _at, text in daemon.listener.messages for line in text.splitlines() if line.startswith("STATUS=")]
    return lines[-1].removeprefix("STATUS=")


@pytest.mark.parametrize("spoil", [unknown_key, no_toml, another_place])
def test_each_kind_of_refusal_is_seen_from_everywhere_and_ends_with_a_good_config(
    vm: Vm, spoil: Callable[[Vm], None]
) -> None:
    """STATUS=, `status` in words and as JSON, its exit code where that is asked for; and nothing of it afterwards."""
    vm.environ["RUNTIME_DIRECTORY"] = str(vm.run_directory)  # as in the unit: the config may name it no more
    vm.configure(vm.credential())
    daemon = vm.daemon().ready()
    before = vm.status()["agent"]
    assert (before["config_refused_at"], before["config_problems"]) == (None, [])
    assert vm.keyturn("status", "--fail-if-refused").returncode == 0
    spoil(vm)
    reload(daemon, 1)
    assert said(daemon).startswith("config refused, the old one stays: "), said(daemon)
    assert said(daemon).endswith("; 1 of 1 credentials fresh")
    shown = vm.keyturn("status", "--json")
    agent = json.loads(shown.stdout)["agent"]
    assert shown.returncode == 0, "a monitor that does not ask for it is not troubled"
    assert agent["config_refused_at"] >= agent["config_loaded_at"] == before["config_loaded_at"]  # to the second
    (record,) = vm.audit("config_rejected")
    assert "; ".join(agent["config_problems"]) == record["error"]
    people = vm.keyturn("status", "--fail-if-refused")
    assert people.returncode == REFUSED
    assert [line for line in people.stdout.splitlines() if line.startswith("config refused at ")]
    vm.configure(vm.credential())
    reload(daemon, 2)
    assert said(daemon) == "1 of 1 credentials fresh"
    agent = vm.status()["agent"]
    assert (agent["config_refused_at"], agent["config_problems"]) == (None, [])
    assert agent["config_loaded_at"] >= before["config_loaded_at"]
    assert vm.keyturn("status", "--fail-if-refused").returncode == 0


def test_whoever_asks_for_the_outcome_of_a_reload_waits_for_it(vm: Vm) -> None:
    """ExecReload= asks while the config is still being read: it hears of this reload, not of the one before."""
    gate, wait = gated(vm)
    site = packaged(vm.directory / "site", "slow", f"{wait}class Slow: pass\n", "Slow")
    vm.environ["PYTHONPATH"] += f":{site}"
    vm.configure(vm.credential())
    daemon = vm.daemon(GATED).ready()
    vm.configure(vm.credential(), vm.credential("other", provider='type = "slow"', sinks=""))
    daemon.signal(signal.SIGHUP)
    daemon.listener.wait("RELOADING=1", 1)
    assert vm.keyturn("status").returncode == 0, "who does not ask for it need not wait"
    threading.Timer(0.3, gate.write_text, [""]).start()
    assert vm.keyturn("status", "--fail-if-refused").returncode == REFUSED
    vm.configure(vm.credential())
    daemon.signal(signal.SIGHUP)
    assert vm.keyturn("status", "--fail-if-refused").returncode == 0


def test_an_end_in_the_midst_of_a_reload_begins_nothing(vm: Vm) -> None:
    """The config is read to its end while the daemon stops: it says READY no more, and leaves no socket behind."""
    gate, wait = gated(vm)
    site = wedge(vm.directory / "site", wait)
    vm.environ["PYTHONPATH"] += f":{site}"
    vm.configure(vm.credential())
    daemon = vm.daemon(GATED).ready()
    wedged = vm.credential("other", provider=f'type = "wedge"\nfifo = "{vm.directory}/fifo"', settings='verify = "off"')
    vm.configure(vm.credential(), wedged, "[credentials.other.serve]\n")
    daemon.signal(signal.SIGHUP)
    daemon.listener.wait("RELOADING=1", 1)
    held = eventually(lambda: opened(gate), "the daemon waits at the gate")
    daemon.signal(signal.SIGTERM)
    daemon.listener.wait("STOPPING=1", 1)
    os.close(held)
    assert daemon.ended() == 0
    assert daemon.listener.count("READY=1") == 1
    assert not vm.audit("config_reloaded")
    assert not (vm.run_directory / "credentials.sock").exists()


def test_the_metrics_show_it_by_both_ways(vm: Vm) -> None:
    """The scrape at once, and the file without waiting for its minute."""
    port, file = free_port(), vm.directory / "keyturn.prom"
    agent = vm.agent(f'metrics_listen = "127.0.0.1:{port}"\nmetrics_textfile = "{file}"')
    vm.configure(agent + vm.credential())
    daemon = vm.daemon().ready()

    def seen(text: str) -> float:
        return Figures(text).get("keyturn_config_last_reload_successful")

    eventually(lambda: file.exists() and seen(file.read_text()) == 1)
    no_toml(vm)
    reload(daemon, 1)
    assert seen(get(port, "/metrics").body) == 0
    eventually(lambda: seen(file.read_text()) == 0)
    vm.configure(agent + vm.credential())
    reload(daemon, 2)
    assert seen(get(port, "/metrics").body) == 1
    eventually(lambda: seen(file.read_text()) == 1)
    taken = Figures(get(port, "/metrics").body)
    assert taken.get("keyturn_config_last_reload_success_timestamp_seconds") > 1_700_000_000
