"""A RAM user's keys against an emulated RAM: made, proved, published, told; and the old one disabled and deleted in time."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from agent.app.adopt import adopt
from agent.core.errors import SourceUnavailableError
from agent.core.events import Cause, Trigger
from agent.ram_rotation.view import Rest, Wanted
from tests.support.ram_station import RamStation, prepare, provider
from tests.support.station import ME, Crash, steps


def template(vm: Any) -> str:
    """A sink that cannot be read back."""
    path = vm.directory / "t.j2"
    path.write_text("{{ access_key_id }}")
    return f'''\
[[credentials.uploader.sinks]]
type = "template"
path = "{vm.app}/out"
source = "{path}"
'''


class Dies:
    """A proof in the middle of which the process dies."""

    def verify(self, *args: Any, **options: Any) -> Any:
        raise Crash("in the proof")


def test_the_first_key_is_made_and_published(ram_station: RamStation) -> None:
    """A user without a key gets one, which the sinks hold and the dependents are told of."""
    ram_station.start()
    assert ram_station.keys == {ram_station.published: "Active"}
    assert ram_station.vm.holds(ram_station.published)
    assert all(one.generations == [1] for one in ram_station.dependents)


def test_the_secret_stands_in_the_sinks_alone(ram_station: RamStation, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the state nor the audit log nor a log line has it, nor the errors and the object of an emergency."""
    ram_station.start()
    result = ram_station.rotate(disable_old=True)
    secrets = [key.access_key_secret for key in ram_station.cloud.keys_of("batch")]
    assert len(secrets) == 2 and ram_station.vm.holds(secrets[1])
    places = [
        path for path in ram_station.vm.directory.rglob("*") if path.is_file() and path.parent != ram_station.vm.app
    ]
    said = caplog.text + repr(result) + str(ram_station.record)
    texts = {str(path): path.read_bytes().decode("latin-1") for path in places} | {"said": said}
    assert any("batch" in text for text in texts.values())
    assert [place for place, text in texts.items() if any(secret in text for secret in secrets)] == []


def test_a_rotation_replaces_the_key_and_leaves_the_old_one_for_a_while(ram_station: RamStation) -> None:
    """Both work; the record says which was replaced, and nothing is disabled before disable_after."""
    old = ram_station.start().published
    rest = ram_station.errand(Wanted.DUE)
    assert isinstance(rest, Rest) and rest.until is not None and not rest.is_wrong
    assert ram_station.published != old
    assert ram_station.keys == {old: "Active", ram_station.published: "Active"}
    replaced = ram_station.record.key(old)
    assert replaced is not None and replaced.replaced_at is not None


def test_the_emergency_ends_with_the_old_key_seen_refused_and_deleted(ram_station: RamStation) -> None:
    """As for a managed secret: the same steps and the same object; the record knows what became of the keys."""
    old = ram_station.start().published
    result = ram_station.rotate(disable_old=True, delete_old=True)
    assert (result.error, result.safe, str(result.old_key)) == (None, True, "deleted")
    assert set(steps(result).values()) == {"done"}
    assert list(steps(result)) == [
        "preflight", "rotate", "fetch", "verify", "publish", "notify", "pickup", "disable_old", "prove_refused", "delete_old",
    ]  # fmt: skip
    assert (result.old_access_key_id, result.new_access_key_id) == (old, ram_station.published)
    assert ram_station.keys == {ram_station.published: "Active"}
    assert result.time_to_safe_ms is not None
    assert isinstance(ram_station.errand(), Rest)
    assert ram_station.vm.holds(ram_station.published)


def test_a_hand_made_key_stops_the_first_rotation_until_it_is_adopted(ram_station: RamStation) -> None:
    """It is named and left alone; adopted it is published, ours, and replaced like any other."""
    mine = ram_station.cloud.add_access_key("batch")
    ram_station.start(publish=False)
    rest = ram_station.errand()
    assert isinstance(rest, Rest) and rest.is_wrong and mine.access_key_id in rest.text
    parts = (("ID", mine.access_key_id), ("SECRET", mine.access_key_secret))
    ram_station.vm.env_path().write_text("".join(f"ALIBABA_CLOUD_ACCESS_KEY_{name}={part}\n" for name, part in parts))
    assert ram_station.application is not None
    adopt(ram_station.application, "uploader", mine.access_key_id, Cause(Trigger.OPERATOR, ME))
    assert ram_station.published == mine.access_key_id
    assert ram_station.vm.holds(mine.access_key_id)
    done = ram_station.errand(Wanted.DUE)
    assert isinstance(done, Rest) and not done.is_wrong
    assert ram_station.published != mine.access_key_id
    assert ram_station.keys == {mine.access_key_id: "Active", ram_station.published: "Active"}


