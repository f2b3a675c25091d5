"""SIGHUP: what it applies, what it refuses, and that READY=1 ends every reload."""

from __future__ import annotations

import json
import os
import signal

from tests.support.plugins import packaged
from tests.support.vm import Daemon, Vm


def reloaded(daemon: Daemon, times: int) -> None:
    """Ask for one more reload, and wait for its end."""
    daemon.signal(signal.SIGHUP)
    daemon.listener.wait("READY=1", times + 1)
    assert daemon.listener.count("RELOADING=1") == times


def test_a_reload_applies_a_changed_log_level_and_format(vm: Vm) -> None:
    """From the reload on the log is JSON; raised to "error" it says nothing of the next good reload."""
    vm.configure(vm.credential())
    daemon = vm.daemon().ready()
    before = daemon.log
    vm.configure(vm.agent('log_format = "json"') + vm.credential())
    reloaded(daemon, 1)
    (line,) = [text for text in daemon.log[len(before) :].splitlines() if "config reloaded" in text]
    assert json.loads(line)["level"] == "info"
    vm.configure(vm.agent('log_level = "error"') + vm.credential())
    reloaded(daemon, 2)
    assert len(vm.audit("config_reloaded")) == 2
    assert daemon.log.count("config reloaded") == 1


def test_a_changed_control_group_wants_a_restart(vm: Vm) -> None:
    """The socket exists already: the change is refused by name, audited, and the old config goes on."""
    vm.configure(vm.credential())
    daemon = vm.daemon().ready()
    vm.configure(vm.agent('control_group = "another"') + vm.credential())
    reloaded(daemon, 1)
    (record,) = vm.audit("config_rejected")
    assert "agent.control_group" in record["error"]
    assert "restart" in record["error"]
    assert not vm.audit("config_reloaded")


PLUGIN = """
import os
from dataclasses import dataclass
from agent.core.credential import Credential
from agent.core.provider import Provider
from agent.core.secret import Secret
from agent.core.settings import ProviderSettings

@dataclass(frozen=True, kw_only=True)
class Settings(ProviderSettings):
    flag: str

class Faulty(Provider):
    type_name, Settings = "faulty", Settings

    def __init__(self, settings, context):
        if os.path.exists(settings.flag):
            raise RuntimeError("canary of a third party")
        super().__init__(settings, context)

    def _fetch(self, timeout_s):
        return Credential(access_key_id="LTAI5tFaulty", access_key_secret=Secret("s" * 30))
"""


def test_a_fault_in_a_reload_is_refused_and_the_daemon_is_ready_again(vm: Vm) -> None:
    """A third party's provider that raises what nobody foresaw: logged, audited, READY=1, and the old config goes on."""
    packages, flag = vm.directory / "site", vm.directory / "flag"
    packaged(packages, "faulty", PLUGIN, "Faulty")
    vm.configure(vm.credential(provider=f'type = "faulty"\nflag = "{flag}"\n', settings='verify = "off"'))
    daemon = vm.daemon({"PYTHONPATH": os.pathsep.join([vm.environ["PYTHONPATH"], str(packages)])}).ready()
    flag.touch()
    reloaded(daemon, 1)
    (record,) = vm.audit("config_rejected")
    assert "RuntimeError" in record["error"]
    assert "RuntimeError" in daemon.log
    assert "canary" not in daemon.log + record["error"]
    flag.unlink()
    reloaded(daemon, 2)
    assert len(vm.audit("config_reloaded")) == 1
    assert daemon.stop() == 0
