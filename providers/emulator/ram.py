"""The answers of RAM 2015-05-01. Field names and types follow the API models of alibabacloud-ram20150501 1.3.0.

The recycle bin is part of IMS 2019-08-15, whose actions are named `ram:` in policies all the same (its API reference).
"""

from __future__ import annotations

from .account import RECYCLED_S
from .errors import ApiError
from .model import iso
from .operation import Asked, Json

__all__ = [
    "delete_access_key",
    "get_access_key_last_used",
    "list_access_keys",
    "list_access_keys_in_recycle_bin",
    "update_access_key",
]


def update_access_key(asked: Asked) -> Json:
    """Answer UpdateAccessKey: set a key Active or Inactive."""
    user, key_id, status = asked.target_user(), asked.need("UserAccessKeyId"), asked.need("Status")
    with asked.cloud.locked():
        _check_owner(asked, key_id, user)
        asked.cloud.set_status(key_id, status)
    return {}


def delete_access_key(asked: Asked) -> Json:
    """Answer DeleteAccessKey: move a disabled key to the recycle bin."""
    user, key_id = asked.target_user(), asked.need("UserAccessKeyId")
    with asked.cloud.locked():
        _check_owner(asked, key_id, user)
        asked.cloud.recycle_access_key(key_id)
    return {}


def list_access_keys(asked: Asked) -> Json:
    """Answer ListAccessKeys: ids and status."""
    shown = [
        {"AccessKeyId": key.access_key_id, "Status": key.status, "CreateDate": iso(key.created_at)}
        for key in asked.cloud.keys_of(asked.target_user())
    ]
    return {"AccessKeys": {"AccessKey": shown}}


def list_access_keys_in_recycle_bin(asked: Asked) -> Json:
    """Answer ListAccessKeysInRecycleBin (IMS): what DeleteAccessKey took away, and until when it can be had back."""
    shown = [
        {
            "AccessKeyId": key.access_key_id,
            "CreateDate": iso(key.created_at),
            "RecycleDate": iso(key.recycled_at),
            "DeleteDate": iso(key.recycled_at + RECYCLED_S),
        }
        for key in asked.cloud.recycled_keys(asked.need("UserId"))
        if key.recycled_at is not None
    ]
    return {"AccessKeys": {"AccessKey": shown}}


def _check_owner(asked: Asked, key_id: str, user: str) -> None:
    if asked.cloud.access_key(key_id).user != user:
        raise ApiError(404, "EntityNotExist.User.AccessKey", "The specified AccessKey does not exist.")


def get_access_key_last_used(asked: Asked) -> Json:
    """Answer GetAccessKeyLastUsed: when a call was signed with a key.

    What RAM answers for a key that was never used is not documented; the emulator leaves the date empty.
    """
    user, key_id = asked.target_user(), asked.need("UserAccessKeyId")
    with asked.cloud.locked():
        _check_owner(asked, key_id, user)
        at = asked.cloud.log.last_used(key_id)
    return {"AccessKeyLastUsed": {"LastUsedDate": iso(at) if at is not None else ""}}
