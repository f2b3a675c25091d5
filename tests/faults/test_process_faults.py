"""keyturn itself runs out of something: it goes on, says so, and catches up by itself."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import subprocess
from pathlib import Path

from tests.support.faults import Drill, open_descriptors
from tests.support.mounts import Place, with_mounts
from tests.support.processes import KEYTURN
from tests.support.vm import PATIENCE_S, Vm, eventually


def test_too_many_open_files(vm: Vm) -> None:
    """A limit of the real kernel, set under the running daemon: the old value stays whole, and the new one follows."""
    drill = Drill(vm)
    first = drill.learn()
    drill.start()
    give_back = drill.limit(resource.RLIMIT_NOFILE, open_descriptors(drill.daemon.pid))
    second = drill.rotate()
    eventually(lambda: "too many open files" in drill.daemon.log.lower(), drill.daemon.log)
    drill.for_a_while(1.0)
    assert drill.holds(first) and drill.staged() == [] and drill.heard() == ["1"]
    assert drill.daemon.process.poll() is None, drill.daemon.log
    give_back()
    drill.all_is_well(second, ["1", "2"])
    assert drill.count("fetch_failed") + drill.count("publish_failed") <= 2


def test_too_few_descriptors_for_a_publish(vm: Vm) -> None:
    """Enough to fetch, too few for staging or for a hook: whichever step fails, all sinks agree in the end."""
    drill = Drill(vm)
    drill.start()
    lowest = open_descriptors(drill.daemon.pid)
    newest, told = "", 1
    for spare in (1, 2, 3, 4, 5, 6, 8):
        give_back = drill.limit(resource.RLIMIT_NOFILE, lowest + spare)
        newest = drill.rotate()
        drill.daemon.signal(signal.SIGUSR1)
        drill.for_a_while(0.5)
        give_back()
        told += 1
        eventually(lambda: drill.holds(newest) and drill.heard()[-1] == str(told), drill.daemon.log)  # noqa: B023
    drill.all_is_well(newest, [str(number) for number in range(1, told + 1)])


def test_files_that_may_not_grow(vm: Vm) -> None:
    """RLIMIT_FSIZE, the real one: nothing can be recorded, so nothing is published; SIGXFSZ ends nobody."""
    drill = Drill(vm)
    first = drill.learn()
    drill.start()
    give_back = drill.limit(resource.RLIMIT_FSIZE, 1)
    second = drill.rotate()
    eventually(lambda: drill.status()["consecutive_failures"] >= 1)
    assert "the audit log cannot be written" in drill.status()["last_error"]
    assert drill.holds(first) and drill.staged() == [] and drill.heard() == ["1"]
    give_back()
    drill.all_is_well(second, ["1", "2"])


@with_mounts
def test_a_log_that_cannot_be_written(vm: Vm) -> None:
    """The disk under keyturn's own log is full: that stops no work, and no start."""
    place = Place(vm.directory / "logs", "size=4k")
    place.fill()
    drill = Drill(vm)
    drill.start(place.path)
    drill.rotate()
    eventually(lambda: drill.heard() == ["1", "2"])
    eventually(lambda: drill.status()["state"] == "fresh")
    drill.daemon.kill()
    drill.start(place.path)
    third = drill.rotate()
    drill.all_is_well(third, ["1", "2", "3"])


def test_no_thread_can_be_started(vm: Vm) -> None:
    """The limit of processes, or no memory for a stack: said with a remedy, and tried again; no notification is lost."""
    drill = Drill(vm)
    drill.start()
    drill.fault({"call": "thread", "times": 3})
    second = drill.rotate()
    eventually(lambda: len(drill.hits) == 3, drill.daemon.log)
    drill.all_is_well(second, ["1", "2"])


def test_no_memory_is_left(vm: Vm) -> None:
    """RLIMIT_AS, the real one, closed around the daemon: whatever fails, the files are whole, and it catches up.

    A process without memory may end; then its supervisor starts it again, and it catches up all the same.
    """
    drill = Drill(vm)
    drill.start()
    give_back = drill.limit(resource.RLIMIT_AS, _address_space(drill.daemon.pid) + 64 * 1024)
    second = drill.rotate()
    drill.daemon.signal(signal.SIGUSR1)
    drill.for_a_while(3.0)
    if drill.daemon.process.poll() is None:
        give_back()
    else:
        drill.start()
    drill.all_is_well(second, ["1", "2"])


def _address_space(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


def test_a_service_manager_that_does_not_listen(vm: Vm, tmp_path: Path) -> None:
    """Its queue is full and stays so: keyturn says nothing to it, and works and ends as ever."""
    drill = Drill(vm)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as us,
    ):
        deaf.bind(str(tmp_path / "notify"))
        us.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while us.sendto(b"X=1", str(tmp_path / "notify")):
                pass
        process = subprocess.Popen(
            [*KEYTURN, "--config", str(vm.config), "run"],
            env={**vm.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
            stderr=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: drill.heard() == ["1"])
            drill.rotate()
            eventually(lambda: drill.heard() == ["1", "2"])
            process.terminate()
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
            process.wait()
