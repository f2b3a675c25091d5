"""`rotate` against an emulated cloud that obeys its own limits: the whole way, and every way in which it can go wrong."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.core.errors import EXIT_FAILED, EXIT_NOT_PERMITTED, EXIT_SOURCE_UNAVAILABLE, EXIT_USAGE, BusyError
from agent.core.secret import Secret
from agent.core.settings import Duration
from agent.core.timestamps import rfc3339
from agent.emergency.left_behind import Reason
from providers.emulator import Fault
from tests.support.fakes import PATIENCE_S, FakeDependent, Source, key
from tests.support.station import SHORT, Crash, Station, dying, steps
from tests.support.vm import eventually

ALL_STEPS = ["preflight", "rotate", "fetch", "verify", "publish", "notify", "pickup", "disable_old", "prove_refused"]
CONTRACT_KEYS = {
    "credential",
    "old_access_key_id",
    "new_access_key_id",
    "version_id",
    "generation",
    "steps",
    "old_key",
    "safe",
    "time_to_safe_ms",
    "left_behind",
    "all_moved",
    "assumed",
}


# -- the whole way ------------------------------------------------------------------------------------


def test_the_whole_way_ends_with_the_old_key_seen_refused(station: Station) -> None:
    """Rotated, proved, published, told, disabled, refused: and only then `safe`."""
    old = station.start().current
    result = station.rotate(disable_old=True)
    assert [step["name"] for step in result.steps] == ALL_STEPS
    assert set(steps(result).values()) == {"done"}
    assert (result.error, result.exit_code, result.safe, result.old_key) == (None, 0, True, "disabled")
    assert (result.old_access_key_id, result.new_access_key_id) == (old, station.current)
    assert result.generation == 2
    assert station.vm.holds(station.current)
    assert station.status_of(old) == "Inactive"
    assert [call.code for call in station.cloud.refused(old)] == ["InvalidAccessKeyId.Inactive"]
    assert all(one.generations[-1] == 2 for one in station.dependents)


def test_each_step_says_when_it_ended(station: Station) -> None:
    """The steps of the refresh too, which are known only at its end: one behind the other, as long as they took."""
    station.start()
    station.cloud.propagation_delay_s = 0.3
    done = {step["name"]: step for step in station.rotate(disable_old=True).steps}
    assert done["verify"]["ms"] >= 200
    assert done["verify"]["at_ms"] - done["fetch"]["at_ms"] == pytest.approx(done["verify"]["ms"], abs=1)
    assert done["publish"]["at_ms"] - done["verify"]["at_ms"] == pytest.approx(done["publish"]["ms"], abs=1)


def test_the_object_at_the_end_has_the_keys_of_the_contract(station: Station) -> None:
    """On success without `error`, on failure with it, and each step with name, outcome and ms."""
    done = station.start().rotate(disable_old=True).as_json()
    failed = station.rotate(leaked="LTAI5tSomebodyElses").as_json()
    assert done.keys() - {"notes"} == CONTRACT_KEYS
    assert failed.keys() - {"notes"} == CONTRACT_KEYS | {"error"}
    assert all({"name", "outcome", "ms"} <= step.keys() for step in done["steps"] + failed["steps"])
    assert 0 < done["time_to_safe_ms"] <= done["steps"][-1]["at_ms"]
    assert failed["time_to_safe_ms"] is None
    assert failed["safe"] is False


def test_the_audit_tells_who_did_it_and_why(station: Station) -> None:
    """Each record of the emergency carries the trigger, the actor and the reason."""
    old = station.start().current
    born = datetime.fromtimestamp(int(station.cloud.current_key("uploader-ak").created_at), UTC)
    result = station.rotate(disable_old=True, reason="laptop stolen")
    wanted = ("rotation_requested", "rotation_started", "published", "old_key_disabled")
    records = [one for one in station.vm.audit(*wanted) if one["trigger"] == "emergency"]
    assert tuple(one["event"] for one in records) == (*wanted, "old_key_disabled")
    assert {one["reason"] for one in records} == {"laptop stolen"}
    assert all(one["actor"] == {"uid": 1000, "user": "alice", "pid": 4242} for one in records)
    assert records[1]["version_id"] == result.version_id
    assert all(one["request_id"] for one in (records[1], *records[3:]))
    assert len({one["request_id"] for one in (records[1], *records[3:])}) == 3
    assert records[1]["created_at"] == rfc3339(born) <= records[2]["created_at"]
    assert {one["access_key_id"] for one in records[3:]} == {old}
    assert [one["outcome"] for one in records[3:]] == [
        "inactive, not yet seen refused",
        "refused with InvalidAccessKeyId.Inactive",
    ]


def test_each_step_is_shown_while_the_next_is_still_to_come(station: Station) -> None:
    """Progress is progress: a step is shown when it begins, and when it ends, not at the end of all."""
    shown: list[tuple[str, str, int]] = []
    station.start().rotate(
        disable_old=True,
        show=lambda step: shown.append((step["name"], step.get("detail", ""), station.asked("UpdateAccessKey"))),
    )
    begun = [what for name, what, _disabled in shown if name == "begin"]
    assert begun == ["preflight", "rotate", "publish", "notify", "disable_old", "prove_refused"]
    assert shown.index(("begin", "disable_old", 0)) < [name for name, *_rest in shown].index("disable_old")
    seen = [(name, disabled) for name, _what, disabled in shown if name != "begin"]
    assert [name for name, _disabled in seen] == ALL_STEPS
    assert [disabled for _name, disabled in seen] == [0] * 7 + [1, 1]


def test_without_disable_old_the_old_key_lives_and_that_is_said(station: Station) -> None:
    """Nothing is disabled unasked; the note says how to cut the old key off, and that works."""
    old = station.start().current
    result = station.rotate()
    assert (result.error, result.old_key, result.safe, result.time_to_safe_ms) == (None, "active", False, None)
    assert station.status_of(old) == "Active"
    assert f"--leaked {old} --disable-old" in " ".join(result.notes)
    again = station.rotate(leaked=old, disable_old=True)
    assert again.safe
    assert station.rotations == 1


# -- who may ------------------------------------------------------------------------------------------


def test_without_an_emergency_table_nothing_is_rotated(station: Station) -> None:
    """The error names the table, and the old key is named as the one that is still active."""
    station.table = ""
    result = station.start().rotate(disable_old=True)
    assert result.exit_code == EXIT_USAGE
    assert "credentials.uploader.emergency is not configured" in str(result.error)
    assert (result.old_access_key_id, result.new_access_key_id) == (station.current, "")
    assert steps(result) == {"preflight": "failed"}
    assert station.asked("RotateSecret") == 0


def test_a_client_key_as_authority_is_refused_before_anything_is_done(station: Station) -> None:
    """A ClientKey may only read secrets: said at once, not by a puzzling refusal of KMS."""
    station.write_authority("id", "KAAP.aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee")
    result = station.start().rotate()
    assert result.exit_code == EXIT_USAGE
    assert "is a ClientKey, which may not rotate" in str(result.error)
    assert station.asked("RotateSecret") == 0


def test_an_authority_without_permission_is_named(station: Station) -> None:
    """Exit 77, nothing rotated, no journal left behind: with the permission the next run rotates."""
    station.cloud.forbid("ops", "kms:RotateSecret")
    result = station.start().rotate()
    assert result.exit_code == EXIT_NOT_PERMITTED
    assert f"emergency.authority {station.authority.access_key_id}" in str(result.error)
    assert "nothing was rotated" in str(result.error)
    assert station.managed.state.rotation.unfinished is None
    station.cloud.allow("ops", "kms:RotateSecret")
    assert station.rotate(disable_old=True).safe


def test_an_authority_that_may_not_disable_leaves_an_honest_result(station: Station) -> None:
    """Rotated and published, but not safe; once it may, the same command finishes without rotating again."""
    station.cloud.forbid("ops", "ram:UpdateAccessKey")
    first = station.start().rotate(disable_old=True)
    assert (first.exit_code, first.old_key, first.safe) == (EXIT_NOT_PERMITTED, "active", False)
    assert first.new_access_key_id == station.current
    station.cloud.allow("ops", "ram:UpdateAccessKey")
    second = station.rotate(disable_old=True)
    assert (second.safe, second.old_access_key_id, station.rotations) == (True, first.old_access_key_id, 1)


def test_a_wrong_ram_user_is_never_called_safe(station: Station) -> None:
    """RAM knows no such key of that user; the key still works, so it is reported as active."""
    station.table = station.emergency('ram_user_name = "somebody"')
    station.cloud.add_user("somebody")
    old = station.start().current
    result = station.rotate(disable_old=True, patience=dataclasses.replace(SHORT, refusal_s=0.0))
    assert (result.safe, result.old_key, result.exit_code) == (False, "active", EXIT_FAILED)
    assert "STS still accepts it" in str(result.error)
    assert station.status_of(old) == "Active"


# -- a KMS in trouble ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.LOSE_REPLY, Fault.RUBBISH], ids=lambda fault: fault.value)
def test_a_rotation_whose_reply_is_lost_is_asked_for_again_under_the_same_id(station: Station, fault: Fault) -> None:
    """Whether KMS carried it out or not: KMS rotates once."""
    station.start()
    station.cloud.inject(fault, action="RotateSecret")
    result = station.rotate(disable_old=True)
    assert result.safe
    assert station.asked("RotateSecret") == 2
    assert station.rotations == 1
    assert result.version_id == station.cloud.secret("uploader-ak").current.version_id


def test_a_kms_that_is_down_for_a_while_is_waited_for(station: Station) -> None:
    """5xx of every KMS call: the preflight's failed fetch does not stop the emergency either."""
    station.start()
    station.cloud.fail_next(503, action="GetSecretValue", times=1)
    station.cloud.fail_next(503, action="RotateSecret", times=2)
    result = station.rotate(disable_old=True)
    assert (result.error, result.safe, station.rotations) == (None, True, 1)


