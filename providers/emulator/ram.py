"""The answers of RAM 2015-05-01. Field names and types follow the API models of alibabacloud-ram20150501 1.3.0."""

from __future__ import annotations

from .errors import ApiError
from .model import iso
from .operation import Asked, Json

__all__ = ["get_access_key_last_used", "list_access_keys", "update_access_key"]


def update_access_key(asked: Asked) -> Json:
    """Answer UpdateAccessKey: set a key Active or Inactive."""
    user, key_id, status = asked.target_user(), asked.need("UserAccessKeyId"), asked.need("Status")
    with asked.cloud.locked():
        if asked.cloud.access_key(key_id).user != user:
            raise ApiError(404, "EntityNotExist.User.AccessKey", "The specified AccessKey does not exist.")
        asked.cloud.set_status(key_id, status)
    return {}


def list_access_keys(asked: Asked) -> Json:
    """Answer ListAccessKeys: ids and status."""
    shown = [
        {"AccessKeyId": key.access_key_id, "Status": key.status, "CreateDate": iso(key.created_at)}
        for key in asked.cloud.keys_of(asked.target_user())
    ]
    return {"AccessKeys": {"AccessKey": shown}}


def get_access_key_last_used(asked: Asked) -> Json:
    """Answer GetAccessKeyLastUsed: when a call was signed with a key.

    What RAM answers for a key that was never used is not documented; the emulator leaves the date empty.
    """
    user, key_id = asked.target_user(), asked.need("UserAccessKeyId")
    with asked.cloud.locked():
        if asked.cloud.access_key(key_id).user != user:
            raise ApiError(404, "EntityNotExist.User.AccessKey", "The specified AccessKey does not exist.")
        at = asked.cloud.log.last_used(key_id)
    return {"AccessKeyLastUsed": {"LastUsedDate": iso(at) if at is not None else ""}}
