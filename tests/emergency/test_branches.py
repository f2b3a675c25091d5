"""The branches of an emergency that the other files of this folder do not play; docs/emergency.md lists them all.

Each is one night on which something else is in the way: a permission, a service, a quota, the operator's terminal.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alibabacloud_ram20150501 import models as ram_models

from agent.audit.log import AuditLog
from agent.core.errors import EXIT_FAILED, EXIT_NOT_PERMITTED, EXIT_SOURCE_UNAVAILABLE, AuditError
from agent.core.events import Event
from agent.core.settings import Duration
from agent.emergency.last_rotation import REPEATED, is_repeated
from agent.state.records import RotationEnd
from agent.system.clock import Clock
from providers.emulator import Fault
from tests.support.fakes import PATIENCE_S
from tests.support.processes import KEYTURN, eventually
from tests.support.station import SHORT, Crash, Station, steps

FOR_EVER = 1000
AT_ONCE = dataclasses.replace(SHORT, ask_s=0.0, refusal_s=0.0)
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried again at once."""
    monkeypatch.setattr("agent.core.retry.full_jitter", lambda *_args: 0.01)


def audited(station: Station, event: str) -> list[dict[str, Any]]:
    return [one for one in station.vm.audit(event) if one.get("trigger") == "emergency"]


# -- deleting the old key -----------------------------------------------------------------------------


def test_the_old_key_is_deleted_once_it_was_seen_refused(station: Station) -> None:
    """`--delete-old` includes to disable it; the recycle bin has it, the audit says so, and it is safe as before."""
    station.cloud.allow("ops", "ram:DeleteAccessKey")
    old = station.start().current
    result = station.rotate(disable_old=True, delete_old=True)
    assert (result.error, result.safe, result.old_key, result.all_moved) == (None, True, "deleted", True)
    assert list(steps(result))[-3:] == ["disable_old", "prove_refused", "delete_old"]
    assert [one.access_key_id for one in station.cloud.recycled_keys(station.cloud.user("uploader").user_id)] == [old]
    order = [call.action for call in station.cloud.calls if call.action in ("UpdateAccessKey", "DeleteAccessKey")]
    assert order == ["UpdateAccessKey", "DeleteAccessKey"]
    (record,) = audited(station, "old_key_deleted")
    assert (record["access_key_id"], record["outcome"]) == (old, "deleted")
    assert result.as_json()["old_key"] == "deleted"


def test_a_key_that_may_not_be_deleted_stays_disabled_and_that_is_safe(station: Station) -> None:
    """Exit 1, `safe` true, the action named; the command that it prints deletes it later, and nothing rotates again."""
    old = station.start().current
    first = station.rotate(disable_old=True, delete_old=True)
    assert (first.exit_code, first.safe, first.old_key) == (EXIT_FAILED, True, "disabled")
    assert "ram:DeleteAccessKey" in str(first.error) and f"--leaked {old} --delete-old" in str(first.error)
    assert station.managed.state.rotation.unfinished is None
    station.cloud.allow("ops", "ram:DeleteAccessKey")
    second = station.rotate(leaked=old, disable_old=True, delete_old=True)
    assert (second.error, second.safe, second.old_key, station.rotations) == (None, True, "deleted", 1)


def test_a_ram_that_is_down_when_the_key_is_to_be_deleted(station: Station) -> None:
    """For a while: waited for. For longer: safe, disabled, and how to delete it later."""
    station.cloud.allow("ops", "ram:DeleteAccessKey")
    old = station.start().current
    station.cloud.fail_next(503, action="DeleteAccessKey", times=FOR_EVER)
    patience = dataclasses.replace(SHORT, ask_s=0.05)
    first = station.rotate(disable_old=True, delete_old=True, patience=patience)
    assert (first.exit_code, first.safe, first.old_key) == (EXIT_FAILED, True, "disabled")
    station.cloud.faults.clear()
    station.cloud.fail_next(503, action="DeleteAccessKey", times=2)
    second = station.rotate(leaked=old, disable_old=True, delete_old=True)
    assert (second.error, second.old_key, station.rotations) == (None, "deleted", 1)


