"""The table of docs/ram_user.md, "Whose key is it": one test for each row, over the real rotation (tests/support/ram_world.py)."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.core.errors import (
    EXIT_NOT_PERMITTED,
    KeyturnError,
    NotPermittedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from agent.core.settings import Duration
from agent.core.timestamps import rfc3339
from agent.ram_rotation import journal
from agent.ram_rotation.decide import ANOTHER_HOST
from agent.ram_rotation.view import Listed, Rest, Wanted
from agent.state.ram_record import GUESSED, RamRecord
from tests.support.ram_world import PLAN, Board, Host, RamWorld

DOCS = Path(__file__).parents[2] / "docs/ram_user.md"


@pytest.fixture
def world() -> RamWorld:
    """A user whose one key we made and published, two months ago."""
    made = RamWorld()
    made.put_under_rotation()
    made.now += timedelta(days=60)
    return made


def stopped(found: object) -> Rest:
    """The answer is a stop with a remedy."""
    assert isinstance(found, Rest) and found.is_wrong and found.text and found.remedy, found
    return found


def well(found: object) -> Rest:
    assert isinstance(found, Rest) and not found.is_wrong, found
    return found


def test_row_1_only_keys_that_our_journal_made_are_ended(world: RamWorld) -> None:
    """The key that was replaced is disabled once it rests for disable_after, and deleted after delete_after."""
    old = world.host.published
    well(world.run(Wanted.DUE))
    assert world.keys[old].status == "Active"
    world.now += timedelta(days=1, minutes=1)
    well(world.run())
    assert world.keys[old].status == "Inactive"
    world.now += timedelta(days=13)
    well(world.run())
    assert old in world.keys
    world.now += timedelta(days=2)
    assert well(world.run()) == Rest()
    assert world.deleted == [old]


def test_row_2_an_adopted_key_counts_as_ours(world: RamWorld) -> None:
    """A key that was made by hand is replaced, disabled and deleted like ours, once the operator gave it over."""
    world = RamWorld()
    mine = world.add()
    stopped(world.run(Wanted.DUE))
    row = Listed(mine.access_key_id, "Active", mine.made_at)
    world.host.record = journal.adopted(world.host.record, world.host.name, "uploader", row, world.now)
    world.host.published, world.host.since = mine.access_key_id, world.now
    world.host.sinks, mine.is_ours = frozenset({mine.access_key_id}), True
    well(world.run(Wanted.DUE))
    assert world.host.published != mine.access_key_id
    well(world.settle())
    assert world.deleted == [mine.access_key_id]


def test_row_3_a_second_key_of_somebody_else_stops_the_rotation(world: RamWorld) -> None:
    """It is named, with what to do; it is not touched, nor is ours; without it the rotation goes on."""
    stranger = world.add()
    rest = stopped(world.run(Wanted.DUE))
    assert stranger.access_key_id in rest.text and rfc3339(stranger.made_at) in rest.text
    assert rest.remedy.startswith(ANOTHER_HOST)  # before anything about ending it
    error = world.emergency()
    assert isinstance(error, SourceRefusedError) and stranger.access_key_id in error.problem and error.remedy
    assert not world.touched
    del world.keys[stranger.access_key_id]
    well(world.run(Wanted.DUE))


def test_row_4_after_the_state_was_lost_nothing_is_touched(world: RamWorld) -> None:
    """No key is known to be ours: each is a stranger's until it is adopted."""
    world.host.record = RamRecord()
    assert world.host.published in stopped(world.run(Wanted.DUE)).text
    world.host.published = ""
    stopped(world.run(Wanted.DUE))
    assert len(world.keys) == 1 and not world.touched


@pytest.mark.parametrize("days", [0, 2, 20])
def test_row_5_a_backup_of_the_state_disables_no_key_that_is_in_use(world: RamWorld, days: int) -> None:
    """The files hold a newer key than the state knows; the one that the state calls current is replaced, inactive or gone."""
    before = copy.copy(world.host)
    well(world.run(Wanted.DUE))
    in_use = world.host.published
    world.now += timedelta(days=days)
    well(world.run())
    world.host = replace(before, sinks=world.host.sinks)
    world.settle()
    world.run(Wanted.DUE)
    assert world.keys[in_use].status == "Active"


