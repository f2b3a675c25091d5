"""What users complain of elsewhere, with real processes (the table in docs/faults.md names the complaint of each)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.support.faults import Drill, Onlooker
from tests.support.vm import PATIENCE_S, Vm, eventually

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="plays another user, which needs root")


def test_a_hook_sees_all_sinks_of_the_generation_that_it_is_told(vm: Vm) -> None:
    """No command runs between the switches of one publish (consul-template 1672), and each runs once for it (2030)."""
    seen = vm.directory / "seen"
    sinks = f"{vm.ini_path()} {vm.env_path()}"
    script = f'for f in {sinks}; do grep -c "$KEYTURN_ACCESS_KEY_ID" $f; done | tr "\\n" " " >> {seen}; echo >> {seen}'
    vm.configure(vm.credential(poll="1h", notify=vm.hook(["/bin/sh", "-c", script])))
    daemon = vm.daemon().ready()
    rounds = 12
    for number in range(1, rounds + 1):
        eventually(lambda: seen.exists() and len(seen.read_text().splitlines()) == number)  # noqa: B023
        if number < rounds:
            vm.cloud.rotate("uploader-ak")
            daemon.signal(signal.SIGUSR1)
    assert daemon.stop() == 0
    assert seen.read_text().splitlines() == ["1 1 "] * rounds


WATCHER = """\
import ctypes, os, select, struct, sys
directory, uid = sys.argv[1], int(sys.argv[2])
libc = ctypes.CDLL(None)
fd = libc.inotify_init1(0)
assert libc.inotify_add_watch(fd, directory.encode(), 0x100 | 0x2 | 0x80 | 0x4) >= 0
os.setgroups([]); os.setgid(uid); os.setuid(uid)
print("watching", flush=True)
tried = won = 0
while True:
    ready, _, _ = select.select([fd, 0], [], [])
    if 0 in ready:
        break
    events = os.read(fd, 65536)
    while events:
        _wd, _mask, _cookie, length = struct.unpack_from("iIII", events)
        name = events[16:16 + length].rstrip(b"\\0").decode()
        events = events[16 + length:]
        if not name:
            continue
        tried += 1
        try:
            won += open(os.path.join(directory, name)).read() != "OLD=1\\n"
        except OSError:
            pass
print(tried, won, flush=True)
"""
"""Another user, as fast as the kernel: opens whatever is created, changed or renamed in a directory.

It wins by every file that it may open, empty ones too, since it could read them later; but for the operator's own.
"""


@only_root
def test_a_watcher_of_another_user_wins_no_race(public_vm: Vm) -> None:
    """What keyturn writes is never readable by others, from the first instant of a file on (consul-template 358).

    Also under umask 0, and where the file that it writes was open to all.
    """
    vm, stranger = public_vm, 64321
    for path in (vm.env_path(), vm.ini_path()):
        path.write_text("OLD=1\n" if path == vm.env_path() else "")
        path.chmod(0o644)
    vm.configure(vm.credential(poll="1h", sinks=vm.ini() + vm.env()))
    argv = [sys.executable, "-c", WATCHER, str(vm.app), str(stranger)]
    watcher = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert watcher.stdin is not None and watcher.stdout is not None
    try:
        assert watcher.stdout.readline() == "watching\n"
        before = os.umask(0)
        try:
            daemon = vm.daemon().ready()
        finally:
            os.umask(before)
        assert "OLD=1" in vm.env_path().read_text(), "a line of the operator's is kept"
        for _ in range(15):
            key = vm.cloud.rotate("uploader-ak")
            daemon.signal(signal.SIGUSR1)
            eventually(lambda: vm.holds(key.access_key_id))  # noqa: B023
        watcher.stdin.close()
        tried, won = map(int, watcher.stdout.readline().split())
    finally:
        watcher.kill()
        watcher.wait(PATIENCE_S)
    assert tried > 60, "the watcher was asleep"
    assert won == 0


def test_a_rotation_while_keyturn_is_down_reaches_the_dependents(vm: Vm) -> None:
    """The first look after a start finds another value: published, and told (Infisical 340, consul-template 236)."""
    drill = Drill(vm)
    drill.start()
    assert drill.daemon.stop() == 0
    second = drill.rotate()
    drill.start()
    drill.all_is_well(second, ["1", "2"])


def test_a_hook_that_was_cut_short_by_a_stop_runs_after_the_start(vm: Vm) -> None:
    """Files were written before the stop and do not change any more: the hook is owed all the same."""
    heard, gate = vm.directory / "heard", vm.directory / "gate"
    script = f"[ -e {gate} ] || sleep 1000; echo $KEYTURN_GENERATION >> {heard}"
    vm.configure(vm.credential(notify=vm.hook(["/bin/sh", "-c", script], extra="retries = 0")))
    daemon = vm.daemon().ready()
    eventually(lambda: vm.holds(vm.cloud.current_key("uploader-ak").access_key_id))
    assert daemon.stop() == 0 and not heard.exists()
    gate.touch()
    vm.daemon().ready()
    eventually(lambda: heard.exists() and heard.read_text() == "1\n")


HOOKS = {
    "fails": "exit 3",
    "hangs": "sleep 1000",
    "hangs and ignores SIGTERM": "trap '' TERM; sleep 1000 & wait; sleep 1000",
    "leaves a child that keeps the pipe": "sleep 1000 & exit 1",
    "floods its output": "yes | head -c 50000000; exit 1",
    "is not there": None,
}


@pytest.mark.parametrize("name", HOOKS)
def test_a_bad_hook_ends_nothing_and_holds_up_nobody(vm: Vm, name: str) -> None:
    """The daemon lives on, other dependents hear of each generation, and what is wrong is shown, audited and retried.

    consul-template 508, 645 and 819 (ends the daemon); vault 9108 (a slow one leaves it dead); certbot 5424 and lego
    2468 (a hanging one, or its child, hangs it for ever).
    """
    script = HOOKS[name]
    bad = vm.hook(["/bin/sh", "-c", script] if script else ["/no/such/hook"], extra='timeout = "1s"\nretry_for = "1h"')
    drill_heard = vm.directory / "heard"
    good = vm.hook(["/bin/sh", "-c", f"echo $KEYTURN_GENERATION >> {drill_heard}"], extra="order = 1")
    vm.configure(vm.credential(poll="1s", notify=bad + good))
    daemon = vm.daemon().ready()
    for generation in range(1, 4):
        eventually(lambda: drill_heard.exists() and drill_heard.read_text().split()[-1:] == [str(generation)])  # noqa: B023
        if generation < 3:
            vm.cloud.rotate("uploader-ak")
    assert drill_heard.read_text().split() == ["1", "2", "3"]
    eventually(lambda: len(vm.audit("notify_failed")) >= 1)
    shown = eventually(
        lambda: next((n for n in vm.status()["credentials"]["uploader"]["notify"] if n["last_outcome"] != "told"), None)
    )
    assert shown["owed"] and shown["last_outcome"].startswith("failed: ")
    assert vm.status()["credentials"]["uploader"]["state"] == "pending"
    assert daemon.process.poll() is None
    assert daemon.stop() == 0
    assert vm.keyturn("once", "--retry-for", "0s").returncode == 1, (
        "a failed notification shows in the exit code (certbot 8528)"
    )


DEPENDENT = """\
import os, signal, sys, time
heard, pid_file = sys.argv[1:]
def hup(*_):
    with open(heard, "a") as out:
        print(os.getpid(), file=out, flush=True)