@pytest.mark.parametrize("name", ["prove_refused", "delete_old"])
def test_a_crash_around_the_deletion_is_taken_up(station: Station, name: str) -> None:
    """Even where the key, and with it the secret that proves the refusal, is gone: the proof was written down before."""
    station.cloud.allow("ops", "ram:DeleteAccessKey")
    old = station.start().current
    with pytest.raises(Crash):
        station.rotate(disable_old=True, delete_old=True, show=station.end_of(name))
    result = station.restart().rotate(disable_old=True, delete_old=True)
    assert (result.error, result.safe, result.old_key, station.rotations) == (None, True, "deleted", 1)
    assert result.old_access_key_id == old
    assert station.managed.state.rotation.unfinished is None


# -- each single permission ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("permission", "call", "options"),
    [
        ("kms:RotateSecret", "RotateSecret", {}),
        ("ram:UpdateAccessKey", "UpdateAccessKey", {"disable_old": True}),
        ("ram:DeleteAccessKey", "DeleteAccessKey", {"disable_old": True, "delete_old": True}),
    ],
)
def test_a_missing_permission_of_the_authority_is_named_with_its_remedy(
    station: Station, permission: str, call: str, options: dict[str, bool]
) -> None:
    """The RAM action, the key that lacks it, and what prints the policy; with it, the matter ends well and once."""
    station.cloud.allow("ops", "ram:DeleteAccessKey")
    old = station.start().current
    station.cloud.fail_next(403, "NoPermission", action=call)
    first = station.rotate(**options)
    for words in (permission, station.authority.access_key_id, "keyturn policy"):
        assert words in str(first.error)
    assert station.status_of(old) == ("Inactive" if call == "DeleteAccessKey" else "Active")
    again = {"leaked": old} if call == "DeleteAccessKey" else {}
    assert (station.rotate(**options, **again).error, station.rotations) == (None, 1)


def test_an_authority_that_may_not_assume_its_role(station: Station) -> None:
    """sts:AssumeRole is named, and that two sides grant it; nothing was rotated."""
    role = station.cloud.add_role("rescue")
    files = "\n".join(
        f'access_key_{part}_from_file_path = "{station.vm.directory}/authority_{part}"' for part in ("id", "secret")
    )
    table = "[credentials.uploader.emergency.authority"
    station.table = (
        f'{table}]\ntype = "ram_role_arn"\nrole_arn = "{station.cloud.role_arn(role.name)}"\n'
        f'{table}.base]\ntype = "access_key"\n{files}\n'
    )
    result = station.start().rotate(disable_old=True)
    assert result.exit_code == EXIT_NOT_PERMITTED
    assert "sts:AssumeRole" in str(result.error) and "trust policy" in str(result.error)
    assert (station.asked("RotateSecret"), steps(result)) == (0, {"preflight": "failed"})
    station.cloud.allow("ops", "sts:AssumeRole")
    role.allowed.update(("kms:RotateSecret", "ram:UpdateAccessKey"))
    assert station.rotate(disable_old=True).safe


def test_a_credential_that_may_not_read_its_secret_any_more(station: Station) -> None:
    """KMS has rotated, the new version may not be read: files and cloud disagree, and that is said with what to do."""
    old = station.start().current
    station.cloud.fail_next(403, "Forbidden.NoPermission", action="GetSecretValue", times=FOR_EVER)
    first = station.rotate(disable_old=True)
    assert (first.exit_code, first.old_key) == (EXIT_NOT_PERMITTED, "active")
    for words in ("kms:GetSecretValue", f"KMS has replaced {old}", "run the same command again"):
        assert words in str(first.error)
    assert station.status_of(old) == "Active" and station.vm.holds(old)
    station.cloud.faults.clear()
    second = station.rotate(disable_old=True)
    assert (second.safe, second.old_access_key_id, station.rotations) == (True, old, 1)