def test_a_kms_that_stays_down_ends_with_what_to_do_and_is_taken_up_later(station: Station) -> None:
    """Exit 75 and the way out; the next run uses the same version id."""
    station.start()
    station.cloud.fail_next(503, action="RotateSecret", times=100)
    first = station.rotate(disable_old=True, patience=dataclasses.replace(SHORT, ask_s=0.0))
    assert first.exit_code == EXIT_SOURCE_UNAVAILABLE
    assert "run the same command again: it never rotates twice" in str(first.error)
    assert first.old_key == "active"
    station.cloud.faults.clear()
    second = station.rotate(disable_old=True)
    assert (second.version_id, second.safe, station.rotations) == (first.version_id, True, 1)


def test_the_refusal_of_a_second_rotation_may_speak_of_our_own(station: Station) -> None:
    """The reply was lost, and KMS then says that one is running: it is ours, so it is followed."""
    station.start()
    station.cloud.inject(Fault.LOSE_REPLY, action="RotateSecret")
    station.cloud.fail_next(409, "Rejected.Unavailable", action="RotateSecret", message="Your secret is being rotated.")
    result = station.rotate(disable_old=True)
    assert (result.error, result.safe, station.rotations) == (None, True, 1)


def test_a_refusal_after_a_lost_reply_does_not_forget_the_rotation(station: Station) -> None:
    """KMS rotated, the reply was lost, then the permission went: the next run must not rotate once more."""
    station.start()
    station.cloud.inject(Fault.LOSE_REPLY, action="RotateSecret")
    station.cloud.fail_next(403, action="RotateSecret", times=1)
    first = station.rotate(disable_old=True)
    assert first.exit_code == EXIT_NOT_PERMITTED
    assert "whether KMS has rotated is not known" in str(first.error)
    second = station.rotate(disable_old=True)
    assert (second.safe, second.version_id, station.rotations) == (True, first.version_id, 1)


