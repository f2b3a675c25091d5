"""The rules of roles, sessions and the instance, without sockets and with a clock that the test moves."""

from __future__ import annotations

import base64
import json

import pytest

from providers.emulator import Cloud
from providers.emulator.errors import ApiError
from providers.emulator.model import Role, Session


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
    made = Cloud(hand)
    made.add_user("caller", "sts:AssumeRole")
    made.add_role("app", "kms:GetSecretValue")
    return made


def code_of(call: object, *arguments: object, **options: object) -> tuple[int, str]:
    assert callable(call)
    with pytest.raises(ApiError) as caught:
        call(*arguments, **options)
    return caught.value.status, caught.value.code


def assume(cloud: Cloud, role: str = "app", **options: object) -> Session:
    return cloud.assume_role(cloud.role_arn(role), "tester", **options)  # type: ignore[arg-type]


# AssumeRole


def test_a_session_is_an_id_a_secret_and_a_token_with_an_end(cloud: Cloud, hand: Hand) -> None:
    """The id starts with `STS.`; the life is what was asked for, an hour by default; permissions are the role's."""
    session = assume(cloud)
    assert session.access_key_id.startswith("STS.")
    assert session.access_key_secret and session.security_token
    assert session.expires_at == hand.at + 3600
    assert (session.role_session_name, session.principal.name) == ("tester", "app")
    assert session.principal.may("kms:GetSecretValue") and not session.principal.may("kms:RotateSecret")
    assert assume(cloud, duration_s=900).expires_at == hand.at + 900
    assert assume(cloud, duration_s=43_200).expires_at == hand.at + 43_200


def test_every_session_is_a_new_one_and_ends_none_before_it(cloud: Cloud, hand: Hand) -> None:
    """New tokens never invalidate old ones (STS doc)."""
    first, second = assume(cloud), assume(cloud)
    assert len({first.access_key_id, second.access_key_id}) == 2
    assert len({first.security_token, second.security_token}) == 2
    assert cloud.authenticate(first.access_key_id) is first
    assert not first.expired(hand.at)


def test_a_session_expires_to_the_second(cloud: Cloud, hand: Hand) -> None:
    """Usable up to its end, and never again; it is still known, so that the refusal can say why."""
    session = assume(cloud)
    hand.at += 3599.9
    assert not session.expired(hand.at)
    hand.at += 0.1
    assert session.expired(hand.at)
    assert cloud.authenticate(session.access_key_id) is session


def test_a_test_may_order_sessions_of_a_few_seconds(cloud: Cloud, hand: Hand) -> None:
    """`session_life_s` is what is granted, whatever was asked for; what may be asked for stays the same."""
    cloud.session_life_s = 2.5
    assert assume(cloud, duration_s=7200).expires_at == hand.at + 2.5
    assert code_of(assume, cloud, duration_s=60) == (400, "InvalidParameter.DurationSeconds")
    cloud.min_session_s = 1
    cloud.session_life_s = None
    assert assume(cloud, duration_s=60).expires_at == hand.at + 60


@pytest.mark.parametrize("duration", [899, 43_201, "x", "", "-900", "1e3", 0, "9" * 30])
def test_a_duration_outside_the_bounds_of_the_role_is_refused(cloud: Cloud, duration: float | str) -> None:
    """900 seconds to what the role allows; what is no number is refused in the same words."""
    assert code_of(assume, cloud, duration_s=duration) == (400, "InvalidParameter.DurationSeconds")


def test_a_role_may_allow_less(cloud: Cloud) -> None:
    """MaxSessionDuration is a property of the role."""
    cloud.add_role("short", max_session_s=3600)
    assume(cloud, "short", duration_s=3600)
    assert code_of(assume, cloud, "short", duration_s=3601) == (400, "InvalidParameter.DurationSeconds")


