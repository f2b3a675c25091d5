"""The gateway of a dedicated KMS instance, by the official client, and by requests that are wrong in one respect."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from openapi.models import Config
from openapi_util.protobuf import api_pb2
from sdk.client import Client
from sdk.models import GetSecretValueRequest
from Tea.exceptions import TeaException, UnretryableException

from providers.emulator import Fault
from providers.emulator.protobuf import decode, encode

if TYPE_CHECKING:
    from .conftest import World

SECRET = "uploader-ak"


@pytest.fixture
def client(world: World) -> Client:
    """The official client of dedicated instances, with the ClientKey of the world, trusting its CA only.

    Its signer adds PKCS#1 armour, so that is the form which the key must have (with any recent `cryptography`).
    """
    key = world.cloud.client_keys()[-1]
    assert key.private_key is not None
    der = key.private_key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return Client(
        Config(
            protocol="https",
            endpoint=world.server.endpoint,
            region_id="cn-hangzhou",
            access_key_id=key.key_id,
            private_key=base64.b64encode(der).decode(),
            ca_file_path=str(world.files.ca),
            read_timeout=5000,
            connect_timeout=5000,
        )
    )


def request_for(
    name: str = SECRET, stage: str | None = None, version: str | None = None, extended: bool = False
) -> Any:
    asked = GetSecretValueRequest(secret_name=name, version_stage=stage, version_id=version)
    asked.fetch_extended_config = extended
    return asked


def refusal(call: Callable[[Any], Any], asked: Any) -> tuple[int, str]:
    with pytest.raises(TeaException) as caught:
        call(asked)
    return caught.value.data["httpCode"], caught.value.code


def test_the_official_client_reads_the_managed_key(world: World, client: Client) -> None:
    """All thirteen fields, the certificate checked; the call is on record under its own name."""
    answer = client.get_secret_value(request_for(stage="ACSCurrent", extended=True))
    value = json.loads(answer.secret_data)
    assert (value["AccessKeyId"], value["AccessKeySecret"]) == (world.key.access_key_id, world.key.access_key_secret)
    assert (answer.secret_name, answer.secret_type, answer.secret_data_type) == (SECRET, "RAMCredentials", "text")
    assert answer.version_stages == ["ACSCurrent"]
    assert answer.version_id == world.cloud.secret(SECRET).current.version_id
    assert json.loads(answer.extended_config)["UserName"] == "uploader"
    assert (answer.automatic_rotation, answer.rotation_interval) == ("Enabled", "604800s")
    assert answer.request_id and answer.create_time and answer.last_rotation_date and answer.next_rotation_date
    key_id = world.cloud.client_keys()[-1].key_id
    assert [(call.action, call.access_key_id, call.status) for call in world.cloud.calls] == [
        ("dkms:GetSecretValue", key_id, 200)
    ]


def test_stages_versions_and_extended_config_are_understood(world: World, client: Client) -> None:
    """The previous version by its stage, a generic one by its id; extended config only where asked for."""
    old = world.key
    world.cloud.rotate(SECRET)
    previous = client.get_secret_value(request_for(stage="ACSPrevious"))
    assert json.loads(previous.secret_data)["AccessKeyId"] == old.access_key_id
    assert previous.extended_config == ""
    world.cloud.add_generic_secret("note", "one", "v1")
    world.cloud.put_secret_value("note", "zwei: ä", "v2")
    assert client.get_secret_value(request_for("note", version="v1")).secret_data == "one"
    assert client.get_secret_value(request_for("note")).secret_data == "zwei: ä"


def test_refusals_are_protobuf_errors(world: World, client: Client) -> None:
    """A missing secret, a disabled key, an unknown key, another private key: status and code as documented."""
    ask = client.get_secret_value
    assert refusal(ask, request_for("nothing")) == (404, "Forbidden.ResourceNotFound")
    assert refusal(ask, request_for("")) == (400, "MissingParameter")
    key = world.cloud.client_keys()[-1]
    key.status = "Inactive"
    assert refusal(ask, request_for()) == (403, "Forbidden.NoPermission")
    key.status = "Active"
    key.public_key = world.cloud.add_client_key().public_key
    assert refusal(ask, request_for()) == (401, "SignatureNotMatch")
    world.cloud._client_keys.clear()
    assert refusal(ask, request_for()) == (404, "Unauthorized")


@pytest.mark.parametrize("minutes", [-20, 20])
def test_a_skewed_clock_is_refused(world: World, client: Client, minutes: int) -> None:
    """More than 15 minutes in either direction: RequestTimeTooSkewed."""
    world.clock.advance(minutes * 60)
    assert refusal(client.get_secret_value, request_for()) == (400, "RequestTimeTooSkewed")


def test_an_ordered_status_is_a_protobuf_error_too(world: World, client: Client) -> None:
    """With its code; throttling is retried by the client until it ends."""
    world.cloud.fail_next(503, action="dkms:GetSecretValue")
    assert refusal(client.get_secret_value, request_for()) == (503, "ServiceUnavailableTemporary")
    world.cloud.fail_next(429, action="dkms:GetSecretValue")
    assert client.get_secret_value(request_for()).secret_name == SECRET


def test_faults_of_the_connection_strike_here_too(world: World, client: Client) -> None:
    """A reset on each of the client's tries."""
    world.cloud.inject(Fault.RESET, action="dkms:GetSecretValue", times=10)
    with pytest.raises(UnretryableException):
        client.get_secret_value(request_for())


