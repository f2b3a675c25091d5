"""What the daemon costs while nothing happens."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.vm import Daemon, Vm, at_rest, eventually, quoted, voluntary_switches

MEMORY_KB = 58_000
IDLE_S = 5.0
NEVER = (
    "agent.app.check",
    "agent.demo",
    "agent.systemd_setup.install",
    "aiohttp",
    "alibabacloud",
    "aliyunsdkcore.vendored.requests",
    "apscheduler",
    "charset_normalizer.api",
    "google.protobuf",
    "providers.emulator",
    "Tea",
)
"""Modules that no daemon needs, with all below them."""
FOR_A_TEMPLATE, FOR_METRICS = "jinja2", "prometheus_client"
FOR_A_CLIENT_KEY = ("alibaba_cloud_secretsmanager_client", "aliyunsdkcore", "aliyunsdkkms", "cryptography")
ALWAYS = ("requests", "schedule", "structlog")
SAY_IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}
"""Has Python write each import, whenever it happens, to standard error."""


def resident_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def loaded(daemon: Daemon, *names: str) -> set[str]:
    """Which of these modules a daemon has imported, from its start until now: Python itself says so in its log."""
    lines = [line for line in daemon.log.splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip() for line in lines}
    return {name for name in names if any(f"{each}.".startswith(f"{name}.") for each in imported)}


def scheduler_switches(pid: int) -> int:
    """Of the scheduler's thread alone: workers wait for the interpreter's lock as often as the machine is busy."""
    return voluntary_switches(pid, str(pid))


def test_an_idle_daemon_sleeps_and_a_polling_one_wakes_once_a_poll(make_vm: Callable[..., Vm]) -> None:
    """An hour from the next poll no thread wakes up; polling each second costs the scheduler a few wake-ups for each poll."""
    vm, busy = make_vm("idle"), make_vm("busy")
    vm.configure(vm.credential(poll="1h"))
    busy.configure(busy.credential(poll="1s"))
    idle_daemon, busy_daemon = vm.daemon(), busy.daemon()
    idle_daemon.ready()
    busy_daemon.ready()
    eventually(lambda: at_rest(idle_daemon.pid), "the threads of the first pass have ended")
    idle, working, calls = (
        voluntary_switches(idle_daemon.pid),
        scheduler_switches(busy_daemon.pid),
        len(busy.cloud.calls),
    )
    time.sleep(IDLE_S)  # idleness can only be measured over time
    idle = voluntary_switches(idle_daemon.pid) - idle
    working = scheduler_switches(busy_daemon.pid) - working
    polls = len(busy.cloud.calls) - calls
    print(f"wake-ups in {IDLE_S:g} s: idle {idle}, polling each second {working} for {polls} polls")
    assert idle <= 3
    assert 1 <= polls <= 2 * IDLE_S
    assert working / polls < 60, "a poll is a series of wake-ups, not a busy loop"


def test_one_credential_fits_into_58_mb(vm: Vm) -> None:
    """After READY, some polls and some publishes the resident memory is under the bound, and only what a ClientKey needs is
    loaded; the start is measured.
    """
    vm.configure(vm.credential())
    daemon = vm.daemon(SAY_IMPORTS).ready()
    took_s = daemon.listener.times("READY=1")[0] - daemon.started_at
    for generation in range(2, 8):
        vm.cloud.rotate("uploader-ak")
        daemon.signal(signal.SIGUSR1)
        eventually(lambda wanted=generation: vm.events().count("published") == wanted)
    used = resident_kb(daemon.pid)
    print(f"start to READY: {took_s:.2f} s; resident: {used} kB")
    assert used < MEMORY_KB
    assert loaded(daemon, *NEVER, FOR_A_TEMPLATE, FOR_METRICS) == set()
    assert loaded(daemon, *ALWAYS, *FOR_A_CLIENT_KEY) == {*ALWAYS, *FOR_A_CLIENT_KEY}


def test_without_a_client_key_no_second_openssl_is_loaded(vm: Vm) -> None:
    """`cryptography` and the official client are a quarter of the memory, and come with a ClientKey only."""
    for name, value in (("id", "LTAI5tNobodyElseHasThis"), ("secret", "canary-of-an-access-key-secret")):
        (vm.directory / name).touch(mode=0o600)
        (vm.directory / name).write_text(value)
    key = "".join(f"access_key_{name}_from_file_path = {quoted(vm.directory / name)}\n" for name in ("id", "secret"))
    vm.configure(vm.credential(provider='type = "access_key"\n' + key, settings='verify = "off"'))
    daemon = vm.daemon(SAY_IMPORTS).ready()
    assert vm.events().count("published") == 1
    assert loaded(daemon, *NEVER, FOR_A_TEMPLATE, FOR_METRICS, *FOR_A_CLIENT_KEY) == set()
    assert loaded(daemon, *ALWAYS) == set(ALWAYS)
