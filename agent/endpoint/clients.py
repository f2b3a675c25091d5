"""Who asks, by its User-Agent, and how it uses the answer: how long before the expiry it asks again, what it does not take.

As measured with these versions, each against this endpoint (docs/endpoint.md): alibabacloud_credentials 1.0.12 for Python,
credentials-go 1.4.12, credentials-java 1.0.6, credentials-php 1.2.3, @alicloud/credentials 2.4.7 for Node, oss2 2.19.1, ossutil
1.7.20. A client that is not known gets the widest window: it asks later than it could, where too narrow a one would have it ask
before each request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

WIDEST_S = 900.0
"""The SDKs for Python, PHP, Node and Java: 15 minutes."""


@dataclass(frozen=True, slots=True)
class Client:
    """One kind of client.

    Attributes:
        name: for the log.
        window_s: how long before the expiry that it was told it asks again, in seconds.
        takes_keys: whether it takes an answer without a session token. Node's SDK does not, and puts the whole answer, the secret
            included, into the text of its exception.
        share: the share of the time from `LastUpdated` to `Expiration` that is left when it asks again; None for a client that
            goes by seconds.
    """

    name: str
    window_s: float = WIDEST_S
    takes_keys: bool = True
    share: float | None = None


UNKNOWN = Client("unknown")
SILENT = Client("without a User-Agent", takes_keys=False)
"""Node's SDK says nothing of itself."""

_KNOWN: tuple[tuple[re.Pattern[str], Client], ...] = (
    (re.compile(r"AlibabaCloud \(.*\) Golang/"), Client("Go", window_s=180.0)),
    (re.compile(r"AlibabaCloud \(.*\) (Python|PHP|Java)/"), Client("Python, PHP or Java")),
    # oss2's EcsRamRoleCredentialsProvider: asks again in the last 15 % of what it takes for the whole life (oss2/credentials.py).
    (re.compile(r"python-requests/"), Client("oss2", share=0.15)),
    # ossutil 1 (lib/ecs_role.go), and Alibaba's CLI and Terraform, which ask once.
    (re.compile(r"Go-http-client/"), Client("ossutil 1", window_s=60.0)),
)


def client_of(headers: Mapping[str, str]) -> Client:
    """Return which client a request comes from.

    Args:
        headers: of the request, with lower-case names.
    """
    name = headers.get("user-agent", "")
    if not name:
        return SILENT
    return next((client for pattern, client in _KNOWN if pattern.match(name)), UNKNOWN)
