"""The daemon's promises to whoever starts it: readiness, signals, one at a time, a prompt and clean end."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from providers.emulator.faults import Fault
from tests.support.plugins import wedge
from tests.support.vm import Daemon, Vm, at_rest, eventually

PROMPT_S = 8.0
"""Far above the three seconds that the daemon gives its workers, below the ten that a hanging call takes."""


def test_ready_comes_after_the_first_pass_whatever_its_outcome(make_vm: Callable[..., Vm]) -> None:
    """READY=1 with the source well, away, refusing and hanging; by then the first outcome is in the audit."""
    vms = {name: make_vm(name) for name in ("well", "away", "refusing", "hanging")}
    vms["refusing"].cloud.fail_next(403, times=1000)
    vms["hanging"].cloud.inject(Fault.HANG, times=1000)
    for name, vm in vms.items():
        endpoint = "127.0.0.1:1" if name == "away" else None
        vm.configure(vm.credential(endpoint=endpoint))
    daemons = {name: vm.daemon() for name, vm in vms.items()}
    eventually(lambda: any(call.fault == "hang" for call in vms["hanging"].cloud.calls))
    assert daemons["hanging"].listener.count("READY=1") == 0, "the first pass has not ended"
    for name, daemon in daemons.items():
        daemon.ready()
        seen = vms[name].events()
        assert seen[0] == ("credential_fetched" if name == "well" else "fetch_failed"), name
    assert daemons["well"].listener.status() == "1 of 1 credentials fresh"
    assert daemons["away"].listener.status() == "0 of 1 credentials fresh; uploader failing"
    for daemon in daemons.values():
        assert daemon.stop() == 0
    assert all(vm.audit()[0]["event"] == "agent_started" for vm in vms.values())


def test_a_start_that_takes_long_says_whom_it_waits_for_and_asks_for_time(vm: Vm) -> None:
    """Before READY: STATUS= in words, and EXTEND_TIMEOUT_USEC= again and again, without a watchdog too; not after it."""
    cloud, server = vm.add_cloud()
    cloud.add_ram_secret("slow-ak", user="slow")
    cloud.inject(Fault.HANG, times=1000)
    vm.configure(vm.credential() + vm.credential("slow", secret="slow-ak", endpoint=server.endpoint))
    daemon = vm.daemon()
    more = "EXTEND_TIMEOUT_USEC=30000000"
    daemon.listener.wait(more, 2)
    asked = daemon.listener.times(more)
    assert 4 < asked[1] - asked[0] < 15, "well within what was asked for before"
    assert daemon.listener.status() == "starting: 1 of 2 credentials answered; waiting for slow"
    assert daemon.listener.count("READY=1") == 0
    daemon.ready()
    assert daemon.listener.status() == "1 of 2 credentials fresh; slow failing"
    readied, *_ = daemon.listener.times("READY=1")
    time.sleep(6)  # longer than a pulse: the absence of something takes time to see
    assert [at for at in daemon.listener.times(more) if at > readied] == []
    assert daemon.listener.count("WATCHDOG=1") == 0
    assert daemon.stop() == 0


def test_a_daemon_whose_source_is_away_serves_what_is_on_disk(vm: Vm) -> None:
    """Started again while the source is down, it leaves the files alone, says so, and catches up by itself."""
    vm.configure(vm.credential(poll="1s"))
    assert vm.keyturn("once").returncode == 0
    before = (vm.ini_path().read_text(), vm.ini_path().stat().st_ino)
    vm.cloud.fail_next(503, times=10_000)
    daemon = vm.daemon().ready()
    eventually(lambda: vm.status()["credentials"]["uploader"]["state"] == "failing")
    assert vm.status()["credentials"]["uploader"]["generation"] == 1
    assert (vm.ini_path().read_text(), vm.ini_path().stat().st_ino) == before
    newest = vm.cloud.rotate("uploader-ak")
    vm.cloud.faults.clear()
    daemon.signal(signal.SIGUSR1)
    eventually(lambda: vm.holds(newest.access_key_id))
    eventually(lambda: daemon.listener.status() == "1 of 1 credentials fresh")


def test_sigterm_ends_it_at_once_with_a_hook_running_and_a_fetch_hanging(vm: Vm) -> None:
    """Within seconds: the hook is ended and its news still owed, agent_stopped is audited, the status is 0."""
    pid_file = vm.directory / "hook.pid"
    vm.configure(
        vm.credential(
            notify=vm.hook(["/bin/sh", "-c", f"echo $$ > {pid_file}; exec sleep 600"], extra='timeout = "900s"')
        )
    )
    daemon = vm.daemon().ready()
    hook = os.pidfd_open(int(eventually(lambda: pid_file.exists() and pid_file.read_text().strip())))
    vm.cloud.inject(Fault.HANG, times=1000)
    daemon.signal(signal.SIGUSR1)
    eventually(lambda: any(call.fault == "hang" for call in vm.cloud.calls))
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < PROMPT_S, "it waited for the hook or for the source"
    assert select.select([hook], [], [], 0.0)[0], "it has not ended"
    os.close(hook)
    assert [record["event"] for record in vm.audit()][-1] == "agent_stopped"
    assert not {"notify_failed", "notify_gave_up"} & set(vm.events()), "the hook did not fail, we ended it"
    assert daemon.listener.count("STOPPING=1") == 1
    assert not (vm.run_directory / "control.sock").exists()
    (owed,) = vm.status()["credentials"]["uploader"]["notify"]
    assert owed["owed"] is True


def test_a_second_keyturn_on_the_same_state_is_refused_by_name(vm: Vm) -> None:
    """`run` and `once` beside a daemon: one sentence that names its pid, status 1, and nothing is touched."""
    vm.configure(vm.credential())
    daemon = vm.daemon().ready()
    before = (vm.ini_path().stat(), vm.events(None))
    for command in ("run", "once"):
        done = vm.keyturn(command)
        assert done.returncode == 1
        assert f"(pid {daemon.pid})" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert (vm.ini_path().stat(), vm.events(None)) == before
    assert daemon.stop() == 0
    assert vm.keyturn("once").returncode == 0


def test_a_removed_lock_file_lets_no_second_keyturn_in(vm: Vm) -> None:
    """`rm state/lock` beside a daemon: still one sentence, status 1, and nothing is touched."""
    vm.configure(vm.credential())
    daemon = vm.daemon().ready()
    before = (vm.ini_path().stat(), vm.events(None))
    (vm.state / "lock").unlink()
    for _ in range(2):
        done = vm.keyturn("once")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "works on this state directory" in done.stderr
    assert (vm.ini_path().stat(), vm.events(None)) == before
    assert daemon.stop() == 0


def test_two_keyturns_with_one_audit_log_do_not_break_its_chain(vm: Vm) -> None:
    """Each has a state directory of its own: the second is refused by the log's path, and nothing is published."""
    vm.configure(vm.credential())
    daemon = vm.daemon().ready()
    first, other = vm.config.read_text(), vm.app / "other.ini"
    for name in ("state", "run"):
        (vm.directory / "second" / name).mkdir(parents=True, mode=0o700)
    own = vm.agent().replace(str(vm.state), str(vm.directory / "second" / "state"))
    own = own.replace(str(vm.run_directory), str(vm.directory / "second" / "run"))
    vm.config.write_text(own + vm.credential(sinks=vm.ini(path=other)))
    for command in ("once", "run"):
        done = vm.keyturn(command)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert f"{vm.log_directory}/audit.jsonl: another keyturn writes this audit log" in done.stderr
        assert "agent.audit.path" in done.stderr
    assert not other.exists()
    vm.config.write_text(first)
    assert vm.keyturn("audit", "verify").returncode == 0
    assert daemon.stop() == 0
    assert vm.keyturn("audit", "verify").returncode == 0