# -- limits of RAM and KMS ----------------------------------------------------------------------------


@pytest.mark.parametrize("seen", [True, False])
def test_a_third_key_outside_kms_is_named(station: Station, seen: bool) -> None:
    """KMS could not make a new key: which key is in the way where RAM tells it, the commands that remove it, nothing rotated."""
    current = station.start().current
    if seen:
        station.cloud.allow("ops", "ram:ListAccessKeys")
    stranger = station.cloud.add_access_key("uploader").access_key_id
    result = station.rotate(disable_old=True)
    assert (result.exit_code, station.rotations, result.old_key) == (EXIT_FAILED, 0, "active")
    assert (stranger in str(result.error)) is seen
    assert "nothing was rotated" in str(result.error) and current in str(result.error)
    assert "aliyun ram DeleteAccessKey --UserName uploader" in str(result.error)
    assert seen or "ram:ListAccessKeys" in str(result.error)
    assert station.managed.state.rotation.unfinished is None
    station.cloud.set_status(stranger, "Inactive")
    station.cloud.recycle_access_key(stranger)
    assert station.rotate(disable_old=True).safe


def test_when_the_quota_is_free_again_is_said_as_far_as_known(station: Station) -> None:
    """A rotation of this hour was begun here: until when it counts."""
    station.start()
    assert station.rotate(disable_old=True).safe
    counted = station.managed.state.rotation.begun_at[0]
    station.cloud.fail_next(429, "Rejected.Throttling", action="RotateSecret", times=FOR_EVER)
    result = station.rotate(leaked=station.current, patience=AT_ONCE)
    assert result.exit_code == EXIT_SOURCE_UNAVAILABLE
    until = (counted + REPEATED).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert f"1 were begun here, of which the first counts until {until}" in str(result.error)
    assert station.managed.state.rotation.unfinished is None


def test_a_new_key_that_is_not_known_everywhere_yet_is_waited_for(station: Station) -> None:
    """Refused at first, then accepted: published only then, and safe."""
    station.start()
    station.managed.settings = dataclasses.replace(station.managed.settings, verify_timeout=Duration(PATIENCE_S))
    station.cloud.propagation_delay_s = 0.3
    result = station.rotate(disable_old=True)
    new = result.new_access_key_id
    assert (result.error, result.safe) == (None, True)
    assert [call.code for call in station.cloud.refused(new)][:1] == ["InvalidAccessKeyId.NotFound"]


# -- a service that is down, at each step -------------------------------------------------------------


def when(station: Station, step: str, act: Callable[[], object]) -> Callable[[dict[str, Any]], None]:
    """A `show` that acts as the step of this name ends."""
    return lambda shown: act() if shown["name"] == step else None


def down(station: Station, action: str, times: int) -> Callable[[], None]:
    return lambda: station.cloud.fail_next(503, action=action, times=times)


@pytest.mark.parametrize(
    ("behind", "action"),
    [
        ("preflight", "RotateSecret"),
        ("rotate", "GetSecretValue"),
        ("pickup", "UpdateAccessKey"),
        ("disable_old", "GetCallerIdentity"),
        ("prove_refused", "DeleteAccessKey"),
    ],
)
def test_a_service_that_is_down_for_a_while_is_waited_for(station: Station, behind: str, action: str) -> None:
    """KMS, RAM or STS, whatever comes next: safe, deleted, rotated once."""
    station.cloud.allow("ops", "ram:DeleteAccessKey")
    station.start()
    result = station.rotate(disable_old=True, delete_old=True, show=when(station, behind, down(station, action, 2)))
    assert (result.error, result.safe, result.old_key, station.rotations) == (None, True, "deleted", 1)


