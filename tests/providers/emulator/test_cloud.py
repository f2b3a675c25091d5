"""The rules of the emulated account, without sockets and with a clock that the test moves."""

from __future__ import annotations

import json
import threading

import pytest

from providers.emulator import Cloud, Fault
from providers.emulator.cloud import ROTATIONS_PER_HOUR
from providers.emulator.errors import ApiError


class Hand:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.at = 1_700_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def cloud(hand: Hand) -> Cloud:
    made = Cloud(hand, old_key_life_s=10.0)
    made.add_user("uploader")
    made.add_ram_secret("uploader-ak", user="uploader")
    return made


def code_of(call: object, *arguments: object, **options: object) -> tuple[int, str]:
    assert callable(call)
    with pytest.raises(ApiError) as caught:
        call(*arguments, **options)
    return caught.value.status, caught.value.code


NOT_FOUND = (404, "InvalidAccessKeyId.NotFound")
INACTIVE = (403, "InvalidAccessKeyId.Inactive")


def test_a_user_owns_at_most_two_keys(cloud: Cloud) -> None:
    """A third key is refused with RAM's code, until one of the two is deleted."""
    second = cloud.add_access_key("uploader")
    assert code_of(cloud.add_access_key, "uploader") == (409, "LimitExceeded.User.AccessKey")
    cloud.delete_access_key(second.access_key_id)
    cloud.add_access_key("uploader")


def test_an_inactive_key_is_refused_and_an_active_one_works_again(cloud: Cloud) -> None:
    """Inactive takes effect at once by default."""
    key = cloud.current_key("uploader-ak")
    cloud.set_status(key.access_key_id, "Inactive")
    assert code_of(cloud.authenticate, key.access_key_id) == INACTIVE
    cloud.set_status(key.access_key_id, "Active")
    assert cloud.authenticate(key.access_key_id) is key


def test_disabling_can_take_its_time(cloud: Cloud, hand: Hand) -> None:
    """With `disable_delay_s`, a disabled key goes on working for so long: "disabled" is not yet "refused"."""
    cloud.disable_delay_s = 3.0
    key = cloud.current_key("uploader-ak")
    cloud.set_status(key.access_key_id, "Inactive")
    assert cloud.authenticate(key.access_key_id) is key
    hand.at += 1.0
    cloud.set_status(key.access_key_id, "Inactive")
    hand.at += 2.0
    assert code_of(cloud.authenticate, key.access_key_id) == INACTIVE


def test_a_rotation_flips_the_stages_at_once_and_lets_the_old_key_live_on(cloud: Cloud, hand: Hand) -> None:
    """New key current, old key previous and usable, until its life is over; then its value is dropped."""
    old, secret = cloud.current_key("uploader-ak"), cloud.secret("uploader-ak")
    new = cloud.rotate("uploader-ak", version_id="mine")
    assert cloud.current_key("uploader-ak") is new
    stages = secret.stages(hand.at)
    assert stages["ACSCurrent"].version_id == "mine"
    assert json.loads(stages["ACSPrevious"].data)["AccessKeyId"] == old.access_key_id
    hand.at += 9.9
    assert cloud.authenticate(old.access_key_id) is old
    assert secret.rotating(hand.at)
    hand.at += 0.2
    assert code_of(cloud.authenticate, old.access_key_id) == NOT_FOUND
    assert not secret.rotating(hand.at)
    assert set(secret.stages(hand.at)) == {"ACSCurrent"}
    assert cloud.keys_of("uploader") == [new]


def test_kms_itself_may_rotate_in_quick_succession(cloud: Cloud, hand: Hand) -> None:
    """Five rotations in five seconds: every replaced key lives its full life."""
    keys = [cloud.current_key("uploader-ak")]
    for _ in range(5):
        keys.append(cloud.rotate("uploader-ak"))
        hand.at += 1.0
    assert cloud.keys_of("uploader") == keys
    hand.at += 5.0
    assert cloud.keys_of("uploader") == keys[1:]
    assert len({key.access_key_id for key in keys}) == 6


def test_a_rotation_revives_no_deleted_key(cloud: Cloud, hand: Hand) -> None:
    """A key that somebody deleted stays dead when its secret is rotated."""
    old = cloud.current_key("uploader-ak")
    cloud.delete_access_key(old.access_key_id)
    cloud.rotate("uploader-ak")
    assert code_of(cloud.authenticate, old.access_key_id) == NOT_FOUND
    assert not cloud.secret("uploader-ak").rotating(hand.at)


def test_the_api_refuses_a_rotation_while_one_runs(cloud: Cloud, hand: Hand) -> None:
    """Status and code can be set, as the real ones are undocumented; afterwards it works again."""
    cloud.request_rotation("uploader-ak", "v1")
    assert code_of(cloud.request_rotation, "uploader-ak", "v2") == (409, "Rejected.Unavailable")
    cloud.overlap_status, cloud.overlap_code = 400, "Rejected.Rotating"
    with pytest.raises(ApiError, match=r"400 Rejected\.Rotating: Your secret is being rotated, please try again later"):
        cloud.request_rotation("uploader-ak", "v2")
    hand.at += 10.0
    cloud.request_rotation("uploader-ak", "v2")


def test_a_rotation_by_the_schedule_counts_as_running_too(cloud: Cloud) -> None:
    """The API is refused while the key that KMS replaced by itself still lives."""
    cloud.rotate("uploader-ak")
    assert code_of(cloud.request_rotation, "uploader-ak", "v1") == (409, "Rejected.Unavailable")


