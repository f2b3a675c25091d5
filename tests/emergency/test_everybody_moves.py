"""Everything on this host that holds the key moves before the old key ends, and who is left behind is named and not cut off."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.app import wiring
from agent.core.errors import EXIT_DONE, EXIT_FAILED
from agent.emergency.left_behind import Reason
from agent.engine.attempts import RefreshSlot
from agent.engine.key_holders import holders
from agent.notifiers.interface import Pickup
from agent.state.credential_state import CredentialState
from agent.state.publish_journal import PublishJournal
from agent.state.records import Published
from agent.system.clock import Clock
from tests.support.station import Station, steps
from tests.support.vm import PATIENCE_S, Vm, eventually, quoted

ROTATE = ("rotate", "uploader", "--reason", "leaked", "--yes", "--json")


@pytest.fixture
def keep_running() -> Iterator[Callable[[Path], None]]:
    """Starts a program that goes on at SIGHUP and never reads its environment again; writes its pid to a file."""
    running: list[subprocess.Popen[bytes]] = []

    def start(pid_file: Path) -> None:
        pid_file.unlink(missing_ok=True)
        script = f"trap : HUP; echo $$ > {pid_file}; while :; do sleep 1 & wait $!; done"
        running.append(subprocess.Popen(["/bin/sh", "-c", script]))
        eventually(lambda: pid_file.exists() and bool(pid_file.read_text().strip()))

    yield start
    for process in running:
        process.kill()
        process.wait(PATIENCE_S)


def rotated(vm: Vm, *options: str) -> tuple[dict[str, Any], int]:
    done = vm.keyturn(*ROTATE, *options)
    return json.loads(done.stdout), done.returncode


def signalled(pid_file: Path) -> str:
    return f'[[credentials.uploader.notify]]\ntype = "signal"\npid_file = {quoted(pid_file)}\n'


def when(vm: Vm, event: str, credential: str, generation: int | None = None) -> int:
    """The number of the first such record."""
    found = [one for one in vm.audit(event, credential=credential) if generation in (None, one.get("generation"))]
    return int(found[0]["seq"]) if found else 2**31


# -- who else holds the key ---------------------------------------------------------------------------


def test_a_credential_of_the_same_secret_moves_before_the_old_key_ends(station: Station) -> None:
    """Refreshed, published and told, though its next poll is an hour away; and what is built on it as well."""
    vm, log = station.vm, station.vm.directory / "told"
    vm.cloud.allow("uploader", "sts:AssumeRole")
    vm.cloud.add_role("app", trusted=["uploader"])
    session = f'type = "ram_role_arn"\nrole_arn = "{vm.cloud.role_arn("app")}"\nbase = "backup"\n'
    hook = vm.hook(["/bin/sh", "-c", f"echo told >> {log}"], "backup")
    vm.configure(
        vm.credential(),
        station.table,
        vm.credential("backup", notify=hook),
        vm.credential("app", provider=session, sinks=vm.env("app")),
    )
    vm.daemon().ready()
    result, code = rotated(vm, "--disable-old")
    assert (code, result["safe"]) == (EXIT_DONE, True), result
    assert vm.holds(station.current, vm.ini_path("backup"), vm.env_path("backup"))
    assert (result["all_moved"], result["left_behind"]) == (True, [])
    assert [each["credential"] for each in vm.audit("published") if each["trigger"] == "emergency"] == [
        "uploader", "backup", "app"
    ]  # fmt: skip
    disabled = when(vm, "old_key_disabled", "uploader")
    assert when(vm, "notified", "backup", 2) < disabled and when(vm, "published", "app", 2) < disabled
    assert next(each for each in result["steps"] if each["name"] == "others")["outcome"] == "done"
    assert log.read_text() == "told\n" * 2


def test_a_copy_of_the_key_that_does_not_follow_is_named_and_keeps_the_old_key_alive(station: Station) -> None:
    """Somebody copied the key into files: `--force` ends it all the same, and says over whom."""
    vm, old = station.vm, station.cloud.current_key("uploader-ak")
    for part, text in (("id", old.access_key_id), ("secret", old.access_key_secret)):
        (vm.directory / f"copy_{part}").touch(mode=0o600)
        (vm.directory / f"copy_{part}").write_text(text)
    parts = "\n".join(f'access_key_{part}_from_file_path = "{vm.directory}/copy_{part}"' for part in ("id", "secret"))
    copy = vm.credential("copy", provider=f'type = "access_key"\n{parts}\n')
    vm.configure(vm.credential(), station.table, copy)
    vm.daemon().ready()
    result, code = rotated(vm, "--disable-old")
    assert (code, result["safe"], result["old_key"]) == (EXIT_FAILED, False, "active")
    assert result["all_moved"] is False
    assert [(one["credential"], one["reason"]) for one in result["left_behind"]] == [("copy", Reason.HOLDS_OLD)]
    assert station.status_of(old.access_key_id) == "Active"
    result, code = rotated(vm, "--disable-old", "--force")
    assert (code, result["safe"], result["all_moved"], station.rotations) == (EXIT_DONE, True, False, 1)
    assert any("--force overrides" in note and "credentials.copy" in note for note in result["notes"])


def test_a_sibling_whose_source_is_down_is_tried_again_until_it_has_the_new_key(station: Station) -> None:
    """KMS fails for it twice just then."""
    vm = station.vm
    vm.configure(vm.credential(), station.table, vm.credential("backup"))
    vm.daemon().ready()
    station.cloud.fail_next(503, action="GetSecretValue", times=4)
    result, code = rotated(vm, "--disable-old")
    assert (code, result["safe"], result["all_moved"]) == (EXIT_DONE, True, True), result
    assert vm.holds(station.current, vm.ini_path("backup"))


@pytest.mark.parametrize("among", ["named bases", "an inline base too"])
def test_who_holds_a_key(vm: Vm, among: str) -> None:
    """By the secret's name, or its ARN; by an inline base; by a chain of bases; by the key's id: and nobody else."""
    arn = "acs:kms:cn-hangzhou:1234567890123456:secret/uploader-ak"
    role = 'type = "ram_role_arn"\nrole_arn = "acs:ram::1234567890123456:role/app"\n'
    inline = vm.credential("inline").partition("provider]\n")[2].partition("[[")[0]
    assert 'secret_name = "uploader-ak"' in inline
    nested = f"{role}[credentials.inline.provider.base]\n{inline}"
    vm.configure(
        vm.credential(),
        vm.credential("sibling", secret=arn),
        vm.credential("other", secret="other-ak"),
        vm.credential("copy", secret="copy-ak"),
        vm.credential("session", provider=f'{role}base = "sibling"\n'),
        vm.credential("further", provider=f'{role}base = "session"\n'),
        vm.credential("inline", provider=nested) if among == "an inline base too" else "",
        vm.credential("stranger", provider=f'{role}base = "other"\n'),
    )
    made = wiring.Factory(wiring.load_settings(str(vm.config), {}), {}).credentials()
    slots = {managed.name: RefreshSlot(managed) for managed in made}
    published = Published(generation=1, access_key_id="LTAIold")
    slots["copy"].managed.remember(CredentialState(journal=PublishJournal(published)))
    found = holders(slots, "uploader", "LTAIold", Clock())
    assert {one.name for one in found} == {"uploader", "sibling", "copy", "session", "further"} | (
        {"inline"} if among == "an inline base too" else set()
    )
    assert [one.name for one in found if one.holds_old] == ["copy"]
    assert {one.name for one in found if one.follows} == {"uploader", "sibling"}


def test_check_names_a_secret_that_is_shared(vm: Vm) -> None:
    """One line for each, with everybody who gets a value from it; none for a secret of one credential."""
    vm.cloud.add_ram_secret("other-ak", user="other")
    vm.configure(vm.credential(), vm.credential("backup"), vm.credential("other", secret="other-ak"))
    findings = json.loads(vm.keyturn("check", "--offline", "--json").stdout)["findings"]
    shared = [one for one in findings if "shared" in one["text"]]
    assert [(one["level"], one["place"]) for one in shared] == [("ok", "credentials.uploader.provider")]
    assert "credentials.backup" in shared[0]["text"] and "uploader-ak" in shared[0]["text"]


# -- who is left behind -------------------------------------------------------------------------------


def test_a_notification_that_cannot_take_effect_holds_the_old_key(
    station: Station, keep_running: Callable[[Path], None]
) -> None:
    """An env file and a SIGHUP: named in the steps and the result with what would move it; once restarted, it is safe."""
    vm, pid_file = station.vm, station.vm.directory / "app.pid"
    keep_running(pid_file)
    vm.configure(vm.credential(sinks=vm.env(), notify=signalled(pid_file)), station.table)
    vm.daemon().ready()
    result, code = rotated(vm, "--disable-old")
    assert (code, result["safe"], result["old_key"]) == (EXIT_FAILED, False, "active")
    assert result["all_moved"] is False
    (left,) = result["left_behind"]
    assert (left["credential"], left["dependent"], left["reason"]) == (
        "uploader", f"signal {pid_file}", Reason.NO_EFFECT
    )  # fmt: skip
    pickup = next(one for one in result["steps"] if one["name"] == "pickup")
    assert pickup["outcome"] == "warning" and left["move"] in pickup["detail"] and left["move"] in result["error"]
    time.sleep(0.1)
    keep_running(pid_file)  # what the command asked for
    result, code = rotated(vm, "--disable-old")
    assert (code, result["safe"], result["all_moved"], station.rotations) == (EXIT_DONE, True, True, 1), result
    assert result["left_behind"] == []


def test_the_last_line_says_both(station: Station, keep_running: Callable[[Path], None]) -> None:
    """Whether the old key is dead, and whether all have moved; with `--force` the one is true and the other is not."""
    vm, pid_file = station.vm, station.vm.directory / "app.pid"
    keep_running(pid_file)
    vm.configure(vm.credential(sinks=vm.env(), notify=signalled(pid_file)), station.table)
    vm.daemon().ready()
    words = ("rotate", "uploader", "--reason", "leaked", "--yes", "--disable-old")
    refused = vm.keyturn(*words)
    assert refused.stdout.splitlines()[-1].startswith("not safe: ")
    assert f"left behind: signal {pid_file}" in refused.stdout.splitlines()[-1]
    forced = vm.keyturn(*words, "--force")
    assert forced.returncode == EXIT_DONE
    assert forced.stdout.splitlines()[-1].startswith("safe: ")
    assert f"left behind: signal {pid_file}" in forced.stdout.splitlines()[-1]


def test_what_is_only_assumed_is_listed_and_holds_up_nothing(station: Station) -> None:
    """Nobody knows whether a hook's program uses the new key: safe, all moved, and the step says `assumed`."""
    station.start()
    result = station.rotate(disable_old=True)
    assert (result.safe, result.all_moved, steps(result)["pickup"]) == (True, True, "done")
    assert "fake web: assumed" in next(one["detail"] for one in result.steps if one["name"] == "pickup")


