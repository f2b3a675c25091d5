"""What the services answer: KMS 2016-01-20, STS 2015-04-01, RAM 2015-05-01.

An action is one row of `OPERATIONS` and one function. Field names and types follow the API models of
alibabacloud-kms20160120 3.3.1, alibabacloud-sts20150401 1.2.0 and alibabacloud-ram20150501 1.3.0.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from .cloud import Cloud
from .errors import ApiError, missing_parameter
from .faults import PLAYED_BY_THE_SERVER, UNANSWERED, Fault, FaultRule
from .model import AccessKey, ClientKey, Secret, SecretVersion, iso
from .signatures import NonceBook, Request, claimed, read_claim, verify

__all__ = ["OPERATIONS", "Asked", "Operation", "Reply", "Services"]

Json = dict[str, object]


@dataclass(frozen=True)
class Reply:
    """An answer to send. `fault` tells the server how to treat the connection, where it should."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None


@dataclass(frozen=True)
class Asked:
    """An authenticated, permitted request, as the functions below see it."""

    cloud: Cloud
    caller: AccessKey | ClientKey
    parameters: Mapping[str, str]

    def need(self, name: str) -> str:
        """A mandatory parameter."""
        value = self.parameters.get(name)
        if not value:
            raise missing_parameter(name)
        return value

    def number(self, name: str, default: int) -> int:
        """An optional parameter that is a positive number."""
        text = self.parameters.get(name) or str(default)
        if not (text.isdecimal() and len(text) < 10 and int(text) > 0):
            raise ApiError(400, "InvalidParameter", f"The specified parameter {name} is not valid.")
        return int(text)

    def target_user(self) -> str:
        """The user meant by `UserName`; without it, the caller (RAM doc)."""
        if name := self.parameters.get("UserName"):
            return self.cloud.user(name).name
        return self.caller.user if isinstance(self.caller, AccessKey) else ""


@dataclass(frozen=True)
class Operation:
    """One action of one product. `permission` None: every RAM identity may call it."""

    product: str
    version: str
    permission: str | None
    answer: Callable[[Asked], Json]
    client_keys: bool = False

    def admit(self, cloud: Cloud, caller: AccessKey | ClientKey) -> None:
        """Refuse a caller that may not do this, with the code that this product uses (403)."""
        if isinstance(caller, ClientKey):
            if not self.client_keys:
                raise ApiError(403, "Forbidden.NoPermission", "This operation is forbidden for a ClientKey.")
        elif self.permission and not cloud.user(caller.user).may(self.permission):
            code = "Forbidden.RAM" if self.product == "kms" else "NoPermission"
            message = f"You are not authorized to do this action. Action: {self.permission}"
            raise ApiError(403, code, message)


# KMS


def _version_json(version: SecretVersion, stages: Mapping[str, SecretVersion]) -> Json:
    names = [stage for stage, staged in stages.items() if staged is version]
    return {"VersionId": version.version_id, "VersionStages": {"VersionStage": names}}


def _extended_config(secret: Secret) -> str:
    config: Json = {}
    if secret.managed:
        config = {"SecretSubType": "RamUserAccessKey", "UserName": secret.user, "CustomData": {}}
    return json.dumps(config, separators=(",", ":"))


def _rotation_json(secret: Secret) -> Json:
    if not secret.managed:
        return {"AutomaticRotation": "Disabled"}
    last = secret.last_rotated_at or secret.created_at
    return {
        "AutomaticRotation": "Enabled",
        "RotationInterval": f"{secret.rotation_interval_s}s",
        "LastRotationDate": iso(last),
        "NextRotationDate": iso(last + secret.rotation_interval_s),
    }


