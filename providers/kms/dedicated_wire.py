"""The three protobuf messages with which the dedicated gateway reads a secret: pure, strict and limited in size.

Field numbers: `api.proto` of alibabacloud-dkms-gcs 1.0.2 (`openapi_util/protobuf/api_pb2.py`), messages
GetSecretValueRequest, GetSecretValueResponse and Error; all flat, texts and one bool. Rejected, the generated module:

* It costs 2.9 MB resident in a daemon of 40 MB (measured: protobuf 3.20.3, pure Python); its client 17 MB.
* It cannot be imported beside protobuf 4 or later ("Descriptors cannot be created directly"), and protobuf 3.20, which it
  therefore needs, gets no fixes any more.
* It lies in a top-level package named `openapi_util`, a name that any other distribution may take.

tests/providers/kms/test_dedicated_wire.py holds this module against those classes, both ways. Stricter than they are: a field of
ours with another wire type, a text that is not UTF-8, a group, and more fields than any reply has are refused. Unknown
fields are skipped, and of a repeated single field the last one counts, as protobuf demands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

MAX_FIELDS = 1000
"""The most fields that are read. A reply has 13, some of them repeated."""

REPLY = {
    1: "SecretName",
    2: "SecretType",
    3: "SecretData",
    4: "SecretDataType",
    6: "VersionId",
    8: "RequestId",
    11: "ExtendedConfig",
}
"""Field numbers of the texts of GetSecretValueResponse that are read; the stages and the dates are not."""

ERROR = {2: "Code", 3: "Message", 4: "RequestId"}
"""Field numbers of the texts of Error, with the names that they have in the shared gateway's JSON."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_NUMBER = (1 << 29) - 1


class MalformedError(ValueError):
    """The bytes are not such a message. The text does not quote them."""


def get_secret_value_request(secret_name: str, version_stage: str) -> bytes:
    """Encode GetSecretValueRequest, with the extended config asked for, as the official client does."""
    return _text(1, secret_name) + _text(2, version_stage) + bytes(((4 << 3) | _VARINT, 1))


def read_texts(message: bytes, names: Mapping[int, str]) -> dict[str, str]:
    """Return the texts of a message that `names` lists and that are not empty.

    Raises:
        MalformedError: it is not such a message.
    """
    found: dict[str, str] = {}
    for number, value in _fields(message):
        if number not in names:
            continue
        if value is None:
            raise MalformedError
        found[names[number]] = _decoded(value)
    return {name: text for name, text in found.items() if text}


def _text(number: int, text: str) -> bytes:
    """Return the bytes of a text field; none for an empty text, which is the default."""
    value = text.encode()
    return bytes(((number << 3) | _BYTES,)) + _varint(len(value)) + value if value else b""


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*encoded, value))


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        pass
    raise MalformedError  # out here: the decoder's exception holds the bytes


def _fields(message: bytes) -> Iterator[tuple[int, bytes | None]]:
    """Yield each field's number with its bytes, or None where its value is a number."""
    at, count = 0, 0
    while at < len(message):
        count += 1
        key, at = _read_varint(message, at)
        number, kind = key >> 3, key & 7
        if not 1 <= number <= _MAX_NUMBER or count > MAX_FIELDS:
            raise MalformedError
        value, at = _value(message, at, kind)
        yield number, value


def _value(message: bytes, at: int, kind: int) -> tuple[bytes | None, int]:
    """Return the value of a field that begins at `at`, and where the next field begins."""
    if kind == _VARINT:
        return None, _read_varint(message, at)[1]
    if kind == _BYTES:
        size, at = _read_varint(message, at)
    elif kind in (_FIXED64, _FIXED32):
        size = 8 if kind == _FIXED64 else 4
    else:  # a group: proto3 has none
        raise MalformedError
    if size > len(message) - at:
        raise MalformedError
    return (message[at : at + size] if kind == _BYTES else None), at + size


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift, byte in zip(range(0, 70, 7), message[at : at + 10], strict=False):
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + shift // 7 + 1
    raise MalformedError