def test_a_pickup_that_says_no_counts_as_left_behind(station: Station) -> None:
    """Told, and seen not to use the new key; a later look that sees it do so is enough, and it is not told again."""
    web = station.start().dependents[0]
    web.evidence = Pickup.NOT_PICKED_UP
    first = station.rotate(disable_old=True)
    assert (first.safe, first.old_key, first.exit_code) == (False, "active", EXIT_FAILED)
    assert [(one.dependent, one.reason) for one in first.left_behind] == [("fake web", Reason.NOT_PICKED_UP)]
    web.evidence = Pickup.CONFIRMED
    told = len(web.events)
    second = station.rotate(disable_old=True)
    assert (second.safe, second.all_moved, station.rotations, len(web.events)) == (True, True, 1, told)


# -- no report contradicts itself ---------------------------------------------------------------------


def test_no_pickup_is_assumed_of_a_dependent_that_was_not_told(station: Station) -> None:
    """`notify failed`, and then of the same dependent no more than that it was not told."""
    station.start().dependents[0].broken = True
    result = station.rotate(disable_old=True, force=True)
    details = {one["name"]: one.get("detail", "") for one in result.steps}
    assert steps(result)["notify"] == "failed" and steps(result)["pickup"] == "warning"
    assert "fake web: left behind (it was not told" in details["pickup"]
    assert "fake web: assumed" not in details["pickup"] and "fake worker: assumed" in details["pickup"]


