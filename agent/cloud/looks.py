"""The calls of KMS and RAM that only look: what stands in the way of an emergency can be seen before one.

Wire facts: the models of alibabacloud-kms20160120 3.3.1 and alibabacloud-ram20150501 1.3.0, and the API reference of IMS
2019-08-15; the tests compare what is sent here with what these SDKs send. Whether an identity may call RotateSecret or
UpdateAccessKey cannot be asked: of the calls for secrets only GetSecretValue has a DryRun, and RAM has none. (RotateSecret with
a version id that exists is documented to change nothing, but to rely on that would be to rotate in earnest where it does not
hold.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from agent.cloud.openapi import CALL_TIMEOUT_S, Ims, Kms, OpenApi, Ram
from agent.core.credential import Credential
from agent.core.timestamps import moment_of

MAX_TEXT = 256


@dataclass(frozen=True, slots=True)
class SecretDescription:
    """What KMS says of a secret without its value.

    Attributes:
        secret_type: such as "RAMCredentials" or "Generic".
        user_name: the RAM user of a managed RAM secret; "" for none.
        last_rotated_at: None where KMS does not say.
    """

    secret_type: str
    user_name: str
    last_rotated_at: datetime | None


@dataclass(frozen=True, slots=True)
class AccessKeySeen:
    """A key in the list of a RAM user's keys. `status` is "Active" or "Inactive"."""

    access_key_id: str
    status: str
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class LastUse:
    """The last use of a key, as IMS knows it.

    Attributes:
        at: None for none that is known.
        service: the product that was called, such as "Ecs"; "" where IMS does not say.
    """

    at: datetime | None
    service: str


def describe_secret(
    kms: Kms, secret_name: str, identity: Credential, *, now: datetime, timeout_s: float = CALL_TIMEOUT_S
) -> SecretDescription:
    """Ask about a secret; its value is in no answer. The identity needs kms:DescribeSecret.

    Raises:
        KeyturnError: as `OpenApi.call`.
    """
    action = "DescribeSecret"
    answer = kms.call(action, {"SecretName": secret_name}, identity, now=now, timeout_s=timeout_s)
    secret_type = _text(kms, action, answer, "SecretType")
    return SecretDescription(
        secret_type, _user_name(answer.get("ExtendedConfig")), _moment(answer.get("LastRotationDate"))
    )


def list_access_keys(
    ram: Ram, user: str, identity: Credential, *, now: datetime, timeout_s: float = CALL_TIMEOUT_S
) -> tuple[AccessKeySeen, ...]:
    """Return a user's AccessKeys, without a secret: two at most (RAM). The identity needs ram:ListAccessKeys.

    Raises:
        KeyturnError: as `OpenApi.call`.
    """
    action = "ListAccessKeys"
    answer = ram.call(action, {"UserName": user}, identity, now=now, timeout_s=timeout_s)
    listed = answer.get("AccessKeys")
    rows = listed.get("AccessKey") if isinstance(listed, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ram.bad(action, "has no list of keys")
    return tuple(
        AccessKeySeen(
            _text(ram, action, row, "AccessKeyId"), _text(ram, action, row, "Status"), _moment(row.get("CreateDate"))
        )
        for row in rows
    )


def access_key_last_used(
    ram: Ram,
    user: str,
    access_key_id: str,
    identity: Credential,
    *,
    now: datetime,
    timeout_s: float = CALL_TIMEOUT_S,
) -> datetime | None:
    """Return when a user's key was used last, as far as RAM knows; None where it was not.

    The identity needs ram:GetAccessKeyLastUsed.

    Raises:
        KeyturnError: as `OpenApi.call`.
    """
    params = {"UserName": user, "UserAccessKeyId": access_key_id}
    answer = ram.call("GetAccessKeyLastUsed", params, identity, now=now, timeout_s=timeout_s)
    return _used_at(ram, _used(ram, answer))


def key_last_use(
    ims: Ims,
    user: str,
    account_id: str,
    access_key_id: str,
    identity: Credential,
    *,
    now: datetime,
    timeout_s: float = CALL_TIMEOUT_S,
) -> LastUse:
    """Return when a user's key was used last, and for which product; RAM's own API says no product.

    The identity needs ram:GetAccessKeyLastUsed. The user is named by its logon name at the account's default domain, which is
    the account's id unless somebody set an alias (IMS, SetDefaultDomain); with an alias IMS may not find the user.

    Raises:
        KeyturnError: as `OpenApi.call`.
    """
    params = {"UserPrincipalName": f"{user}@{account_id}.onaliyun.com", "UserAccessKeyId": access_key_id}
    answer = ims.call("GetAccessKeyLastUsed", params, identity, now=now, timeout_s=timeout_s)
    used = _used(ims, answer)
    service = used.get("ServiceName")
    named = isinstance(service, str) and service.isprintable() and len(service) <= MAX_TEXT
    return LastUse(_used_at(ims, used), str(service) if named else "")


def _used(api: OpenApi, answer: Mapping[str, object]) -> Mapping[str, object]:
    used = answer.get("AccessKeyLastUsed")
    if not isinstance(used, dict):
        raise api.bad("GetAccessKeyLastUsed", "has no AccessKeyLastUsed")
    return used


def _used_at(api: OpenApi, used: Mapping[str, object]) -> datetime | None:
    """Return the time; None for no use. What cannot be read is an error: a key may be disabled because nobody used it."""
    said = used.get("LastUsedDate")
    at = _moment(said)
    if at is None and said not in (None, ""):
        raise api.bad("GetAccessKeyLastUsed", "has a LastUsedDate that is no time")
    return at


def _text(api: OpenApi, action: str, answer: Mapping[str, object], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value or len(value) > MAX_TEXT or not value.isprintable():
        raise api.bad(action, f"has no {name}")
    return value


def _moment(value: object) -> datetime | None:
    return moment_of(value) if isinstance(value, str) and len(value) <= MAX_TEXT else None


def _user_name(extended_config: object) -> str:
    """Return the RAM user that a secret's ExtendedConfig names, which is JSON text: SecretSubType, UserName, CustomData."""
    try:
        name = json.loads(extended_config)["UserName"] if isinstance(extended_config, str) else ""
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return name if isinstance(name, str) and name.isprintable() and len(name) <= MAX_TEXT else ""