# By hand


def signed(world: World, body: bytes, leave_out: str = "", **changes: str) -> requests.Response:
    """A right request, but for `changes` of headers, which are signed as they are."""
    key = world.cloud.client_keys()[-1]
    assert key.private_key is not None
    headers = {
        "accept": "application/x-protobuf",
        "content-type": "application/x-protobuf",
        "date": format_datetime(datetime.now(UTC), usegmt=True),
        "x-kms-apiversion": "dkms-gcs-0.2",
        "x-kms-apiname": "GetSecretValue",
        "x-kms-signaturemethod": "RSA_PKCS1_SHA_256",
        "x-kms-acccesskeyid": key.key_id,
        "content-sha256": hashlib.sha256(body).hexdigest().upper(),
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    ours = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-kms-"))
    text = f"POST\n{headers['content-sha256']}\n{headers['content-type']}\n{headers['date']}\n{ours}/"
    signature = key.private_key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    headers.setdefault("authorization", f"Bearer {base64.b64encode(signature).decode()}")
    headers.pop(leave_out, None)
    return requests.post(world.url(), data=body, headers=headers, verify=str(world.files.ca), timeout=10)


def error_of(reply: requests.Response) -> tuple[int, str]:
    assert reply.headers["Content-Type"] == "application/x-protobuf"
    error = api_pb2.Error()
    error.ParseFromString(reply.content)
    assert error.StatusCode == reply.status_code
    assert error.ErrorMessage and error.RequestId
    return error.StatusCode, error.ErrorCode


BODY = encode([(1, SECRET), (2, "ACSCurrent")])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"x_kms_apiname": "Decrypt"}, (400, "InvalidApiName")),
        ({"x_kms_apiversion": "dkms-gcs-9"}, (400, "InvalidApiVersion")),
        ({"x_kms_signaturemethod": "HMAC"}, (400, "InvalidParam")),
        ({"content_sha256": "00"}, (400, "InvalidParam")),
        ({"date": "yesterday"}, (400, "InvalidParam")),
        ({"content_type": "application/json"}, (415, "InvalidContentType")),
        ({"x_kms_acccesskeyid": "KAAP.unknown"}, (404, "Unauthorized")),
        ({"authorization": "Bearer AAAA"}, (401, "SignatureNotMatch")),
        ({"authorization": "Bearer !"}, (401, "SignatureNotMatch")),
        ({"authorization": "nothing"}, (401, "SignatureNotMatch")),
        ({"x_kms_more": "unsigned"}, None),
    ],
)
def test_each_header_is_looked_at(world: World, changes: dict[str, str], expected: tuple[int, str] | None) -> None:
    """Wrong in one respect, the refusal names it; a further `x-kms-` header is signed like the others."""
    reply = signed(world, BODY, **changes)
    assert (None if reply.status_code == 200 else error_of(reply)) == expected