def test_row_5_a_backup_from_before_the_reply_of_a_rotation_that_went_well(world: RamWorld) -> None:
    """What looks like a key whose reply was lost stands in the files: it is no guess, and is left alone."""
    saved: list[object] = []
    world.on_point = lambda one, point: saved.append(copy.copy(one.host)) if point == 2 else None
    well(world.run(Wanted.DUE))
    world.on_point = lambda _world, _point: None
    in_use, backup = world.host.published, saved[0]
    assert backup.record.intent is not None  # type: ignore[attr-defined]
    world.host = replace(backup, sinks=world.host.sinks)  # type: ignore[type-var]
    world.settle()
    assert world.keys[in_use].status == "Active"


def test_row_6_a_copy_of_the_state_on_another_host_changes_nothing(world: RamWorld) -> None:
    """The record names the machine that wrote it; adopted there, the other host's keys are not ours but for that one."""
    old = world.host.published
    well(world.run(Wanted.DUE))
    world.host.name = "host-b"
    world.now += timedelta(days=20)
    stopped(world.run())
    stopped(world.run(Wanted.DUE))
    assert not world.touched
    current = world.keys[world.host.published]
    row = Listed(current.access_key_id, "Active", current.made_at)
    world.host.record = journal.adopted(world.host.record, "host-b", "uploader", row, world.now)
    assert world.host.record.key(old) is None
    assert old in stopped(world.run(Wanted.DUE)).text


def test_row_7_the_key_in_use_is_not_in_the_list(world: RamWorld) -> None:
    """Deleted by hand: the old key stays, and the record says that the one in use is dead; an operator's `rotate` makes another."""
    old = world.host.published
    well(world.run(Wanted.DUE))
    del world.keys[world.host.published]
    world.now += timedelta(days=20)
    gone = world.host.published
    assert "keyturn rotate uploader" in stopped(world.run()).remedy
    assert (world.keys[old].status, world.host.record.unusable) == ("Active", gone)
    assert world.emergency() is None
    well(world.run())
    assert world.keys[world.host.published].status == "Active" and world.host.published not in (gone, old)
    assert world.host.record.unusable == ""


def test_row_7_a_new_key_that_was_deleted_at_once_is_said_to_the_operator(world: RamWorld) -> None:
    """A list may lag behind a key of these minutes: `rotate` makes no other yet, and says from when on it does."""
    well(world.run(Wanted.DUE))
    del world.keys[world.host.published]
    error = world.emergency()
    assert isinstance(error, SourceRefusedError) and "after 20" in error.remedy
    assert not well(world.run()).remedy
    world.now += timedelta(minutes=11)
    assert world.emergency() is None


def test_row_7_a_list_that_lags_behind_is_waited_for(world: RamWorld) -> None:
    """A new key that is in use and not listed yet is no fault for ten minutes, and nothing is touched meanwhile."""
    world.list_lag = timedelta(minutes=5)
    well(world.run(Wanted.DUE))
    rest = well(world.run())
    assert rest.until is not None and rest.until <= world.now + journal.LIST_LAG
    world.now += timedelta(minutes=6)
    assert well(world.run()).until is not None


def test_row_8_the_key_in_use_was_disabled_by_hand(world: RamWorld) -> None:
    """Nothing goes on by itself, and the old key stays; an operator's `rotate` makes a new one."""
    world.keys[world.host.published].status = "Inactive"
    stopped(world.run(Wanted.DUE))
    assert not world.touched
    assert world.host.record.unusable == world.host.published
    assert world.emergency() is None
    assert world.keys[world.host.published].status == "Active"


def test_row_8_the_key_before_is_not_ended_while_the_one_in_use_is_inactive(world: RamWorld) -> None:
    """It may be the last one that works: neither a rotation nor an emergency touches it."""
    old = world.host.published
    well(world.run(Wanted.DUE))
    world.now += timedelta(days=3)
    world.keys[world.host.published].status = "Inactive"
    stopped(world.run())
    error = world.emergency()
    assert isinstance(error, SourceRefusedError) and old in error.problem
    assert world.keys[old].status == "Active" and not world.touched


def test_row_9_the_old_key_is_gone_or_disabled_already(world: RamWorld) -> None:
    """Deleted by hand: it is forgotten. Disabled by hand: its time until the deletion begins then."""
    old = world.host.published
    well(world.run(Wanted.DUE))
    world.keys[old].status = "Inactive"
    well(world.run())
    disabled = world.host.record.key(old)
    assert disabled is not None and disabled.disabled_at == world.now
    del world.keys[old]
    world.now += timedelta(hours=1)
    assert well(world.run()) == Rest()
    assert world.host.record.key(old) is None


