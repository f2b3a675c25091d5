"""The conversion of a GetSecretValue reply to a credential: pure, limited in size, and without quoting the data.

Reply (JSON, or protobuf under the same names) and secret formats: KMS API 2016-01-20, GetSecretValue; KMS, "Manage and
use RAM secrets". `SecretData` is a string that holds JSON, so it is parsed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from agent.cloud.failures import json_object, request_id_of
from agent.core.credential import Credential
from agent.core.errors import BadAnswerError
from agent.core.secret import Secret
from agent.core.timestamps import moment_of

MANAGED_RAM = {"access_key_id": "AccessKeyId", "access_key_secret": "AccessKeySecret"}
"""Part of a credential -> its key in the JSON of a managed RAM secret."""

CURRENT = "ACSCurrent"
FIELD_NAMES = ("access_key_id", "access_key_secret", "security_token", "expiration")


def credential_of(reply: Mapping[str, object], secret_name: str, fields: Mapping[str, str]) -> Credential:
    """Return the credential in a reply.

    Args:
        reply: the JSON object of an HTTP 200.
        secret_name: the secret's name, for messages.
        fields: part of a credential -> key of the secret's JSON; empty for a managed RAM secret.

    Raises:
        BadAnswerError: the reply cannot be used; the text says why and never quotes the data.
    """
    reader = _Reader(secret_name, fields)
    data = reader.data(reply)
    parts = reader.parts(data)
    token, expiration = parts.get("security_token"), parts.get("expiration")
    return Credential(
        access_key_id=parts["access_key_id"],
        access_key_secret=Secret(parts["access_key_secret"]),
        security_token=Secret(token) if token else None,
        expiration=reader.moment(expiration) if expiration else None,
        version_id=reader.version_id(reply),
        ram_user_name=_user_name(reply.get("ExtendedConfig")),
        created_at=_created_at(data, reply),
        request_id=request_id_of(reply),
    )


class _Reader:
    """A reader of one reply. Its errors name the secret and what is missing."""

    def __init__(self, secret_name: str, fields: Mapping[str, str]) -> None:
        self._secret_name = secret_name
        self._fields = fields or MANAGED_RAM
        self._managed = not fields

    def bad(self, what: str, remedy: str) -> BadAnswerError:
        return BadAnswerError(f"secret {self._secret_name}: {what}", remedy)

    def data(self, reply: Mapping[str, object]) -> dict[str, object]:
        text, remedy = reply.get("SecretData"), "look at the secret in the KMS console"
        if not isinstance(text, str) or not text:
            raise self.bad("the reply of KMS has no SecretData", "check that the endpoint is KMS")
        if reply.get("SecretDataType", "text") != "text":
            raise self.bad("its value is binary", "name a secret whose value is JSON text")
        data = json_object(text)
        if data is None:
            raise self.bad("its value is not a JSON object", remedy)
        return data

    def parts(self, data: Mapping[str, object]) -> dict[str, str]:
        return {part: self._text(data, key) for part, key in self._fields.items()}

    def _text(self, data: Mapping[str, object], key: str) -> str:
        remedy = "correct `fields`, or the secret in the KMS console"
        if self._managed:
            remedy = "name a managed RAM secret, or say by `fields` which key of the JSON is which part"
        if key not in data:
            raise self.bad(f"its value has no {key}", remedy)
        value = data[key]
        if not isinstance(value, str) or not value:
            raise self.bad(f"its {key} is empty or not a text", remedy)
        return value

    def version_id(self, reply: Mapping[str, object]) -> str:
        value = reply.get("VersionId")
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= 256:
            raise self.bad("the reply of KMS has no VersionId", "check that the endpoint is KMS")
        return value

    def moment(self, text: str) -> datetime:
        moment = moment_of(text)
        if moment is None:
            raise self.bad("its expiration is not a time like 2026-01-01T00:00:00Z", "correct the secret's value")
        return moment


def _user_name(extended_config: object) -> str:
    """Return the RAM user of a managed RAM secret; "" for anything unexpected, since only a default depends on it."""
    config = json_object(extended_config) if isinstance(extended_config, str) else None
    name = (config or {}).get("UserName")
    return name if isinstance(name, str) and name.isprintable() and len(name) <= 64 else ""


def _created_at(data: Mapping[str, object], reply: Mapping[str, object]) -> datetime | None:
    """Return when the key was made; None where nobody says it, or not in a form that can be read.

    A managed RAM secret says so itself (`GenerateTimestamp`). Otherwise the current version is as old as the last rotation.
    The reply's `CreateTime` is no help: it is the secret's, however often it was rotated since.
    """
    told = data.get("GenerateTimestamp")
    if told is None and CURRENT in _stages(reply):
        told = reply.get("LastRotationDate")
    return moment_of(told) if isinstance(told, str) else None


def _stages(reply: Mapping[str, object]) -> Sequence[object]:
    listed = reply.get("VersionStages")
    stages = listed.get("VersionStage") if isinstance(listed, dict) else None
    return stages if isinstance(stages, list) else ()
