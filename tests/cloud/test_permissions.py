"""What a refused call says to grant: the exact action, on what, to whom."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.cloud import failures
from agent.cloud.permissions import Asked
from agent.cloud.transport import Reply
from agent.core.errors import KeyturnError, NotPermittedError, SourceRefusedError

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
SECRET, USER, ROLE = {"SecretName": "uploader-ak"}, {"UserName": "uploader"}, {"RoleArn": "acs:ram::1:role/app"}


def refused(asked: Asked, code: str = "NoPermission", status: int = 403, **body: Any) -> KeyturnError:
    reply = Reply(status, {}, json.dumps({"Code": code, **body}).encode())
    return failures.explain(failures.read("kms.example", reply), NOW, asked)


@pytest.mark.parametrize(
    "code", ["NoPermission", "Forbidden.RAM", "Forbidden.NoPermission", "Forbidden", "AccessDenied", "Odd"]
)
@pytest.mark.parametrize(
    ("call", "params", "action", "about"),
    [
        ("GetSecretValue", SECRET, "kms:GetSecretValue", "uploader-ak"),
        ("RotateSecret", SECRET, "kms:RotateSecret", "uploader-ak"),
        ("UpdateAccessKey", USER, "ram:UpdateAccessKey", "user uploader"),
        ("DeleteAccessKey", USER, "ram:DeleteAccessKey", "user uploader"),
        ("ListAccessKeys", {}, "ram:ListAccessKeys", "user that it belongs to"),
        ("AssumeRole", ROLE, "sts:AssumeRole", "acs:ram::1:role/app"),
    ],
)
def test_the_action_is_that_of_the_call(code: str, call: str, params: dict[str, str], action: str, about: str) -> None:
    """By every code with which the services refuse for want of a permission; the key that signed is named."""
    error = refused(Asked(call, params, "LTAIops"), code)
    assert isinstance(error, NotPermittedError)
    for words in (action, about, "LTAIops", "`keyturn policy`"):
        assert words in error.remedy


def test_reading_a_secret_takes_two() -> None:
    """The service does not say which of both was missing, unless it does."""
    asked = Asked("GetSecretValue", SECRET, "LTAIx")
    assert "kms:Decrypt" in refused(asked).remedy
    exact = refused(asked, AccessDeniedDetail={"AuthAction": "kms:Decrypt", "NoPermissionType": "ImplicitDeny"}).remedy
    assert "kms:Decrypt on the key that encrypts secret uploader-ak" in exact
    assert "kms:GetSecretValue" not in exact


def test_a_deny_is_removed_and_not_granted_over() -> None:
    """Another Allow would not help."""
    detail = {"AuthAction": "kms:RotateSecret", "NoPermissionType": "ExplicitDeny"}
    error = refused(Asked("RotateSecret", SECRET, "LTAIx"), AccessDeniedDetail=detail)
    assert error.remedy.startswith("remove what denies kms:RotateSecret")


@pytest.mark.parametrize(
    "detail", ["text", 5, None, {"AuthAction": "rm -rf /"}, {"AuthAction": ["kms:X"]}, {"AuthAction": "k:\n"}]
)
def test_a_detail_that_is_none_is_left_out(detail: Any) -> None:
    """What a service sends is not repeated unless it has the form of an action."""
    error = refused(Asked("RotateSecret", SECRET, "LTAIx"), AccessDeniedDetail=detail)
    assert "kms:RotateSecret" in error.remedy
    assert "-rf" not in str(error)


def test_a_client_key_is_told_of_its_access_point() -> None:
    """RAM has nothing to grant it."""
    remedy = refused(Asked("GetSecretValue", SECRET, "KAAP.1"), "Forbidden.NoPermission").remedy
    for words in ("KAAP.1", "access point", "uploader-ak", "network rule", "`keyturn policy`"):
        assert words in remedy
    assert "kms:" not in remedy


def test_other_refusals_keep_their_remedy() -> None:
    """Only the want of a permission is answered with a grant."""
    asked = Asked("GetSecretValue", SECRET, "LTAIx")
    gone = refused(asked, "Forbidden.ResourceNotFound", 404)
    assert isinstance(gone, SourceRefusedError)
    assert "grant" not in gone.remedy
    unknown = refused(Asked("SomethingNew", {}, "LTAIx"))
    assert "RAM" in unknown.remedy