@pytest.mark.parametrize(
    ("behind", "action", "old_key"),
    [
        ("preflight", "RotateSecret", "active"),
        ("rotate", "GetSecretValue", "active"),
        ("pickup", "UpdateAccessKey", "active"),
        ("disable_old", "GetCallerIdentity", "disabled"),
    ],
)
def test_a_service_that_stays_down_ends_it_without_safe_and_it_is_taken_up(
    station: Station, behind: str, action: str, old_key: str
) -> None:
    """What the old key is, that the same command goes on, and then: safe, rotated once."""
    station.start()
    show = when(station, behind, down(station, action, FOR_EVER))
    patience = dataclasses.replace(SHORT, follow_s=0.3, ask_s=0.0, refusal_s=0.0)
    first = station.rotate(disable_old=True, show=show, patience=patience)
    assert (first.safe, first.old_key) == (False, old_key)
    assert "the same command again" in str(first.error)
    station.cloud.faults.clear()
    second = station.rotate(disable_old=True)
    assert (second.error, second.safe, station.rotations) == (None, True, 1)


def test_a_new_key_that_sts_could_not_prove_does_not_end_the_old_one(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published unproved, as STS was away: the old key may be the last that works. The same command goes on."""
    monkeypatch.setattr("agent.cloud.verify.UNREACHABLE_FOR_S", 0.2)
    station.start()
    old = station.current
    first = station.rotate(disable_old=True, show=when(station, "rotate", down(station, "GetCallerIdentity", FOR_EVER)))
    assert (first.exit_code, first.safe, first.old_key) == (EXIT_SOURCE_UNAVAILABLE, False, "active")
    assert station.managed.state.published.access_key_id == station.current != old
    assert station.status_of(old) == "Active"
    station.cloud.faults.clear()
    second = station.rotate(disable_old=True)
    assert (second.error, second.safe, station.rotations) == (None, True, 1)


def test_an_sts_that_cannot_name_the_authority_stops_nothing(station: Station) -> None:
    """The preflight says that it is not proved, and the emergency goes on."""
    station.start()
    station.cloud.fail_next(503, action="GetCallerIdentity")
    result = station.rotate(disable_old=True)
    assert result.safe and "the authority is not proved" in result.steps[0]["detail"]


def test_a_kms_that_is_down_when_the_key_before_is_asked_for(station: Station) -> None:
    """`--leaked` names the key before as the state remembers it; only its secret is missing, and with it the proof."""
    old = station.start().current
    station.rotate()
    station.restart()
    assert station.refresh().error is None
    station.cloud.fail_next(503, action="GetSecretValue", times=FOR_EVER)
    first = station.rotate(leaked=old, disable_old=True, patience=AT_ONCE)
    assert (first.safe, first.old_key) == (False, "disabled")
    assert "cannot be proved" in str(first.error)
    station.cloud.faults.clear()
    assert station.rotate(leaked=old, disable_old=True).safe


# -- files and cloud disagree -------------------------------------------------------------------------


def test_a_file_that_cannot_be_written_after_the_rotation(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    """KMS has the new key, a file the old one: both are named, nothing is disabled, and mended the same command ends safe."""
    old = station.start().current
    real, target = os.rename, Path(station.managed.sinks[-1].path).name

    def rename(source: Any, destination: Any, **options: Any) -> None:
        if Path(destination).name == target:
            raise OSError(errno.EBUSY, "Device or resource busy")
        real(source, destination, **options)

    monkeypatch.setattr(os, "rename", rename)
    first = station.rotate(disable_old=True, patience=dataclasses.replace(SHORT, follow_s=0.3))
    assert (first.safe, first.old_key, station.status_of(old)) == (False, "active", "Active")
    for words in (f"KMS has replaced {old}", f"files may still hold {old}", "run the same command again"):
        assert words in str(first.error)
    monkeypatch.setattr(os, "rename", real)
    second = station.rotate(disable_old=True)
    assert (second.safe, second.old_access_key_id, station.rotations) == (True, old, 1)


# -- the operator's end -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rotate", "publish", "disable_old"])
def test_an_end_in_good_order_at_any_step_is_taken_up(
    station: Station, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C and a closed terminal without a daemon, SIGTERM with one: the next ends the same, with one rotation in all."""
    monkeypatch.setattr("agent.engine.held_credential.CALL_S", 0.3)  # after its end the loop comes to nothing any more
    old = station.start().current
    stop = when(station, name, lambda: station.engine.post(station.engine.stop))
    patience = dataclasses.replace(SHORT, follow_s=0.3, told_s=0.3)
    station.rotate(disable_old=True, show=stop, patience=patience)
    monkeypatch.undo()
    result = station.restart().rotate(disable_old=True)
    assert result.safe and (result.error is None or "ended safe" in result.error)  # it may be faster than the end
    assert (result.old_access_key_id, result.new_access_key_id) == (old, station.current)
    assert station.rotations == 1


def begun(station: Station, running: list[subprocess.Popen[str]], *options: str) -> subprocess.Popen[str]:
    """A `rotate` as a process, which has just asked KMS to rotate."""
    before = station.asked("RotateSecret")
    command = [
        *KEYTURN,
        "--config",
        str(station.vm.config),
        "rotate",
        "uploader",
        "--reason",
        "leaked",
        "--yes",
        *options,
    ]
    pipe = subprocess.PIPE
    running.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=station.vm.environ, cwd="/"))
    eventually(lambda: station.asked("RotateSecret") > before)
    return running[-1]


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[str]]]:
    """The commands of this test, ended with it."""
    made: list[subprocess.Popen[str]] = []
    yield made
    for process in made:
        process.kill()
        process.communicate()


