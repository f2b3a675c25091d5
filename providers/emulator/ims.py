"""The answers of IMS 2019-08-15: the recycle bin, and the last use of a key with the product that was called.

Field names follow its API reference. Its actions are named `ram:` in policies (IMS, "Authorization information").
"""

from __future__ import annotations

from .account import RECYCLED_S, no_such_key
from .errors import ApiError, missing_parameter
from .model import User, iso
from .operation import Asked, Json

__all__ = ["get_access_key_last_used", "list_access_keys_in_recycle_bin", "restore_access_key_from_recycle_bin"]


def get_access_key_last_used(asked: Asked) -> Json:
    """Answer GetAccessKeyLastUsed: when a call was signed with a key, and which product was called ("Ram").

    What IMS answers for a key that was never used is not documented; the emulator leaves both empty.
    """
    user, key_id = _target_user(asked), asked.need("UserAccessKeyId")
    with asked.cloud.locked():
        if asked.cloud.access_key(key_id).user != user:
            raise no_such_key()
        used = asked.cloud.log.last_used(key_id)
    return {
        "AccessKeyLastUsed": {
            "LastUsedDate": iso(used.at) if used else "",
            "ServiceName": used.product.capitalize() if used else "",
        }
    }


def list_access_keys_in_recycle_bin(asked: Asked) -> Json:
    """Answer ListAccessKeysInRecycleBin: what DeleteAccessKey took away, and until when it can be had back."""
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


def restore_access_key_from_recycle_bin(asked: Asked) -> Json:
    """Answer RestoreAccessKeyFromRecycleBin: the key is back, disabled."""
    asked.cloud.restore_access_key(asked.need("UserId"), asked.need("UserAccessKeyId"))
    return {}


def _target_user(asked: Asked) -> str:
    """Return the user that `UserPrincipalName` means, NAME@DOMAIN; without it, the caller (IMS doc), which a role is not.

    The domain is the account's default one, ACCOUNT.onaliyun.com as long as nobody set an alias (IMS, SetDefaultDomain).
    """
    if principal_name := asked.parameters.get("UserPrincipalName"):
        name, _, domain = principal_name.partition("@")
        if domain != f"{asked.cloud.account_id}.onaliyun.com":
            raise ApiError(404, "EntityNotExist.User", f"The user does not exist: {principal_name}.")
        return asked.cloud.user(name).name
    principal = None if asked.caller is None else asked.cloud.principal_of(asked.caller)
    if not isinstance(principal, User):
        raise missing_parameter("UserPrincipalName")
    return principal.name
