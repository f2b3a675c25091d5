"""The emulated account: RAM users with their permissions, AccessKeys, ClientKeys, RSA key pairs and bearer tokens."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from .errors import ApiError
from .model import AccessKey, BearerToken, Caller, ClientKey, Role, RsaKeyPair, User, iso, random_text
from .policies import AccessRule, Policy, Trust, verdict

__all__ = ["MAX_KEYS_PER_USER", "RECYCLED_S", "Account", "no_such_key", "too_many_keys"]

MAX_KEYS_PER_USER = 2
RECYCLED_S, RECYCLED_PER_USER = 30 * 86400.0, 3
"""RAM, recycle bin: how long a deleted key is kept there, and how many of one user."""


class Account:
    """Users and keys. `Cloud` is an account; its attributes are described there."""

    def __init__(self, now: Callable[[], float] = time.time, *, account_id: str, region_id: str) -> None:
        """Start with nobody; `now` gives epoch seconds."""
        self.now = now
        self.account_id = account_id
        self.region_id = region_id
        self.propagation_delay_s = 0.0
        self.disable_delay_s = 0.0
        self.list_delay_s = 0.0
        self._lock = threading.RLock()
        self._users: dict[str, User] = {}
        self._access_keys: dict[str, AccessKey] = {}
        self._client_keys: dict[str, ClientKey] = {}
        self._rsa_key_pairs: dict[str, RsaKeyPair] = {}
        self._bearer_tokens: dict[str, BearerToken] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the account still, for a reader that needs several facts of one moment."""
        with self._lock:
            yield

    # Users and what they may do

    def add_user(self, name: str, *allowed: str) -> User:
        """Make a RAM user, unless there is one, that may do `allowed` (`"kms:RotateSecret"`, `"kms:*"`)."""
        with self._lock:
            user = self._users.setdefault(name, User(name, user_id="2" + str(uuid.uuid4().int)[:17]))
            user.allowed.update(allowed)
            return user

    def user(self, name: str) -> User:
        """Return the user, or raise 404 EntityNotExist.User."""
        with self._lock:
            if name not in self._users:
                raise ApiError(404, "EntityNotExist.User", f"The user does not exist: {name}.")
            return self._users[name]

    def allow(self, user: str, *actions: str) -> None:
        """Let `user` do `actions` too."""
        with self._lock:
            self.user(user).allowed.update(actions)

    def forbid(self, user: str, *actions: str) -> None:
        """Take `actions` from what `user` may do."""
        with self._lock:
            self.user(user).allowed.difference_update(actions)

    def attach_policy(self, principal: User | Role, document: str | Mapping[str, Any], name: str = "policy") -> None:
        """Attach a policy document to a user or role, in place of the one of this name.

        From then on only its documents count, and no longer the actions that it was made with.

        Raises:
            ValueError: it is none, or says what the emulator does not know.
        """
        policy = Policy.parse(document)
        with self._lock:
            principal.policies[name] = policy

    def trust(self, role: Role, document: str | Mapping[str, Any]) -> None:
        """Give a role this trust policy, in place of whom it trusted.

        Raises:
            ValueError: it is none, or says what the emulator does not know.
        """
        with self._lock:
            role.trust = Trust.parse(document)

    def denial(self, principal: User | Role, action: str, resource: str) -> str:
        """Return how a principal is denied an action, as RAM names it; "" where it may do it."""
        with self._lock:
            if not principal.policies:
                return "" if principal.may(action) else "ImplicitDeny"
            context = {"acs:CurrentTime": iso(self.now()), "acs:SecureTransport": "true"}
            return verdict(tuple(principal.policies.values()), action, resource, context)

    def attach_rule(self, client_key_id: str, permission: str, *resources: str) -> None:
        """Give the access point of a ClientKey a permission policy; without one, the key may read every secret.

        Args:
            client_key_id: of the key.
            permission: an RBAC permission.
            resources: such as "secret/uploader-ak".
        """
        rule = AccessRule(permission, resources)
        with self._lock:
            self._client_keys[client_key_id].rules.append(rule)

    # Keys

    def add_access_key(
        self, user: str, *, access_key_id: str | None = None, access_key_secret: str | None = None
    ) -> AccessKey:
        """Make a key for `user`; it works after `propagation_delay_s`. A third key is refused (409, RAM doc)."""
        with self._lock:
            self.user(user)
            if len(self.keys_of(user)) >= MAX_KEYS_PER_USER:
                raise too_many_keys()
            return self._make_key(user, access_key_id, access_key_secret)

    def keys_of(self, user: str) -> list[AccessKey]:
        """Return the keys that `user` owns now, oldest first."""
        with self._lock:
            now = self.now()
            return [key for key in self._access_keys.values() if key.user == user and key.alive(now)]

    def listed_keys(self, user: str) -> list[AccessKey]:
        """Return the keys that ListAccessKeys shows of `user`, oldest first: those of `list_delay_s` ago."""
        with self._lock:
            now = self.now()
            return [key for key in self._access_keys.values() if key.user == user and key.listed(now)]

    def access_key(self, access_key_id: str) -> AccessKey:
        """Return the key while it exists, or raise 404 EntityNotExist.User.AccessKey."""
        with self._lock:
            key = self._access_keys.get(access_key_id)
            if key is None or not key.alive(self.now()):
                raise no_such_key()
            return key

    def set_status(self, access_key_id: str, status: str) -> None:
        """Set a key Active or Inactive; Inactive takes effect after `disable_delay_s`."""
        if status not in ("Active", "Inactive"):
            raise ApiError(400, "InvalidParameter.Status", "The Status must be Active or Inactive.")
        with self._lock:
            key = self.access_key(access_key_id)
            if status != key.status:
                now = self.now()
                key.listed_status, key.status_listed_from = key.status_in_list(now), now + self.list_delay_s
                key.status = status
                key.inactive_from = self.now() + self.disable_delay_s if status == "Inactive" else None

    def restrict_access_key(self, access_key_id: str) -> None:
        """Put a key under restrictive protection, as Alibaba does with one that it found in public. It is not lifted."""
        with self._lock:
            self.access_key(access_key_id).restricted = True

    def delete_access_key(self, access_key_id: str) -> None:
        """Remove a key at once."""
        with self._lock:
            self.access_key(access_key_id).dies_at = self.now()

    def recycle_access_key(self, access_key_id: str) -> None:
        """Remove a key as RAM's DeleteAccessKey does: only a disabled one, which goes to the recycle bin.

        Raises:
            ApiError: 409 for an active one; the code is not documented, only that a key is disabled first (RAM doc).
        """
        with self._lock:
            key = self.access_key(access_key_id)
            if key.status != "Inactive":
                raise ApiError(409, "DeleteConflict.AccessKey.Active", "The AccessKey must be disabled first.")
            now = self.now()
            key.dies_at = key.recycled_at = now
            key.listed_until = now + self.list_delay_s
            for one in self._bin_of(key.user)[RECYCLED_PER_USER:]:
                one.recycled_at = None

    def recycled_keys(self, user_id: str) -> list[AccessKey]:
        """Return the keys in the recycle bin that belonged to the user with this id, the newest first.

        There are three at most: a fourth pushes out what was deleted first (RAM doc).

        Raises:
            ApiError: 404 EntityNotExist.User.
        """
        with self._lock:
            return self._bin_of(self.user_with_id(user_id).name)

    def restore_access_key(self, user_id: str, access_key_id: str) -> None:
        """Take a key out of the recycle bin. It comes back disabled, as it went in.

        Raises:
            ApiError: 404 EntityNotExist.User or EntityNotExist.User.AccessKey; 409 where the user has two keys. The codes of
                RestoreAccessKeyFromRecycleBin are not documented.
        """
        with self._lock:
            key = next((one for one in self.recycled_keys(user_id) if one.access_key_id == access_key_id), None)
            if key is None:
                raise no_such_key()
            if len(self.keys_of(key.user)) >= MAX_KEYS_PER_USER:
                raise too_many_keys()
            key.dies_at = key.recycled_at = key.listed_until = None
            key.listed_from = self.now() + self.list_delay_s

    def user_with_id(self, user_id: str) -> User:
        """Return the user, or raise 404 EntityNotExist.User."""
        with self._lock:
            found = next((user for user in self._users.values() if user.user_id == user_id), None)
            if found is None:
                raise ApiError(404, "EntityNotExist.User", f"The user does not exist: {user_id}.")
            return found

    def add_client_key(
        self,
        *,
        key_id: str | None = None,
        private_key: rsa.RSAPrivateKey | None = None,
        public_key: rsa.RSAPublicKey | None = None,
        expires_at: float | None = None,
    ) -> ClientKey:
        """Make a ClientKey, which may call GetSecretValue and nothing else; or take one that exists already."""
        if public_key is None:
            private_key = private_key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
            public_key = private_key.public_key()
        key = ClientKey(key_id or f"KAAP.{uuid.uuid4()}", public_key, private_key, expires_at=expires_at)
        with self._lock:
            self._client_keys[key.key_id] = key
        return key

    def client_keys(self) -> list[ClientKey]:
        """Return all ClientKeys, oldest first."""
        with self._lock:
            return list(self._client_keys.values())

    def add_rsa_key_pair(self, user: str, *, private_key: rsa.RSAPrivateKey | None = None) -> RsaKeyPair:
        """Make an RSA key pair for `user`, or take a private key that exists already."""
        key = private_key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
        with self._lock:
            pair = RsaKeyPair("LTRSA." + random_text(20), self.user(user).name, key)
            self._rsa_key_pairs[pair.public_key_id] = pair
            return pair

    def add_bearer_token(self, user: str) -> str:
        """Make a bearer token that stands for `user`."""
        with self._lock:
            made = BearerToken(random_text(64), self.user(user).name)
            self._bearer_tokens[made.token] = made
            return made.token

    def bearer(self, token: str) -> BearerToken:
        """Return the bearer token, or raise 403 InvalidBearerToken (an undocumented code)."""
        with self._lock:
            if token not in self._bearer_tokens:
                raise ApiError(403, "InvalidBearerToken", "Specified bearer token is invalid.")
            return self._bearer_tokens[token]

    def authenticate(self, access_key_id: str) -> Caller:
        """Return the key or token with this id. This proves nothing: signatures are checked elsewhere.

        Raises:
            ApiError: 404 InvalidAccessKeyId.NotFound for an unknown, dead or not yet usable key; 403
                InvalidAccessKeyId.Inactive for one that is disabled or expired (KMS and common error codes).
        """
        with self._lock:
            now = self.now()
            client_key = self._client_keys.get(access_key_id)
            if client_key is not None:
                if not client_key.usable(now):
                    raise _inactive()
                return client_key
            if access_key_id in self._rsa_key_pairs:
                return self._rsa_key_pairs[access_key_id]
            key = self._access_keys.get(access_key_id)
            if key is None or now < key.usable_at or not key.alive(now):
                raise ApiError(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
            if key.inactive_from is not None and now >= key.inactive_from:
                raise _inactive()
            return key

    def _bin_of(self, user: str) -> list[AccessKey]:
        kept = [
            (key.recycled_at, key)
            for key in self._access_keys.values()
            if key.user == user and key.recycled_at is not None and self.now() < key.recycled_at + RECYCLED_S
        ]
        return [key for _at, key in sorted(reversed(kept), key=lambda pair: pair[0], reverse=True)]

    def _make_key(self, user: str, key_id: str | None = None, secret: str | None = None) -> AccessKey:
        key_id, secret, now = key_id or "LTAI5t" + random_text(18), secret or random_text(30), self.now()
        # Without a delay, a key works also for a clock that is set back afterwards: its time is what gets refused then.
        usable_at = now + self.propagation_delay_s if self.propagation_delay_s else 0.0
        key = AccessKey(key_id, secret, user, now, usable_at)
        key.listed_from = now + self.list_delay_s if self.list_delay_s else 0.0
        self._access_keys[key.access_key_id] = key
        return key


def no_such_key() -> ApiError:
    """Return the refusal of a key that its user does not have (RAM doc)."""
    return ApiError(404, "EntityNotExist.User.AccessKey", "The specified AccessKey does not exist.")


def too_many_keys() -> ApiError:
    """Return the refusal of a third key (RAM doc)."""
    message = "The count of AccessKeys of the user beyond the current limits."
    return ApiError(409, "LimitExceeded.User.AccessKey", message)


def _inactive() -> ApiError:
    return ApiError(403, "InvalidAccessKeyId.Inactive", "Specified access key is disabled.")