def test_without_a_daemon_ctrl_c_ends_it_in_good_order_and_the_next_takes_it_up(
    station: Station, running: list[subprocess.Popen[str]]
) -> None:
    """And a closed terminal: what to do is said, nothing rotates twice, and the third command ends safe."""
    station.start().stop()
    old = station.current
    station.cloud.inject(Fault.LOSE_REPLY, action="RotateSecret")
    station.cloud.fail_next(503, action="RotateSecret", times=FOR_EVER)
    for number in (signal.SIGINT, signal.SIGHUP):
        process = begun(station, running, "--disable-old")
        eventually(lambda: station.cloud.secret("uploader-ak").rotating(station.cloud.now()))
        process.send_signal(number)
        _shown, said = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, "run the same command again" in said) == (130, True), said
    station.cloud.faults.clear()
    done = station.vm.keyturn("rotate", "uploader", "--reason", "leaked", "--yes", "--disable-old", "--json")
    result = json.loads(done.stdout)
    assert (done.returncode, result["safe"], result["old_access_key_id"], station.rotations) == (0, True, old, 1), (
        result
    )


def test_through_the_daemon_it_goes_on_without_its_terminal(
    station: Station, running: list[subprocess.Popen[str]]
) -> None:
    """And the next command says that it ended safe, when and by whom."""
    vm = station.vm
    vm.configure(vm.credential(notify=vm.hook(["/bin/sleep", "0.3"])), station.table)
    vm.daemon().ready()
    process = begun(station, running, "--disable-old")
    process.send_signal(signal.SIGHUP)
    process.wait(PATIENCE_S)
    (ended,) = eventually(lambda: vm.audit("rotation_ended"))
    done = vm.keyturn("rotate", "uploader", "--reason", "leaked", "--yes", "--disable-old")
    assert (ended.get("error"), done.returncode, station.rotations) == (None, EXIT_FAILED, 1)
    assert "ended safe at" in done.stderr
    assert done.stdout.splitlines()[-1].startswith("safe: ") and "before this command" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("event", "known"),
    [
        (Event.ROTATION_STARTED, ("KMS has replaced", "files may still hold", "active", False)),
        (Event.OLD_KEY_DISABLED, ("disabled in RAM", "not yet seen refused", "disabled", False)),
        (Event.OLD_KEY_DELETED, ("deleted", "was seen refused", "deleted", True)),
    ],
)
def test_a_full_disk_under_the_audit_does_not_hide_which_key_is_where(
    station: Station, monkeypatch: pytest.MonkeyPatch, event: Event, known: tuple[str, str, str, bool]
) -> None:
    """What the cloud has done by then stands in the error, and the same command goes on without a second rotation."""
    station.cloud.allow("ops", "ram:DeleteAccessKey")
    old, real = station.start().current, AuditLog.record

    def record(log: AuditLog, one: Event, **fields: Any) -> dict[str, Any]:
        if one == event:
            raise AuditError("audit.jsonl: the file system is full", "free some space")
        return real(log, one, **fields)

    monkeypatch.setattr(AuditLog, "record", record)
    result = station.rotate(disable_old=True, delete_old=True)
    monkeypatch.undo()
    *words, old_key, safe = known
    assert (str(result.old_key), result.safe, station.rotations) == (old_key, safe, 1)
    assert all(word in str(result.error) for word in (old, *words)), result.error
    again = station.rotate(disable_old=True, delete_old=True)
    assert (again.safe, str(again.old_key), station.rotations) == (True, "deleted", 1)