def test_an_allowed_overlap_costs_the_oldest_key(cloud: Cloud) -> None:
    """A user may own two keys only, so the third deletes the first at once."""
    cloud.allow_overlapping_rotation = True
    first = cloud.current_key("uploader-ak")
    cloud.request_rotation("uploader-ak", "v1")
    second = cloud.current_key("uploader-ak")
    cloud.request_rotation("uploader-ak", "v2")
    assert code_of(cloud.authenticate, first.access_key_id) == NOT_FOUND
    assert cloud.keys_of("uploader") == [second, cloud.current_key("uploader-ak")]


def test_a_key_that_kms_does_not_manage_blocks_the_rotation(cloud: Cloud) -> None:
    """With two keys of which one is a stranger's, there is no room for a new one."""
    stranger = cloud.add_access_key("uploader")
    assert code_of(cloud.request_rotation, "uploader-ak", "v1") == (409, "LimitExceeded.User.AccessKey")
    cloud.delete_access_key(stranger.access_key_id)
    cloud.request_rotation("uploader-ak", "v1")


def test_there_are_fifty_rotations_an_hour(cloud: Cloud, hand: Hand) -> None:
    """The 51st request is throttled; an hour after the first there is room again; repetitions are free."""
    for number in range(ROTATIONS_PER_HOUR):
        cloud.request_rotation("uploader-ak", f"v{number}")
        hand.at += 20.0
    assert code_of(cloud.request_rotation, "uploader-ak", "more") == (429, "Rejected.Throttling")
    cloud.request_rotation("uploader-ak", "v0")
    hand.at += 3600.0 - 20.0 * ROTATIONS_PER_HOUR
    cloud.request_rotation("uploader-ak", "more")


def test_a_generic_secret_does_not_rotate(cloud: Cloud) -> None:
    """KMS cannot make a new value for a text that it knows nothing about; a put does."""
    cloud.add_generic_secret("note", "one")
    assert code_of(cloud.request_rotation, "note", "v2")[1] == "Rejected.UnsupportedOperation"
    cloud.put_secret_value("note", "two", "v2")
    assert cloud.secret("note").current.data == "two"


def test_a_secret_is_known_by_name_and_by_arn(cloud: Cloud) -> None:
    """Other accounts name a secret by its ARN; what does not exist is a 404."""
    assert cloud.secret("acs:kms:cn-hangzhou:1234567890123456:secret/uploader-ak") is cloud.secret("uploader-ak")
    assert code_of(cloud.secret, "nothing") == (404, "Forbidden.ResourceNotFound")


def test_a_client_key_can_be_disabled_and_expires(cloud: Cloud, hand: Hand) -> None:
    """Both end in InvalidAccessKeyId.Inactive."""
    key = cloud.add_client_key(expires_at=hand.at + 60.0)
    assert key.key_id.startswith("KAAP.")
    assert cloud.authenticate(key.key_id) is key
    key.status = "Inactive"
    assert code_of(cloud.authenticate, key.key_id) == INACTIVE
    key.status = "Active"
    hand.at += 60.0
    assert code_of(cloud.authenticate, key.key_id) == INACTIVE


def test_permissions_are_granted_and_taken(cloud: Cloud) -> None:
    """`kms:*` covers a product, a name covers an action."""
    user = cloud.user("uploader")
    assert not user.may("kms:RotateSecret")
    cloud.allow("uploader", "kms:*")
    assert user.may("kms:RotateSecret")
    assert not user.may("ram:UpdateAccessKey")
    cloud.forbid("uploader", "kms:*")
    assert not user.may("kms:RotateSecret")


def test_faults_come_in_order_and_only_to_whom_they_are_meant(cloud: Cloud) -> None:
    """A fault for one action waits for it and lets others pass; `times` counts down; clear forgets the rest."""
    cloud.fail_next(503, action="GetSecretValue", times=2)
    cloud.inject(Fault.EMPTY)
    first = cloud.faults.take("RotateSecret")
    assert first is not None
    assert first.fault is Fault.EMPTY
    assert cloud.faults.take("RotateSecret") is None
    taken = [cloud.faults.take("GetSecretValue") for _ in range(3)]
    assert [rule and rule.code for rule in taken] == [
        "ServiceUnavailableTemporary",
        "ServiceUnavailableTemporary",
        None,
    ]
    cloud.fail_next(500)
    cloud.faults.clear()
    assert cloud.faults.take("GetSecretValue") is None


def test_the_list_of_calls_is_bounded_but_the_totals_are_not(cloud: Cloud) -> None:
    """A demo that runs for days keeps ten thousand calls and the counts of all."""
    for _ in range(10_050):
        cloud.log.add(0.0, "GetSecretValue", "k", 200)
    cloud.log.add(0.0, "GetSecretValue", "k", 404, "Forbidden.ResourceNotFound")
    assert len(cloud.calls) == 10_000
    assert cloud.log.summary()["calls"] == 10_051
    assert [call.number for call in cloud.refused("k")] == [10_051]
    assert cloud.refused("other") == []


def test_threads_do_not_lose_rotations(cloud: Cloud) -> None:
    """Eight threads rotate twenty-five times each: two hundred versions, each with a key of its own."""

    def rotate() -> None:
        for _ in range(25):
            cloud.rotate("uploader-ak")

    threads = [threading.Thread(target=rotate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = cloud.secret("uploader-ak").versions
    assert len({version.version_id for version in versions}) == 201
    assert len({version.access_key.access_key_id for version in versions if version.access_key}) == 201


def test_nothing_prints_a_secret(cloud: Cloud) -> None:
    """Keys and versions leave their secret values out of their repr."""
    key = cloud.current_key("uploader-ak")
    shown = repr(key) + repr(cloud.secret("uploader-ak"))
    assert key.access_key_id in shown
    assert key.access_key_secret not in shown