def test_a_second_rotation_while_one_runs_says_what_works_and_what_to_do(station: Station) -> None:
    """KMS rotates by itself just then: nothing is started, and both keys are named with the way out."""
    old = station.start().current
    new = station.cloud.rotate("uploader-ak").access_key_id
    result = station.rotate(disable_old=True)
    assert result.exit_code == EXIT_FAILED
    for words in (
        "nothing was rotated",
        f"the current key {new} works",
        f"--leaked {old} --disable-old",
        f"aliyun ram UpdateAccessKey --UserName uploader --UserAccessKeyId {new} --Status Inactive",
    ):
        assert words in str(result.error)
    assert station.rotations == 1
    assert station.managed.state.rotation.unfinished is None
    assert station.rotate(leaked=old, disable_old=True).safe


def test_the_quota_of_rotations_is_counted_and_blamed(station: Station) -> None:
    """50 an hour and account: the preflight counts what is known here, the refusal names the limit."""
    station.start()
    for _ in range(50):
        station.cloud._requested_rotations.append(station.cloud.now())
    result = station.rotate(patience=dataclasses.replace(SHORT, ask_s=0.0))
    assert result.exit_code == EXIT_SOURCE_UNAVAILABLE
    assert "50 rotations an hour" in str(result.error) and "nothing was rotated" in str(result.error)
    assert "; 0 of 50 rotations spent" in result.steps[0]["detail"]
    assert station.managed.state.rotation.unfinished is None
    station.cloud._requested_rotations.clear()
    assert station.rotate().error is None
    again = station.rotate(leaked=station.current)
    assert "; 1 of 50 rotations spent" in again.steps[0]["detail"]