def test_row_10_an_old_key_that_is_enabled_again_has_its_whole_time_once_more(world: RamWorld) -> None:
    """Somebody needed it: it is disabled again only after it rested as long as before."""
    old = world.host.published
    well(world.run(Wanted.DUE))
    world.now += timedelta(days=2)
    well(world.run())
    world.keys[old].status = "Active"
    world.keys[old].used_at = world.now + timedelta(hours=20)
    world.now += timedelta(hours=23)
    well(world.run())
    world.now += timedelta(hours=12)
    well(world.run())
    assert world.keys[old].status == "Active"
    world.now += timedelta(hours=26)
    well(world.run())
    assert world.keys[old].status == "Inactive"


def test_row_11_a_key_made_by_hand_during_our_rotation_is_a_strangers(world: RamWorld) -> None:
    """RAM then refuses ours, which says that none was made; or ours is made, and theirs is named."""
    world.on_point = lambda one, point: one.add() and None if point == 3 else None  # between the intent and the call
    error = world.run(Wanted.DUE)
    world.on_point = lambda _world, _point: None
    assert isinstance(error, SourceRefusedError)
    assert world.host.record.intent is None and not world.host.record.lost
    world.settle()
    assert not world.touched and len(world.keys) == 2


def test_row_12_a_key_whose_reply_was_lost_is_disabled_unused_and_deleted_later(world: RamWorld) -> None:
    """It is ours most likely, and its secret nobody's: let be for an hour, then inactive, and deleted a day later."""
    world.silent.add("CreateAccessKey")
    assert isinstance(world.run(Wanted.DUE), SourceUnavailableError)
    (lost,) = set(world.keys) - {world.host.published}
    well(world.run())
    found = world.host.record.key(lost)
    assert found is not None and found.origin == GUESSED and world.keys[lost].status == "Active"
    world.now += timedelta(minutes=61)
    well(world.run())
    assert world.keys[lost].status == "Inactive"
    world.now += timedelta(hours=23)
    well(world.run())
    assert lost in world.keys
    world.now += timedelta(hours=2)
    well(world.run())
    assert world.deleted == [lost]
    well(world.run(Wanted.DUE))


@pytest.mark.parametrize("claim", ["used", "enabled again"])
def test_row_12_whoever_made_it_by_hand_in_these_seconds_can_claim_it(world: RamWorld, claim: str) -> None:
    """It is used, or enabled again: it is a stranger's from then on."""
    world.run(Wanted.DUE, die_at=2)  # before the call
    theirs = world.add()
    well(world.run())
    assert world.host.record.key(theirs.access_key_id) is not None
    if claim == "used":
        theirs.used_at = world.now
    else:
        world.now += timedelta(hours=2)
        theirs.is_ours = True  # it may be disabled once, which is undone with a click
        well(world.run())
        assert theirs.status == "Inactive"
        theirs.is_ours, theirs.status = False, "Active"
        world.now += timedelta(minutes=11)
    well(world.run())
    assert world.host.record.key(theirs.access_key_id) is None
    world.settle()
    assert theirs.status == "Active"


def test_row_12_two_keys_of_the_same_seconds_are_nobodys() -> None:
    """Where two fit, neither is taken: only the user's first key leaves room for two."""
    world = RamWorld()
    world.run(Wanted.DUE, die_at=2)
    first, second = world.add(), world.add()
    world.settle()
    assert not world.touched and {first.status, second.status} == {"Active"}


def test_row_13_a_crash_after_the_reply_leaves_a_key_that_is_removed_at_once(world: RamWorld) -> None:
    """Its id is written down and its secret lost: disabled and deleted at the next start."""
    current = world.host.published
    world.run(Wanted.DUE, die_at=6)  # its id is on disk, and nothing else was done
    (unusable,) = set(world.keys) - {current}
    well(world.run())
    assert world.deleted == [unusable] and set(world.keys) == {current}


def test_row_14_the_user_was_deleted_or_renamed(world: RamWorld) -> None:
    """RAM knows no such user: its word is the error, and nothing is done. Another name in the config: nothing either."""
    world.plan = replace(PLAN, user="renamed")
    stopped(world.run(Wanted.DUE))
    assert not world.touched
    world.plan = PLAN
    well(world.run(Wanted.DUE))


