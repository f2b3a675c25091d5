"""The protobuf of the dedicated gateway, held against the classes that Alibaba generated (alibabacloud-dkms-gcs 1.0.2)."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from openapi_util.client import Client as OfficialCodec
from openapi_util.protobuf import api_pb2

from providers.kms.dedicated_wire import ERROR, MAX_FIELDS, REPLY, MalformedError, get_secret_value_request, read_texts

TEXT = st.text(max_size=300)
TEXTS = (
    "SecretName",
    "SecretType",
    "SecretData",
    "SecretDataType",
    "VersionId",
    "CreateTime",
    "RequestId",
    "LastRotationDate",
    "NextRotationDate",
    "ExtendedConfig",
    "AutomaticRotation",
    "RotationInterval",
)


def official_request(secret_name: str, version_stage: str) -> bytes:
    asked = {"SecretName": secret_name, "VersionStage": version_stage, "FetchExtendedConfig": True}
    encoded: bytes = OfficialCodec.get_serialized_get_secret_value_request(asked)
    return encoded


def official_reply(**fields: Any) -> bytes:
    encoded: bytes = api_pb2.GetSecretValueResponse(**fields).SerializeToString()
    return encoded


def official_texts(message: bytes) -> dict[str, str]:
    """What the official client reads, without what is empty; {} for what it refuses."""
    found = OfficialCodec.parse_get_secret_value_response(message)
    return {name: found[name] for name in REPLY.values() if found[name]}


@given(TEXT, TEXT)
def test_a_request_is_the_official_clients(secret_name: str, version_stage: str) -> None:
    """The same bytes for the same question, empty and long texts included."""
    assert get_secret_value_request(secret_name, version_stage) == official_request(secret_name, version_stage)


@given(st.fixed_dictionaries({name: TEXT for name in TEXTS}), st.lists(TEXT, max_size=3))
def test_a_reply_is_read_as_the_official_client_reads_it(fields: dict[str, str], stages: list[str]) -> None:
    """Every text that we use arrives whole, whatever else the reply holds."""
    message = official_reply(**fields, VersionStages=stages)
    assert read_texts(message, REPLY) == {name: fields[name] for name in REPLY.values() if fields[name]}


@given(st.integers(-(2**31), 2**31 - 1), TEXT, TEXT, TEXT)
def test_an_error_is_read_as_the_official_client_reads_it(status: int, code: str, message: str, request: str) -> None:
    """Code, message and request id; the status may be negative and is skipped."""
    error = api_pb2.Error(StatusCode=status, ErrorCode=code, ErrorMessage=message, RequestId=request)
    told = {"Code": code, "Message": message, "RequestId": request}
    assert read_texts(error.SerializeToString(), ERROR) == {name: text for name, text in told.items() if text}


UNKNOWN = {
    "a number": b"\xf8\x01\x96\x01",
    "eight bytes": b"\xf9\x01" + b"\xff" * 8,
    "four bytes": b"\xfd\x01" + b"\xff" * 4,
    "bytes that are no text": b"\xfa\x01\x02\xff\xfe",
    "the largest number of a field": b"\xf8\xff\xff\xff\x0f\x00",
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_a_newer_server_adds_is_skipped(kind: str) -> None:
    """A field that we do not know hides none of ours, before or behind it."""
    ours = official_reply(SecretData="data", VersionId="v")
    for message in (UNKNOWN[kind] + ours, ours + UNKNOWN[kind]):
        assert read_texts(message, REPLY) == official_texts(message) == {"SecretData": "data", "VersionId": "v"}


def test_the_last_of_two_counts() -> None:
    """As protobuf demands of every reader."""
    assert read_texts(b"\x1a\x01a\x1a\x01b", REPLY) == official_texts(b"\x1a\x01a\x1a\x01b") == {"SecretData": "b"}


def test_an_empty_text_is_none() -> None:
    """Written out or left out, it means the same to protobuf; so a SecretDataType of "" is the default."""
    assert read_texts(b"\x1a\x00\x22\x00\x32\x01v", REPLY) == {"VersionId": "v"}


MALFORMED = {
    "a field cut short": b"\x1a\x05abc",
    "a length without an end": b"\x1a" + b"\xff" * 11,
    "a length past the end": b"\x1a\xff\xff\xff\xff\x0f",
    "half a key": b"\x80",
    "the field 0": b"\x02\x01a",
    "a field beyond the largest": b"\xfa\xff\xff\xff\x1f\x01a",
    "four bytes of which three came": b"\xfd\x01\x00\x00\x00",
    "eight bytes of which none came": b"\xf9\x01",
    "a group": b"\x1b\x1c",
    "the end of a group": b"\x1c",
    "a wire type that does not exist": b"\x1e\x00",
    "a number where a text belongs": b"\x18\x01",
    "a text that is not UTF-8": b"\x1a\x02\xff\xfe",
    "more fields than any reply has": b"\xf8\x01\x00" * (MAX_FIELDS + 1),
    "JSON": b'{"SecretData": "Canary"}',
    "HTML": b"<html>Canary</html>",
}


@pytest.mark.parametrize("story", MALFORMED)
def test_rubbish_is_refused_without_a_word_of_it(story: str) -> None:
    """One exception, which holds nothing of the message."""
    with pytest.raises(MalformedError) as caught:
        read_texts(MALFORMED[story], REPLY)
    assert str(caught.value) == ""
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_as_many_fields_as_allowed_are_read() -> None:
    """The bound is a bound, not less."""
    message = b"\xf8\x01\x00" * (MAX_FIELDS - 1) + b"\x1a\x01a"
    assert read_texts(message, REPLY) == {"SecretData": "a"}


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read_as_the_official_client_does(message: bytes) -> None:
    """No bytes make the reader fail in another way, or read what the official client does not."""
    try:
        found, official = read_texts(message, REPLY), official_texts(message)
    except (MalformedError, DecodeError, RuntimeError):
        return
    assert found == official