@pytest.mark.parametrize("header", ["date", "content-sha256", "authorization", "x-kms-signaturemethod"])
def test_each_header_must_be_there(world: World, header: str) -> None:
    """A missing one is a 4xx in protobuf and no crash."""
    assert 400 <= error_of(signed(world, BODY, leave_out=header))[0] < 500


def test_what_is_signed_cannot_be_changed_afterwards(world: World) -> None:
    """Another date with the old signature is refused."""
    other = format_datetime(datetime.now(UTC) - timedelta(minutes=1), usegmt=True)
    good = signed(world, BODY).request.headers["authorization"]
    assert error_of(signed(world, BODY, date=other, authorization=str(good))) == (401, "SignatureNotMatch")


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("PUT", "/"), ("POST", "/other")])
def test_only_post_to_the_root_is_served(world: World, method: str, path: str) -> None:
    """InvalidParam for another method or path, before anything else is looked at."""
    headers = {"content-type": "application/x-protobuf", "x-kms-apiname": "GetSecretValue"}
    reply = requests.request(method, world.url(path), headers=headers, verify=str(world.files.ca), timeout=10)
    assert error_of(reply) == (400, "InvalidParam")
    error = api_pb2.Error.FromString(reply.content)
    assert error.ErrorMessage == "Only POST / is served."


def test_an_access_key_is_no_key_for_an_instance(world: World) -> None:
    """Only ClientKeys are known there."""
    reply = signed(world, BODY, x_kms_acccesskeyid=world.key.access_key_id)
    assert error_of(reply) == (404, "Unauthorized")


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x7f", b"\x0a\x02\xff\xfe", b"\x0b", b"\x80" * 20])
def test_a_body_that_is_no_message_is_refused(world: World, body: bytes) -> None:
    """InvalidParam, whatever the bytes."""
    assert error_of(signed(world, body)) == (400, "InvalidParam")


def test_faults_of_content_are_in_the_language_of_the_gateway(world: World) -> None:
    """Rubbish is no message; the wrong shape is one, but not the one asked for; all say protobuf."""
    for fault, status in ((Fault.WRONG_SHAPE, 200), (Fault.RUBBISH, 200), (Fault.EMPTY, 200), (Fault.REDIRECT, 302)):
        world.cloud.inject(fault, action="dkms:GetSecretValue")
        reply = signed_without_redirects(world)
        assert (reply.status_code, reply.headers["Content-Type"]) == (status, "application/x-protobuf")
        if fault is Fault.WRONG_SHAPE:
            assert decode(reply.content) == [(1, 17), (3, b"\xff\xfe")]
        elif fault is Fault.RUBBISH:
            with pytest.raises(ValueError):
                decode(reply.content)


def signed_without_redirects(world: World) -> requests.Response:
    headers = {"content-type": "application/x-protobuf", "x-kms-apiname": "GetSecretValue"}
    return requests.post(
        world.url(), data=b"", headers=headers, verify=str(world.files.ca), timeout=10, allow_redirects=False
    )


# The encoding


def test_the_encoding_is_that_of_the_official_messages() -> None:
    """Long texts, large numbers, repeated and empty fields, both ways."""
    message = api_pb2.GetSecretValueResponse()
    message.SecretName, message.SecretData, message.VersionStages[:] = "n" * 200, "ä" * 20_000, ["a", "b"]
    fields = [(1, "n" * 200), (3, "ä" * 20_000), (5, "a"), (5, "b"), (6, "")]
    assert encode(fields) == message.SerializeToString()
    error = api_pb2.Error(StatusCode=503, ErrorCode="c")
    assert encode([(1, 503), (2, "c")]) == error.SerializeToString()
    assert decode(error.SerializeToString()) == [(1, 503), (2, b"c")]


def test_unknown_fields_of_every_kind_are_stepped_over() -> None:
    """A newer client may send more; fixed-size numbers are read as bytes."""
    data = encode([(1, "a")]) + bytes([9 << 3 | 1]) + b"12345678" + bytes([8 << 3 | 5]) + b"1234" + encode([(2, "b")])
    assert decode(data) == [(1, b"a"), (9, b"12345678"), (8, b"1234"), (2, b"b")]
