"""`plan NAME` and `rotate --dry-run`, with and without a daemon: what they name, what is in the way, and that nothing changes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.app import wiring
from agent.app.commands import plan_from_disk
from agent.core.errors import EXIT_DONE, EXIT_FAILED, EXIT_NOT_PERMITTED, EXIT_SOURCE_UNAVAILABLE, EXIT_USAGE
from agent.emergency.request import Request
from agent.notifiers.exec_command import ExecNotifier
from providers.emulator.faults import Fault
from tests.support.processes import KEYTURN
from tests.support.station import ME, Station
from tests.support.vm import PATIENCE_S, Vm, eventually, quoted

DRY_RUN = ("rotate", "uploader", "--reason", "a test", "--dry-run")
LOOKS = ("kms:DescribeSecret", "ram:ListAccessKeys", "ram:GetAccessKeyLastUsed")
READ_ONLY = {
    "GetSecretValue",
    "GetCallerIdentity",
    "DescribeSecret",
    "ListAccessKeys",
    "GetAccessKeyLastUsed",
}


@pytest.fixture
def set_up(station: Station) -> Station:
    """One published credential whose authority may look."""
    station.cloud.allow("ops", *LOOKS)
    station.vm.configure(station.vm.credential(), station.table)
    assert station.vm.keyturn("once").returncode == EXIT_DONE
    return station


@pytest.fixture
def run() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts programs that end with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(command: str, **options: Any) -> subprocess.Popen[bytes]:
        running.append(subprocess.Popen(["/bin/sh", "-c", command], **options))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait(PATIENCE_S)


def planned(vm: Vm, *words: str) -> dict[str, Any]:
    done = vm.keyturn(*(words or ("plan", "uploader")), "--json")
    return dict(json.loads(done.stdout))


def from_disk(vm: Vm, deadline_s: float = 60.0, **asked: Any) -> dict[str, Any]:
    """What the command makes of it where no daemon runs, for one `rotate`, in this process."""
    settings = wiring.load_settings(str(vm.config), {})
    return plan_from_disk(settings, {}, "uploader", Request("uploader", "a test", ME, **asked), deadline_s)


def in_the_way(found: dict[str, Any]) -> list[tuple[str, int]]:
    return [(one["step"], one["exit_code"]) for one in found["in_the_way"]]


def outcome_of(found: dict[str, Any], call: str) -> str:
    return next(str(one["outcome"]) for one in found["authority"]["checks"] if one["call"] == call)


# -- who holds it -------------------------------------------------------------------------------------


def test_it_names_files_processes_credentials_and_dependents(
    station: Station, run: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """With real processes: one has a file open, one had it replaced since, one was started with the key.

    By the state on disk, and the same through a daemon, which knows who fetched it, too.
    """
    vm, pid_file = station.vm, station.vm.directory / "app.pid"
    station.cloud.allow("ops", *LOOKS)
    vm.cloud.allow("uploader", "sts:AssumeRole")
    vm.cloud.add_role("app", trusted=["uploader"])
    session = f'type = "ram_role_arn"\nrole_arn = "{vm.cloud.role_arn("app")}"\nbase = "backup"\n'
    told = f'[[credentials.backup.notify]]\ntype = "signal"\npid_file = {quoted(pid_file)}\n'
    served, hup = '[credentials.uploader.serve]\nusers = ["root"]\n', told.replace("backup", "uploader")
    vm.configure(
        vm.credential(notify=hup),
        station.table + served,
        vm.credential("backup", sinks=vm.env("backup"), notify=told),
        vm.credential("app", provider=session, sinks=vm.env("app")),
    )
    started = run(f"trap : HUP; echo $$ > {pid_file}; while :; do sleep 1 & wait $!; done")
    eventually(lambda: pid_file.exists() and bool(pid_file.read_text().strip()))
    assert vm.keyturn("once").returncode == EXIT_DONE
    with vm.ini_path().open() as file:
        replaced = run("sleep 300; :", stdin=file)
    vm.ini_path().write_text("")  # drift: it is written anew, as another file
    vm.cloud.rotate("uploader-ak")
    assert vm.keyturn("once").returncode == EXIT_DONE
    key_id = station.current
    with vm.ini_path().open() as file:
        opened = run("sleep 300; :", stdin=file)
    with_key = run("sleep 300; :", env={"ALIBABA_CLOUD_ACCESS_KEY_ID": key_id, "PATH": os.environ["PATH"]})
    found = planned(vm)
    assert {one["credential"]: one["relation"] for one in found["credentials"]} == {
        "uploader": "itself",
        "backup": "same secret",
        "app": "built on it",
    }
    assert {one["target"] for one in found["files"]} >= {f"{vm.ini_path()} [default]", str(vm.env_path("app"))}
    seen = {one["pid"]: one for one in found["processes"]["found"]}
    assert seen[opened.pid]["opened"] == seen[replaced.pid]["opened"] == [str(vm.ini_path())]
    assert seen[with_key.pid]["in_environment"] == [key_id] and seen[with_key.pid]["started"] != "before the publish"
    assert seen[replaced.pid]["started"] != "after the publish"
    assert found["processes"]["complete"] is True
    doubtful, dependent = found["dependents"]
    assert (doubtful["credential"], doubtful["moves"]) == ("uploader", True) and doubtful["doubt"]["move"]
    assert dependent["doubt"] is None
    assert (dependent["credential"], dependent["level"], dependent["moves"]) == ("backup", "ok", False)
    assert dependent["how"] == f"SIGHUP to the process in {pid_file}" and str(started.pid) in dependent["seen"][0]
    (left,) = found["left_behind"]
    assert (left["dependent"], left["reason"]) == (f"signal {pid_file}", "told without effect") and left["move"]
    assert found["fetched"] is found["other_hosts"] is None
    text = vm.keyturn("plan", "uploader").stdout
    for word in (key_id, f"pid {opened.pid}", "backup", "is built on it", left["move"], "not known to keyturn"):
        assert word in re.sub(r"\s+", " ", text)
    assert max(map(len, text.replace(str(vm.directory), "").splitlines())) <= 80
    for key in vm.cloud.keys_of("uploader"):
        assert key.access_key_secret not in text + json.dumps(found)
    vm.daemon().ready()
    assert vm.keyturn("credential", "uploader").returncode == EXIT_DONE
    asked = planned(vm)
    assert [one["hold_s"] for one in asked["fetched"]] == [60.0]
    for part in ("credentials", "dependents", "left_behind", "authority", "kms", "in_the_way"):
        assert asked[part] == found[part], part
    assert [one["pid"] for one in asked["processes"]["found"]] == [one["pid"] for one in found["processes"]["found"]]


# -- what is in the way -------------------------------------------------------------------------------


def test_each_call_says_what_it_proved_and_what_none_can(set_up: Station) -> None:
    """The RAM action of each; and that RotateSecret and UpdateAccessKey are proved by doing them alone."""
    found = planned(set_up.vm)
    assert {one["action"]: one["outcome"] for one in found["authority"]["checks"] if one["action"]} == dict.fromkeys(
        LOOKS, "ok"
    )
    assert [one["action"] for one in found["authority"]["unproved"]] == ["kms:RotateSecret", "ram:UpdateAccessKey"]
    assert found["authority"]["identity"].endswith(":user/ops")
    assert (found["kms"]["rotations_spent"], found["kms"]["is_under_way"]) == (0, False)
    assert [one["whose"] for one in found["ram"]["keys"]] == ["current"]
    assert found["possible"] is True and found["would"] == "rotate"
    set_up.cloud.forbid("ops", *LOOKS)
    found = planned(set_up.vm)
    assert [one["outcome"] for one in found["authority"]["checks"] if one["action"]] == ["not permitted"] * 3
    assert found["possible"] is True, "an emergency needs none of them"


def forget_the_key(station: Station) -> None:
    station.cloud.set_status(station.authority.access_key_id, "Inactive")


def a_second_key(station: Station) -> None:
    station.cloud.add_access_key("uploader")


def a_rotation(station: Station) -> None:
    station.cloud.rotate("uploader-ak")


def no_authority(station: Station) -> None:
    station.vm.configure(station.vm.credential())


def no_such_user(station: Station) -> None:
    station.vm.configure(station.vm.credential(), station.emergency('ram_user_name = "somebody"'))


def another_users_key(station: Station) -> None:
    station.vm.configure(station.vm.credential(), station.emergency('ram_user_name = "ops"'))


def kms_is_down(station: Station) -> None:
    station.cloud.fail_next(503, action="DescribeSecret")


def the_source_is_down(station: Station) -> None:
    station.cloud.fail_next(503, action="GetSecretValue", times=9)


def the_source_refuses(station: Station) -> None:
    station.cloud.client_keys()[0].status = "Inactive"


def ram_is_down(station: Station) -> None:
    station.cloud.fail_next(503, action="ListAccessKeys")


def the_authority_leaked(station: Station) -> None:
    station.cloud.restrict_access_key(station.authority.access_key_id)


def a_dependent_that_cannot_be_told(station: Station) -> None:
    hook = station.vm.hook(["/nowhere/hook", "--token", "canary-of-a-token"])
    station.vm.configure(station.vm.credential(notify=hook), station.table)


def a_generic_secret(station: Station) -> None:
    key = station.cloud.current_key("uploader-ak")
    text = json.dumps({"AccessKeyId": key.access_key_id, "AccessKeySecret": key.access_key_secret})
    station.cloud.add_generic_secret("copy", text)
    station.vm.configure(station.vm.credential(secret="copy"), station.table)


ANY, LAST = "rotate", "disable_old"
CASES: dict[str, tuple[Callable[[Station], None], list[tuple[str, int]]]] = {
    "the authority's key is disabled": (
        forget_the_key, [("preflight", EXIT_FAILED), (ANY, EXIT_FAILED), (LAST, EXIT_FAILED)]
    ),
    "somebody's second key leaves no room": (a_second_key, [(ANY, EXIT_FAILED)]),
    "KMS has not finished the rotation before": (a_rotation, [(ANY, EXIT_FAILED)]),
    "no authority is configured": (no_authority, [("preflight", EXIT_USAGE)]),
    "there is no such RAM user": (no_such_user, [(LAST, EXIT_FAILED)]),
    "the key is another user's": (another_users_key, [(LAST, EXIT_FAILED)]),
    "KMS is down": (kms_is_down, [(ANY, EXIT_SOURCE_UNAVAILABLE)]),
    "the source is down": (the_source_is_down, [("fetch", EXIT_SOURCE_UNAVAILABLE)]),
    "the source refuses": (the_source_refuses, [("fetch", EXIT_FAILED)]),
    "RAM is down": (ram_is_down, [(LAST, EXIT_SOURCE_UNAVAILABLE)]),
    "the authority is restricted as leaked": (the_authority_leaked, [(LAST, EXIT_NOT_PERMITTED)]),
    "KMS does not replace the key of such a secret": (a_generic_secret, [(ANY, EXIT_FAILED), (LAST, EXIT_USAGE)]),
    "a dependent cannot be told": (a_dependent_that_cannot_be_told, [("notify", EXIT_FAILED)]),
}  # fmt: skip


@pytest.mark.parametrize("story", CASES)
def test_what_is_in_the_way_is_named_with_its_step_and_exit_code(station: Station, story: str) -> None:
    """In the order of the steps, each with what to do."""
    break_it, expected = CASES[story]
    station.cloud.allow("ops", *LOOKS)
    station.vm.configure(station.vm.credential(), station.table)
    break_it(station)
    found = from_disk(station.vm, disable_old=True)
    assert in_the_way(found) == expected, found["in_the_way"]
    assert found["possible"] is False
    assert all(one["remedy"] for one in found["in_the_way"])
    assert "canary" not in json.dumps(found)


def test_what_concerns_the_end_of_the_old_key_is_in_the_way_of_that_alone(station: Station) -> None:
    """Without `--disable-old` the rotation could be done; `plan` names everything."""
    station.cloud.allow("ops", *LOOKS)
    another_users_key(station)
    assert in_the_way(from_disk(station.vm)) == []
    assert in_the_way(from_disk(station.vm, disable_old=True)) == [(LAST, EXIT_FAILED)]
    assert in_the_way(planned(station.vm)) == [(LAST, EXIT_FAILED)]


def test_a_copy_of_the_key_would_be_left_behind(set_up: Station) -> None:
    """It is in the way of any rotation, as it is of `rotate`; `--force` disables over it."""
    vm, key = set_up.vm, set_up.cloud.current_key("uploader-ak")
    for part, text in (("id", key.access_key_id), ("secret", key.access_key_secret)):
        (vm.directory / f"copy_{part}").touch(mode=0o600)
        (vm.directory / f"copy_{part}").write_text(text)
    parts = "\n".join(f'access_key_{part}_from_file_path = "{vm.directory}/copy_{part}"' for part in ("id", "secret"))
    copy = vm.credential("copy", provider=f'type = "access_key"\n{parts}\n')
    vm.configure(vm.credential(), set_up.table, copy)
    assert vm.keyturn("once").returncode == EXIT_DONE
    found = from_disk(vm)
    assert [(one["credential"], one["relation"]) for one in found["credentials"]][1:] == [("copy", "same key")]
    assert [(one["credential"], one["dependent"]) for one in found["left_behind"]] == [("copy", None)]
    assert in_the_way(found) == in_the_way(from_disk(vm, disable_old=True)) == [("pickup", EXIT_FAILED)]
    assert in_the_way(from_disk(vm, disable_old=True, force=True)) == []
    assert "the new key would be published, then" in vm.keyturn(*DRY_RUN).stdout
    assert (set_up.status_of(key.access_key_id), set_up.rotations) == ("Active", 0)


def test_fifty_rotations_an_hour_are_counted(set_up: Station) -> None:
    """As far as this keyturn began them; then it is in the way, as temporary."""
    state = next((set_up.vm.state / "credentials").iterdir())
    assert state.exists()
    set_up.start(publish=False)
    for _ in range(50):
        set_up.managed.state.rotation.begin("v", "k", "a test", set_up.engine.clock.now())
        set_up.managed.state.rotation.forget()
    set_up.engine.submit(lambda: set_up.engine._parts.recorder.save(set_up.managed)).result(PATIENCE_S)
    set_up.stop()
    set_up.vm.configure(set_up.vm.credential(), set_up.table)
    found = planned(set_up.vm)
    assert found["kms"]["rotations_spent"] == 50
    assert in_the_way(found) == [("rotate", EXIT_SOURCE_UNAVAILABLE)]


def test_a_rotation_that_was_begun_is_taken_up_and_not_in_the_way(set_up: Station) -> None:
    """The second key is then its own."""
    old = set_up.current
    set_up.start(publish=False)
    set_up.managed.state.rotation.begin("v-1", old, "the first try", set_up.engine.clock.now())
    set_up.engine.submit(lambda: set_up.engine._parts.recorder.save(set_up.managed)).result(PATIENCE_S)
    set_up.stop()
    set_up.vm.configure(set_up.vm.credential(), set_up.table)
    set_up.cloud.request_rotation("uploader-ak", "v-1")
    found = planned(set_up.vm)
    assert found["kms"]["taken_up"]["reason"] == "the first try"
    assert found["kms"]["is_under_way"] is True
    assert found["in_the_way"] == []
    found = from_disk(set_up.vm, leaked=set_up.current)
    assert found["kms"]["taken_up"] is None, "its new key leaked as well"
    assert in_the_way(found) == [("rotate", EXIT_FAILED)]


def test_a_rotation_that_was_begun_here_is_known_without_looking(station: Station) -> None:
    """The authority may list no keys, but the state has when the last one was begun: KMS refuses, and so says the plan."""
    station.vm.configure(station.vm.credential(), station.table)
    assert station.vm.keyturn("once").returncode == EXIT_DONE
    assert in_the_way(from_disk(station.vm)) == []
    old = station.current
    done = station.vm.keyturn("rotate", "uploader", "--reason", "a test", "--disable-old")
    assert done.returncode == EXIT_DONE, done.stderr
    assert in_the_way(planned(station.vm)) == [("preflight", EXIT_FAILED), ("rotate", EXIT_FAILED)]
    again = from_disk(station.vm, leaked=station.current, disable_old=True)
    assert in_the_way(again) == [("rotate", EXIT_FAILED)]
    assert station.current in again["in_the_way"][0]["remedy"]
    assert in_the_way(from_disk(station.vm, leaked=old, disable_old=True)) == [], "which needs no rotation"
    done = station.vm.keyturn("rotate", "uploader", "--reason", "a test", "--leaked", station.current)
    assert (done.returncode, station.rotations) == (EXIT_FAILED, 1), "as it was planned"


def test_the_key_before_needs_no_rotation(set_up: Station) -> None:
    """`--leaked` with it: only disabling is planned, though KMS would refuse to rotate; no other key will do."""
    old = set_up.current
    set_up.cloud.rotate("uploader-ak")
    done = set_up.vm.keyturn(*DRY_RUN, "--leaked", old, "--disable-old", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["would"], found["in_the_way"]) == (EXIT_DONE, "disable", [])
    done = set_up.vm.keyturn(*DRY_RUN, "--leaked", "LTAI5tSomebodyElses", "--disable-old", "--json")
    assert (done.returncode, in_the_way(json.loads(done.stdout))[0]) == (EXIT_USAGE, ("preflight", EXIT_USAGE))


def test_what_hangs_does_not_hold_the_plan_up(set_up: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call, or what a notifier asks of the system: the plan is made at its deadline, and says what is not known by it."""
    never = threading.Event()
    monkeypatch.setattr(ExecNotifier, "inspect", lambda _self: iter([never.wait(PATIENCE_S)]))
    set_up.vm.configure(set_up.vm.credential(notify=set_up.vm.hook(["/bin/true"])), set_up.table)
    set_up.cloud.inject(Fault.HANG, action="ListAccessKeys")
    found = from_disk(set_up.vm, 1.5, disable_old=True)
    never.set()
    (dependent,) = found["dependents"]
    assert (dependent["level"], dependent["moves"]) == ("unknown", None) and dependent["seen"]
    assert outcome_of(found, "RAM ListAccessKeys") == "unknown"
    assert found["ram"]["keys"] is found["kms"]["is_under_way"] is None
    assert ("disable_old", EXIT_SOURCE_UNAVAILABLE) in in_the_way(found)
    assert found["files"] and found["credentials"]


