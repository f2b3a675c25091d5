"""The emulated cloud account: secrets and their rotation, on top of users, keys, roles, sessions and an instance.

It has no sockets and no clock of its own, and is thread-safe. Users and keys are in `account.py`, sessions in
`sessions.py`, OIDC in `federation.py`, the virtual machine in `instance.py`.

A test reads like the story it tells::

    cloud = Cloud()
    cloud.add_user("uploader")
    cloud.add_ram_secret("uploader-ak", user="uploader")
    cloud.rotate("uploader-ak")
    cloud.fail_next(503, times=2)

Decisions where Alibaba's documentation says nothing:

* ACSCurrent becomes the new key at the start of a rotation; the old key lives on for `old_key_life_s`, and for that
  long the rotation counts as running.
* The code of the refusal of a second rotation is undocumented (only its sentence is), so `overlap_status` and
  `overlap_code` can be set.
* `rotate()` is the schedule of KMS itself and works any number of times in quick succession: each replaced key lives
  its full life, so keys that wait for their death do not count against the limit of two keys per user. The API
  (`request_rotation`) keeps to the limit.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable

from .account import MAX_KEYS_PER_USER, too_many_keys
from .calls import Call, CallLog
from .errors import ApiError
from .faults import Fault, FaultQueue, FaultRule, default_code
from .instance import Instance
from .model import AccessKey, Secret, SecretVersion

__all__ = ["Cloud"]

ROTATIONS_PER_HOUR = 50


class Cloud(Instance):
    """One account in one region.

    Attributes:
        propagation_delay_s: how long a key made from now on stays unknown to the services.
        old_key_life_s: how long a replaced key lives on; KMS documents 48 hours.
        disable_delay_s: how long a key that is set Inactive still works.
        list_delay_s: how long what becomes of a key from now on is missing from ListAccessKeys.
        allow_overlapping_rotation: whether the API accepts a rotation while one runs, at the price of the oldest key.
        overlap_status: the HTTP status of the refusal otherwise.
        overlap_code: and its code.
        min_session_s: the shortest session that STS grants.
        session_life_s: the life of every session made from now on, whatever was asked for; None: what was asked for.
        imds_v1: whether the metadata service answers requests without a token.
        metadata_session_life_s: the life of the sessions of the instance.
        uri_credential: what the credentials URI hands out, or a function that gives it.
        uri_key_life_s: for how long the credentials URI says that an AccessKey is good.
        uri_queries: the query strings with which the credentials URI was called, oldest first.
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
        super().__init__(now, account_id=account_id, region_id=region_id)
        self.propagation_delay_s = propagation_delay_s
        self.old_key_life_s = old_key_life_s
        self.allow_overlapping_rotation = False
        self.overlap_status = 409
        self.overlap_code = "Rejected.Unavailable"
        self.log = CallLog()
        self.faults = FaultQueue()
        self._secrets: dict[str, Secret] = {}
        self._requested_rotations: deque[float] = deque()

    # Secrets

    def add_ram_secret(self, name: str, *, user: str) -> Secret:
        """Have KMS manage the newest key of `user`; user and key are made if there are none."""
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
        """Return the secret of this name or ARN (`acs:kms:REGION:ACCOUNT:secret/NAME`), or 404 Forbidden.ResourceNotFound."""
        with self._lock:
            bare = name.partition(":secret/")[2] if name.startswith("acs:kms:") else name
            if bare not in self._secrets:
                raise ApiError(404, "Forbidden.ResourceNotFound", "Resource not found.")
            return self._secrets[bare]

    def current_key(self, secret: str) -> AccessKey:
        """Return the AccessKey that `secret` hands out now."""
        with self._lock:
            key = self.secret(secret).current.access_key
            if key is None:
                raise ValueError(f"{secret} is no RAM secret")
            return key

    # Rotation

    def rotate(self, secret: str, version_id: str | None = None) -> AccessKey:
        """Rotate as KMS does on its schedule, at any time and any number of times, and return the new key."""
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
        """Rotate as the API RotateSecret does; a version id that the secret has used already changes nothing.

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
        """Refuse more than 50 rotations per hour and account (KMS doc, performance data)."""
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
                raise too_many_keys()
            oldest.dies_at = now
            keys.remove(oldest)

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

    def calls_of(self, action: str) -> list[Call]:
        """Return the calls of one action, oldest first."""
        return [call for call in self.calls if call.action == action]

    def refused(self, access_key_id: str | None = None) -> list[Call]:
        """Return the calls that were refused, all or those of one key."""
        return [call for call in self.calls if call.refused and access_key_id in (None, call.access_key_id)]