def _get_secret_value(asked: Asked) -> Json:
    with asked.cloud.locked():
        secret = asked.cloud.secret(asked.need("SecretName"))
        stages = secret.stages(asked.cloud.now())
        wanted_id = asked.parameters.get("VersionId")
        version = stages.get(asked.parameters.get("VersionStage") or "ACSCurrent")
        if wanted_id and not secret.managed:  # "VersionId: ignored for RAM, RDS and ECS secrets" (API reference)
            version = next((each for each in secret.versions if each.version_id == wanted_id), None)
        if version is None:
            raise ApiError(404, "Forbidden.ResourceNotFound", "Resource not found.")
        found: Json = {
            "SecretName": secret.name,
            "SecretType": secret.secret_type,
            "SecretData": version.data,
            "SecretDataType": "text",
            "CreateTime": iso(version.created_at),
            **_version_json(version, stages),
            **_rotation_json(secret),
        }
        if asked.parameters.get("FetchExtendedConfig", "").lower() == "true":
            found["ExtendedConfig"] = _extended_config(secret)
        return found


def _arn(cloud: Cloud, secret: Secret) -> str:
    return f"acs:kms:{cloud.region_id}:{cloud.account_id}:secret/{secret.name}"


def _rotate_secret(asked: Asked) -> Json:
    name, version_id = asked.need("SecretName"), asked.need("VersionId")
    version = asked.cloud.request_rotation(name, version_id)
    secret = asked.cloud.secret(name)
    return {"Arn": _arn(asked.cloud, secret), "SecretName": secret.name, "VersionId": version.version_id}


def _describe_secret(asked: Asked) -> Json:
    with asked.cloud.locked():
        secret = asked.cloud.secret(asked.need("SecretName"))
        return {
            "Arn": _arn(asked.cloud, secret),
            "SecretName": secret.name,
            "SecretType": secret.secret_type,
            "CreateTime": iso(secret.created_at),
            "UpdateTime": iso(secret.current.created_at),
            "PlannedDeleteTime": "",
            "Description": "",
            "EncryptionKeyId": "00000000-0000-0000-0000-000000000000",
            "ExtendedConfig": _extended_config(secret),
            "Tags": {"Tag": []},
            **_rotation_json(secret),
        }


def _list_secret_version_ids(asked: Asked) -> Json:
    with asked.cloud.locked():
        secret = asked.cloud.secret(asked.need("SecretName"))
        stages = secret.stages(asked.cloud.now())
        deprecated = asked.parameters.get("IncludeDeprecated", "").lower() == "true"
        shown = [each for each in secret.versions if deprecated or any(each is staged for staged in stages.values())]
        number, size = asked.number("PageNumber", 1), asked.number("PageSize", 10)
        page = shown[(number - 1) * size : number * size]
        return {
            "SecretName": secret.name,
            "VersionIds": {
                "VersionId": [{**_version_json(each, stages), "CreateTime": iso(each.created_at)} for each in page]
            },
            "PageNumber": number,
            "PageSize": size,
            "TotalCount": len(shown),
        }


# STS


def _get_caller_identity(asked: Asked) -> Json:
    if isinstance(asked.caller, ClientKey):  # not reached: Operation.admit has refused it
        raise ApiError(403, "NoPermission", "No RAM identity.")
    user = asked.cloud.user(asked.caller.user)
    return {
        "IdentityType": "RAMUser",
        "AccountId": asked.cloud.account_id,
        "UserId": user.user_id,
        "PrincipalId": user.user_id,
        "Arn": f"acs:ram::{asked.cloud.account_id}:user/{user.name}",
    }


# RAM


def _update_access_key(asked: Asked) -> Json:
    user, key_id, status = asked.target_user(), asked.need("UserAccessKeyId"), asked.need("Status")
    with asked.cloud.locked():
        if asked.cloud.access_key(key_id).user != user:
            raise ApiError(404, "EntityNotExist.User.AccessKey", "The specified AccessKey does not exist.")
        asked.cloud.set_status(key_id, status)
    return {}


def _list_access_keys(asked: Asked) -> Json:
    shown = [
        {"AccessKeyId": key.access_key_id, "Status": key.status, "CreateDate": iso(key.created_at)}
        for key in asked.cloud.keys_of(asked.target_user())
    ]
    return {"AccessKeys": {"AccessKey": shown}}


