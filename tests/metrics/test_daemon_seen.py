"""A real daemon, seen from outside."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from providers.emulator.faults import Fault
from tests.support.plugins import wedge
from tests.support.scraper import Answer, Figures, free_port, get
from tests.support.vm import Vm, eventually, quoted

pytestmark = pytest.mark.slow

LIBRARY = "prometheus_client"
SHORT = 'max_staleness = "2s"\n'


@pytest.fixture
def port() -> int:
    """Where the daemon of the test listens."""
    return free_port()


def listening(vm: Vm, port: int | str, more: str = "") -> str:
    address = port if isinstance(port, str) else f"127.0.0.1:{port}"
    return vm.agent(f'metrics_listen = "{address}"\n{more}')


def asked(port: int, path: str) -> Answer | None:
    """None while nobody listens."""
    try:
        return get(port, path)
    except OSError:
        return None


def served(port: int, path: str = "/metrics", status: int = 200) -> Answer:
    """Ask until that status is the answer."""
    found: list[Answer | None] = []

    def look() -> bool:
        found.append(asked(port, path))
        return found[-1] is not None and found[-1].status == status

    eventually(look, f"{path} with status {status}")
    assert found[-1] is not None
    return found[-1]


def figures(port: int) -> Figures:
    return Figures(served(port).body)


def test_metrics_that_nobody_wants_cost_nothing(vm: Vm) -> None:
    """Without both keys the library is not loaded, and no thread more runs; with one of them it is."""
    vm.configure(vm.credential())
    traced = {"PYTHONPROFILEIMPORTTIME": "1"}
    without = vm.daemon(traced).ready()
    assert without.stop() == 0
    vm.configure(vm.agent(f"metrics_textfile = {quoted(vm.directory / 'k.prom')}") + vm.credential())
    with_file = vm.daemon(traced).ready()
    eventually(lambda: (vm.directory / "k.prom").exists())
    assert with_file.stop() == 0
    assert LIBRARY in with_file.log
    assert LIBRARY not in without.log


def test_what_happened_is_counted(vm: Vm, port: int) -> None:
    """A publish, a notification, a failure: each shows with the next scrape and on the page; no key id and no secret does."""
    vm.configure(listening(vm, port) + vm.credential(notify=vm.hook(["/bin/true"])))
    daemon = vm.daemon().ready()
    eventually(
        lambda: figures(port).get("keyturn_notify_total", credential="uploader", type="exec", outcome="told") == 1
    )
    seen = figures(port)
    assert seen.state("uploader") == "fresh"
    assert seen.get("keyturn_credential_generation", credential="uploader") == 1
    assert seen.get("keyturn_publish_seconds_count", credential="uploader") == 1
    assert seen.get("keyturn_notifications_owed", credential="uploader") == 0
    assert abs((seen.get("keyturn_snapshot_timestamp_seconds") or 0) - time.time()) < 60
    vm.cloud.fail_next(403, times=1000)
    daemon.signal(signal.SIGUSR1)
    eventually(lambda: figures(port).state("uploader") == "failing")
    assert figures(port).get("keyturn_refresh_total", credential="uploader", outcome="fetch_failed") == 1
    key = vm.cloud.current_key("uploader-ak")
    assert served(port, "/readyz/uploader").body == "failing, generation 1 is in use\n"
    page = served(port, "/")
    assert "<h1>1 of 1 failing</h1>" in page.body
    for text in (served(port).body, page.body):
        assert key.access_key_id not in text and key.access_key_secret not in text
    error = vm.status()["credentials"]["uploader"]["last_error"]
    assert error and error[:20] not in page.body and str(vm.directory) not in page.body


def test_the_page_is_guarded_like_the_metrics(vm: Vm, port: int) -> None:
    """GET and HEAD; no foreign Host on loopback; its address alone, and each other one is as before."""
    vm.configure(listening(vm, port) + vm.credential())
    vm.daemon().ready()
    page, head = served(port, "/?x=1"), get(port, "/", method="HEAD")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert (head.status, head.body, head.headers["content-length"]) == (200, "", page.headers["content-length"])
    assert head.headers["content-security-policy"].startswith("default-src 'none'; ")
    assert "refresh" not in get(port, "/?paused").headers
    assert get(port, "/", method="POST").status == 405
    assert get(port, "/", Host="evil.example").status == 403
    assert [get(port, path).status for path in ("//", "/index.html", "/favicon.ico", "/%2f", "/metrics/")] == [404] * 5


def test_readiness_is_that_of_the_service_manager(vm: Vm, port: int) -> None:
    """/readyz says 503 and for whom it waits until the first pass has ended; /livez is 200 all the while."""
    vm.cloud.inject(Fault.HANG, times=1000)
    vm.configure(listening(vm, port) + vm.credential())
    daemon = vm.daemon()
    waiting = served(port, "/readyz", 503)
    assert "waits for uploader" in waiting.body
    assert "waits for uploader" in served(port, "/").body
    assert served(port, "/livez").body == "the scheduler moves\n"
    assert figures(port).state("uploader") == "pending"
    assert served(port, "/readyz/uploader", 503).body == "not ready: pending, no value was published yet\n"
    assert daemon.listener.count("READY=1") == 0
    daemon.ready()
    assert "has ended" in served(port, "/readyz").body


def test_a_wedged_scheduler_is_not_alive_and_hangs_no_scrape(vm: Vm, port: int) -> None:
    """The evidence that feeds the watchdog: /livez 503 with a sentence, /metrics from before; and alive again."""
    packages, fifo = vm.directory / "site", vm.directory / "wedge.fifo"
    wedge(packages)
    wedged = vm.credential(provider=f'type = "wedge"\nfifo = "{fifo}"\n', settings='verify = "off"')
    vm.configure(listening(vm, port) + wedged)
    vm.daemon({"PYTHONPATH": f"{vm.environ['PYTHONPATH']}:{packages}"}).ready()
    assert figures(port).state("uploader") == "fresh"
    os.mkfifo(fifo)
    with fifo.open("w"):  # opens when the daemon reads, so its scheduler stands still from here on
        dead = served(port, "/livez", 503)
        assert "has not moved" in dead.body
        before = figures(port).get("keyturn_snapshot_timestamp_seconds")
        assert before is not None
        assert figures(port).get("keyturn_snapshot_timestamp_seconds") == before, "it stands still"
        assert served(port, "/readyz").status == 200, "it was ready, and would be again"
        assert "<h1>Old: 1 of 1 fresh</h1>" in served(port, "/").body
        fifo.unlink()
    served(port, "/livez")
    assert (figures(port).get("keyturn_snapshot_timestamp_seconds") or 0) > before


def test_an_address_in_use_keeps_no_key_from_being_fresh(vm: Vm, port: int) -> None:
    """The daemon works, says once why nobody is served, and `check` says it too; served when the address is free."""
    with socket.create_server(("127.0.0.1", port)):
        vm.configure(listening(vm, port) + vm.credential())
        daemon = vm.daemon().ready()
        eventually(lambda: "metrics: not served" in daemon.log)
        checked = vm.keyturn("check", "--offline")
        assert checked.returncode == 1
        assert f"nothing can listen on 127.0.0.1:{port}: the address is in use" in checked.stdout
        newest = vm.cloud.rotate("uploader-ak")
        daemon.signal(signal.SIGUSR1)
        eventually(lambda: vm.holds(newest.access_key_id))
    assert figures(port).get("keyturn_credential_generation", credential="uploader") == 2
    assert daemon.log.count("metrics: not served") == 1
    mine = vm.keyturn("check", "--offline")
    assert mine.returncode == 0
    assert "is served by the keyturn that runs" in mine.stdout
    assert daemon.stop() == 0


def test_a_reload_moves_what_is_seen(vm: Vm, port: int) -> None:
    """Another address, another file, a credential less, and none of both: each reload is followed, counts go on."""
    vm.cloud.add_ram_secret("other-ak", user="other")
    one, two, other = vm.directory / "one.prom", vm.directory / "two.prom", free_port()
    both = vm.credential() + vm.credential("other", secret="other-ak")
    vm.configure(listening(vm, port, f"metrics_textfile = {quoted(one)}") + both)
    daemon = vm.daemon().ready()
    assert {labels.get("credential") for labels in figures(port).labels()} == {"uploader", "other", None}
    eventually(one.exists)

    vm.configure(listening(vm, other, f"metrics_textfile = {quoted(two)}") + vm.credential())
    daemon.signal(signal.SIGHUP)
    seen = figures(other)
    eventually(two.exists)
    eventually(lambda: not one.exists())
    assert asked(port, "/metrics") is None
    assert {labels.get("credential") for labels in seen.labels()} == {"uploader", None}
    assert seen.get("keyturn_refresh_total", credential="uploader", outcome="published") == 1

    vm.configure(vm.credential())
    daemon.signal(signal.SIGHUP)
    eventually(lambda: asked(other, "/metrics") is None and not two.exists())
    assert daemon.stop() == 0


def test_the_file_follows_and_stays(vm: Vm) -> None:
    """The textfile holds what /metrics would show, follows a rotation, and stays when the daemon ends."""
    path = vm.directory / "keyturn.prom"
    vm.configure(vm.agent(f"metrics_textfile = {quoted(path)}") + vm.credential())
    daemon = vm.daemon().ready()

    def generation() -> float | None:
        return (
            Figures(path.read_text()).get("keyturn_credential_generation", credential="uploader")
            if path.exists()
            else None
        )

    eventually(lambda: generation() == 1)
    vm.cloud.rotate("uploader-ak")
    daemon.signal(signal.SIGUSR1)
    eventually(lambda: generation() == 2)
    vm.cloud.rotate("uploader-ak")
    daemon.signal(signal.SIGUSR1)
    eventually(lambda: vm.events().count("published") == 3)
    assert daemon.stop() == 0
    assert generation() == 3, "the last word of a daemon that ends"


def crit(log: str) -> list[str]:
    return re.findall(r"^critical: (stale.*)$", log, re.M)


def test_staleness_is_seen_everywhere_over_a_restart_and_clears_itself(make_vm: Callable[..., Vm], port: int) -> None:
    """State, audit, metric, STATUS= and the log at crit; still there after a restart; gone with the next success."""
    vm = make_vm()
    vm.configure(listening(vm, port) + vm.credential(settings=SHORT, poll="1s"))
    assert vm.keyturn("once").returncode == 0
    vm.cloud.fail_next(503, times=100_000)
    daemon = vm.daemon().ready()
    eventually(lambda: vm.events().count("stale") == 1)
    eventually(lambda: "uploader stale (last success " in daemon.listener.status())
    assert vm.status()["credentials"]["uploader"]["state"] == "stale"
    assert figures(port).state("uploader") == "stale"
    assert len(crit(daemon.log)) == 1
    assert daemon.stop() == 0

    daemon = vm.daemon().ready()
    eventually(lambda: "uploader stale" in daemon.listener.status())
    assert figures(port).state("uploader") == "stale"
    vm.cloud.faults.clear()
    daemon.signal(signal.SIGUSR1)
    eventually(lambda: daemon.listener.status() == "1 of 1 credentials fresh")
    assert figures(port).state("uploader") == "fresh"
    assert (vm.events().count("stale"), vm.events().count("recovered")) == (1, 1)
    assert crit(daemon.log) == []
    assert "info: recovered credential=uploader" in daemon.log


def test_a_port_below_1024_is_an_error_of_check_for_a_user(public_vm: Vm, tmp_path: Path) -> None:
    """Run as the user of the service, `check` sees what the service will see."""
    if os.geteuid() != 0 or int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 80:
        pytest.skip("plays another user, which needs root, and a kernel that guards port 80")
    vm = public_vm
    vm.configure(listening(vm, "127.0.0.1:80") + vm.credential())
    done = vm.keyturn_as(64321, "check", "--offline")
    assert done.returncode == 1
    assert "nothing can listen on 127.0.0.1:80: this user may not; name a port from 1024 on" in done.stdout