# -- that nothing changes -----------------------------------------------------------------------------


def everything(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Each file below a directory: which one, when it was changed, and its content."""
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(directory.rglob("*"))
        if path.is_file()
        and "cloud" not in path.relative_to(directory).parts[0]
        and not path.name.startswith("daemon-")
    }


@pytest.mark.parametrize("through", ["the daemon", "the state on disk"])
def test_a_dry_run_changes_nothing_at_all(set_up: Station, through: str) -> None:
    """Though KMS has a newer key than was published: no state, no audit, no file, and the cloud was only looked at."""
    vm = set_up.vm
    if through == "the daemon":
        vm.daemon().ready()
        assert vm.keyturn("refresh").returncode == EXIT_DONE  # or it looks by itself, within half a minute of its start
    set_up.cloud.rotate("uploader-ak")
    before, asked = everything(vm.directory), len(set_up.cloud.calls)
    done = vm.keyturn(*DRY_RUN, "--disable-old")
    assert done.returncode == EXIT_FAILED and "nothing was changed" in done.stdout
    assert vm.keyturn("plan", "uploader").returncode == EXIT_DONE
    after = everything(vm.directory)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert {path for path in changed if not path.endswith((".out", ".err"))} == set()
    assert {call.action for call in set_up.cloud.calls[asked:]} == READ_ONLY
    assert set_up.current not in vm.ini_path().read_text()


# -- other credentials, and none ----------------------------------------------------------------------


def test_a_session_is_renewed_and_its_authority_is_not_asked(station: Station) -> None:
    """No KMS, no RAM; what a new session does and does not is said."""
    vm = station.vm
    base = vm.cloud.add_access_key("ops")
    vm.cloud.allow("ops", "sts:AssumeRole")
    vm.cloud.add_role("app", trusted=["ops"])
    for part, text in (("id", base.access_key_id), ("secret", base.access_key_secret)):
        station.write_authority(part, text)
    inline = "\n".join(
        f'access_key_{part}_from_file_path = "{vm.directory}/authority_{part}"' for part in ("id", "secret")
    )
    session = f'type = "ram_role_arn"\nrole_arn = "{vm.cloud.role_arn("app")}"\n'
    session += f'[credentials.uploader.provider.base]\ntype = "access_key"\n{inline}\n'
    vm.configure(vm.credential(provider=session))
    found = planned(vm)
    assert (found["would"], found["generation"]) == ("unknown", 0)
    assert vm.keyturn("once").returncode == EXIT_DONE
    asked = len(station.cloud.calls)
    found = planned(vm)
    assert (found["would"], found["authority"], found["kms"], found["ram"]) == ("renew", None, None, None)
    assert found["expires_at"] and found["in_the_way"] == []
    assert station.cloud.calls[asked:] == []
    assert "live on until they expire" in re.sub(r"\s+", " ", vm.keyturn("plan", "uploader").stdout)


def test_what_cannot_be_rotated_here_says_what_to_do(station: Station) -> None:
    """A key from files: `plan` shows who holds it, a dry run exits as `rotate` would."""
    vm, key = station.vm, station.cloud.current_key("uploader-ak")
    for part, text in (("id", key.access_key_id), ("secret", key.access_key_secret)):
        station.write_authority(part, text)
    parts = "\n".join(
        f'access_key_{part}_from_file_path = "{vm.directory}/authority_{part}"' for part in ("id", "secret")
    )
    vm.configure(vm.credential(provider=f'type = "access_key"\n{parts}\n'))
    assert vm.keyturn("once").returncode == EXIT_DONE
    assert vm.keyturn("plan", "uploader").returncode == EXIT_DONE
    assert vm.keyturn(*DRY_RUN).returncode == EXIT_USAGE
    assert vm.keyturn("rotate", "uploader", "--reason", "x", "--yes").returncode == EXIT_USAGE


def test_one_that_was_never_published_is_planned_too(station: Station) -> None:
    """The key is the source's word; there is no state directory yet, and none is made."""
    station.cloud.allow("ops", *LOOKS)
    station.vm.configure(station.vm.credential(), station.table)
    found = planned(station.vm)
    assert (found["generation"], found["access_key_id"], found["possible"]) == (0, station.current, True)
    assert [one["whose"] for one in found["ram"]["keys"]] == ["current"]
    assert not station.vm.state.exists()


@pytest.mark.parametrize("through", ["the daemon", "the state on disk"])
def test_an_unknown_name_gets_the_nearest(set_up: Station, through: str) -> None:
    """As an error, with `--json` as an object."""
    if through == "the daemon":
        set_up.vm.daemon().ready()
    done = set_up.vm.keyturn("plan", "uplaoder")
    assert (done.returncode, done.stdout) == (EXIT_USAGE, "") and done.stderr.endswith(" plan uploader\n")
    for words in (("plan", "uplaoder"), ("rotate", "uplaoder", "--reason", "x", "--dry-run")):
        done = set_up.vm.keyturn(*words, "--json")
        assert (done.returncode, json.loads(done.stdout)["credential"]) == (EXIT_USAGE, "uplaoder")


def test_a_rotation_under_way_is_in_the_way(set_up: Station) -> None:
    """Another operator's, in the same daemon."""
    vm = set_up.vm
    vm.daemon().ready()
    set_up.cloud.inject(Fault.HANG, action="RotateSecret", times=1)
    words = [*KEYTURN, "--config", str(vm.config), "rotate", "uploader", "--reason", "first", "--yes"]
    other = subprocess.Popen(words, env=vm.environ, stdout=subprocess.DEVNULL)
    eventually(lambda: set_up.asked("RotateSecret") > 0 or bool(vm.audit("rotation_requested")))
    found = planned(vm)
    assert ("preflight", EXIT_FAILED) in in_the_way(found)
    other.kill()
    other.wait(PATIENCE_S)
