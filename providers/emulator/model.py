"""The objects of the emulated cloud: users, roles, keys, sessions, secrets. Plain values without rules."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import choice

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from .policies import AccessRule, Policy, Trust

__all__ = [
    "AccessKey",
    "BearerToken",
    "Caller",
    "ClientKey",
    "Role",
    "RsaKeyPair",
    "Secret",
    "SecretVersion",
    "Session",
    "User",
    "iso",
    "random_text",
]

_ALPHANUMERIC = string.ascii_letters + string.digits


def iso(at: float) -> str:
    """Return an instant as Alibaba's APIs write it: UTC, seconds, `Z`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def random_text(length: int) -> str:
    """Return random letters and digits, like those of AccessKey ids and secrets."""
    return "".join(choice(_ALPHANUMERIC) for _ in range(length))


def _permits(allowed: set[str], action: str) -> bool:
    return bool({action, action.split(":")[0] + ":*", "*"} & allowed)


@dataclass
class User:
    """A RAM user and the actions that its policies allow, for example `kms:RotateSecret` or `kms:*`.

    `policies` are documents that are attached besides, by their names.
    """

    name: str
    user_id: str
    allowed: set[str] = field(default_factory=set)
    policies: dict[str, Policy] = field(default_factory=dict)

    def may(self, action: str) -> bool:
        """Return whether a policy of this user allows `action`."""
        return _permits(self.allowed, action)


@dataclass
class Role:
    """A RAM role: the actions that its policies allow, who may assume it, and its longest session.

    `trusted` holds names of users and roles, `ecs` for instances and `oidc:PROVIDER`; empty, it trusts everybody. A trust
    policy (`trust`) takes its place. The
    longest session of a role is between 3600 and 43200 seconds (RAM doc, MaxSessionDuration).
    """

    name: str
    role_id: str
    allowed: set[str] = field(default_factory=set)
    trusted: set[str] = field(default_factory=set)
    max_session_s: float = 43_200
    external_id: str | None = None
    attached: bool = True
    policies: dict[str, Policy] = field(default_factory=dict)
    trust: Trust | None = None

    def may(self, action: str) -> bool:
        """Return whether a policy of this role allows `action`."""
        return _permits(self.allowed, action)

    def trusts(self, name: str, kind: str, principal: str, context: Mapping[str, str]) -> bool:
        """Return whether the role may be assumed.

        Args:
            name: as in `trusted`; where that is empty and there is no document, everybody is trusted.
            kind: of the principal, in the words of a trust policy's document.
            principal: its name there, such as an ARN.
            context: condition key -> value of this call.
        """
        if self.trust is not None:
            return self.trust.admits(kind, principal, context)
        return not self.trusted or name in self.trusted


@dataclass
class AccessKey:
    """A long-term key of a RAM user."""

    access_key_id: str
    access_key_secret: str = field(repr=False)
    user: str
    created_at: float
    usable_at: float
    status: str = "Active"
    inactive_from: float | None = None
    dies_at: float | None = None
    restricted: bool = False
    recycled_at: float | None = None
    listed_from: float = 0.0
    listed_until: float | None = None
    listed_status: str = "Active"
    status_listed_from: float = 0.0

    def alive(self, now: float) -> bool:
        """Return whether the key exists at all; one that is not usable yet does."""
        return self.dies_at is None or now < self.dies_at

    def listed(self, now: float) -> bool:
        """Return whether the list of the user's keys has it; the list may lag behind."""
        if self.listed_until is not None:
            return self.listed_from <= now < self.listed_until
        return self.alive(now) and self.listed_from <= now

    def status_in_list(self, now: float) -> str:
        """Return the status that the list shows; it may lag behind."""
        return self.status if now >= self.status_listed_from else self.listed_status

    def dying(self, now: float) -> bool:
        """Return whether a rotation has replaced the key and lets it live on for a while."""
        return self.dies_at is not None and now < self.dies_at