def test_a_new_key_that_sts_refuses_is_not_published(station: Station) -> None:
    """The step that failed is `verify`; the old key stays in the files and in use."""
    old = station.start().current
    station.managed.settings = dataclasses.replace(station.managed.settings, verify_timeout=Duration(1))
    station.cloud.propagation_delay_s = 3600.0
    result = station.rotate(disable_old=True)
    assert steps(result)["verify"] == "failed"
    assert (result.exit_code, result.old_key, result.new_access_key_id) == (EXIT_FAILED, "active", "")
    assert station.vm.holds(old)
    assert station.status_of(old) == "Active"


# -- crashes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL_STEPS)
def test_a_crash_after_any_step_is_taken_up_and_never_rotates_twice(station: Station, name: str) -> None:
    """The process dies as a step ends; the next `rotate`, by a new process, ends safe with one rotation in all."""
    old = station.start().current
    with pytest.raises(Crash):
        station.rotate(disable_old=True, show=station.end_of(name))
    result = station.restart().rotate(disable_old=True, reason="again")
    assert (result.error, result.safe) == (None, True)
    assert (result.old_access_key_id, result.new_access_key_id) == (old, station.current)
    assert station.rotations == 1
    assert all(one.generations[-1] == 2 for one in station.dependents)
    assert station.managed.state.rotation.unfinished is None


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_around_the_call_itself_is_taken_up(station: Station, when: str) -> None:
    """The version id was on disk before KMS heard of it, so it does not matter whether KMS did."""
    old = station.start().current
    with pytest.raises(Crash):
        station.rotate(disable_old=True, cloud=dying(when))
    result = station.restart().rotate(disable_old=True)
    assert (result.safe, result.old_access_key_id, station.rotations) == (True, old, 1)
    assert "took up the rotation" in result.notes[0]


def test_after_a_restart_the_old_key_is_proved_through_the_version_before(station: Station) -> None:
    """The new process never knew the old secret: KMS's ACSPrevious has it."""
    old = station.start().current
    station.rotate()
    result = station.restart().rotate(leaked=old, disable_old=True)
    assert result.safe
    assert [call.access_key_id for call in station.cloud.refused(old)] == [old]


def test_a_journal_that_another_version_overtook_is_forgotten(station: Station) -> None:
    """A rotation begun long ago must not stand in for one that is needed now."""
    station.start()
    with pytest.raises(Crash):
        station.rotate(cloud=dying("before"))
    station.cloud.old_key_life_s = 0.0
    station.cloud.rotate("uploader-ak")
    newer = station.current
    station.cloud.old_key_life_s = 48 * 3600.0
    result = station.restart().rotate(disable_old=True)
    assert (result.safe, result.old_access_key_id) == (True, newer)
    assert station.rotations == 2