# -- the same command once more -----------------------------------------------------------------------


def test_a_second_one_behind_one_that_ended_safe_says_so_and_does_nothing(station: Station) -> None:
    """When, by whom, old and new key, and what rotates once more; the result has what became of the old key."""
    old = station.start().current
    done = station.rotate(disable_old=True, reason="key on a gist")
    disabled = station.asked("UpdateAccessKey")
    result = station.restart().rotate(disable_old=True, reason="again")
    new = station.current
    assert (result.exit_code, station.rotations, station.asked("UpdateAccessKey")) == (EXIT_FAILED, 1, disabled)
    assert result.all_moved and len(station.vm.audit("rotation_ended")) == 1, "it is no emergency of its own"
    for words in ("ended safe at", "alice", "key on a gist", old, f"--leaked {new} --disable-old"):
        assert words in str(result.error)
    shown = (result.old_access_key_id, result.new_access_key_id, result.old_key, result.safe, result.time_to_safe_ms)
    assert shown == (old, done.new_access_key_id, "disabled", True, None)
    station.cloud.allow_overlapping_rotation = True
    assert station.rotate(leaked=new, disable_old=True).safe and station.rotations == 2


def test_a_second_one_that_names_the_old_key_finds_it_done(station: Station) -> None:
    """Its secret went with it, and the proof is remembered: safe, deleted, and nothing rotated."""
    station.cloud.allow("ops", "ram:DeleteAccessKey")
    old = station.start().current
    for _ in range(2):
        result = station.rotate(leaked=old, disable_old=True, delete_old=True)
        assert (result.error, result.safe, result.old_key, station.rotations) == (None, True, "deleted", 1)
        station.restart()
    assert result.time_to_safe_ms is None and "by the rotation that ended at" in result.steps[-2]["detail"]


def test_a_second_one_behind_one_that_left_the_old_key_says_how_to_disable_it(station: Station) -> None:
    """Not "begins anew": the key that is to be disabled is named, and the command does it."""
    old = station.start().current
    assert station.rotate().error is None
    result = station.rotate(disable_old=True)
    assert (result.exit_code, result.old_key, result.safe, station.rotations) == (EXIT_FAILED, "active", False, 1)
    assert f"--leaked {old} --disable-old" in str(result.error)
    assert station.rotate(leaked=old, disable_old=True).safe


