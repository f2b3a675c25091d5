"""One frozen value per generation. Sinks render from it and ask nobody, so key A never meets secret B."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from agent.core.secret import Secret
from agent.core.timestamps import rfc3339

SESSION = "STS."
"""How the id of a session's key begins (Alibaba Cloud, STS)."""


class Kind(StrEnum):
    """The kind of a value; the names are those of Alibaba's SDKs (`type` in credentials.ini)."""

    ACCESS_KEY = "access_key"
    STS = "sts"
    BEARER = "bearer"


@dataclass(frozen=True, slots=True)
class Credential:
    """One value of a credential, as its source gave it.

    Attributes:
        access_key_id: not secret by itself; the audit and the logs name keys by it. Empty for a bearer token.
        expiration: when the source says the value dies, UTC-aware; None for one that lives until rotated.
        version_id: the source's name for this value (KMS VersionId); empty where it has none.
        ram_user_name: whose AccessKey it is, where the source says so (the secret's ExtendedConfig).
        created_at: when the key was made, UTC-aware, where the source says so.
        request_id: the cloud's name for the call that brought this answer; "" where it was not asked.
    """

    access_key_id: str = ""
    access_key_secret: Secret | None = None
    security_token: Secret | None = None
    bearer_token: Secret | None = None
    expiration: datetime | None = None
    version_id: str = ""
    ram_user_name: str = field(default="", compare=False)
    created_at: datetime | None = field(default=None, compare=False)
    request_id: str = field(default="", compare=False)

    @property
    def kind(self) -> Kind:
        """The kind of this value."""
        if self.bearer_token is not None:
            return Kind.BEARER
        return Kind.STS if self.security_token is not None else Kind.ACCESS_KEY


PARTS = ("access_key_id", "access_key_secret", "security_token", "bearer_token", "expiration")
"""The names by which sinks, templates and config refer to the parts of a value."""


def part(credential: Credential, name: str) -> str | None:
    """Return one part in the clear, or None where this value has no such part.

    Raises:
        KeyError: `name` is not one of `PARTS`.
    """
    if name not in PARTS:
        raise KeyError(name)
    value = getattr(credential, name)
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, datetime):
        return rfc3339(value)
    return value or None