def test_a_key_that_kms_deleted_meanwhile_does_not_block_the_next_emergency(station: Station) -> None:
    """Refusal cannot be proved without a secret: said once, and then the case is closed."""
    old = station.start().current
    with pytest.raises(Crash):
        station.rotate(disable_old=True, show=station.end_of("publish"))
    station.cloud.delete_access_key(old)
    result = station.restart().rotate(disable_old=True)
    assert (result.safe, result.exit_code) == (False, EXIT_FAILED)
    assert "cannot be proved: its secret is not to be had any more" in str(result.error)
    again = station.rotate(disable_old=True)
    assert (again.safe, station.rotations) == (True, 2)


# -- which key leaked ---------------------------------------------------------------------------------


def test_leaked_current_rotates(station: Station) -> None:
    """The current key by its id is the same as without --leaked."""
    old = station.start().current
    assert station.rotate(leaked=old, disable_old=True).safe
    assert station.rotations == 1


def test_leaked_previous_only_disables(station: Station) -> None:
    """A rotation has already replaced it: the current key stays, the files stay."""
    old = station.start().current
    station.cloud.rotate("uploader-ak")
    new = station.current
    result = station.rotate(leaked=old, disable_old=True)
    assert (result.safe, result.old_access_key_id, result.new_access_key_id) == (True, old, new)
    assert "rotate" not in steps(result)
    assert station.asked("RotateSecret") == 0


def test_leaked_unknown_touches_nothing(station: Station) -> None:
    """A key that is none of this credential's is not guessed about."""
    station.start()
    result = station.rotate(leaked="LTAI5tSomebodyElses", disable_old=True)
    assert result.exit_code == EXIT_USAGE
    assert "nothing was rotated or disabled" in str(result.error)
    assert (station.asked("RotateSecret"), station.asked("UpdateAccessKey")) == (0, 0)


def test_the_key_after_an_unfinished_rotation_can_be_named_as_leaked(station: Station) -> None:
    """Then the rotation begun is no longer the one that is needed, and KMS's answer is passed on."""
    station.start()
    station.cloud.allow_overlapping_rotation = True
    with pytest.raises(Crash):
        station.rotate(disable_old=True, show=station.end_of("publish"))
    second = station.current
    result = station.restart().rotate(leaked=second, disable_old=True)
    assert (result.safe, result.old_access_key_id, station.rotations) == (True, second, 2)


# -- dependents ---------------------------------------------------------------------------------------


def test_a_dependent_that_cannot_be_told_keeps_the_old_key_alive(station: Station) -> None:
    """It is named, exit 1; mended, the same command finishes without rotating again."""
    old = station.start().current
    station.dependents[0].broken = True
    first = station.rotate(disable_old=True)
    assert (first.exit_code, first.old_key, first.safe) == (EXIT_FAILED, "active", False)
    assert [(one.credential, one.dependent, one.reason) for one in first.left_behind] == [
        ("uploader", "fake web", Reason.NOT_TOLD)
    ]
    assert str(first.left_behind[0]) in str(first.error)
    assert steps(first)["notify"] == "failed"
    assert station.status_of(old) == "Active"
    station.dependents[0].broken = False
    second = station.rotate(disable_old=True)
    assert (second.safe, second.old_access_key_id, station.rotations) == (True, old, 1)


def test_without_disable_old_an_untold_dependent_is_no_talk_of_force(station: Station) -> None:
    """The advice fits what was asked."""
    station.start().dependents[0].broken = True
    result = station.rotate()
    assert result.exit_code == EXIT_FAILED
    assert "fake web" in str(result.error)
    assert "--force" not in str(result.error)


def test_force_disables_all_the_same_and_names_who_was_not_told(station: Station) -> None:
    """The operator decided; the note says whom to restart by hand."""
    station.start().dependents[0].broken = True
    result = station.rotate(disable_old=True, force=True)
    assert (result.safe, result.exit_code) == (True, 0)
    assert (result.left_behind[0].reason, result.all_moved) == (Reason.NOT_TOLD, False)
    assert any("--force overrides" in note and "fake web" in note for note in result.notes)