def test_a_key_that_ram_does_not_know_is_not_called_active(station: Station) -> None:
    """Deleted meanwhile: the last line says no more than that its refusal was not seen."""
    vm, old = station.vm, station.start().current
    station.rotate()
    station.restart()
    station.cloud.delete_access_key(old)
    station.stop()
    done = vm.keyturn("rotate", "uploader", "--reason", "x", "--leaked", old, "--disable-old", "--yes")
    assert done.returncode == EXIT_FAILED
    assert "was deleted" in done.stdout
    assert "take it for active" not in done.stdout + done.stderr and "is active" not in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("not safe: ")


def test_what_failed_before_the_rotation_left_nobody_behind(station: Station) -> None:
    """Nothing was rotated: nobody is on an old key, and nobody moved."""
    station.table = ""
    result = station.start().rotate(disable_old=True)
    assert (result.left_behind, result.all_moved, result.safe) == ((), False, False)


def test_a_rotation_that_kms_refused_left_nobody_behind(station: Station) -> None:
    """No new key came to be, so there is nothing that a refresh would move anybody to."""
    station.start()
    station.cloud.rotate("uploader-ak")
    result = station.rotate(disable_old=True)
    assert result.error is not None and station.rotations == 1
    assert (result.left_behind, result.all_moved, result.safe) == ((), False, False)


def test_a_session_that_cannot_be_renewed_keeps_the_old_key_alive(station: Station) -> None:
    """What is built on the key was refused its renewal: it is left behind, and mended, the same command ends safe."""
    vm = station.vm
    vm.cloud.allow("uploader", "sts:AssumeRole")
    vm.cloud.add_role("app", trusted=["uploader"])
    session = f'type = "ram_role_arn"\nrole_arn = "{vm.cloud.role_arn("app")}"\nbase = "uploader"\n'
    vm.configure(vm.credential(), station.table, vm.credential("app", provider=session, sinks=vm.env("app")))
    vm.daemon().ready()
    vm.cloud.forbid("uploader", "sts:AssumeRole")
    result, code = rotated(vm, "--disable-old")
    assert (code, result["safe"], result["old_key"]) == (EXIT_FAILED, False, "active")
    assert [(one["credential"], one["reason"]) for one in result["left_behind"]] == [("app", Reason.NOT_RENEWED)]
    vm.cloud.allow("uploader", "sts:AssumeRole")
    result, code = rotated(vm, "--disable-old")
    assert (code, result["safe"], result["all_moved"], station.rotations) == (EXIT_DONE, True, True, 1), result