@pytest.mark.parametrize(
    "action", ["ListAccessKeys", "CreateAccessKey", "GetAccessKeyLastUsed", "UpdateAccessKey", "DeleteAccessKey"]
)
def test_row_15_a_missing_permission_stops_there_and_goes_on_with_it(world: RamWorld, action: str) -> None:
    """Exit 77 for each of the five calls; what was begun is gone on with, and nothing is lost or made twice."""
    world.refuses.add(action)
    found: Rest | KeyturnError | None = world.run(Wanted.DUE)
    for hours in (25, 24 * 15):
        world.now += timedelta(hours=hours)
        found = found if isinstance(found, KeyturnError) else world.run()
    assert isinstance(found, NotPermittedError) and found.exit_code == EXIT_NOT_PERMITTED
    world.refuses.clear()
    world.settle()
    well(world.run(Wanted.NO if action != "CreateAccessKey" and action != "ListAccessKeys" else Wanted.DUE))
    world.settle()
    assert set(world.keys) == {world.host.published}


def test_row_16_who_is_not_the_owner_asks_and_changes_nothing(world: RamWorld) -> None:
    """Not even the list is asked for."""
    world.plan = replace(PLAN, is_owner=False)
    world.refuses.add("ListAccessKeys")
    assert "owner" in well(world.run(Wanted.DUE)).text
    assert len(world.keys) == 1


def test_row_17_an_old_key_that_is_in_use_is_not_disabled(world: RamWorld) -> None:
    """Whoever still uses it is named, by service and time; those who were not told hold it up as well; a file that has it, too."""
    old = world.host.published
    well(world.run(Wanted.DUE))
    world.now += timedelta(days=2)
    world.keys[old].used_at = world.now - timedelta(hours=1)
    rest = well(world.run())
    assert "Oss" in rest.text and old in rest.text and rest.until == world.keys[old].used_at + timedelta(days=1)
    world.now += timedelta(days=2)
    world.owed = ("systemd web.service",)
    assert "web.service" in well(world.run()).text
    world.owed, world.host.sinks = (), world.host.sinks | {old}
    stopped(world.run())
    assert world.keys[old].status == "Active"
    world.host.sinks -= {old}
    world.proved = False
    well(world.run())
    assert world.keys[old].status == "Active"


def test_row_18_an_emergency_takes_the_place_of_a_key_that_waits_for_its_deletion(world: RamWorld) -> None:
    """With two keys a third has no room: an inactive one of ours gives way; an active one of ours stops it, by name."""
    first = world.host.published
    well(world.run(Wanted.DUE))
    error = world.emergency()
    assert isinstance(error, SourceRefusedError) and first in error.remedy
    world.now += timedelta(days=2)
    well(world.run())
    assert world.keys[first].status == "Inactive"
    assert world.emergency() is None
    assert world.deleted == [first]


@pytest.mark.parametrize("ended", ["disabled", "deleted"])
def test_row_19_a_new_key_that_was_ended_by_hand_is_forsaken(world: RamWorld, ended: str) -> None:
    """It never worked here, so the key in use is handed out again, and the rotation made anew."""
    before = world.host.published
    world.proof_fails = True
    assert isinstance(world.run(Wanted.DUE), KeyturnError)
    (new,) = set(world.keys) - {before}
    world.proof_fails = False
    if ended == "deleted":
        del world.keys[new]
        world.now += timedelta(minutes=11)
    else:
        world.keys[new].status = "Inactive"
    well(world.run())
    assert world.made is None and set(world.keys) == {before} and world.host.published == before
    well(world.run(Wanted.DUE))
    assert world.host.published not in {before, new}


@pytest.fixture
def shared(world: RamWorld) -> RamWorld:
    """The same host in a fleet, of which it has the lease."""
    world.board = Board(holder=world.host.name, number=7)
    return world


def test_row_16_who_does_not_have_the_lease_asks_and_changes_nothing(shared: RamWorld) -> None:
    """The holder is named; neither the calendar nor an operator has RAM asked (the world asserts that)."""
    shared.lose_lease()
    assert "host-z" in well(shared.run(Wanted.DUE)).text
    assert shared.emergency() is None and shared.leaked() is None
    assert len(shared.keys) == 1 and not shared.touched


@pytest.mark.parametrize("after", [0, 1, 2])
def test_row_20_a_lease_that_is_lost_stops_the_rotation_before_the_next_change(shared: RamWorld, after: int) -> None:
    """After the creation, the disabling, the deletion: what was permitted is done, and no more; then it goes on."""
    before = shared.host.published
    shared.plan = replace(PLAN, disable_after=Duration(0), delete_after=Duration(0))
    shared.lease_goes_after = after
    well(shared.run(Wanted.DUE))
    assert shared.host.published != before and shared.host.published in shared.host.sinks  # published all the same
    state = {name: key.status for name, key in shared.keys.items()}
    assert state.get(before) == {0: "Active", 1: "Inactive", 2: None}[after]
    kept = shared.host.record
    assert "host-z" in well(shared.run()).text and shared.host.record == kept
    shared.regain_lease()
    shared.settle()
    assert set(shared.keys) == {shared.host.published} and shared.deleted == [before]