def test_a_dependent_that_was_given_up_on_is_told_once_more(station: Station) -> None:
    """Also after the daemon had given up, a rerun tries it again instead of passing over it."""
    station.dependents = [FakeDependent("web", retries=0)]
    station.start().dependents[0].broken = True
    assert station.rotate(disable_old=True).exit_code == EXIT_FAILED
    assert station.managed.state.debts == ()
    station.dependents[0].broken = False
    assert station.rotate(disable_old=True).safe


# -- the proof ----------------------------------------------------------------------------------------


def test_safe_is_not_said_before_the_key_is_really_refused(station: Station) -> None:
    """RAM takes a while: the calls with the old key that still worked come before the one that did not."""
    old = station.start().current
    station.cloud.disable_delay_s = 3600.0

    def proofs() -> list[Any]:
        """The calls that were signed with the old key after it had been disabled."""
        disabled = next((call.number for call in station.cloud.calls if call.action == "UpdateAccessKey"), None)
        return [
            call
            for call in list(station.cloud.calls)
            if call.access_key_id == old and disabled is not None and call.number > disabled
        ]

    def give_in() -> None:
        eventually(lambda: len(proofs()) >= 2)
        station.cloud.access_key(old).inactive_from = station.cloud.now()

    ram = threading.Thread(target=give_in)
    ram.start()
    result = station.rotate(disable_old=True)
    ram.join()
    assert result.safe
    *accepted, refused = proofs()
    assert {call.status for call in accepted} == {200} and len(accepted) >= 2
    assert (refused.status, refused.code) == (403, "InvalidAccessKeyId.Inactive")


def test_a_key_that_stays_accepted_is_never_called_safe(station: Station) -> None:
    """Disabled according to RAM, accepted by STS: exit 1, and a rerun looks once more."""
    station.start()
    station.cloud.disable_delay_s = 3600.0
    result = station.rotate(disable_old=True, patience=dataclasses.replace(SHORT, refusal_s=0.0))
    assert (result.safe, result.exit_code, result.old_key) == (False, EXIT_FAILED, "disabled")
    assert "STS still accepts it" in str(result.error)
    station.cloud.access_key(result.old_access_key_id).inactive_from = station.cloud.now()
    assert station.rotate(disable_old=True).safe
    assert station.rotations == 1


@pytest.mark.parametrize(("status", "code"), [(403, "Forbidden.RAM"), (503, None), (400, "Throttling.User")])
def test_only_a_refusal_of_the_key_itself_is_a_proof(station: Station, status: int, code: str | None) -> None:
    """A permission, a throttle or an outage says nothing about the key."""
    station.start()

    def trouble(step: dict[str, Any]) -> None:
        if step["name"] == "disable_old":
            station.cloud.fail_next(status, code, action="GetCallerIdentity")

    result = station.rotate(disable_old=True, show=trouble)
    assert result.safe
    assert station.cloud.calls[-1].code == "InvalidAccessKeyId.Inactive"
    assert station.cloud.calls[-2].status == status


# -- values that are not KMS's ------------------------------------------------------------------------


def with_source(station: Station, value: Any) -> Source:
    """The same credential, fed by another source and proved by nobody."""
    station.start(publish=False)
    source = Source("uploader")
    source.value = value
    station.managed.provider, station.managed.verifier = source, None
    assert station.refresh().error is None
    return source


def session(number: int) -> Any:
    expiration = datetime(2030, 1, 1, 0, number, tzinfo=UTC)
    return key(number, access_key_id=f"STS.{number}", security_token=Secret("t"), version_id="", expiration=expiration)


def test_a_session_is_replaced_and_what_that_does_not_do_is_said(station: Station) -> None:
    """Issued sessions live on: until when, and how to cut the role off."""
    source = with_source(station, session(1))
    source.value = session(2)
    result = station.rotate()
    assert (result.error, result.safe) == (None, False)
    assert (result.old_access_key_id, result.new_access_key_id) == ("STS.1", "STS.2")
    assert "live on until they expire (2030-01-01T00:01:00Z for the one replaced)" in result.notes[0]
    assert "detach all its policies" in result.notes[0]
    assert station.vm.holds("STS.2")


