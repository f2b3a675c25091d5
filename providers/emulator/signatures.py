"""The check of request signatures, by the published rules and not by the client's code, so that bugs do not cancel out.

Two schemes: RPC (`Signature` among the parameters; HMAC-SHA1 for AccessKeys and sessions, SHA256withRSA for ClientKeys
and RSA key pairs) and ACS3-HMAC-SHA256 (an `Authorization` header). Beside them, a request may carry a bearer token
instead of a signature. Sources: Alibaba's documentation of both signature mechanisms, and requests recorded from
aliyun-python-sdk-core 2.16.1 and alibabacloud-tea-openapi 0.4.6, which the tests keep.

A mismatch never tells the right string to sign: the core SDK compares what follows the first colon of the message with
its own string, and changes the error code when they are equal.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from urllib.parse import parse_qsl, quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from .errors import ApiError, missing_parameter
from .model import AccessKey, Caller, ClientKey, RsaKeyPair, Session

__all__ = [
    "BEARER",
    "MAX_SKEW_S",
    "Claim",
    "NonceBook",
    "Request",
    "check_token",
    "claimed",
    "read_anonymous_claim",
    "read_claim",
    "verify",
]

MAX_SKEW_S = 15 * 60
BEARER = "BEARERTOKEN"
_ACS3 = "ACS3-HMAC-SHA256"
_RPC_REQUIRED = (
    "Action",
    "Version",
    "AccessKeyId",
    "SignatureMethod",
    "SignatureVersion",
    "SignatureNonce",
    "Timestamp",
    "Signature",
)
_ACS3_REQUIRED = ("x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256")
_ACS3_PATTERN = re.compile(
    r"ACS3-HMAC-SHA256\s+Credential=(?P<key>[^,\s]+),\s*SignedHeaders=(?P<headers>[^,\s]+),\s*Signature=(?P<signature>\S+)"
)


@dataclass(frozen=True)
class Request:
    """A request as it came off the wire. Header names are lower-case; `query` is still encoded."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""

    @cached_property
    def query_parameters(self) -> Sequence[tuple[str, str]]:
        """The decoded query."""
        return tuple(parse_qsl(self.query, keep_blank_values=True))

    @cached_property
    def parameter_pairs(self) -> Sequence[tuple[str, str]]:
        """The decoded parameters of the query and of a form body, as often as they are there."""
        if self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return (*self.query_parameters, *parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))
        return self.query_parameters

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        """The decoded parameters, of doubled ones the last."""
        return dict(self.parameter_pairs)


@dataclass(frozen=True)
class Claim:
    """The caller and the action that a request names, before anything of it is verified."""

    scheme: str
    action: str
    version: str
    access_key_id: str
    timestamp: str
    nonce: str
    parameters: Mapping[str, str]
    security_token: str = ""


class NonceBook:
    """The nonces of accepted requests, kept for as long as their timestamps could be accepted again."""

    def __init__(self) -> None:
        """Start with an empty memory."""
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], float] = {}

    def spend(self, access_key_id: str, nonce: str, now: float) -> None:
        """Use up a nonce.

        Raises:
            ApiError: 400 SignatureNonceUsed when it was used before (common error code).
        """
        with self._lock:
            while self._seen:  # oldest first, as a dict keeps the order of insertion
                oldest, at = next(iter(self._seen.items()))
                if now - at <= 2 * MAX_SKEW_S:
                    break
                del self._seen[oldest]
            if (access_key_id, nonce) in self._seen:
                raise ApiError(400, "SignatureNonceUsed", "Specified signature nonce was used already.")
            self._seen[access_key_id, nonce] = now


def read_claim(request: Request) -> Claim:
    """Find out which scheme the request uses and what it claims.

    Raises:
        ApiError: 400 MissingParameter or IncompleteSignature when a part is not there.
    """
    authorization = request.headers.get("authorization", "")
    if authorization.startswith(_ACS3):
        return _acs3_claim(request, authorization)
    return _bearer_claim(request) if "x-acs-bearer-token" in request.headers else _rpc_claim(request)