SLOW_START = """
import pathlib, time
here = pathlib.Path(__file__).parent
(here / "begun").touch()
while not (here / "go").exists():
    time.sleep(0.01)
"""


def test_a_reload_or_refresh_while_it_starts_does_not_end_it(vm: Vm) -> None:
    """SIGHUP and SIGUSR1 before the daemon is there to handle them: it starts, which refreshes everything, and reloads once."""
    packages = wedge(vm.directory / "site", SLOW_START)
    vm.configure(vm.credential(provider='type = "wedge"\nfifo = "/nonexistent"\n', settings='verify = "off"'))
    daemon = vm.daemon({"PYTHONPATH": f"{vm.environ['PYTHONPATH']}:{packages}"})
    eventually((packages / "begun").exists)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGHUP):
        daemon.signal(number)
    time.sleep(0.1)
    (packages / "go").touch()
    daemon.ready()
    eventually(lambda: vm.audit("config_reloaded"))
    assert vm.events()[0] == "credential_fetched"
    assert daemon.listener.count("RELOADING=1") == 1
    assert daemon.stop() == 0


def test_sighup_takes_a_good_config_and_refuses_a_bad_one(vm: Vm) -> None:
    """A bad config changes nothing and is audited; a good one brings a sink and lets a credential go; READY each time."""
    vm.cloud.add_ram_secret("other-ak", user="other")
    uploader, other = vm.credential(poll="1s"), vm.credential("other", secret="other-ak", poll="1s")
    vm.configure(uploader + other)
    daemon = vm.daemon().ready()
    vm.configure(uploader.replace("poll_interval", "pol_interval"))
    daemon.signal(signal.SIGHUP)
    daemon.listener.wait("READY=1", 2)
    rejected = vm.audit("config_rejected")
    assert len(rejected) == 1
    assert "pol_interval" in rejected[0]["error"]
    assert "poll_interval" in rejected[0]["error"]
    vm.configure(uploader + other)  # for the commands; the daemon reads nothing before it is told to
    assert set(vm.status()["credentials"]) == {"uploader", "other"}
    newest = vm.cloud.rotate("other-ak")
    eventually(lambda: vm.holds(newest.access_key_id, vm.ini_path("other")), "the old config goes on")

    added = vm.app / "added.ini"
    vm.configure(uploader + vm.ini(path=added))
    daemon.signal(signal.SIGHUP)
    daemon.listener.wait("READY=1", 3)
    eventually(lambda: vm.holds(vm.cloud.current_key("uploader-ak").access_key_id, added))
    assert daemon.listener.count("RELOADING=1") == 2
    assert len(vm.audit("config_reloaded")) == 1
    assert set(vm.status()["credentials"]) == {"uploader"}
    calls = len(vm.cloud.calls)
    vm.cloud.rotate("other-ak")
    latest = vm.cloud.rotate("uploader-ak")
    eventually(lambda: vm.holds(latest.access_key_id, vm.ini_path(), vm.env_path(), added))
    assert vm.holds(newest.access_key_id, vm.ini_path("other")), "what was let go stays as it was"
    assert len(vm.cloud.calls) > calls
    assert daemon.listener.status() == "1 of 1 credentials fresh"