OPERATIONS: dict[str, Operation] = {
    "GetSecretValue": Operation("kms", "2016-01-20", "kms:GetSecretValue", _get_secret_value, client_keys=True),
    "RotateSecret": Operation("kms", "2016-01-20", "kms:RotateSecret", _rotate_secret),
    "DescribeSecret": Operation("kms", "2016-01-20", "kms:DescribeSecret", _describe_secret),
    "ListSecretVersionIds": Operation("kms", "2016-01-20", "kms:ListSecretVersionIds", _list_secret_version_ids),
    "GetCallerIdentity": Operation("sts", "2015-04-01", None, _get_caller_identity),
    "UpdateAccessKey": Operation("ram", "2015-05-01", "ram:UpdateAccessKey", _update_access_key),
    "ListAccessKeys": Operation("ram", "2015-05-01", "ram:ListAccessKeys", _list_access_keys),
}


class Services:
    """Takes requests, applies ordered faults, checks signature and permission, answers, and records the call."""

    def __init__(self, cloud: Cloud) -> None:
        """Serve `cloud`."""
        self.cloud = cloud
        self._nonces = NonceBook()

    def handle(self, request: Request) -> Reply:
        """Answer one request; never raises for what a caller sends."""
        at = self.cloud.now()
        action, access_key_id = claimed(request)
        rule = self.cloud.faults.take(action)
        try:
            if rule is not None and not rule.fault.carries_out:
                reply, code = _faulty(rule, action, request)
            else:
                reply, code = Reply(200, _encode({**self._perform(request), "RequestId": _request_id()})), ""
        except ApiError as error:
            reply, code = _error_reply(error, action, request), error.code
        if rule is not None and rule.fault in PLAYED_BY_THE_SERVER:
            reply = replace(reply, fault=rule.fault)
        answered = rule is None or rule.fault not in UNANSWERED
        self.cloud.log.add(
            at, action, access_key_id, reply.status if answered else 0, code, rule.fault.value if rule else ""
        )
        return reply

    def _perform(self, request: Request) -> Json:
        claim = read_claim(request)
        operation = OPERATIONS.get(claim.action)
        if operation is None:
            raise ApiError(404, "InvalidAction.NotFound", "Specified api is not found, please check your url.")
        if operation.version != claim.version:
            raise ApiError(400, "InvalidVersion", "Specified parameter Version is not valid.")
        caller = self.cloud.authenticate(claim.access_key_id)
        verify(request, claim, caller, self.cloud.now(), self._nonces)
        operation.admit(self.cloud, caller)
        return operation.answer(Asked(self.cloud, caller, claim.parameters))


def _faulty(rule: FaultRule, action: str, request: Request) -> tuple[Reply, str]:
    """The answer of a service that is out of order; for a connection that breaks it is never sent."""
    if rule.fault is Fault.STATUS:
        return _error_reply(ApiError(rule.status, rule.code, rule.message), action, request), rule.code
    if rule.fault in UNANSWERED:
        return Reply(0, b""), ""
    status, headers, body = rule.answer()
    return Reply(status, body, headers), ""


def _error_reply(error: ApiError, action: str, request: Request) -> Reply:
    """The error body; KMS documents HttpStatus beside Code, Message and RequestId, STS and RAM document Recommend."""
    body: Json = {
        "RequestId": _request_id(),
        "HostId": request.headers.get("host", ""),
        "Code": error.code,
        "Message": error.message,
    }
    operation = OPERATIONS.get(action)
    if operation is None or operation.product == "kms":
        body["HttpStatus"] = error.status
    else:
        body["Recommend"] = f"https://next.api.aliyun.com/troubleshoot?q={error.code}"
    return Reply(error.status, _encode(body))


def _request_id() -> str:
    return str(uuid.uuid4()).upper()


def _encode(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
