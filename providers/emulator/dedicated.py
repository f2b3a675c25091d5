"""The gateway of a dedicated KMS instance: GetSecretValue in protobuf, signed by a ClientKey.

Headers, string to sign and field numbers are those that alibabacloud-dkms-gcs 1.0.2 sends (`openapi/client.py`,
`openapi_util/client.py`, `openapi_util/protobuf/api_pb2.py`). Codes and statuses: "Common error codes" of the KMS
instance API. Undocumented, and decided here: a ClientKey that is disabled or expired is 403 Forbidden.NoPermission.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import uuid
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from .cloud import Cloud
from .errors import ApiError
from .kms import get_secret_value
from .model import ClientKey
from .operation import Asked, Json, check_access_point
from .protobuf import Value, decode, encode
from .reception import Reply, receive
from .signatures import MAX_SKEW_S, Request

__all__ = ["CONTENT_TYPE", "answer_dedicated", "is_dedicated"]

CONTENT_TYPE = "application/x-protobuf"
_EXPECTED = {
    "x-kms-apiname": ("GetSecretValue", "InvalidApiName"),
    "x-kms-apiversion": ("dkms-gcs-0.2", "InvalidApiVersion"),
    "x-kms-signaturemethod": ("RSA_PKCS1_SHA_256", "InvalidParam"),
}
_RESPONSE = (
    "SecretName",
    "SecretType",
    "SecretData",
    "SecretDataType",
    "VersionStages",
    "VersionId",
    "CreateTime",
    "RequestId",
    "LastRotationDate",
    "NextRotationDate",
    "ExtendedConfig",
    "AutomaticRotation",
    "RotationInterval",
)
"""The fields of the answer; the first has the number 1."""
_WRONG_SHAPE = encode([(1, 17), (3, b"\xff\xfe")])
"""A number in the place of a text, and a text that is no UTF-8."""


def is_dedicated(request: Request) -> bool:
    """Return whether a request is meant for this gateway."""
    return request.headers.get("content-type", "") == CONTENT_TYPE or "x-kms-apiname" in request.headers


def answer_dedicated(cloud: Cloud, request: Request) -> Reply:
    """Answer one request; faults are ordered for `dkms:GetSecretValue`."""
    action = f"dkms:{request.headers.get('x-kms-apiname', '')}"
    key_id = request.headers.get("x-kms-acccesskeyid", "")  # with three c: so spells the client
    reply = receive(cloud, action, key_id, lambda: _perform(cloud, request, key_id), _refuse, _WRONG_SHAPE, "kms")
    return Reply(reply.status, reply.body, {"Content-Type": CONTENT_TYPE, **reply.headers}, reply.fault)


def _perform(cloud: Cloud, request: Request, key_id: str) -> Reply:
    _check_form(request)
    _check_date(request, cloud.now())
    caller = _caller(cloud, key_id)
    _check_signature(request, caller)
    parameters = _parameters(request.body)
    check_access_point(caller, parameters)
    found = get_secret_value(Asked(cloud, caller, parameters))
    return Reply(200, _response(found))


def _check_form(request: Request) -> None:
    if request.headers.get("content-type") != CONTENT_TYPE:
        raise ApiError(415, "InvalidContentType", f"The content type must be {CONTENT_TYPE}.")
    if request.method != "POST" or request.path != "/":
        raise ApiError(400, "InvalidParam", "Only POST / is served.")
    for name, (wanted, code) in _EXPECTED.items():
        if request.headers.get(name) != wanted:
            raise ApiError(400, code, f"The header {name} is not valid.")
    if request.headers.get("content-sha256") != hashlib.sha256(request.body).hexdigest().upper():
        raise ApiError(400, "InvalidParam", "The header content-sha256 is not that of the body.")


def _check_date(request: Request, now: float) -> None:
    try:
        at = parsedate_to_datetime(request.headers.get("date", "")).replace(tzinfo=UTC).timestamp()
    except ValueError as err:
        raise ApiError(400, "InvalidParam", "The Param Date is invalid.") from err
    if abs(now - at) > MAX_SKEW_S:
        raise ApiError(400, "RequestTimeTooSkewed", "The time of the request is more than 15 minutes off.")


def _caller(cloud: Cloud, key_id: str) -> ClientKey:
    try:
        caller = cloud.authenticate(key_id)
    except ApiError as error:
        if error.status == 403:
            raise ApiError(403, "Forbidden.NoPermission", "The ClientKey is disabled or has expired.") from error
        raise ApiError(404, "Unauthorized", "The ClientKey is unknown.") from error
    if not isinstance(caller, ClientKey):
        raise ApiError(404, "Unauthorized", "Only a ClientKey may call a KMS instance.")
    return caller


def dedicated_string_to_sign(request: Request) -> str:
    """Return the string to sign: method, body hash, type and date; the `x-kms-` headers, sorted; the path."""
    headers = request.headers
    fixed = (request.method, headers["content-sha256"], headers["content-type"], headers["date"])
    ours = sorted(name for name in headers if name.startswith("x-kms-"))
    return "".join(f"{part}\n" for part in (*fixed, *(f"{name}:{headers[name].strip()}" for name in ours))) + "/"


def _check_signature(request: Request, caller: ClientKey) -> None:
    kind, _, signature = request.headers.get("authorization", "").partition(" ")
    text = dedicated_string_to_sign(request).encode()
    try:
        given = base64.b64decode(signature if kind == "Bearer" else "", validate=True)
        caller.public_key.verify(given, text, padding.PKCS1v15(), hashes.SHA256())
    except (binascii.Error, ValueError, InvalidSignature) as err:
        raise ApiError(401, "SignatureNotMatch", "The signature does not match.") from err


def _parameters(body: bytes) -> Mapping[str, str]:
    """Return the fields of a GetSecretValueRequest under the shared gateway's names."""
    names = {1: "SecretName", 2: "VersionStage", 3: "VersionId"}
    try:
        fields = dict(decode(body))
        found = {name: value.decode() for n, name in names.items() if isinstance(value := fields.get(n), bytes)}
    except ValueError as err:  # UnicodeDecodeError is one
        raise ApiError(400, "InvalidParam", "The body is no GetSecretValueRequest.") from err
    return {**found, "FetchExtendedConfig": "true" if fields.get(4) else "false"}


def _response(found: Json) -> bytes:
    flat = {**found, "RequestId": str(uuid.uuid4())}
    stages = found["VersionStages"]
    assert isinstance(stages, dict)
    fields: list[tuple[int, Value]] = []
    for number, name in enumerate(_RESPONSE, 1):
        values = stages["VersionStage"] if name == "VersionStages" else [flat.get(name, "")]
        fields += [(number, str(value)) for value in values]
    return encode(fields)


def _refuse(error: ApiError) -> Reply:
    fields: list[tuple[int, Value]] = [(1, error.status), (2, error.code), (3, error.message), (4, str(uuid.uuid4()))]
    return Reply(error.status, encode(fields))
