"""The JSON in which a metadata server, a credentials URI and an external process return a credential, parsed strictly.

Formats: alibabacloud-credentials 1.0.12, `provider/ecs_ram_role.py`, `provider/uri.py` and `provider/external.py`. Two
rules differ from that library's. The time must be RFC 3339 with a zone (it accepts `…Z` only). And an AccessKey
without a token lives until it is rotated, whatever `Expiration` says: the library's protocol demands that field, so
servers put the time of the next request into it. Keys that do expire without a token begin with `TMP` (STS,
GenerateSessionAccessKey). Errors never quote an answer, and only name what is missing in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from agent.cloud.failures import json_object
from agent.core.credential import Credential
from agent.core.errors import (
    BadAnswerError,
    KeyturnError,
    NotPermittedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from agent.core.secret import Secret
from agent.core.timestamps import moment_of

ANSWER_LIMIT_BYTES = 256 * 1024
"""Room for an id, a secret and a token of the 64 KiB each that a credential may have."""

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Fields(NamedTuple):
    """The names of the parts in an answer."""

    access_key_id: str
    access_key_secret: str
    security_token: str
    expiration: str


CLOUD = Fields("AccessKeyId", "AccessKeySecret", "SecurityToken", "Expiration")
EXTERNAL = Fields("access_key_id", "access_key_secret", "sts_token", "expiration")


def object_of(body: bytes, source: str) -> dict[str, object]:
    """Parse an answer.

    Args:
        body: all of it.
        source: the server, for the message.

    Raises:
        BadAnswerError: it is no JSON object.
    """
    answer = json_object(body)
    if answer is None:
        raise bad_answer(source, "is not a JSON object")
    return answer


def cloud_object(body: bytes, source: str) -> dict[str, object]:
    """Parse an answer whose `Code` tells success from failure.

    Raises:
        BadAnswerError: it is no JSON object, or has no Code.
        SourceRefusedError: its Code is not "Success".
    """
    answer = object_of(body, source)
    code = answer.get("Code")
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise bad_answer(source, 'has no Code (want "Success")')
    if code != "Success":
        raise SourceRefusedError(f"{source} refuses: {code}", "look the code up, and at the role or server", code=code)
    return answer


def credential_of(answer: Mapping[str, object], fields: Fields, source: str) -> Credential:
    """Take the parts out of an answer; a missing or empty token means an AccessKey.

    Raises:
        BadAnswerError: a part is missing or of another type; the text names it, not its value.
    """
    access_key_id = _text(answer, fields.access_key_id, source)
    token = _optional(answer, fields.security_token, source)
    expiration = _optional(answer, fields.expiration, source)
    dies = bool(token) or access_key_id.startswith("TMP")
    return Credential(
        access_key_id=access_key_id,
        access_key_secret=Secret(_text(answer, fields.access_key_secret, source)),
        security_token=Secret(token) if token else None,
        expiration=_moment(expiration, fields.expiration, source) if expiration and dies else None,
    )


def require_session(found: Credential, fields: Fields, source: str) -> None:
    """Refuse a session without an end.

    Raises:
        BadAnswerError: there is a token and no expiration.
    """
    if found.security_token is not None and found.expiration is None:
        raise bad_answer(source, f"has a {fields.security_token} and no {fields.expiration}")


def status_error(status: int, source: str, remedy: str) -> KeyturnError:
    """Return the error for an answer over HTTP whose status is not 200.

    Args:
        status: the answer's.
        source: the server.
        remedy: what to do about a refusal.
    """
    said = f"{source} answers with HTTP {status}"
    if status == 429 or status >= 500:
        return SourceUnavailableError(said, "it is tried again by itself")
    if status < 400:
        return BadAnswerError(said + ", which is not followed", "check that it is the server that you mean")
    return NotPermittedError(said, remedy) if status in (401, 403) else SourceRefusedError(said, remedy)


def _moment(text: str, name: str, source: str) -> datetime:
    moment = moment_of(text)
    if moment is None:
        raise bad_answer(source, f"has an {name} that is not a time like 2026-01-01T00:00:00Z")
    return moment


def _text(answer: Mapping[str, object], name: str, source: str) -> str:
    value = _optional(answer, name, source)
    if not value:
        raise bad_answer(source, f"has no {name}")
    return value


def _optional(answer: Mapping[str, object], name: str, source: str) -> str:
    value = answer.get(name)
    if value is not None and not isinstance(value, str):
        raise bad_answer(source, f"has {'an' if name[0] in 'AEae' else 'a'} {name} that is not a text")
    return value or ""


def bad_answer(source: str, what: str) -> BadAnswerError:
    """Return the error for an answer that cannot be used."""
    return BadAnswerError(f"the answer of {source} {what}", "look at what answers there; the value in use stays")