def test_what_counts_as_a_repetition() -> None:
    """Within the hour, the key still in use, none named: all three."""
    now = Clock().now()
    ended = RotationEnd(now, "alice", "leak", "LTAIold", "LTAInew", "disabled", safe=True)
    assert is_repeated(ended, "LTAInew", None, now + REPEATED / 2)
    assert not is_repeated(ended, "LTAInew", None, now + REPEATED)
    assert not is_repeated(ended, "LTAInew", "LTAInew", now)
    assert not is_repeated(ended, "LTAInewer", None, now)
    assert not is_repeated(None, "LTAInew", None, now)


def test_kms_refusing_another_rotation_says_how_the_last_one_ended(station: Station) -> None:
    """An hour later KMS still refuses a second one: the sentence has what became of the first."""
    station.start()
    assert station.rotate(disable_old=True).safe
    result = station.rotate(leaked=station.current, disable_old=True)
    assert result.exit_code == EXIT_FAILED
    assert "KMS has not finished the rotation before" in str(result.error) and "ended safe at" in str(result.error)


def test_a_rotation_of_long_ago_that_is_taken_up_says_that_the_present_key_was_not_replaced(station: Station) -> None:
    """Its old key is gone, so nothing can be proved: the key in use is named, and the same command replaces it."""
    old = station.start().current
    with pytest.raises(Crash):
        station.rotate(disable_old=True, show=station.end_of("publish"))
    station.cloud.delete_access_key(old)
    current = station.current
    result = station.restart().rotate(disable_old=True)
    assert f"to replace {current}, run the same command again" in str(result.error)


# -- a role's session ---------------------------------------------------------------------------------


def test_the_commands_that_cut_a_role_off_are_printed_ready_to_paste(station: Station) -> None:
    """For the role that STS names; each is an action of RAM with its parameters, and the policy denies everything."""
    vm = station.vm
    vm.cloud.add_role("app.prod", trusted=["ops"])
    vm.cloud.allow("ops", "sts:AssumeRole")
    files = "\n".join(
        f'access_key_{part}_from_file_path = "{vm.directory}/authority_{part}"' for part in ("id", "secret")
    )
    base = f'[credentials.app.provider.base]\ntype = "access_key"\n{files}\n'
    provider = f'type = "ram_role_arn"\nrole_arn = "{vm.cloud.role_arn("app.prod")}"\n{base}'
    vm.configure(vm.credential("app", provider=provider, sinks=vm.env("app")))
    assert vm.keyturn("once").returncode == 0
    done = vm.keyturn("rotate", "app", "--reason", "leaked", "--yes")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("aliyun ")]
    assert [line.split()[2] for line in lines] == [
        "CreatePolicy", "AttachPolicyToRole", "DetachPolicyFromRole", "DeletePolicy"
    ]  # fmt: skip
    for line in lines:
        options = dict(re.findall(r"--(\w+) ('[^']*'|\S+)", line))
        request = getattr(ram_models, f"{line.split()[2]}Request")()
        assert options and all(hasattr(request, re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()) for name in options), (
            line
        )
        assert options["PolicyName"] == "keyturn-cut-off-app-prod"
        assert options.get("RoleName", "app.prod") == "app.prod"
    assert '"Effect": "Deny", "Action": "*", "Resource": "*"' in lines[0]


# -- the list -----------------------------------------------------------------------------------------


def test_every_branch_in_the_document_has_its_test() -> None:
    """docs/emergency.md: each row of the table names tests, and each of them is there."""
    table = (ROOT / "docs/emergency.md").read_text().partition("## Every branch")[2]
    rows = [line.split(" | ")[-1] for line in table.splitlines() if line.startswith("| ")][2:]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert len(named) > 30 and all(named)
    there = set(
        re.findall(r"^def (test_\w+)", "\n".join(path.read_text() for path in Path(__file__).parent.glob("*.py")), re.M)
    )
    assert not {name for names in named for name in names} - there
