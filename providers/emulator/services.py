"""The signed APIs: KMS 2016-01-20, STS 2015-04-01, RAM 2015-05-01, and of IMS 2019-08-15 what RAM's own API lacks.

An action is one row of `OPERATIONS`, or of `OF_IMS`, and one function in the module of its product.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection

from . import ims, kms, ram, sts
from .cloud import Cloud
from .errors import ApiError
from .hosts import EVERYTHING
from .model import Caller
from .operation import Asked, Json, Operation
from .reception import Reply, receive
from .signatures import (
    BEARER,
    Claim,
    NonceBook,
    Request,
    check_token,
    claimed,
    read_anonymous_claim,
    read_claim,
    verify,
)

__all__ = ["OF_IMS", "OPERATIONS", "Asked", "Operation", "Reply", "Services"]

KMS, STS, RAM = ("kms", "2016-01-20"), ("sts", "2015-04-01"), ("ram", "2015-05-01")
IMS = ("ims", "2019-08-15")

OPERATIONS: dict[str, Operation] = {
    "GetSecretValue": Operation(*KMS, "kms:GetSecretValue", kms.get_secret_value, client_keys=True),
    "RotateSecret": Operation(*KMS, "kms:RotateSecret", kms.rotate_secret),
    "DescribeSecret": Operation(*KMS, "kms:DescribeSecret", kms.describe_secret),
    "ListSecretVersionIds": Operation(*KMS, "kms:ListSecretVersionIds", kms.list_secret_version_ids),
    "GetCallerIdentity": Operation(*STS, None, sts.get_caller_identity),
    "AssumeRole": Operation(*STS, "sts:AssumeRole", sts.assume_role),
    "AssumeRoleWithOIDC": Operation(*STS, None, sts.assume_role_with_oidc, anonymous=True),
    "GenerateSessionAccessKey": Operation(*STS, None, sts.generate_session_access_key, key_pairs=True),
    "CreateAccessKey": Operation(*RAM, "ram:CreateAccessKey", ram.create_access_key),
    "UpdateAccessKey": Operation(*RAM, "ram:UpdateAccessKey", ram.update_access_key),
    "DeleteAccessKey": Operation(*RAM, "ram:DeleteAccessKey", ram.delete_access_key),
    "ListAccessKeys": Operation(*RAM, "ram:ListAccessKeys", ram.list_access_keys),
    "GetAccessKeyLastUsed": Operation(*RAM, "ram:GetAccessKeyLastUsed", ram.get_access_key_last_used),
}

OF_IMS: dict[str, Operation] = {
    "GetAccessKeyLastUsed": Operation(*IMS, "ram:GetAccessKeyLastUsed", ims.get_access_key_last_used),
    "ListAccessKeysInRecycleBin": Operation(
        *IMS, "ram:ListAccessKeysInRecycleBin", ims.list_access_keys_in_recycle_bin
    ),
    "RestoreAccessKeyFromRecycleBin": Operation(
        *IMS, "ram:RestoreAccessKeyFromRecycleBin", ims.restore_access_key_from_recycle_bin
    ),
}
"""The actions of IMS; one of them has the name of an action of RAM."""


class Services:
    """The services behind the server: they apply ordered faults, check signature and permission, answer, and record."""

    def __init__(self, cloud: Cloud) -> None:
        """Serve `cloud`."""
        self.cloud = cloud
        self._nonces = NonceBook()

    def refuse(self, error: ApiError, request: Request) -> Reply:
        """Refuse a request before anything of it is looked at, and record it."""

        def no() -> Reply:
            raise error

        action, access_key_id = claimed(request)
        return receive(self.cloud, action, access_key_id, no, lambda said: _error_reply(said, action, request))

    def handle(self, request: Request, products: Collection[str] = EVERYTHING) -> Reply:
        """Answer one request; never raises for what a caller sends.

        Args:
            request: what was sent.
            products: those that its host serves.
        """
        action, access_key_id = claimed(request)
        operation = _operation(action, request)
        return receive(
            self.cloud,
            action,
            access_key_id,
            lambda: Reply(200, _encode({**self._perform(request, operation, products), "RequestId": _request_id()})),
            lambda error: _error_reply(error, action, request),
            product=operation.product if operation else "",
        )

    def _perform(self, request: Request, operation: Operation | None, products: Collection[str]) -> Json:
        _check_form(request)
        if operation is not None and operation.product not in products:
            raise _unknown()
        if operation is not None and operation.anonymous:
            claim = read_anonymous_claim(request, self.cloud.now())
            _check_version(operation, claim)
            return operation.answer(Asked(self.cloud, None, claim.parameters))
        claim = read_claim(request)
        if operation is None:
            raise _unknown()
        _check_version(operation, claim)
        caller = self._identify(request, claim)
        operation.admit(self.cloud, caller, claim.parameters)
        return operation.answer(Asked(self.cloud, caller, claim.parameters))

    def _identify(self, request: Request, claim: Claim) -> Caller:
        caller = self._claimant(claim)
        check_token(claim, caller, self.cloud.now())
        verify(request, claim, caller, self.cloud.now(), self._nonces)
        return caller

    def _claimant(self, claim: Claim) -> Caller:
        if claim.scheme == BEARER:
            return self.cloud.bearer(claim.security_token)
        return self.cloud.authenticate(claim.access_key_id)


def _operation(action: str, request: Request) -> Operation | None:
    """Return the operation that a request means; the version decides between RAM and IMS."""
    version = request.headers.get("x-acs-version") or request.parameters.get("Version")
    return (OF_IMS if version == IMS[1] else OPERATIONS).get(action)


def _unknown() -> ApiError:
    return ApiError(404, "InvalidAction.NotFound", "Specified api is not found, please check your url.")


def _check_form(request: Request) -> None:
    """Refuse what the gateways of RPC products do not serve: another path or method, and a parameter that is there twice."""
    if request.path != "/":
        raise _unknown()
    if request.method not in ("GET", "POST"):
        raise ApiError(405, "UnsupportedHTTPMethod", "This http method is not supported.")
    names = [name for name, _value in request.parameter_pairs]
    if len(set(names)) != len(names):
        raise ApiError(400, "InvalidParameter", "A parameter is there twice.")


def _check_version(operation: Operation, claim: Claim) -> None:
    if operation.version != claim.version:
        raise ApiError(400, "InvalidVersion", "Specified parameter Version is not valid.")


def _error_reply(error: ApiError, action: str, request: Request) -> Reply:
    """Return the error body; KMS documents HttpStatus beside Code, Message and RequestId, STS and RAM document Recommend."""
    body: Json = {
        "RequestId": _request_id(),
        "HostId": request.headers.get("host", ""),
        "Code": error.code,
        "Message": error.message,
    }
    if error.detail:
        body["AccessDeniedDetail"] = dict(error.detail)
    operation = _operation(action, request)
    if operation is None or operation.product == "kms":
        body["HttpStatus"] = error.status
    else:
        body["Recommend"] = f"https://next.api.aliyun.com/troubleshoot?q={error.code}"
    return Reply(error.status, _encode(body))


def _request_id() -> str:
    return str(uuid.uuid4()).upper()


def _encode(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
