"""The form of a record, and the chain: each record holds the hash of the one before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

import msgspec

from agent.audit.head import Head
from agent.audit.hmac_key import HmacKey
from agent.audit.lines import FIELDS
from agent.core.events import Event
from agent.core.timestamps import rfc3339
from agent.logs.redaction import redacted

NOTHING: Mapping[str, str] = MappingProxyType({})
_canonical = msgspec.json.Encoder(order="sorted").encode
"""`canonical` for text, integers, lists and objects, twenty times as fast; tests/audit/test_audit.py compares them."""


def refuse_unknown(fields: Mapping[str, Any]) -> None:
    """Check what is to be recorded.

    Raises:
        ValueError: it has more than `FIELDS`.
    """
    unknown = set(fields) - set(FIELDS)
    if unknown:
        raise ValueError(f"not fields of an audit record: {sorted(unknown)}")


def follower(
    head: Head,
    time: str,
    event: Event,
    fields: Mapping[str, Any],
    common: Mapping[str, str] = NOTHING,
    key: HmacKey | None = None,
) -> tuple[dict[str, Any], bytes]:
    """Return the record that follows another one, and its line; absent (None) fields are left out.

    Args:
        head: the record before it.
        time: when it happened, as it is to stand there.
        event: what happened.
        fields: what is to be said of it.
        common: what all such records say (agent/audit/origin.py).
        key: authenticates it; None where no key is configured.
    """
    record: dict[str, Any] = {"seq": head.seq + 1, "time": time, "event": str(event), "prev": head.hash, **common}
    record.update({key: plain(value) for key, value in fields.items() if value is not None})
    if key is not None:
        record["hmac"] = key.sign(_canonical(record))
    record["hash"] = hashlib.sha256(_canonical(record)).hexdigest()
    return record, _canonical(record) + b"\n"


def canonical(record: dict[str, Any]) -> bytes:
    """Return a record as canonical JSON: keys sorted, no spaces, UTF-8 unescaped.

    No record of ours has a lone surrogate (`plain`). In a forged one it must not stop the proof, and must not be
    encoded like some other text.
    """
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def digest(record: dict[str, Any]) -> str:
    """Return the SHA-256 of a record without its `hash`."""
    return hashlib.sha256(canonical({key: value for key, value in record.items() if key != "hash"})).hexdigest()


def authenticated(record: dict[str, Any]) -> bytes:
    """Return what a record's `hmac` covers."""
    return canonical({key: value for key, value in record.items() if key not in ("hash", "hmac")})


def faults(record: dict[str, Any], expected: int, previous: Head | None, true_hash: str | None = None) -> Iterator[str]:
    """Yield what is wrong with a record in its place.

    Args:
        record: the record.
        expected: the number that was due.
        previous: the record before it; None where it is not known.
        true_hash: what `digest` makes of it, where that is known.
    """
    seq = record.get("seq")
    if (true_hash or digest(record)) != record.get("hash"):
        yield f"seq {seq}: the record was edited (its hash does not fit its content)"
    if seq != expected:
        if isinstance(seq, int) and seq > expected:
            gone = f"seq {expected}" if seq == expected + 1 else f"seq {expected} to {seq - 1}"
            archived = f"; --from-seq {seq} where they were archived elsewhere" if previous is None else ""
            yield f"{gone} removed (the next record is seq {seq}{archived})"
        else:
            yield f"seq {seq}: out of order (seq {expected} was due here)"
    elif previous is not None and record.get("prev") != previous.hash:
        yield f"seq {seq}: does not follow the record before it (`prev` differs)"


def plain(value: Any) -> Any:
    """Return a value as a record holds it."""
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, str):  # an argument of the command line may hold bytes that are no text (PEP 383)
        return redacted(value if value.isascii() else value.encode("utf-8", "backslashreplace").decode())
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