@dataclass
class Session:
    """A session of limited life, as STS hands it out: an id, a secret and a token that belong together.

    The session of an RSA key pair is one too, but has no token (`security_token` is empty then).
    """

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str = field(repr=False)
    expires_at: float
    principal: User | Role
    role_session_name: str = ""
    issued_at: float = 0.0
    revoked: bool = False

    def expired(self, now: float) -> bool:
        """Return whether the life of the session is over."""
        return now >= self.expires_at


@dataclass
class RsaKeyPair:
    """An RSA key pair of a RAM user, which can ask for sessions and do nothing else (`GenerateSessionAccessKey`)."""

    public_key_id: str
    user: str
    private_key: RSAPrivateKey = field(repr=False)

    @property
    def public_key(self) -> RSAPublicKey:
        """The half that RAM keeps."""
        return self.private_key.public_key()


@dataclass(frozen=True)
class BearerToken:
    """A token that stands for a RAM user; nothing is signed with it."""

    token: str = field(repr=False)
    user: str


@dataclass
class ClientKey:
    """The key of an application access point (AAP): an id that starts with `KAAP.` and an RSA key pair.

    KMS keeps no copy of the private key (KMS doc on ClientKeys). The emulator also plays the console that hands the key
    out as a file, so it has `private_key` where it made the key itself.
    """

    key_id: str
    public_key: RSAPublicKey
    private_key: RSAPrivateKey | None = field(default=None, repr=False)
    status: str = "Active"
    expires_at: float | None = None
    rules: list[AccessRule] = field(default_factory=list)

    def may_read(self, secret: str) -> bool:
        """Return whether the access point lets the key read a secret; one without rules lets it read all."""
        return not self.rules or any(rule.opens(secret) for rule in self.rules)

    def usable(self, now: float) -> bool:
        """Return whether the key is neither disabled nor expired."""
        return self.status == "Active" and (self.expires_at is None or now < self.expires_at)


Caller = AccessKey | BearerToken | ClientKey | RsaKeyPair | Session
"""The callers that a request can come from."""


@dataclass(frozen=True)
class SecretVersion:
    """One value of a secret. `access_key` is set for managed RAM secrets."""

    version_id: str
    data: str = field(repr=False)
    created_at: float
    access_key: AccessKey | None = None

    @classmethod
    def of_key(cls, version_id: str, key: AccessKey, now: float) -> SecretVersion:
        """Return a version of a RAM secret; KMS stores the key as JSON text with these three fields (KMS doc, RAM secrets)."""
        data = {
            "AccessKeyId": key.access_key_id,
            "AccessKeySecret": key.access_key_secret,
            "GenerateTimestamp": iso(key.created_at),
        }
        return cls(version_id, json.dumps(data, separators=(",", ":")), now, key)


@dataclass
class Secret:
    """A secret with its versions, oldest first: the last is ACSCurrent, the one before it ACSPrevious."""

    name: str
    secret_type: str
    created_at: float
    user: str | None = None
    versions: list[SecretVersion] = field(default_factory=list)
    used_version_ids: set[str] = field(default_factory=set)
    last_rotated_at: float | None = None
    rotation_interval_s: int = 604_800

    @property
    def managed(self) -> bool:
        """Whether KMS itself rotates the secret (a RAM secret)."""
        return self.secret_type == "RAMCredentials"

    @property
    def current(self) -> SecretVersion:
        """The version with the stage ACSCurrent."""
        return self.versions[-1]

    def add(self, version: SecretVersion) -> None:
        """Make `version` ACSCurrent, at once."""
        self.versions.append(version)
        self.used_version_ids.add(version.version_id)

    def stages(self, now: float) -> dict[str, SecretVersion]:
        """Return stage -> version; the value of a RAM key that is gone is dropped (KMS doc, RAM secrets)."""
        found = {"ACSCurrent": self.versions[-1]}
        if len(self.versions) > 1:
            previous = self.versions[-2]
            if previous.access_key is None or previous.access_key.alive(now):
                found["ACSPrevious"] = previous
        return found

    def rotating(self, now: float) -> bool:
        """Return whether a rotation is under way: a replaced key still lives."""
        return any(version.access_key is not None and version.access_key.dying(now) for version in self.versions)
