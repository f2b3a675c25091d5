"""Policy documents: what they let through, what they stop, and that nothing is accepted that is not looked at."""

from __future__ import annotations

from typing import Any

import pytest

from providers.emulator import Cloud
from providers.emulator.policies import SECRET_USER, AccessRule, Policy, Trust, resource_of, verdict

SECRET = "acs:kms:cn-hangzhou:1:secret/uploader-ak"


def document(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "1", "Statement": list(statements)}


def allow(action: Any, resource: Any = "*", effect: str = "Allow", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


NOW = {"acs:CurrentTime": "2026-11-30T12:00:00Z", "acs:SecureTransport": "true"}

VERDICTS = {
    "an allowed action": ([allow("kms:RotateSecret", SECRET)], ""),
    "a list of actions and resources": ([allow(["a:b", "kms:RotateSecret"], ["x", SECRET])], ""),
    "the case of an action does not count": ([allow("KMS:rotatesecret")], ""),
    "a wildcard in the action": ([allow("kms:Rotate*")], ""),
    "a wildcard in the resource": ([allow("kms:*", "acs:kms:*:1:secret/uploader-??")], ""),
    "brackets are no wildcard": ([allow("kms:*", "acs:kms:cn-hangzhou:1:secret/[u]ploader-ak")], "ImplicitDeny"),
    "another action": ([allow("kms:DescribeSecret")], "ImplicitDeny"),
    "another resource": ([allow("kms:*", SECRET + "2")], "ImplicitDeny"),
    "a deny beats an allow": ([allow("*"), allow("kms:RotateSecret", effect="Deny")], "ExplicitDeny"),
    "a deny of something else": ([allow("*"), allow("ram:*", effect="Deny")], ""),
    "everything but": ([{"Effect": "Allow", "NotAction": "ram:*", "Resource": "*"}], ""),
    "everything but this": ([{"Effect": "Allow", "NotAction": "kms:*", "Resource": "*"}], "ImplicitDeny"),
    "a condition that holds": ([allow("*", Condition={"Bool": {"acs:SecureTransport": "true"}})], ""),
    "a condition that does not": ([allow("*", Condition={"Bool": {"acs:SecureTransport": "false"}})], "ImplicitDeny"),
    "a key that the call has not": ([allow("*", Condition={"StringEquals": {"acs:X": "1"}})], "ImplicitDeny"),
    "in time": ([allow("*", Condition={"DateLessThan": {"acs:CurrentTime": "2026-12-01T00:00:00+08:00"}})], ""),
    "too late": (
        [allow("*", Condition={"DateLessThan": {"acs:CurrentTime": "2026-11-30T00:00:00+08:00"}})],
        "ImplicitDeny",
    ),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_a_call_is_judged_as_ram_would(case: str) -> None:
    """Allow, Deny before Allow, wildcards, conditions; what nobody allows is refused."""
    statements, wanted = VERDICTS[case]
    assert verdict([Policy.parse(document(*statements))], "kms:RotateSecret", SECRET, NOW) == wanted


@pytest.mark.parametrize(
    "wrong",
    [
        {"Statement": []},
        {"Version": "2012-10-17", "Statement": []},
        document({"Effect": "allow", "Action": "*", "Resource": "*"}),
        document({"Effect": "Allow", "Action": "*"}),
        document({"Effect": "Allow", "Resource": "*"}),
        document(allow([])),
        document(allow("*", Principal={"RAM": "*"})),
        document(allow("*", Condition={"NumericLessThan": {"x": "1"}})),
        "[1]",
    ],
)
def test_what_is_not_understood_is_not_attached(wrong: Any) -> None:
    """A test must not pass for what was never looked at."""
    with pytest.raises(ValueError, match="want"):
        Policy.parse(wrong)


def test_documents_take_the_place_of_named_actions() -> None:
    """Without a document a user may do what it was made with, on everything; with one, what that says."""
    cloud = Cloud()
    user = cloud.add_user("ops", "kms:RotateSecret")
    assert cloud.denial(user, "kms:RotateSecret", SECRET) == ""
    cloud.attach_policy(user, document(allow("ram:UpdateAccessKey", "acs:ram:*:1:user/uploader")))
    assert cloud.denial(user, "kms:RotateSecret", SECRET) == "ImplicitDeny"
    assert cloud.denial(user, "ram:UpdateAccessKey", "acs:ram:*:1:user/uploader") == ""
    assert cloud.denial(user, "ram:UpdateAccessKey", "acs:ram:*:1:user/other") == "ImplicitDeny"


TOKEN = {"oidc:iss": "https://i", "oidc:aud": "a", "oidc:sub": "s"}


def trusting(kind: str, *names: str, **more: Any) -> dict[str, Any]:
    return document({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {kind: list(names)}, **more})


def test_a_trust_policy_admits_whom_it_names() -> None:
    """A user, an account with everybody in it, a service, a token whose claims fit; and nobody else."""
    user = Trust.parse(trusting("RAM", "acs:ram::1:user/alice"))
    assert user.admits("RAM", "acs:ram::1:user/alice", {})
    assert not user.admits("RAM", "acs:ram::1:user/bob", {})
    assert not user.admits("Service", "acs:ram::1:user/alice", {})
    account = Trust.parse(trusting("RAM", "acs:ram::1:root"))
    assert account.admits("RAM", "acs:ram::1:role/any", {})
    assert not account.admits("RAM", "acs:ram::2:user/any", {})
    assert Trust.parse(trusting("Service", "ecs.aliyuncs.com")).admits("Service", "ecs.aliyuncs.com", {})
    pod = Trust.parse(trusting("Federated", "acs:ram::1:oidc-provider/c", Condition={"StringEquals": TOKEN}))
    assert pod.admits("Federated", "acs:ram::1:oidc-provider/c", TOKEN)
    assert not pod.admits("Federated", "acs:ram::1:oidc-provider/c", {**TOKEN, "oidc:sub": "another"})


@pytest.mark.parametrize(
    "wrong",
    [
        trusting("AWS", "x"),
        document(allow("sts:AssumeRole")),
        document({"Effect": "Deny", "Action": "sts:AssumeRole", "Principal": {"RAM": "x"}}),
        document({"Effect": "Allow", "Action": "sts:*", "Principal": {"RAM": "x"}}),
        {"Version": "2", "Statement": []},
    ],
)
def test_a_trust_policy_that_is_not_understood_is_refused(wrong: Any) -> None:
    """As with a policy."""
    with pytest.raises(ValueError, match="want"):
        Trust.parse(wrong)


def test_the_resource_of_each_call() -> None:
    """A secret by name or ARN, a role in either form of its ARN, a named user or the caller."""
    assert resource_of("r", "1", "kms", {"SecretName": "a/b"}, "me") == "acs:kms:r:1:secret/a/b"
    assert resource_of("r", "1", "kms", {"SecretName": SECRET}, "me") == SECRET
    assert resource_of("r", "1", "sts", {"RoleArn": "acs:ram::1:role/x"}, "me") == "acs:ram:*:1:role/x"
    assert resource_of("r", "1", "ram", {"UserName": "u"}, "me") == "acs:ram:*:1:user/u"
    assert resource_of("r", "1", "ram", {}, "me") == "acs:ram:*:1:user/me"
    assert resource_of("r", "1", "sts", {}, "me") == "*"


def test_an_access_point_opens_what_its_rule_names() -> None:
    """Exactly, or by a star at the end."""
    assert AccessRule(SECRET_USER, ("secret/uploader-ak",)).opens("uploader-ak")
    assert AccessRule(SECRET_USER, ("secret/up*",)).opens("uploader-ak")
    assert not AccessRule(SECRET_USER, ("secret/uploader",)).opens("uploader-ak")
    with pytest.raises(ValueError, match="want"):
        AccessRule("RbacPermission/Template/CryptoServiceKeyUser", ("key/*",))
