"""The documents that a client gets: its format, and the expiry that makes it ask again in time. Pure functions.

Alibaba's clients keep an answer until shortly before the expiry that it names. So the expiry decides when they ask again:
named is the earlier of the real one and now + the client's own window + `hold`, and a client that is in use asks again
`hold` after its last question, whatever the key's real life is. A long-term key, which has no expiry, gets one that way.

Long-term keys are answered without a token: `mode` AK, and no `sts_token`, since the SDKs take an empty one for none and
the CLI would sign with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from agent.core.credential import Credential, Kind, part
from agent.core.errors import SourceRefusedError
from agent.core.timestamps import rfc3339


class Format(StrEnum):
    """The formats of `keyturn credential --format`."""

    EXTERNAL = "external"
    """`process_command` of a profile in mode External: the SDKs for Python, Go, Java, Node and C#, and Alibaba's CLI."""
    OSSFS = "ossfs"
    """`credential_process` of ossfs 2.0.5 and later."""
    URI = "uri"
    """What a credentials URI answers."""
    ENV = "env"
    """Lines for a shell or an env file, without an expiry."""


EXTERNAL_WINDOW_S = 180.0
"""alibabacloud_credentials 1.0.12 for Python, provider/external.py:28-31 (Node: src/providers/external.ts:8; Go:
external.go:163-179; Java: ExternalCredentialsProvider.java:142-149; C#: ExternalCredentialProvider.cs:240)."""
URI_WINDOW_S = 900.0
"""The widest: Python, Java, Node and PHP (alibabacloud_credentials 1.0.12 for Python, provider/uri.py:15-18)."""
OSSFS_WINDOW_S = 180.0
"""ossfs 2.0.7 looks every 15 s and asks while less than 20 minutes are left (src/credentials/creds_provider.cpp:46-83), so
each time; a window of 20 minutes would have the end of an old key wait that long for an ossfs that died."""
WINDOWS_S: Mapping[Format, float] = {
    Format.EXTERNAL: EXTERNAL_WINDOW_S,
    Format.OSSFS: OSSFS_WINDOW_S,
    Format.URI: URI_WINDOW_S,
    Format.ENV: 0.0,  # nobody asks again: what reads it is started anew
}
"""How long before the named expiry the clients of a format ask again, in seconds."""

HOLD_S = 60.0
"""How long a client may keep an answer where the config says nothing."""
EMERGENCY_HOLD_S = 5.0
"""How long it may while an emergency runs."""


def named_expiry(real: datetime | None, now: datetime, window_s: float, hold_s: float) -> datetime:
    """Return the expiry that a document names: no later than the real one."""
    asked_again = now + timedelta(seconds=window_s + hold_s)
    return asked_again if real is None else min(real, asked_again)


def document(value: Credential, form: Format, expiry: datetime) -> bytes:
    """Return the document of a value, whole and ending in a line feed.

    Args:
        value: a key or a session.
        form: the format.
        expiry: what the document names; written in whole seconds, rounded down.

    Raises:
        SourceRefusedError: the value is a bearer token, or has no secret: no format can hold it.
    """
    secret = part(value, "access_key_secret")
    if value.kind is Kind.BEARER or not value.access_key_id or secret is None:
        raise SourceRefusedError(
            f"the value is of kind {value.kind}, which no format of `keyturn credential` can hold",
            "publish it by a sink, such as a template",
        )
    token = part(value, "security_token")
    if form is Format.ENV:
        return _env(value.access_key_id, secret, token)
    shape = {Format.EXTERNAL: _external, Format.OSSFS: _ossfs, Format.URI: _uri}[form]
    return json.dumps(shape(value.access_key_id, secret, token, rfc3339(expiry))).encode() + b"\n"


def _external(key_id: str, secret: str, token: str | None, expiry: str) -> dict[str, str]:
    mode = {"mode": "AK"} if token is None else {"mode": "StsToken"}
    answer = {**mode, "access_key_id": key_id, "access_key_secret": secret}
    return {**answer, **({} if token is None else {"sts_token": token}), "expiration": expiry}


def _ossfs(key_id: str, secret: str, token: str | None, expiry: str) -> dict[str, str]:
    answer = {"AccessKeyId": key_id, "AccessKeySecret": secret}
    return {**answer, **({} if token is None else {"SecurityToken": token}), "Expiration": expiry}


def _uri(key_id: str, secret: str, token: str | None, expiry: str) -> dict[str, str]:
    return {
        "Code": "Success",
        "AccessKeyId": key_id,
        "AccessKeySecret": secret,
        "SecurityToken": token or "",  # the SDK for Python demands the key
        "Expiration": expiry,
    }


def _env(key_id: str, secret: str, token: str | None) -> bytes:
    """Return lines that a shell, systemd, docker and dotenv read alike; quoted where a shell would take a letter for its own."""
    values = {
        "ALIBABA_CLOUD_ACCESS_KEY_ID": key_id,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": secret,
        "ALIBABA_CLOUD_SECURITY_TOKEN": token,
    }
    return "".join(f"{name}={_quoted(value)}\n" for name, value in values.items() if value is not None).encode()


def _quoted(value: str) -> str:
    if value.isascii() and all(letter.isalnum() or letter in "+/=._:-" for letter in value):
        return value
    return "'" + value.replace("'", "'\\''") + "'"