def test_row_20_a_key_of_a_process_that_died_without_the_lease_waits_for_it(shared: RamWorld) -> None:
    """Its id is written down; it is removed once the lease is back, and by nobody else."""
    current = shared.host.published
    shared.lease_goes_after = 0
    shared.run(Wanted.DUE, die_at=6)
    (unusable,) = set(shared.keys) - {current}
    well(shared.run())
    assert shared.keys[unusable].status == "Active"
    shared.regain_lease()
    well(shared.run())
    assert shared.deleted == [unusable] and shared.host.record.fence > 0


def test_row_21_who_has_the_key_in_use_takes_the_lease_over(shared: RamWorld) -> None:
    """It goes on with its own; what the other host made meanwhile is a stranger's."""
    shared.lose_lease()
    theirs = shared.add()
    shared.regain_lease()
    assert theirs.access_key_id in stopped(shared.run(Wanted.DUE)).text
    assert shared.board is not None and shared.board.holder == shared.host.name
    shared.settle()
    assert not shared.touched and len(shared.keys) == 2


def test_row_22_who_does_not_have_the_key_takes_nothing_over(shared: RamWorld) -> None:
    """A host that is new, or lost its state, leaves the lease where it was, and the keys as they are; its own lost state, too."""
    shared.lose_lease()
    shared.regain_lease()
    shared.host = Host("host-b")
    rest = well(shared.run(Wanted.DUE))
    assert "host-z" in rest.text and "adopt" in rest.remedy and "fleet leave" in rest.remedy
    assert shared.board is not None and shared.board.holder == "host-z"
    shared.board.holder = "host-b"  # it had the lease itself, and lost its state
    stopped(shared.run(Wanted.DUE))
    shared.settle()
    assert len(shared.keys) == 1 and not shared.touched


def test_row_23_a_board_that_is_away_lets_nothing_begin(shared: RamWorld) -> None:
    """Neither by the calendar nor, here, by an operator; what is under way stops before its next change."""
    assert shared.board is not None
    shared.board.is_away = True
    assert "lease" in well(shared.run(Wanted.DUE)).text and len(shared.keys) == 1
    shared.board.is_away = False
    shared.plan = replace(PLAN, disable_after=Duration(0))

    def away(world: RamWorld, point: int) -> None:
        assert world.board is not None
        world.board.is_away = len(world.keys) == 2

    before, shared.on_point = shared.host.published, away
    well(shared.run(Wanted.DUE))
    assert shared.host.published != before and shared.keys[before].status == "Active"
    shared.on_point = lambda _world, _point: None
    shared.settle()
    assert set(shared.keys) == {shared.host.published}


@pytest.mark.parametrize("wanted", [Wanted.DUE, Wanted.EMERGENCY])
def test_row_24_no_first_key_is_made_over_another_that_a_file_holds(wanted: Wanted) -> None:
    """Its secret may stand nowhere else: another user's, or one of this user's that RAM does not list."""
    world = RamWorld()
    world.host = replace(world.host, sinks=frozenset({"LTAI5tAnothers"}))
    assert "LTAI5tAnothers" in stopped(world.run(wanted)).text
    assert not world.keys
    world.host = replace(world.host, sinks=frozenset())
    well(world.run(wanted) if wanted is Wanted.DUE else world.run(Wanted.DUE))
    assert world.host.published


def test_row_4_which_key_is_to_be_taken_is_said(world: RamWorld) -> None:
    """Of a key that the files hold nobody is told to delete it; of one that they do not, only who knows whose it is."""
    world.host.record, mine = RamRecord(), world.host.published
    world.host.published = ""
    rest = stopped(world.run(Wanted.DUE))
    assert mine in rest.text and "delete it" not in rest.remedy and ANOTHER_HOST in rest.remedy


def test_the_table_names_these_rows() -> None:
    """Each row of the document has its test here, and each test its row."""
    rows = set(re.findall(r"^\| (\d+) \|", DOCS.read_text(), re.MULTILINE))
    tested = set(re.findall(r"^def test_row_(\d+)_", Path(__file__).read_text(), re.MULTILINE))
    assert rows == tested
