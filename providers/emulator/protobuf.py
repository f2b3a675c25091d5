"""Just enough of protobuf's wire format for three messages: varints and length-delimited fields.

It is written by hand so that the emulator needs no protobuf library, whose versions the official client pins. Format:
"Encoding" in the documentation of Protocol Buffers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["Value", "decode", "encode"]

Value = int | str | bytes
_VARINT, _DELIMITED = 0, 2
_FIXED = {1: 8, 5: 4}


def encode(fields: Iterable[tuple[int, Value]]) -> bytes:
    """Encode numbered fields in the order given; empty and zero ones are left out, as in proto3."""
    return b"".join(_field(number, value) for number, value in fields if value)


def decode(data: bytes) -> list[tuple[int, int | bytes]]:
    """Return the numbered fields of a message, in their order; a text comes as its bytes.

    Raises:
        ValueError: this is no message.
    """
    return list(_fields(data))


def _field(number: int, value: Value) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | _DELIMITED) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = _read_varint(data, position)
            yield number, value
            continue
        if kind == _DELIMITED:
            length, position = _read_varint(data, position)
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise ValueError(f"wire type {kind}")
        if number == 0 or position + length > len(data):
            raise ValueError("a field that is not all there")
        yield number, data[position : position + length]
        position += length


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number that is not all there")