def test_no_first_key_is_made_over_a_foreign_one(vm: Any) -> None:
    """`once` before `adopt`, with another user's key in the file: it is left there, and that is the operator's to mend."""
    prepare(vm, "owner = true")
    ops = vm.cloud.keys_of("ops")[0]
    parts = (("ID", ops.access_key_id), ("SECRET", ops.access_key_secret))
    vm.env_path().write_text("".join(f"ALIBABA_CLOUD_ACCESS_KEY_{name}={part}\n" for name, part in parts))
    vm.env_path().chmod(0o600)
    done = vm.keyturn("once", "--json")
    (turn,) = json.loads(done.stdout)["rotations"]
    assert done.returncode == 1 and ops.access_key_id in turn["error"] and "ram_user_name" in turn["error"]
    assert ops.access_key_secret in vm.env_path().read_text()
    assert not vm.cloud.keys_of("batch")


@pytest.mark.parametrize("ended", ["Inactive", "deleted"])
def test_a_key_in_use_that_was_ended_makes_the_credential_failing(ram_station: RamStation, ended: str) -> None:
    """As soon as RAM's list shows it, though its source, which is this host, answers; `rotate` makes another, and all is well."""
    dead = ram_station.start().published
    record = ram_station.record
    keys = tuple(msgspec.structs.replace(one, known_at=one.known_at - timedelta(minutes=11)) for one in record.keys)
    aged = msgspec.structs.replace(record, keys=keys)
    ram_station.engine.submit(lambda: ram_station.managed.state.ram.replace(aged)).result()
    if ended == "deleted":
        ram_station.cloud.delete_access_key(dead)
    else:
        ram_station.cloud.set_status(dead, ended)
    assert ram_station.condition == "fresh"
    rest = ram_station.errand()
    assert isinstance(rest, Rest) and rest.is_wrong and "keyturn rotate" in rest.remedy
    assert ram_station.condition == "failing"
    assert ram_station.refresh().error is None
    assert ram_station.condition == "failing"
    result = ram_station.rotate()
    assert (result.error, ram_station.condition) == (None, "fresh")
    assert ram_station.keys[ram_station.published] == "Active" and ram_station.published != dead


def test_after_a_restart_the_value_is_read_back_from_a_sink(ram_station: RamStation) -> None:
    """The secret stands in the sinks alone: a new process publishes it again where one file is missing, and rotates."""
    before = ram_station.start().published
    ram_station.restart()
    ram_station.vm.env_path().unlink()
    assert ram_station.refresh().error is None
    assert ram_station.published == before
    assert before in ram_station.vm.env_path().read_text()
    assert isinstance(ram_station.errand(Wanted.DUE), Rest)
    assert ram_station.published != before


def test_a_crash_before_the_publish_leaves_one_key_that_the_next_start_removes(ram_station: RamStation) -> None:
    """Made, its id written down, and the process gone: it is disabled and deleted, and the rotation made anew."""
    before = ram_station.start().published
    ram_station.managed.verifier = Dies()
    assert not isinstance(ram_station.errand(Wanted.DUE), Rest)
    unusable = set(ram_station.keys) - {before}
    assert len(unusable) == 1
    ram_station.restart()
    assert isinstance(ram_station.errand(), Rest)
    assert ram_station.keys == {before: "Active"}
    assert isinstance(ram_station.errand(Wanted.DUE), Rest)
    assert ram_station.published not in {before, *unusable}


def test_once_makes_what_is_due_and_refreshes(vm: Any) -> None:
    """A host without a daemon: the first `once` makes the first key and publishes it; the next has nothing to do."""
    prepare(vm, "owner = true")
    assert vm.keyturn("once").returncode == 0
    (key,) = vm.cloud.keys_of("batch")
    assert vm.holds(key.access_key_id)
    assert vm.keyturn("once").returncode == 0
    assert [one.access_key_id for one in vm.cloud.keys_of("batch")] == [key.access_key_id]


def test_the_plan_foresees_what_the_rotation_would_decide(vm: Any) -> None:
    """Nothing in the way, said by looks alone; a stranger's second key is, with the very sentence of the rotation."""
    prepare(vm, "owner = true")
    assert vm.keyturn("once").returncode == 0
    (key,) = vm.cloud.keys_of("batch")
    done = vm.keyturn("rotate", "uploader", "--reason", "x", "--dry-run", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["possible"], found["would"], found["in_the_way"]) == (0, True, "rotate", [])
    assert [one["access_key_id"] for one in found["ram"]["keys"]] == [key.access_key_id]
    stranger = vm.cloud.add_access_key("batch")
    done = vm.keyturn("plan", "uploader", "--json")
    (one,) = json.loads(done.stdout)["in_the_way"]
    assert one["step"] == "rotate" and stranger.access_key_id in one["problem"]
    assert not vm.cloud.calls_of("UpdateAccessKey")
    assert len(vm.cloud.calls_of("CreateAccessKey")) == 1


def test_check_warns_of_a_user_who_rotates_itself(vm: Any) -> None:
    """A key that leaked is refused all of RAM, and cannot replace itself; and a secret that no sink gives back is an error."""
    prepare(vm, "owner = true", user="ops")
    said = vm.keyturn("check")
    assert "cannot replace itself" in said.stdout
    vm.configure(vm.credential(provider=provider(vm.directory, "owner = true"), sinks=template(vm)))
    assert "credentials.uploader.sinks" in vm.keyturn("check", "--offline").stdout


