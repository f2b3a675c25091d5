"""The answers of KMS 2016-01-20. Field names and types follow the API models of alibabacloud-kms20160120 3.3.1."""

from __future__ import annotations

import json
from collections.abc import Mapping

from .cloud import Cloud
from .errors import ApiError
from .model import Secret, SecretVersion, iso
from .operation import ENCRYPTION_KEY_ID, Asked, Json

__all__ = ["describe_secret", "get_secret_value", "list_secret_version_ids", "rotate_secret"]


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


def get_secret_value(asked: Asked) -> Json:
    """Answer GetSecretValue: one version of a secret."""
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


def rotate_secret(asked: Asked) -> Json:
    """Answer RotateSecret: a rotation, within the limits of the API."""
    name, version_id = asked.need("SecretName"), asked.need("VersionId")
    version = asked.cloud.request_rotation(name, version_id)
    secret = asked.cloud.secret(name)
    return {"Arn": _arn(asked.cloud, secret), "SecretName": secret.name, "VersionId": version.version_id}


def describe_secret(asked: Asked) -> Json:
    """Answer DescribeSecret: everything but the value."""
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
            "EncryptionKeyId": ENCRYPTION_KEY_ID,
            "ExtendedConfig": _extended_config(secret),
            "Tags": {"Tag": []},
            **_rotation_json(secret),
        }


def list_secret_version_ids(asked: Asked) -> Json:
    """Answer ListSecretVersionIds: the versions with a stage, or all."""
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