signal.signal(signal.SIGHUP, hup)
with open(pid_file + ".new", "w") as out:
    print(os.getpid(), file=out)
os.rename(pid_file + ".new", pid_file)
while True:
    signal.pause()
"""


def test_a_dependent_that_restarts_while_it_is_told_is_told_by_its_new_number(vm: Vm) -> None:
    """The pid file names a process that is gone: nobody else is signalled, and the new one hears (spiffe-helper 250, 251)."""
    heard, pid_file = vm.directory / "heard", vm.directory / "app.pid"
    notify = f'[[credentials.uploader.notify]]\ntype = "signal"\npid_file = "{pid_file}"\n'

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", DEPENDENT, str(heard), str(pid_file)])
        eventually(lambda: pid_file.exists() and pid_file.read_text().strip() == str(process.pid))
        return process

    old = start()
    fresh = None
    try:
        vm.configure(vm.credential(poll="1s", notify=notify))
        vm.daemon().ready()
        eventually(lambda: heard.exists())
        old.kill()
        old.wait()
        vm.cloud.rotate("uploader-ak")
        eventually(lambda: vm.audit("notify_failed"))
        (failed,) = vm.audit("notify_failed")
        assert "does not run" in failed["error"]
        fresh = start()
        eventually(lambda: heard.read_text().split() == [str(old.pid), str(fresh.pid)])
        eventually(lambda: vm.status()["credentials"]["uploader"]["state"] == "fresh")
    finally:
        for process in (old, fresh):
            if process is not None:
                process.kill()
                process.wait()


def test_a_reader_of_a_hundred_publishes_sees_only_whole_files(vm: Vm) -> None:
    """Never truncated, empty or mixed, never with another mode (spiffe-helper 422)."""
    vm.configure(vm.credential(poll="1h", settings='verify = "off"'))
    key = vm.cloud.current_key("uploader-ak")
    keys = {key.access_key_id: key.access_key_secret}
    daemon = vm.daemon().ready()
    onlooker = Onlooker(vm.ini_path(), vm.env_path(), pause_s=0.001)
    for _ in range(100):
        key = vm.cloud.rotate("uploader-ak")
        keys[key.access_key_id] = key.access_key_secret
        daemon.signal(signal.SIGUSR1)
        eventually(lambda: vm.holds(key.access_key_id))  # noqa: B023
    assert onlooker.looks > 100
    onlooker.verdict(keys)
