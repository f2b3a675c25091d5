"""Where keyturn cannot write down what it does, it does not do it, or makes up for the record: never a silent act."""

from __future__ import annotations

import shutil
import signal

import pytest

from tests.support.faults import Drill
from tests.support.mounts import Place, with_mounts
from tests.support.vm import Vm, eventually


def test_a_publish_without_a_record_before_it_does_not_begin(vm: Vm) -> None:
    """The audit log cannot be written: the sinks keep the old value, `once` fails too, and the new one follows."""
    drill = Drill(vm)
    first = drill.learn()
    drill.start()
    drill.fault({"call": "write", "path": "audit.jsonl", "error": "EROFS"})
    second = drill.rotate()
    eventually(lambda: drill.status()["consecutive_failures"] >= 1, drill.daemon.log)
    drill.daemon.signal(signal.SIGUSR1)
    eventually(lambda: drill.status()["consecutive_failures"] >= 2)
    shown = drill.status()
    assert "the audit log cannot be written" in shown["last_error"]
    assert (shown["state"], shown["generation"]) == ("failing", 1)
    assert drill.holds(first) and drill.staged() == [] and drill.heard() == ["1"]
    code, answer = drill.command("refresh", "uploader")
    assert code != 0 and "audit" in answer["credentials"][0]["error"]
    drill.fault()
    drill.all_is_well(second, ["1", "2"])
    assert drill.count("published") == 2


def test_a_publish_whose_record_fails_behind_the_switch_is_not_reported_as_done(vm: Vm) -> None:
    """All sinks are switched when the log fills up: told, since they hold it, and a failure until it is recorded once."""
    drill = Drill(vm)
    drill.start()
    # The two records before the publish go through (they are written, not flushed); flushing the third fails for a while.
    drill.fault({"call": "fdatasync", "path": "audit.jsonl", "error": "ENOSPC"})
    second = drill.rotate()
    eventually(lambda: drill.status()["consecutive_failures"] >= 1, drill.daemon.log)
    assert drill.holds(second)
    shown = drill.status()
    assert shown["state"] == "failing" and "the audit log cannot be written" in shown["last_error"]
    assert drill.count("published") == 1 and drill.count("publish_recovered") == 0
    code, answer = drill.command("refresh", "uploader")
    assert code == 1 and answer["credentials"][0]["outcome"] == "failed"
    eventually(lambda: drill.heard() == ["1", "2"])
    drill.fault()
    eventually(lambda: drill.count("publish_recovered") == 1)
    eventually(lambda: drill.status()["state"] == "fresh", str(drill.status()))
    assert drill.heard()[:2] == ["1", "2"] and set(drill.heard()) == {"1", "2"}
    drill.all_is_well(second, drill.heard())
    (record,) = vm.audit("publish_recovered", credential="uploader")
    assert (record["generation"], record["outcome"]) == (2, "rolled forward")
    assert drill.count("published") == 1


@with_mounts
def test_a_disk_that_is_full_under_the_audit_log(vm: Vm) -> None:
    """A real one: however far the log gets, the value in the sinks and the newest record belong together."""
    place = Place(vm.log_directory)
    drill = Drill(vm)
    drill.start()
    place.fill()
    newest, published = drill.learn(), [drill.learn()]
    for _ in range(8):  # a page may have room for a few records
        newest = drill.rotate()
        eventually(
            lambda: drill.status()["state"] == "failing" or drill.status()["access_key_id"] == newest,  # noqa: B023
            drill.daemon.log,
        )
        if drill.status()["state"] == "failing":
            break
        published.append(newest)
    shown = drill.status()
    assert shown["state"] == "failing", "the disk was not full"
    assert "the audit log cannot be written" in shown["last_error"]
    assert "the file system is full" in drill.errors_of_check()
    assert drill.holds(published[-1]) or drill.holds(newest)
    assert drill.staged() == []
    place.empty()
    eventually(lambda: drill.holds(newest))
    generation = len(published) + 1
    eventually(lambda: drill.heard()[-1:] == [str(generation)], str(drill.heard()))
    drill.all_is_well(newest, drill.heard())
    ended = [r["generation"] for r in vm.audit("published", "publish_recovered", credential="uploader")]
    assert ended == list(range(1, generation + 1))


@pytest.mark.parametrize("how", ["full", "read-only"])
@with_mounts
def test_a_state_that_cannot_be_written(vm: Vm, how: str) -> None:
    """Nobody could be sure that the news is told: so nothing is published, it is said, and it follows by itself."""
    (vm.state / "credentials").mkdir(parents=True, mode=0o700)
    vm.state.chmod(0o700)
    place = Place(vm.state / "credentials", "size=64k,mode=0700")
    drill = Drill(vm)
    first = drill.learn()
    drill.start()
    if how == "full":
        for path in place.path.glob("uploader.state"):
            path.write_bytes(b"")  # the slots lie there already; a record that outgrows them would need room like this
        place.fill()
    else:
        place.freeze()
    second = drill.rotate()
    eventually(lambda: drill.count("publish_failed"), drill.daemon.log)
    shown = drill.status()
    assert "the state cannot be written" in shown["last_error"], shown["last_error"]
    assert drill.holds(first) and drill.staged() == [] and drill.heard() == ["1"]
    place.empty() if how == "full" else place.thaw()
    drill.all_is_well(second, ["1", "2"])
    assert (drill.count("publish_failed"), drill.count("published")) == (1, 2)


@with_mounts
def test_check_names_a_state_directory_without_room(vm: Vm) -> None:
    """Full, or read-only: an error for the very key of the config, with a remedy."""
    vm.state.mkdir(mode=0o700)
    place = Place(vm.state, "size=64k,mode=0700")
    drill = Drill(vm)
    place.fill()
    assert "the file system is full" in drill.errors_of_check()
    place.empty()
    place.freeze()
    assert "the file system is read-only; remount it writable" in drill.errors_of_check()
    place.thaw()
    assert drill.errors_of_check() == ""


def test_a_runtime_directory_that_is_gone_stops_no_publish(vm: Vm) -> None:
    """The socket is out of reach and commands say so; credentials are published and told as ever; a restart mends it."""
    drill = Drill(vm)
    drill.start()
    shutil.rmtree(vm.run_directory)
    second = drill.rotate()
    eventually(lambda: drill.heard() == ["1", "2"], drill.daemon.log)
    assert drill.holds(second)
    assert vm.keyturn("status").returncode == 69
    refused = vm.keyturn("refresh")
    assert refused.returncode == 1 and f"pid {drill.daemon.pid}" in refused.stderr, refused
    assert drill.daemon.stop() == 0
    drill.start()
    drill.all_is_well(second, ["1", "2"])