def read_anonymous_claim(request: Request, now: float) -> Claim:
    """Read a request that nobody signs; its timestamp, if there is one, must fit all the same.

    The SDKs send action, version and time as parameters (alibabacloud-credentials 1.0.12) or as `x-acs-*` headers
    (alibabacloud-tea-openapi 0.4.6).

    Raises:
        ApiError: 400 MissingParameter or InvalidTimeStamp.*.
    """
    parameters, headers = request.parameters, request.headers
    version = headers.get("x-acs-version") or parameters.get("Version", "")
    if not version:
        raise missing_parameter("Version")
    timestamp = headers.get("x-acs-date") or parameters.get("Timestamp", "")
    if timestamp:
        _check_time(timestamp, now)
    return Claim("", claimed(request)[0], version, "", timestamp, "", parameters)


def claimed(request: Request) -> tuple[str, str]:
    """Return action and access key id as far as they can be read, for the records; either may be empty."""
    parameters = request.parameters
    match = _ACS3_PATTERN.fullmatch(request.headers.get("authorization", ""))
    action = request.headers.get("x-acs-action") or parameters.get("Action", "")
    return action, match["key"] if match else parameters.get("AccessKeyId") or parameters.get("PublicKeyId", "")


def check_token(claim: Claim, caller: Caller, now: float) -> None:
    """Refuse a session without its token, with another's token, or after its expiration (common error codes, 400).

    Raises:
        ApiError: 400 MissingSecurityToken or InvalidSecurityToken.*.
    """
    if claim.scheme == BEARER:
        return
    given = claim.security_token
    wanted = caller.security_token if isinstance(caller, Session) else ""
    if wanted and not given:
        raise ApiError(400, "MissingSecurityToken", "SecurityToken is mandatory for this action.")
    if not hmac.compare_digest(given.encode(), wanted.encode()):
        message = "Specified SecurityToken mismatches with the AccessKey."
        raise ApiError(400, "InvalidSecurityToken.MismatchWithAccessKey", message)
    if isinstance(caller, Session) and caller.expired(now):
        raise ApiError(400, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")


def verify(request: Request, claim: Claim, key: Caller, now: float, nonces: NonceBook) -> None:
    """Accept the claim or refuse it: check the time first, then the signature, then the nonce.

    Raises:
        ApiError: 400 InvalidTimeStamp.*, SignatureDoesNotMatch, IncompleteSignature or SignatureNonceUsed.
    """
    _check_time(claim.timestamp, now)
    if claim.scheme == BEARER:
        _check_body(request)
    elif claim.scheme == _ACS3:
        _verify_acs3(request, key)
    else:
        _verify_rpc(request.method, claim.parameters, key)
    nonces.spend(claim.access_key_id, claim.nonce, now)


def _check_time(timestamp: str, now: float) -> None:
    try:
        at = datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError as err:
        message = "Specified time stamp or date value is not well formatted."
        raise ApiError(400, "InvalidTimeStamp.Format", message) from err
    if abs(now - at) > MAX_SKEW_S:
        raise ApiError(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")


def _mismatch() -> ApiError:
    message = "Specified signature is not matched with our calculation. server string to sign is:(not shown)"
    return ApiError(400, "SignatureDoesNotMatch", message)


def _encode(text: str) -> str:
    """Percent-encode by RFC 3986: letters, digits and `-_.~` stay, everything else is encoded in upper case."""
    return quote(text, safe="-_.~")


# RPC


def _rpc_claim(request: Request) -> Claim:
    parameters = request.parameters
    access_key_id = claimed(request)[1]
    for name in _RPC_REQUIRED:
        if not (access_key_id if name == "AccessKeyId" else parameters.get(name)):
            raise missing_parameter(name)
    return Claim(
        "RPC",
        parameters["Action"],
        parameters["Version"],
        access_key_id,
        parameters["Timestamp"],
        parameters["SignatureNonce"],
        parameters,
        parameters.get("SecurityToken", ""),
    )


def rpc_string_to_sign(method: str, parameters: Mapping[str, str]) -> str:
    """Return `METHOD&%2F&` and the encoded canonical query of all parameters but the signature, in byte order of names."""
    pairs = sorted((name, value) for name, value in parameters.items() if name != "Signature")
    canonical = "&".join(f"{_encode(name)}={_encode(value)}" for name, value in pairs)
    return f"{method}&%2F&{_encode(canonical)}"


def _verify_rpc(method: str, parameters: Mapping[str, str], key: Caller) -> None:
    if parameters["SignatureVersion"] != "1.0":
        raise ApiError(400, "InvalidParameter", "The specified parameter SignatureVersion is not valid.")
    text = rpc_string_to_sign(method, parameters).encode()
    kind = (parameters["SignatureMethod"], parameters.get("SignatureType", ""))
    try:
        given = base64.b64decode(parameters["Signature"], validate=True)
    except (binascii.Error, ValueError) as err:
        raise _mismatch() from err
    if isinstance(key, ClientKey | RsaKeyPair) and kind == ("SHA256withRSA", "PRIVATEKEY"):
        try:
            key.public_key.verify(given, text, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature as err:
            raise _mismatch() from err
    elif isinstance(key, AccessKey | Session) and kind == ("HMAC-SHA1", ""):
        secret = (key.access_key_secret + "&").encode()
        if not hmac.compare_digest(hmac.digest(secret, text, "sha1"), given):
            raise _mismatch()
    else:
        raise ApiError(400, "InvalidParameter", f"The signature method {kind} does not fit the access key.")


# ACS3


def _acs3_claim(request: Request, authorization: str) -> Claim:
    match = _ACS3_PATTERN.fullmatch(authorization)
    if match is None:
        raise ApiError(400, "IncompleteSignature", "The request signature does not conform to Aliyun standards.")
    if request.headers.get("x-acs-accesskey-id", match["key"]) != match["key"]:
        message = "The header x-acs-accesskey-id names another access key than the signature."
        raise ApiError(400, "InvalidSecurityToken.MismatchWithAccessKey", message)
    return _header_claim(request, _ACS3, match["key"], request.headers.get("x-acs-security-token", ""))


def _bearer_claim(request: Request) -> Claim:
    """Return the claim of a bearer token in a header, announced in the query (RPC style) or another header (ROA style)."""
    kinds = (request.parameters.get("SignatureType"), request.headers.get("x-acs-signature-type"))
    if BEARER not in kinds:
        raise missing_parameter("SignatureType")
    return _header_claim(request, BEARER, "", request.headers["x-acs-bearer-token"])


def _header_claim(request: Request, scheme: str, access_key_id: str, token: str) -> Claim:
    for name in _ACS3_REQUIRED:
        if not request.headers.get(name):
            raise missing_parameter(name)
    headers = request.headers
    return Claim(
        scheme,
        headers["x-acs-action"],
        headers["x-acs-version"],
        access_key_id,
        headers["x-acs-date"],
        headers["x-acs-signature-nonce"],
        request.parameters,
        token,
    )


def acs3_string_to_sign(request: Request, signed_headers: list[str]) -> str:
    """Return the algorithm's name and the hash of the canonical request, built from exactly the headers that were signed."""
    pairs = sorted((_encode(name), _encode(value)) for name, value in request.query_parameters)
    canonical_request = "\n".join(
        (
            request.method,
            request.path or "/",
            "&".join(f"{name}={value}" for name, value in pairs),
            "".join(f"{name}:{request.headers[name].strip()}\n" for name in signed_headers),
            ";".join(signed_headers),
            request.headers["x-acs-content-sha256"],
        )
    )
    return f"{_ACS3}\n{hashlib.sha256(canonical_request.encode()).hexdigest()}"


def _check_body(request: Request) -> None:
    if hashlib.sha256(request.body).hexdigest() != request.headers["x-acs-content-sha256"].lower():
        raise _mismatch()


def _verify_acs3(request: Request, key: Caller) -> None:
    match = _ACS3_PATTERN.fullmatch(request.headers["authorization"])
    if match is None or not isinstance(key, AccessKey | Session):
        raise ApiError(400, "InvalidParameter", f"The signature method {_ACS3} does not fit the access key.")
    signed = match["headers"].split(";")
    must = {"host"} | {name for name in request.headers if name.startswith("x-acs-") or name == "content-type"}
    forgotten = sorted(must - set(signed)) or sorted(set(signed) - set(request.headers))
    if forgotten or signed != sorted(set(signed)):
        message = f"The signed headers are incomplete or not in order: {' '.join(forgotten)}"
        raise ApiError(400, "IncompleteSignature", message)
    _check_body(request)
    text = acs3_string_to_sign(request, signed).encode()
    expected = hmac.new(key.access_key_secret.encode(), text, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), match["signature"].encode()):
        raise _mismatch()
