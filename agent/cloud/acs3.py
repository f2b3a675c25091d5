"""ACS3-HMAC-SHA256, the signature of Alibaba's present APIs. Pure: time and nonce are arguments.

Source: Alibaba Cloud, "V3 request body and signature mechanism"; checked against requests signed by
alibabacloud-tea-openapi 0.4.6, which the tests keep as frozen samples.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

from agent.core.credential import Credential
from agent.core.timestamps import rfc3339

ALGORITHM = "ACS3-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Signed:
    """A request ready to be sent. The headers hold the signature and perhaps a token: not shown."""

    query: str
    headers: Mapping[str, str] = field(repr=False)


def sign(
    action: str,
    version: str,
    params: Mapping[str, str],
    identity: Credential,
    *,
    host: str,
    at: datetime,
    nonce: str,
    body: bytes = b"",
) -> Signed:
    """Sign a POST to `/` with all parameters in the query, as the generated SDKs send RPC calls.

    Args:
        host: as in the Host header: "host", or "host:port" where the port is not 443.
        at: the wall clock; the service refuses more than 15 minutes of skew.
        nonce: never used before with this key.
    """
    headers = {
        "accept": "application/json",
        "host": host,
        "x-acs-action": action,
        "x-acs-content-sha256": hashlib.sha256(body).hexdigest(),
        "x-acs-date": rfc3339(at),
        "x-acs-signature-nonce": nonce,
        "x-acs-version": version,
    }
    if identity.security_token is not None:
        headers["x-acs-accesskey-id"] = identity.access_key_id
        headers["x-acs-security-token"] = identity.security_token.reveal()
    secret = identity.access_key_secret.reveal() if identity.access_key_secret else ""
    query = canonical_query(params)
    headers["Authorization"] = authorization(query, headers, identity.access_key_id, secret)
    return Signed(query, headers)


def canonical_query(params: Mapping[str, str]) -> str:
    """Return the query in its canonical form, which is signed: sorted by name, RFC 3986 percent-encoding."""
    return "&".join(f"{_encode(name)}={_encode(params[name])}" for name in sorted(params))


def authorization(query: str, headers: Mapping[str, str], access_key_id: str, secret: str) -> str:
    """Return the Authorization header over a canonical query and all of `headers` (names in lower case)."""
    names = sorted(headers)
    signed = ";".join(names)
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
    request = f"POST\n/\n{query}\n{lines}\n{signed}\n{headers['x-acs-content-sha256']}"
    text = f"{ALGORITHM}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return f"{ALGORITHM} Credential={access_key_id},SignedHeaders={signed},Signature={signature}"


def _encode(text: str) -> str:
    return quote(text, safe="~")
