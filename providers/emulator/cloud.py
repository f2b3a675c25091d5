"""The emulated cloud account: users, keys, secrets and their rotation. No sockets, no clock of its own, thread-safe.

A test reads like the story it tells::

    cloud = Cloud()
    cloud.add_user("uploader")
    cloud.add_ram_secret("uploader-ak", user="uploader")
    cloud.rotate("uploader-ak")
    cloud.fail_next(503, times=2)

Decisions that Alibaba's documentation leaves open, and how the emulator takes them:

* ACSCurrent flips to the new key at the start of a rotation; the old key lives on for `old_key_life_s`, and so long the
  rotation counts as running.
* The code of the refusal of a second rotation is undocumented (only its sentence is), so `overlap_status` and
  `overlap_code` can be set.
* `rotate()` is the schedule of KMS itself and works any number of times in quick succession: each replaced key lives
  its full life, so keys that wait for their death do not count against the limit of two keys per user. The API
  (`request_rotation`) keeps to the limit.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cryptography.hazmat.primitives.asymmetric import rsa

from .calls import Call, CallLog
from .errors import ApiError
from .faults import Fault, FaultQueue, FaultRule, default_code
from .model import AccessKey, ClientKey, Secret, SecretVersion, User, random_text

__all__ = ["Cloud"]

MAX_KEYS_PER_USER = 2
ROTATIONS_PER_HOUR = 50


class Cloud:
    """One account in one region.

    Attributes:
        propagation_delay_s: how long a key made from now on stays unknown to the services.
        old_key_life_s: how long a replaced key lives on; KMS documents 48 hours.
        disable_delay_s: how long a key that is set Inactive still works.
        allow_overlapping_rotation: whether the API accepts a rotation while one runs, at the price of the oldest key.
        overlap_status: the HTTP status of the refusal otherwise.
        overlap_code: and its code.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.time,
        *,
        propagation_delay_s: float = 0.0,
        old_key_life_s: float = 48 * 3600.0,
        account_id: str = "1234567890123456",
        region_id: str = "cn-hangzhou",
    ) -> None:
        """Start with an empty account; `now` gives epoch seconds."""
        self.now = now
        self.propagation_delay_s = propagation_delay_s
        self.old_key_life_s = old_key_life_s
        self.disable_delay_s = 0.0
        self.allow_overlapping_rotation = False
        self.overlap_status = 409
        self.overlap_code = "Rejected.Unavailable"
        self.account_id = account_id
        self.region_id = region_id
        self.log = CallLog()
        self.faults = FaultQueue()
        self._lock = threading.RLock()
        self._users: dict[str, User] = {}
        self._access_keys: dict[str, AccessKey] = {}
        self._client_keys: dict[str, ClientKey] = {}
        self._secrets: dict[str, Secret] = {}
        self._requested_rotations: deque[float] = deque()

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
        """The user, or 404 EntityNotExist.User."""
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

    # Keys

    def add_access_key(
        self, user: str, *, access_key_id: str | None = None, access_key_secret: str | None = None
    ) -> AccessKey:
        """Make a key for `user`; it works after `propagation_delay_s`. A third key is refused (409, RAM doc)."""
        with self._lock:
            self.user(user)
            if len(self.keys_of(user)) >= MAX_KEYS_PER_USER:
                raise _too_many_keys()
            return self._make_key(user, access_key_id, access_key_secret)

    def keys_of(self, user: str) -> list[AccessKey]:
        """The keys that `user` owns now, oldest first."""
        with self._lock:
            now = self.now()
            return [key for key in self._access_keys.values() if key.user == user and key.alive(now)]

    def access_key(self, access_key_id: str) -> AccessKey:
        """The key while it exists, or 404 EntityNotExist.User.AccessKey."""
        with self._lock:
            key = self._access_keys.get(access_key_id)
            if key is None or not key.alive(self.now()):
                raise ApiError(404, "EntityNotExist.User.AccessKey", "The specified AccessKey does not exist.")
            return key

    def set_status(self, access_key_id: str, status: str) -> None:
        """Set a key Active or Inactive; Inactive takes effect after `disable_delay_s`."""
        if status not in ("Active", "Inactive"):
            raise ApiError(400, "InvalidParameter.Status", "The Status must be Active or Inactive.")
        with self._lock:
            key = self.access_key(access_key_id)
            if status != key.status:
                key.status = status
                key.inactive_from = self.now() + self.disable_delay_s if status == "Inactive" else None

    def delete_access_key(self, access_key_id: str) -> None:
        """Remove a key at once."""
        with self._lock:
            self.access_key(access_key_id).dies_at = self.now()

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
        """All ClientKeys, oldest first."""
        with self._lock:
            return list(self._client_keys.values())

    def authenticate(self, access_key_id: str) -> AccessKey | ClientKey:
        """Who owns this id now. Not the proof: the signature is checked by others.

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
            key = self._access_keys.get(access_key_id)
            if key is None or now < key.usable_at or not key.alive(now):
                raise ApiError(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
            if key.inactive_from is not None and now >= key.inactive_from:
                raise _inactive()
            return key

    # Secrets

    def add_ram_secret(self, name: str, *, user: str) -> Secret:
        """Put the newest key of `user` under the care of KMS; user and key are made if there are none."""
        with self._lock:
            self.add_user(user)
            keys = self.keys_of(user)
            key = keys[-1] if keys else self._make_key(user)
            secret = Secret(name, "RAMCredentials", self.now(), user)
            secret.add(SecretVersion.of_key(str(uuid.uuid4()), key, self.now()))
            self._secrets[name] = secret
            return secret

    def add_generic_secret(self, name: str, text: str, version_id: str = "v1") -> Secret:
        """Store a text under `name`."""
        with self._lock:
            secret = Secret(name, "Generic", self.now())
            self._secrets[name] = secret
            self.put_secret_value(name, text, version_id)
            return secret

    def put_secret_value(self, name: str, text: str, version_id: str | None = None) -> SecretVersion:
        """Give a generic secret a new value, which becomes ACSCurrent."""
        with self._lock:
            version = SecretVersion(version_id or str(uuid.uuid4()), text, self.now())
            self.secret(name).add(version)
            return version

    def secret(self, name: str) -> Secret:
        """The secret of this name or ARN (`acs:kms:REGION:ACCOUNT:secret/NAME`), or 404 Forbidden.ResourceNotFound."""
        with self._lock:
            bare = name.partition(":secret/")[2] if name.startswith("acs:kms:") else name
            if bare not in self._secrets:
                raise ApiError(404, "Forbidden.ResourceNotFound", "Resource not found.")
            return self._secrets[bare]

    def current_key(self, secret: str) -> AccessKey:
        """The AccessKey that `secret` hands out now."""
        with self._lock:
            key = self.secret(secret).current.access_key
            if key is None:
                raise ValueError(f"{secret} is no RAM secret")
            return key

    # Rotation

    def rotate(self, secret: str, version_id: str | None = None) -> AccessKey:
        """Rotate as KMS does on its schedule, at any time and any number of times; returns the new key."""
        with self._lock:
            found = self.secret(secret)
            old = self.current_key(secret)
            now = self.now()
            key = self._make_key(old.user)
            found.add(SecretVersion.of_key(version_id or str(uuid.uuid4()), key, now))
            found.last_rotated_at = now
            end = now + self.old_key_life_s
            old.dies_at = end if old.dies_at is None else min(old.dies_at, end)
            return key

    def request_rotation(self, secret: str, version_id: str) -> SecretVersion:
        """What the API RotateSecret does; a version id that the secret has used already changes nothing.

        Raises:
            ApiError: for a generic secret, more than 50 rotations an hour (429), a rotation that is under way, or a key
                of the same user that KMS does not manage and that leaves no room for a new one.
        """
        with self._lock:
            found = self.secret(secret)
            if not found.managed:
                raise ApiError(409, "Rejected.UnsupportedOperation", "This type of secret does not support rotation.")
            if version_id in found.used_version_ids:
                return next(version for version in found.versions if version.version_id == version_id)
            self._check_quota()
            if found.rotating(self.now()) and not self.allow_overlapping_rotation:
                message = "Your secret is being rotated, please try again later."
                raise ApiError(self.overlap_status, self.overlap_code, message)
            self._make_room(found)
            self._requested_rotations.append(self.now())
            self.rotate(secret, version_id)
            return found.current

    def _check_quota(self) -> None:
        """50 rotations per hour and account (KMS doc, performance data)."""
        recent = self._requested_rotations
        while recent and recent[0] <= self.now() - 3600:
            recent.popleft()
        if len(recent) >= ROTATIONS_PER_HOUR:
            raise ApiError(429, "Rejected.Throttling", "QPS Limit Exceeded")

    def _make_room(self, secret: Secret) -> None:
        """Delete the oldest replaced keys until a new one fits; a key that KMS does not manage blocks (KMS FAQ)."""
        now = self.now()
        managed = {version.access_key.access_key_id for version in secret.versions if version.access_key}
        keys = self.keys_of(secret.user or "")
        while len(keys) >= MAX_KEYS_PER_USER:
            oldest = next((key for key in keys[:-1] if key.access_key_id in managed and key.dying(now)), None)
            if oldest is None:
                raise _too_many_keys()
            oldest.dies_at = now
            keys.remove(oldest)

    def _make_key(self, user: str, key_id: str | None = None, secret: str | None = None) -> AccessKey:
        key_id, secret, now = key_id or "LTAI5t" + random_text(18), secret or random_text(30), self.now()
        key = AccessKey(key_id, secret, user, now, now + self.propagation_delay_s)
        self._access_keys[key.access_key_id] = key
        return key

    # Faults and records

    def fail_next(
        self,
        status: int,
        code: str | None = None,
        *,
        times: int = 1,
        action: str | None = None,
        message: str = "Ordered.",
    ) -> None:
        """Let the next `times` calls (of `action`) fail with `status` and `code`."""
        self.faults.add(FaultRule(Fault.STATUS, action, status, code or default_code(status), message), times)

    def inject(
        self, fault: Fault, *, times: int = 1, action: str | None = None, body: bytes | str | None = None
    ) -> None:
        """Let the next `times` calls (of `action`) suffer `fault`; `body` replaces the fault's own."""
        data = body.encode() if isinstance(body, str) else body
        self.faults.add(FaultRule(fault, action, body=data), times)

    @property
    def calls(self) -> list[Call]:
        """The calls so far, oldest first (the newest ten thousand)."""
        return self.log.since(0)

    def refused(self, access_key_id: str | None = None) -> list[Call]:
        """The calls that were told no, all or those of one key."""
        return [call for call in self.calls if call.refused and access_key_id in (None, call.access_key_id)]


def _too_many_keys() -> ApiError:
    message = "The count of AccessKeys of the user beyond the current limits."
    return ApiError(409, "LimitExceeded.User.AccessKey", message)


def _inactive() -> ApiError:
    return ApiError(403, "InvalidAccessKeyId.Inactive", "Specified access key is disabled.")
