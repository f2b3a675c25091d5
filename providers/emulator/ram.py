"""The answers of RAM 2015-05-01. Field names and types follow the API models of alibabacloud-ram20150501 1.3.0."""

from __future__ import annotations

from .account import no_such_key
from .model import iso
from .operation import Asked, Json

__all__ = [
    "create_access_key",
    "delete_access_key",
    "get_access_key_last_used",
    "list_access_keys",
    "update_access_key",
]


def create_access_key(asked: Asked) -> Json:
    """Answer CreateAccessKey: the only answer that ever has the secret."""
    key = asked.cloud.add_access_key(asked.target_user())
    return {
        "AccessKey": {
            "AccessKeyId": key.access_key_id,
            "AccessKeySecret": key.access_key_secret,
            "CreateDate": iso(key.created_at),
            "Status": key.status,
        }
    }


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
    """Answer ListAccessKeys: ids and status, as they were `list_delay_s` ago."""
    with asked.cloud.locked():
        now = asked.cloud.now()
        shown = [
            {"AccessKeyId": key.access_key_id, "Status": key.status_in_list(now), "CreateDate": iso(key.created_at)}
            for key in asked.cloud.listed_keys(asked.target_user())
        ]
    return {"AccessKeys": {"AccessKey": shown}}


def _check_owner(asked: Asked, key_id: str, user: str) -> None:
    if asked.cloud.access_key(key_id).user != user:
        raise no_such_key()


def get_access_key_last_used(asked: Asked) -> Json:
    """Answer GetAccessKeyLastUsed: when a call was signed with a key. Which product was called, only IMS says.

    What RAM answers for a key that was never used is not documented; the emulator leaves the date empty.
    """
    user, key_id = asked.target_user(), asked.need("UserAccessKeyId")
    with asked.cloud.locked():
        _check_owner(asked, key_id, user)
        used = asked.cloud.log.last_used(key_id)
    return {"AccessKeyLastUsed": {"LastUsedDate": iso(used.at) if used else ""}}