def test_a_reload_during_the_first_pass_does_not_make_it_ready(vm: Vm) -> None:
    """READY waits for the first pass over the new config; a source that is no longer named is not waited for."""
    dead_cloud, dead_server = vm.add_cloud()
    dead_cloud.add_ram_secret("dead-ak", user="dead")
    dead_cloud.inject(Fault.HANG, times=1000)
    uploader = vm.credential()
    vm.configure(uploader + vm.credential("dead", secret="dead-ak", endpoint=dead_server.endpoint))
    daemon = vm.daemon()
    eventually(lambda: dead_cloud.calls)
    eventually(lambda: "published" in vm.events())
    assert daemon.listener.count("READY=1") == 0
    vm.configure(uploader)
    daemon.signal(signal.SIGHUP)
    daemon.ready()
    eventually(lambda: "info: ready" in daemon.log)
    assert daemon.listener.count("RELOADING=1") == daemon.listener.count("READY=1") == 1
    assert daemon.listener.status() == "1 of 1 credentials fresh"
    assert vm.events("dead") == []


def test_sigusr1_refreshes_everything_now(vm: Vm) -> None:
    """A rotation is picked up at once on SIGUSR1 although the next poll is an hour away; the audit says why."""
    vm.configure(vm.credential(poll="1h"))
    daemon = vm.daemon().ready()
    newest = vm.cloud.rotate("uploader-ak")
    daemon.signal(signal.SIGUSR1)
    eventually(lambda: vm.holds(newest.access_key_id))
    assert vm.audit("credential_fetched")[1]["trigger"] == "signal"


