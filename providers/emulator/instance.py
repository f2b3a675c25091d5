"""The virtual machine of the emulated account: the role that it carries, its metadata, and a credentials URI."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from .errors import ApiError
from .federation import Federation
from .model import AccessKey, Role, Session, random_text

__all__ = ["Instance", "UriCredential"]

RENEWED_BEFORE_S = 1800.0
"""Seconds before the end of an instance's session at which the next one is there at the latest."""

MAX_TOKEN_TTL_S = 21_600

UriCredential = AccessKey | Session | Callable[[], AccessKey | Session] | None


class Instance(Federation):
    """One instance. `Cloud` is one of these; its attributes are described there."""

    def __init__(self, now: Callable[[], float] = time.time, *, account_id: str, region_id: str) -> None:
        """Start without a role on the instance, and with nothing at the credentials URI."""
        super().__init__(now, account_id=account_id, region_id=region_id)
        self.imds_v1 = True
        self.metadata_session_life_s = 6 * 3600.0
        self.uri_credential: UriCredential = None
        self.uri_key_life_s = 3600.0
        self.uri_queries: deque[str] = deque(maxlen=1000)
        self._instance_role: Role | None = None
        self._instance_session: Session | None = None
        self._instance_life_s = 0.0
        self._metadata_tokens: dict[str, float] = {}

    # The role of the instance

    def set_instance_role(self, name: str | None) -> None:
        """Attach a role to the instance, or none.

        Raises:
            ApiError: 404 for an unknown role, 403 for one that does not trust `ecs`.
        """
        with self._lock:
            role = None if name is None else self.role(self.role_arn(name))
            if role is not None and not role.trusts("ecs", "Service", "ecs.aliyuncs.com", {}):
                raise ApiError(403, "InvalidRamRole.NotEcsRole", "The trust policy of the role does not name ECS.")
            self._instance_role, self._instance_session = role, None

    @property
    def instance_role(self) -> Role | None:
        """The role that the instance carries."""
        return self._instance_role

    def instance_session(self) -> Session:
        """Return the session that the metadata service hands out now: the same until shortly before its end.

        Raises:
            ApiError: 404 when the instance has no role.
        """
        with self._lock:
            if self._instance_role is None:
                raise ApiError(404, "NotFound", "The instance has no role.")
            session = self._instance_session
            if session is None or self.now() >= session.expires_at - min(RENEWED_BEFORE_S, self._instance_life_s / 2):
                session = self.rotate_instance_session()
            return session

    def rotate_instance_session(self) -> Session:
        """Hand out a new session from now on. The old one goes on working until its end."""
        with self._lock:
            if self._instance_role is None:
                raise ApiError(404, "NotFound", "The instance has no role.")
            made = self.new_session(self._instance_role, "i-emulated", self.metadata_session_life_s)
            self._instance_life_s = made.expires_at - self.now()
            self._instance_session = made
            return made

    # Tokens of the hardened mode

    def new_metadata_token(self, ttl: str) -> str:
        """Return a token for `ttl` seconds, 1 to 21600 (ECS doc), or raise 400."""
        if not (ttl.isascii() and ttl.isdecimal() and len(ttl) < 6 and 1 <= int(ttl) <= MAX_TOKEN_TTL_S):
            raise ApiError(400, "BadRequest", "The time to live must be a number from 1 to 21600.")
        with self._lock:
            now = self.now()
            self._metadata_tokens = {token: end for token, end in self._metadata_tokens.items() if now < end}
            token = random_text(56)
            self._metadata_tokens[token] = now + int(ttl)
            return token

    def check_metadata_token(self, token: str) -> None:
        """Refuse, with 403, a request that has no token or an old one, unless `imds_v1` lets everybody in."""
        with self._lock:
            if not self.imds_v1 and self.now() >= self._metadata_tokens.get(token, float("-inf")):
                raise ApiError(403, "Forbidden", "The metadata token is missing or has expired.")

    # The credentials URI

    def uri_answer(self) -> tuple[AccessKey | Session, float]:
        """Return the answer of the credentials URI and its expiration (epoch seconds); a key lives for `uri_key_life_s`.

        Raises:
            ApiError: 404 when nothing was put there.
        """
        with self._lock:
            found = self.uri_credential
            value = found() if callable(found) else found
            if value is None:
                raise ApiError(404, "NotFound", "There are no credentials at this address.")
            return value, value.expires_at if isinstance(value, Session) else self.now() + self.uri_key_life_s