def test_a_source_that_hands_out_the_same_session_is_not_waited_for(station: Station) -> None:
    """A metadata server keeps its session: said at once, with the way to cut it off."""
    with_source(station, session(1))
    result = station.rotate()
    assert result.exit_code == EXIT_FAILED
    assert "hands out the same session STS.1 again" in str(result.error)


def test_a_session_whose_dependents_were_not_told_is_a_failure(station: Station) -> None:
    """Exit 1 and who it is, as with a key."""
    source = with_source(station, session(1))
    source.value = session(2)
    station.dependents[1].broken = True
    result = station.rotate()
    assert result.exit_code == EXIT_FAILED
    assert [(one.dependent, one.reason) for one in result.left_behind] == [("fake worker", Reason.NOT_TOLD)]


def test_a_static_key_cannot_be_rotated_at_its_source(station: Station) -> None:
    """Wrong usage, with what to do instead."""
    with_source(station, key(1))
    result = station.rotate()
    assert result.exit_code == EXIT_USAGE
    assert "keyturn refresh uploader" in str(result.error)


# -- side by side with the rest -----------------------------------------------------------------------


def test_polls_and_refreshes_meanwhile_do_not_get_in_the_way(station: Station) -> None:
    """Somebody refreshes all the time: the emergency ends, and its publish is still the operator's."""
    station.start()
    stop = threading.Event()
    refreshing = threading.Thread(target=lambda: [station.refresh() for _ in iter(stop.is_set, True)])

    def begin(step: dict[str, Any]) -> None:
        if step["name"] == "notify":
            refreshing.start()

    result = station.rotate(disable_old=True, show=begin)
    stop.set()
    refreshing.join()
    assert result.safe


def test_one_emergency_at_a_time(station: Station) -> None:
    """A second operator is told that it is under way, by whom and why, and nothing is done twice."""
    station.start()
    inner = []

    def try_as_well(step: dict[str, Any]) -> None:
        if step["name"] == "rotate":
            inner.append(station.rotate(disable_old=True, reason="me too"))

    outer = station.rotate(disable_old=True, show=try_as_well, reason="first")
    assert outer.safe
    assert inner[0].exit_code == EXIT_FAILED
    assert "by alice is under way (first)" in inner[0].error
    assert station.rotations == 1


def test_a_reload_that_would_drop_the_credential_is_refused_meanwhile(station: Station) -> None:
    """The emergency is finished first; the reload is refused with what to do."""
    station.start()
    refused: list[str] = []

    def reload(step: dict[str, Any]) -> None:
        if step["name"] == "rotate":
            with pytest.raises(BusyError) as caught:
                station.engine.submit(lambda: station.engine.reload([], 0.0)).result(PATIENCE_S)
            refused.append(str(caught.value))

    assert station.rotate(disable_old=True, show=reload).safe
    assert "reload again when it has ended" in refused[0]
    station.engine.submit(lambda: station.engine.reload([], 0.0)).result(PATIENCE_S)


def test_a_key_that_a_sink_still_holds_is_not_cut_off(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source has moved on but a file could not be switched: --leaked names what is in the way and disables nothing."""
    old = station.start().current
    real = os.rename

    def rename(source: Any, destination: Any, **options: Any) -> None:
        if Path(destination).name == Path(station.managed.sinks[-1].path).name:
            raise OSError(errno.EBUSY, "Device or resource busy")
        real(source, destination, **options)

    monkeypatch.setattr(os, "rename", rename)
    station.cloud.rotate("uploader-ak")
    result = station.rotate(leaked=old, disable_old=True)
    assert not result.safe and result.old_key == "active"
    assert station.asked("UpdateAccessKey") == 0
    assert result.exit_code == EXIT_FAILED and result.error
    monkeypatch.undo()
    assert station.rotate(leaked=old, disable_old=True).safe