def test_a_signal_that_another_thread_receives_is_heard_at_once(vm: Vm) -> None:
    """The kernel may hand a signal to any thread: it ends the sleep of an hour all the same, SIGTERM too."""
    vm.configure(vm.credential(poll="1h"))
    daemon = vm.daemon().ready()
    tgkill = ctypes.CDLL(None, use_errno=True).tgkill
    newest = vm.cloud.rotate("uploader-ak")
    eventually(lambda: at_rest(daemon.pid))
    threads = {int(task.name) for task in Path(f"/proc/{daemon.pid}/task").iterdir()}
    other = max(threads - {daemon.pid})  # one that waits for control connections, or for work
    assert tgkill(daemon.pid, other, signal.SIGUSR1) == 0
    eventually(lambda: vm.holds(newest.access_key_id))
    eventually(lambda: at_rest(daemon.pid))
    assert tgkill(daemon.pid, other, signal.SIGTERM) == 0
    assert daemon.ended() == 0


def with_plugin(vm: Vm, fifo: Path) -> Daemon:
    """A daemon that uses a third party's provider."""
    packages = wedge(vm.directory / "site")
    vm.configure(vm.credential(provider=f'type = "wedge"\nfifo = "{fifo}"\n', settings='verify = "off"'))
    return vm.daemon({"WATCHDOG_USEC": "500000", "PYTHONPATH": f"{vm.environ['PYTHONPATH']}:{packages}"}).ready()


def test_the_watchdog_is_fed_while_the_scheduler_moves_and_not_while_it_is_wedged(vm: Vm) -> None:
    """WATCHDOG=1 comes twice per period; none comes while something blocks the scheduler's thread."""
    fifo = vm.directory / "wedge.fifo"
    daemon = with_plugin(vm, fifo)
    daemon.listener.wait("WATCHDOG=1", 5)
    fed = daemon.listener.times("WATCHDOG=1")[:5]
    assert fed[4] - fed[0] > 0.95, "a quarter of a second each, not oftener"
    assert min(after - before for before, after in pairwise(fed)) < 0.5
    os.mkfifo(fifo)
    with fifo.open("w"):  # opens when the daemon reads, so its scheduler stands still from here on
        wedged = time.monotonic()
        time.sleep(0.9)  # more than three feedings: the absence of something takes time to see
        before = daemon.listener.times("WATCHDOG=1")
        assert max(before) < wedged
        fifo.unlink()
    daemon.listener.wait("WATCHDOG=1", len(before) + 3)
    assert daemon.stop() == 0


def test_without_a_watchdog_nobody_is_fed(vm: Vm) -> None:
    """No WATCHDOG_USEC, or one that is meant for another process: no WATCHDOG=1, and readiness as usual."""
    vm.configure(vm.credential())
    stranger = vm.daemon({"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}).ready()
    stranger.signal(signal.SIGUSR1)
    assert stranger.stop() == 0
    assert stranger.listener.count("WATCHDOG=1") == 0


def test_kill_9_loses_no_news_and_makes_no_new_generation(vm: Vm) -> None:
    """After a kill in the middle of telling, the next start tells what is owed, of the same generation, once."""
    heard, gate = vm.directory / "heard", vm.directory / "gate"
    script = f"test -e {gate} || {{ echo begun >> {heard}; exec sleep 600; }}; echo $KEYTURN_GENERATION >> {heard}"
    vm.configure(vm.credential(notify=vm.hook(["/bin/sh", "-c", script], extra='timeout = "900s"')))
    daemon = vm.daemon().ready()
    eventually(lambda: heard.exists())
    files = (vm.ini_path().read_bytes(), vm.env_path().read_bytes(), vm.ini_path().stat().st_ino)
    daemon.kill()
    gate.touch()
    again = vm.daemon().ready()
    eventually(lambda: "notified" in vm.events())
    assert heard.read_text().split() == ["begun", "1"]
    assert vm.events().count("published") == 1
    assert (vm.ini_path().read_bytes(), vm.env_path().read_bytes(), vm.ini_path().stat().st_ino) == files
    status = vm.status()["credentials"]["uploader"]
    assert (status["generation"], status["notify"][0]["owed"], status["state"]) == (1, False, "fresh")
    assert again.stop() == 0
    assert vm.keyturn("audit", "verify").returncode == 0