@pytest.mark.parametrize("arn", ["", "app", "acs:ram::x:role/app", "acs:ram::1:user/app", "acs:ram::1:role/a b"])
def test_what_is_no_role_arn_is_refused(cloud: Cloud, arn: str) -> None:
    """InvalidParameter.RoleArn, before anybody looks whether there is such a role."""
    assert code_of(cloud.assume_role, arn, "tester") == (400, "InvalidParameter.RoleArn")


def test_an_unknown_role_and_a_role_of_another_account_do_not_exist(cloud: Cloud) -> None:
    """EntityNotExist.Role, 404, for both."""
    assert code_of(assume, cloud, "nobody") == (404, "EntityNotExist.Role")
    assert code_of(cloud.assume_role, "acs:ram::1:role/app", "tester") == (404, "EntityNotExist.Role")


@pytest.mark.parametrize("name", ["", "a", "a" * 65, "a b", "a/b", "ä-x", "line\n"])
def test_a_session_name_has_a_form(cloud: Cloud, name: str) -> None:
    """2 to 64 letters, digits and `.@-_` (STS API reference)."""
    assert code_of(cloud.assume_role, cloud.role_arn("app"), name) == (400, "InvalidParameter.RoleSessionName")


def test_a_policy_must_be_a_json_object_of_bounded_size(cloud: Cloud) -> None:
    """PolicyGrammar for anything else, PolicySize above 2048 characters."""
    assume(cloud, policy='{"Version": "1", "Statement": []}')
    for text in ("x", "[]", '"text"', "{"):
        assert code_of(assume, cloud, policy=text) == (400, "InvalidParameter.PolicyGrammar")
    assert code_of(assume, cloud, policy=json.dumps({"a": "x" * 2048})) == (400, "InvalidParameter.PolicySize")


def test_a_caller_needs_permission_and_trust(cloud: Cloud) -> None:
    """RAM's default: a policy of the caller must allow sts:AssumeRole, and the role's trust policy the caller."""
    cloud.add_role("narrow", trusted=["other"])
    cloud.add_user("other")
    caller, other = cloud.add_access_key("caller"), cloud.add_access_key("other")
    assume(cloud, caller=caller)
    assert code_of(assume, cloud, caller=other) == (403, "NoPermission")
    assert code_of(assume, cloud, "narrow", caller=caller) == (403, "NoPermission")
    cloud.allow("other", "sts:AssumeRole")
    assume(cloud, "narrow", caller=other)


def test_roles_can_be_chained(cloud: Cloud) -> None:
    """A session of one role may assume another, when both sides agree."""
    cloud.add_role("next", trusted=["app"])
    session = assume(cloud)
    assert code_of(assume, cloud, "next", caller=session) == (403, "NoPermission")
    cloud.add_role("app", "sts:AssumeRole")
    assert assume(cloud, "next", caller=session).principal.name == "next"


def test_an_external_id_is_asked_for_where_the_role_has_one(cloud: Cloud) -> None:
    """The condition of the trust policy: another one and none are NoPermission; a malformed one is named."""
    cloud.add_role("foreign", external_id="customer:1")
    caller = cloud.add_access_key("caller")
    assert code_of(assume, cloud, "foreign", caller=caller) == (403, "NoPermission")
    assert code_of(assume, cloud, "foreign", caller=caller, external_id="customer:2") == (403, "NoPermission")
    assert code_of(assume, cloud, "foreign", external_id="a b") == (400, "InvalidParameter.ExternalId")
    assume(cloud, "foreign", caller=caller, external_id="customer:1")


def test_detaching_the_policies_ends_what_was_issued_for_good(cloud: Cloud) -> None:
    """Sessions of the role, old and new, are revoked; those of others are not; a role made anew gives good ones again."""
    cloud.add_role("other")
    old, bystander = assume(cloud), assume(cloud, "other")
    cloud.detach_policies("app")
    assert old.revoked and assume(cloud).revoked and not bystander.revoked
    cloud.add_role("app", "kms:GetSecretValue")
    assert old.revoked and not assume(cloud).revoked
    assert code_of(cloud.detach_policies, "nobody") == (404, "EntityNotExist.Role")