def test_a_slow_sign_in_comes_before_the_intent_so_that_a_lost_reply_is_still_found(ram_station: RamStation) -> None:
    """The intent has the time of the call: a key whose reply was lost is known by the seconds in which it was made."""
    ram_station.start()
    assert ram_station.ram_rotations is not None
    means, told = ram_station.ram_rotations._means_of, []

    class SignsIn:
        type_name = "access_key"

        def fetch(self, now: Any) -> Any:
            told.append(ram_station.record.intent)
            provider = means("uploader")[0]
            assert provider is not None
            return provider.fetch(now)

    class Loses:
        def __init__(self, ram: Any) -> None:
            self._ram = ram

        def create_access_key(self, *args: Any, **options: Any) -> Any:
            told.append(ram_station.record.intent)
            raise SourceUnavailableError("no answer")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._ram, name)

    ram_station.ram_rotations._means_of = lambda name: (
        SignsIn(),  # type: ignore[assignment,return-value]
        replace(means(name)[1], ram=Loses(means(name)[1].ram)),
    )
    assert isinstance(ram_station.errand(Wanted.DUE), SourceUnavailableError)
    *signed_in, called = told
    assert signed_in and set(signed_in) == {None}
    assert called is not None and called == ram_station.record.intent


@pytest.mark.parametrize(("disable_after", "is_warned"), [("59m", True), ("1h", False)])
def test_check_warns_of_a_disable_after_of_less_than_an_hour(vm: Any, disable_after: str, is_warned: bool) -> None:
    """A key that rests for seconds says nothing of who still has it."""
    prepare(vm, f'owner = true\ndisable_after = "{disable_after}"')
    said = vm.keyturn("check", "--offline", "--json").stdout
    assert ("credentials.uploader.provider.disable_after" in said) is is_warned


class Mortal:
    """RAM's client, in one call of which the process dies: before RAM has heard of it, or after."""

    def __init__(self, ram: Any, action: str, when: str) -> None:
        self._ram, self._action, self._when = ram, action, when

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._ram, name)
        if name != self._action:
            return real

        def call(*args: Any, **options: Any) -> Any:
            if self._when == "after":
                real(*args, **options)
            raise Crash(f"{self._when} {name}")

        return call


@pytest.mark.crash
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("action", ["create_access_key", "update_access_key", "delete_access_key"])
@pytest.mark.parametrize("disable_after", ["0s", "1h"])
def test_a_death_around_each_call_is_gone_on_from(
    ram_station: RamStation, action: str, when: str, disable_after: str
) -> None:
    """Whatever RAM has heard: one key in use that works, and nothing of ours left over but what waits for its time."""
    ram_station.extra = f'owner = true\ndisable_after = "{disable_after}"\ndelete_after = "0s"'
    before = ram_station.start().published
    ram_station.changed_cloud = lambda real: replace(real, ram=Mortal(real.ram, action, when))
    try:
        died = ram_station.errand(Wanted.DUE) is None
    except Crash:
        died = True
    ram_station.changed_cloud = lambda real: real
    ram_station.restart()
    assert died or disable_after == "1h"
    first = ram_station.errand()
    assert isinstance(first, Rest)
    rest = ram_station.errand(Wanted.DUE if ram_station.published == before else Wanted.NO)
    assert isinstance(rest, Rest) and not rest.is_wrong
    assert ram_station.keys[ram_station.published] == "Active"
    assert ram_station.vm.holds(ram_station.published)
    ours = {one.access_key_id for one in ram_station.record.keys}
    assert set(ram_station.keys) <= {*ours, *(one for one in ram_station.keys if ram_station.record.lost)}


def test_leaked_of_the_key_before_keeps_the_last_that_works(ram_station: RamStation) -> None:
    """`--leaked OLD --disable-old` where the key in use is inactive in RAM: OLD may be all there is; an operator may insist."""
    old = ram_station.start().published
    ram_station.errand(Wanted.DUE)
    ram_station.cloud.set_status(ram_station.published, "Inactive")
    result = ram_station.rotate(leaked=old, disable_old=True)
    assert (result.exit_code, result.safe, ram_station.keys[old]) == (1, False, "Active")
    ram_station.rotate(leaked=old, disable_old=True, force=True)
    assert ram_station.keys[old] == "Inactive"


def test_a_host_that_is_not_the_owner_disables_nothing(ram_station: RamStation) -> None:
    """Also not by `--leaked`, with a record of its own from before: row 16 of docs/ram_user.md holds for an emergency."""
    old = ram_station.start().published
    ram_station.errand(Wanted.DUE)
    ram_station.extra = "owner = false"
    ram_station.restart()
    result = ram_station.rotate(leaked=old, disable_old=True)
    assert (result.exit_code, ram_station.keys[old]) == (2, "Active")
