"""A fault under a sink: the old value stays whole in all sinks, it is said once with a remedy, and it ends by itself."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.support.faults import Drill
from tests.support.mounts import Place, with_mounts
from tests.support.vm import Vm, eventually

Act = Callable[[Drill], None]


@dataclass(frozen=True)
class Fault:
    """How the place of the env sink breaks and is mended, and what must be said of it."""

    break_it: Act
    mend_it: Act
    says: str
    remedy: str
    options: str = ""  # of a file system of its own; "": none is needed
    check_sees: bool = True
    injected: bool = False


def on_place(act: Callable[[Place], None]) -> Act:
    def run(drill: Drill) -> None:
        act(PLACES[str(drill.place)])

    return run


PLACES: dict[str, Place] = {}


def inject(call: str, error: str, path: str) -> Fault:
    """A call that always fails, until it does not."""
    reasons = {
        "EDQUOT": ("the disk quota is used up", "quota -v"),
        "EIO": ("the disk reported an error", "dmesg"),
        "ESTALE": ("somebody put another file in its place", "it is tried again"),
        "EXDEV": ("lies on two file systems", "in_place"),
        "EACCES": ("may not do that", "namei -l"),
    }
    says, remedy = reasons[error]
    return Fault(
        lambda drill: drill.fault({"call": call, "path": path, "error": error}),
        lambda drill: drill.fault(),
        says,
        remedy,
        check_sees=False,
        injected=True,
    )


def take_away(drill: Drill) -> None:
    shutil.rmtree(drill.place)


FAULTS = {
    "a full disk": Fault(
        on_place(Place.fill), on_place(Place.empty), "the file system is full", "df -h", options="size=64k"
    ),
    "no inodes left": Fault(
        on_place(Place.use_up_names), on_place(Place.empty), "the file system is full", "df -i", options="nr_inodes=12"
    ),
    "a read-only remount": Fault(
        on_place(Place.freeze), on_place(Place.thaw), "read-only", "remount it writable", options="size=64k"
    ),
    "a directory that is missing and appears later": Fault(
        take_away, lambda drill: drill.place.mkdir(mode=0o755), "this directory is missing", "install -d"
    ),
    "a quota that is used up": inject("pwrite", "EDQUOT", ".uploader.env.keyturn-"),
    "a disk that fails to write": inject("pwrite", "EIO", ".uploader.env.keyturn-"),
    "a disk that fails to flush": inject("fsync", "EIO", ".uploader.env.keyturn-"),
    "a disk that fails to read": inject("read", "EIO", "place/uploader.env"),
    "a right that is refused": inject("open", "EACCES", ".uploader.env.keyturn-"),
    "a network file system whose renames fail": inject("rename", "ESTALE", "/.uploader."),
    "a rename across devices": inject("rename", "EXDEV", "/.uploader."),
}


@pytest.mark.parametrize("name", FAULTS)
@with_mounts
def test_a_fault_under_a_sink(vm: Vm, name: str) -> None:
    """All sinks keep the old value, nothing is left beside them, one record, a sentence and a remedy; then the new value."""
    fault = FAULTS[name]
    drill = Drill(vm)
    if fault.options:
        PLACES[str(drill.place)] = Place(drill.place, fault.options)
    first = drill.learn()
    drill.start()
    fault.break_it(drill)
    second = drill.rotate()
    eventually(lambda: drill.count("publish_failed"), drill.daemon.log)
    drill.daemon.signal(signal.SIGUSR1)
    eventually(lambda: drill.status()["consecutive_failures"] >= 2)
    shown = drill.status()
    assert (shown["state"], shown["generation"], shown["access_key_id"]) == ("failing", 1, first)
    assert fault.says in shown["last_error"] and fault.remedy in shown["last_error"], shown["last_error"]
    if fault.check_sees:
        found = drill.errors_of_check()
        assert fault.says in found and fault.remedy in found, found
    assert drill.vm.holds(first, vm.ini_path())
    assert not drill.env_path.exists() or drill.holds(first)
    assert drill.staged() == [] and drill.heard() == ["1"]
    drill.rotate_other()
    assert not fault.injected or len(drill.hits) >= 2
    fault.mend_it(drill)
    drill.all_is_well(second, ["1", "2"])
    assert (drill.count("publish_failed"), drill.count("recovered"), drill.count("published")) == (1, 1, 2)


def test_a_switch_that_fails_half_way_tells_nobody_until_all_sinks_agree(vm: Vm) -> None:
    """The first sink is switched, the second cannot be: no dependent hears of it, `status` says it, and it is finished.

    There is no way back from a switched file, because old content is kept nowhere: until the fault ends each file is
    whole, and they differ. That is what the dependents are spared.
    """
    drill = Drill(vm)
    drill.start()
    drill.fault({"call": "rename", "path": "/.uploader.env.keyturn-", "error": "EIO"})
    second = drill.rotate()
    eventually(lambda: drill.count("publish_failed"), drill.daemon.log)
    drill.daemon.signal(signal.SIGUSR1)
    eventually(lambda: drill.status()["consecutive_failures"] >= 2)
    assert vm.holds(second, vm.ini_path()) and not vm.holds(second, drill.env_path)
    assert "the disk reported an error" in drill.status()["last_error"]
    assert drill.heard() == ["1"] and drill.count("published") == 1
    drill.rotate_other()
    drill.fault()
    drill.all_is_well(second, ["1", "2"])
    assert [drill.count(event) for event in ("publish_failed", "published", "publish_recovered")] == [1, 1, 1]


def test_a_daemon_that_is_restarted_during_a_half_failed_switch_finishes_it(vm: Vm) -> None:
    """The fault outlasts the process: the next one finds the journal, waits for the disk as well, and finishes."""
    drill = Drill(vm)
    drill.start()
    drill.fault({"call": "rename", "path": "/.uploader.env.keyturn-", "error": "EIO"})
    second = drill.rotate()
    eventually(lambda: drill.count("publish_failed"), drill.daemon.log)
    drill.daemon.kill()
    drill.start()
    assert not vm.holds(second, drill.env_path) and drill.heard() == ["1"]
    drill.rotate_other()
    drill.fault()
    drill.all_is_well(second, ["1", "2"])
    assert (drill.count("published"), drill.count("publish_recovered")) == (1, 1)


def test_a_directory_whose_flush_fails_after_the_switch_is_flushed_again(vm: Vm) -> None:
    """All files are switched and the disk does not promise to keep that: not reported before it does."""
    drill = Drill(vm)
    drill.start()
    drill.fault({"call": "fsync", "path": str(drill.place), "error": "EIO", "times": 3})
    second = drill.rotate()
    drill.all_is_well(second, ["1", "2"])
    assert len(drill.hits) >= 3
    assert drill.count("published") + drill.count("publish_recovered") == 2
    assert drill.count("publish_failed") <= 1


@pytest.mark.parametrize("step_s", [-86_400.0, 86_400.0, -600.0, 3600.0])
def test_a_clock_that_is_stepped_during_a_publish(vm: Vm, step_s: float) -> None:
    """Between the first switch and the second the wall clock jumps: published and told once, and refreshed on time."""
    drill = Drill(vm)
    drill.start()
    drill.fault({"call": "rename", "path": "/.uploader.env.keyturn-", "step_s": step_s, "times": 1})
    second = drill.rotate()
    eventually(lambda: drill.heard() == ["1", "2"], drill.daemon.log)
    assert drill.hits
    third = drill.rotate()
    drill.all_is_well(third, ["1", "2", "3"])
    assert second != third
    assert (drill.count("published"), drill.count("notified"), drill.count("notify_gave_up")) == (3, 3, 0)