def test_the_number_of_sessions_is_bounded(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator that runs for days forgets its oldest sessions."""
    monkeypatch.setattr("providers.emulator.sessions._MAX_SESSIONS", 3)
    made = [assume(cloud) for _ in range(4)]
    assert code_of(cloud.authenticate, made[0].access_key_id) == (404, "InvalidAccessKeyId.NotFound")
    assert cloud.authenticate(made[1].access_key_id) is made[1]


def test_nothing_prints_a_secret(cloud: Cloud) -> None:
    """Sessions, bearer tokens and RSA key pairs leave their secret values out of their repr."""
    session = assume(cloud)
    token = cloud.add_bearer_token("caller")
    shown = repr(session) + repr(cloud.bearer(token)) + repr(cloud.add_rsa_key_pair("caller"))
    assert session.access_key_id in shown
    for secret in (session.access_key_secret, session.security_token, token, "PrivateKey"):
        assert secret not in shown


# OIDC


def test_an_oidc_token_opens_a_role_that_trusts_its_provider(cloud: Cloud, hand: Hand) -> None:
    """The session is the role's; what the token said of its bearer comes back."""
    arn = cloud.add_oidc_provider("cluster")
    cloud.add_role("pod", trusted=["oidc:cluster"])
    token = cloud.oidc_token("cluster", "system:serviceaccount:ns:app")
    session, told = cloud.assume_role_with_oidc(arn, cloud.role_arn("pod"), token, "tester", 900)
    assert isinstance(session.principal, Role)
    assert (session.principal.name, session.expires_at) == ("pod", hand.at + 900)
    assert told["Subject"] == "system:serviceaccount:ns:app"


def test_an_oidc_token_has_the_form_of_a_jwt(cloud: Cloud, hand: Hand) -> None:
    """Three parts; the claims of a Kubernetes token that a client might look at."""
    cloud.add_oidc_provider("cluster")
    parts = cloud.oidc_token("cluster", "me", life_s=60).split(".")
    claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
    assert len(parts) == 3
    assert (claims["sub"], claims["aud"], claims["exp"]) == ("me", ["sts.aliyuncs.com"], int(hand.at) + 60)


def test_an_oidc_token_that_is_not_believed_is_refused(cloud: Cloud, hand: Hand) -> None:
    """Expired, forged, foreign, mangled: each 401 with the code of STS's error table."""
    arn, other = cloud.add_oidc_provider("cluster"), cloud.add_oidc_provider("elsewhere")
    role = cloud.role_arn("app")

    def refusal(token: str, provider: str = arn) -> tuple[int, str]:
        return code_of(cloud.assume_role_with_oidc, provider, role, token, "tester")

    good = cloud.oidc_token("cluster", life_s=60)
    head, claims, signature = good.split(".")
    foreign = claims.replace(claims, cloud.oidc_token("cluster", "root").split(".")[1])
    bad = "AuthenticationFail.OIDCToken"
    assert refusal(f"{head}.{foreign}.{signature}") == (401, f"{bad}.InvalidSignature")
    assert refusal(f"{head}.{claims}.") == (401, f"{bad}.InvalidSignature")
    assert refusal(good, other) == (401, f"{bad}.Invalid")
    assert refusal(cloud.oidc_token("cluster", audience="another")) == (401, f"{bad}.AudienceNotMatch")
    assert refusal("no token") == (401, f"{bad}.Invalid")
    assert refusal("a.b.c") == (401, f"{bad}.Invalid")
    assert refusal("a.ä.c") == (401, f"{bad}.Invalid")
    hand.at += 60
    assert refusal(good) == (401, f"{bad}.Expired")
    assert refusal(cloud.oidc_token("cluster", life_s=-1)) == (401, f"{bad}.Expired")


def test_providers_and_trust_are_looked_at(cloud: Cloud) -> None:
    """A malformed ARN, an unregistered provider, and a role that trusts another one."""
    arn, role = cloud.add_oidc_provider("cluster"), cloud.role_arn("app")
    token = cloud.oidc_token("cluster")
    call = cloud.assume_role_with_oidc
    assert code_of(call, "cluster", role, token, "tester") == (400, "InvalidParameter.OIDCProviderArn")
    assert code_of(call, arn + "x", role, token, "tester") == (401, "AuthenticationFail.NoPermission")
    cloud.add_role("app", trusted=["oidc:elsewhere"])
    assert code_of(call, arn, role, token, "tester") == (403, "NoPermission")


def test_a_provider_that_is_added_twice_keeps_its_key(cloud: Cloud) -> None:
    """Tokens issued before stay good."""
    arn = cloud.add_oidc_provider("cluster")
    token = cloud.oidc_token("cluster")
    assert cloud.add_oidc_provider("cluster") == arn
    cloud.assume_role_with_oidc(arn, cloud.role_arn("app"), token, "tester")


# The instance


def test_an_instance_keeps_its_session_until_half_an_hour_before_the_end(cloud: Cloud, hand: Hand) -> None:
    """Six hours of life; the next session comes early enough that nobody holds a dead one."""
    cloud.set_instance_role("app")
    first = cloud.instance_session()
    assert first.expires_at == hand.at + 6 * 3600
    hand.at += 5.5 * 3600 - 1
    assert cloud.instance_session() is first
    hand.at += 1
    second = cloud.instance_session()
    assert second is not first
    assert not first.expired(hand.at)


def test_short_sessions_of_an_instance_are_renewed_at_half_their_life(cloud: Cloud, hand: Hand) -> None:
    """So that tests with lives of seconds see the same order of things."""
    cloud.metadata_session_life_s = 10.0
    cloud.set_instance_role("app")
    first = cloud.instance_session()
    hand.at += 4.9
    assert cloud.instance_session() is first
    hand.at += 0.1
    assert cloud.instance_session() is not first


def test_a_rotation_by_hand_gives_a_new_session_and_leaves_the_old_one(cloud: Cloud, hand: Hand) -> None:
    """What an early renewal looks like."""
    cloud.set_instance_role("app")
    first = cloud.instance_session()
    second = cloud.rotate_instance_session()
    assert cloud.instance_session() is second
    assert not first.expired(hand.at) and not first.revoked


def test_an_instance_role_can_be_taken_and_must_trust_ecs(cloud: Cloud) -> None:
    """Without a role there is nothing to hand out; a role for others cannot be attached."""
    cloud.set_instance_role("app")
    cloud.set_instance_role(None)
    assert code_of(cloud.instance_session)[0] == 404
    assert code_of(cloud.rotate_instance_session)[0] == 404
    cloud.add_role("people", trusted=["caller"])
    assert code_of(cloud.set_instance_role, "people")[0] == 403
    cloud.add_role("machines", trusted=["ecs"])
    cloud.set_instance_role("machines")
    assert code_of(cloud.set_instance_role, "nobody") == (404, "EntityNotExist.Role")


def test_metadata_tokens_expire(cloud: Cloud, hand: Hand) -> None:
    """A token is good for its time to live; without `imds_v1`, an old or invented one opens nothing."""
    cloud.imds_v1 = False
    token = cloud.new_metadata_token("10")
    cloud.check_metadata_token(token)
    for other in ("", token[:-1]):
        assert code_of(cloud.check_metadata_token, other)[0] == 403
    hand.at += 10
    assert code_of(cloud.check_metadata_token, token)[0] == 403
    cloud.imds_v1 = True
    cloud.check_metadata_token("")


@pytest.mark.parametrize("ttl", ["", "0", "21601", "-1", "x", "1.5", "²", "9" * 20])
def test_a_metadata_token_lives_one_second_to_six_hours(cloud: Cloud, ttl: str) -> None:
    """Anything else is a 400."""
    assert code_of(cloud.new_metadata_token, ttl)[0] == 400
    cloud.new_metadata_token("1")
    cloud.new_metadata_token("21600")
