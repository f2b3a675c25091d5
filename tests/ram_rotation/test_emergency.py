"""`keyturn rotate` of a RAM user: interrupted and taken up, `--leaked`, no room, and the schedule at work at the same time."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from agent.core.errors import BusyError, SourceUnavailableError
from agent.core.events import Cause, Trigger
from agent.ram_rotation.view import Rest, Wanted
from tests.support.ram_station import RamStation
from tests.support.station import ME, Crash, steps


def test_one_that_died_after_the_publish_is_taken_up_and_makes_no_other_key(ram_station: RamStation) -> None:
    """The same command again disables what was replaced; that it is refused cannot be proved any more, and that is said."""
    old = ram_station.start().published
    with pytest.raises(Crash):
        ram_station.rotate(disable_old=True, show=ram_station.end_of("publish"))
    new = ram_station.published
    assert new != old
    ram_station.restart()
    result = ram_station.rotate(disable_old=True)
    assert ram_station.published == new
    assert (result.old_access_key_id, str(result.old_key), result.safe) == (old, "disabled", False)
    assert steps(result)["prove_refused"] == "failed"
    assert ram_station.keys == {old: "Inactive", new: "Active"}
    assert ram_station.asked("CreateAccessKey") == 2


def test_one_that_died_before_the_reply_was_published_removes_that_key_and_makes_another(
    ram_station: RamStation,
) -> None:
    """The key that nobody can use makes room in the same command."""
    old = ram_station.start().published
    with pytest.raises(Crash):
        ram_station.rotate(disable_old=True, show=ram_station.end_of("rotate"))
    unusable = set(ram_station.keys) - {old}
    ram_station.restart()
    result = ram_station.rotate(disable_old=True)
    assert result.error is None and result.safe
    assert ram_station.keys == {old: "Inactive", ram_station.published: "Active"}
    assert ram_station.published not in unusable


def test_leaked_names_a_key_that_was_replaced_already(ram_station: RamStation) -> None:
    """Nothing is rotated; an id that is nobody's here is refused before anything is done."""
    old = ram_station.start().published
    assert isinstance(ram_station.errand(Wanted.DUE), Rest)
    new = ram_station.published
    unknown = ram_station.rotate(leaked="LTAI5tNobodysKeyAtAll", disable_old=True)
    assert unknown.exit_code == 2
    result = ram_station.rotate(leaked=old, delete_old=True, disable_old=True)
    assert ram_station.published == new
    assert ram_station.keys[old] == "Inactive"
    assert result.old_access_key_id == old and not result.safe


class Silent:
    """RAM's client, whose reply to one CreateAccessKey is lost."""

    def __init__(self, ram: Any) -> None:
        self._ram = ram

    def create_access_key(self, *args: Any, **options: Any) -> Any:
        self._ram.create_access_key(*args, **options)
        raise SourceUnavailableError("no answer")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ram, name)


def test_leaked_of_a_key_that_is_only_guessed_to_be_ours_is_refused(ram_station: RamStation) -> None:
    """Whoever made it by hand in those seconds may need it: only `--force` disables it; a stranger's, not even that."""
    ram_station.start()
    ram_station.changed_cloud = lambda real: replace(real, ram=Silent(real.ram))
    assert isinstance(ram_station.errand(Wanted.DUE), SourceUnavailableError)
    ram_station.changed_cloud = lambda real: real
    (guessed,) = set(ram_station.keys) - {ram_station.published}
    refused = ram_station.rotate(leaked=guessed, disable_old=True)
    assert (refused.exit_code, refused.safe) == (1, False) and "guessed" in str(refused.error)
    assert ram_station.keys[guessed] == "Active"
    ram_station.rotate(leaked=guessed, disable_old=True, force=True)
    assert ram_station.keys[guessed] == "Inactive"
    ram_station.cloud.delete_access_key(guessed)
    theirs = ram_station.cloud.add_access_key("batch").access_key_id
    assert ram_station.rotate(leaked=theirs, disable_old=True, force=True).exit_code == 2
    assert ram_station.keys[theirs] == "Active"


def test_two_keys_of_ours_that_work_leave_no_room_and_that_is_said(ram_station: RamStation) -> None:
    """The command that ends the one before is named; nothing is touched."""
    old = ram_station.start().published
    assert isinstance(ram_station.errand(Wanted.DUE), Rest)
    result = ram_station.rotate(disable_old=True)
    assert steps(result)["rotate"] == "failed"
    assert f"--leaked {old}" in str(result.error)
    assert set(ram_station.keys.values()) == {"Active"}
    assert ram_station.asked("CreateAccessKey") == 2


def test_an_emergency_waits_for_an_errand_of_the_schedule(ram_station: RamStation) -> None:
    """Never two rotations at once; the operator need not run the command again."""
    ram_station.start()
    held = ram_station.engine.submit(lambda: ram_station.engine.hold("uploader", Cause(Trigger.SCHEDULE))).result()
    threading.Timer(0.3, held.release).start()
    result = ram_station.rotate(disable_old=True)
    assert result.error is None and result.safe


def test_the_schedule_leaves_a_credential_alone_that_an_emergency_holds(ram_station: RamStation) -> None:
    """It comes back in seconds."""

    ram_station.start()
    cause = Cause(Trigger.EMERGENCY, ME, "leak")
    held = ram_station.engine.submit(lambda: ram_station.engine.hold("uploader", cause)).result()
    assert isinstance(ram_station.errand(Wanted.DUE), BusyError)
    held.release()
    assert isinstance(ram_station.errand(Wanted.DUE), Rest)
