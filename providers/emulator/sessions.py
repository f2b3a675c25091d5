"""Roles and the sessions that STS hands out for them.

Decisions that the documentation leaves open:

* After `detach_policies`, every session of the role is refused with the 403 of a missing permission, whatever it asks
  for, and stays refused for good. RAM's FAQ only says that the tokens become useless.
* A session is usable as soon as it was handed out.
* A session policy must be a JSON object; it narrows nothing here.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterable

from .account import Account
from .errors import ApiError
from .model import Caller, ClientKey, Role, RsaKeyPair, Session, User, random_text

__all__ = ["DEFAULT_SESSION_S", "Sessions", "check_parameters", "untrusted"]

DEFAULT_SESSION_S = 3600.0
MAX_POLICY_CHARS = 2048
MAX_RSA_SESSION_S = 3600.0
_MAX_SESSIONS = 10_000
_ROLE_ARN = re.compile(r"acs:ram::(?P<account>\d+):role/(?P<name>[A-Za-z0-9.\-]{1,64})")
_SESSION_NAME = re.compile(r"[A-Za-z0-9.@\-_]{2,64}")
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)


class Sessions(Account):
    """Roles and sessions. `Cloud` is one of these; its attributes are described there."""

    def __init__(self, now: Callable[[], float] = time.time, *, account_id: str, region_id: str) -> None:
        """Start without a role."""
        super().__init__(now, account_id=account_id, region_id=region_id)
        self.min_session_s = 900.0
        self.session_life_s: float | None = None
        self._roles: dict[str, Role] = {}
        self._sessions: dict[str, Session] = {}

    # Roles

    def add_role(
        self,
        name: str,
        *allowed: str,
        trusted: Iterable[str] = (),
        max_session_s: float = 43_200,
        external_id: str | None = None,
    ) -> Role:
        """Make a role that may do `allowed`; or give one that exists this trust and, besides its own, these policies.

        Args:
            name: of the role.
            allowed: actions, as for a user.
            trusted: names of users and roles, `ecs`, `oidc:PROVIDER`; nobody: whoever is known in this account.
            max_session_s: the longest session.
            external_id: what AssumeRole must say as ExternalId.
        """
        with self._lock:
            role = self._roles.setdefault(name, Role(name, role_id="3" + str(uuid.uuid4().int)[:17]))
            role.allowed.update(allowed)
            role.trusted = set(trusted)
            role.max_session_s, role.external_id, role.attached = max_session_s, external_id, True
            return role

    def role_arn(self, name: str) -> str:
        """Return the ARN of the role of this name, whether it exists or not."""
        return f"acs:ram::{self.account_id}:role/{name}"

    def role(self, arn: str) -> Role:
        """Return the role, or raise 400 InvalidParameter.RoleArn or 404 EntityNotExist.Role (STS error codes)."""
        match = _ROLE_ARN.fullmatch(arn)
        if match is None:
            raise ApiError(400, "InvalidParameter.RoleArn", "The parameter RoleArn is wrongly formed.")
        with self._lock:
            if match["account"] != self.account_id or match["name"] not in self._roles:
                raise ApiError(404, "EntityNotExist.Role", "The specified Role not exists.")
            return self._roles[match["name"]]

    def detach_policies(self, role: str) -> None:
        """Take everything from a role: its sessions, past and coming, are refused (RAM FAQ on issued STS tokens)."""
        with self._lock:
            found = self.role(self.role_arn(role))
            found.allowed.clear()
            found.policies.clear()
            found.attached = False
            for session in self._sessions.values():
                if session.principal is found:
                    session.revoked = True

    # Sessions

    def assume_role(
        self,
        role_arn: str,
        session_name: str,
        duration_s: float | str = DEFAULT_SESSION_S,
        *,
        external_id: str | None = None,
        policy: str | None = None,
        caller: Caller | None = None,
    ) -> Session:
        """Assume a role as AssumeRole does, and return the session. Without a `caller` its trust is not checked.

        Raises:
            ApiError: 400 for a parameter that makes no sense, 404 for an unknown role, 403 NoPermission for a caller
                that the role does not trust or that may not call AssumeRole.
        """
        with self._lock:
            role = self.role(role_arn)
            check_parameters(session_name, external_id, policy)
            life = self._checked_life(duration_s, role.max_session_s)
            if caller is not None:
                self._check_trust(role, caller, external_id)
            return self.new_session(role, session_name, life)

    def new_session(self, principal: User | Role, name: str, life_s: float) -> Session:
        """Hand out a session with a token, unconditionally; `session_life_s` goes before `life_s`."""
        return self._keep("STS." + random_text(24), random_text(600), principal, name, life_s)

    def generate_session_access_key(self, pair: RsaKeyPair, duration_s: float | str) -> Session:
        """Return a session as GenerateSessionAccessKey does: one of the user, without a token, of at most an hour."""
        with self._lock:
            life = self._checked_life(duration_s, MAX_RSA_SESSION_S)
            return self._keep("TMPSK." + random_text(24), "", self.user(pair.user), "", life)

    def authenticate(self, access_key_id: str) -> Caller:
        """Return the key, token or session with this id. The expiry of a session is checked together with its token."""
        with self._lock:
            return self._sessions.get(access_key_id) or super().authenticate(access_key_id)

    def principal_of(self, caller: Caller) -> User | Role | None:
        """Return the user or role whose permissions `caller` has; a ClientKey has none."""
        if isinstance(caller, Session):
            return caller.principal
        return None if isinstance(caller, ClientKey) else self.user(caller.user)

    def _keep(self, key_id: str, token: str, principal: User | Role, name: str, life_s: float) -> Session:
        granted = life_s if self.session_life_s is None else self.session_life_s
        with self._lock:
            revoked = isinstance(principal, Role) and not principal.attached
            now = self.now()
            session = Session(key_id, random_text(44), token, now + granted, principal, name, now, revoked)
            self._sessions[key_id] = session
            while len(self._sessions) > _MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            return session

    def _checked_life(self, asked: float | str, longest: float) -> float:
        text = str(asked)
        seconds = float(text) if re.fullmatch(r"\d{1,9}(\.\d*)?", text) else -1.0
        if not self.min_session_s <= seconds <= longest:
            message = f"The Min/Max value of DurationSeconds is {self.min_session_s:.0f}s/{longest:.0f}s."
            raise ApiError(400, "InvalidParameter.DurationSeconds", message)
        return seconds

    def _check_trust(self, role: Role, caller: Caller, external_id: str | None) -> None:
        """Refuse a caller whose policies do not allow sts:AssumeRole, or whom the role's trust policy does not name."""
        principal = self.principal_of(caller)
        arn = f"acs:ram:*:{self.account_id}:role/{role.name}"
        if principal is None or self.denial(principal, "sts:AssumeRole", arn):
            raise untrusted()
        who = f"acs:ram::{self.account_id}:{'role' if isinstance(principal, Role) else 'user'}/{principal.name}"
        context = {"sts:ExternalId": external_id} if external_id is not None else {}
        if not role.trusts(principal.name, "RAM", who, context):
            raise untrusted()
        if role.external_id is not None and role.external_id != external_id:
            raise untrusted()


def check_parameters(session_name: str, external_id: str | None, policy: str | None) -> None:
    """Refuse parameters that do not have the form that the STS API reference gives."""
    if not _SESSION_NAME.fullmatch(session_name):
        raise ApiError(400, "InvalidParameter.RoleSessionName", "The parameter RoleSessionName is wrongly formed.")
    if external_id is not None and not _EXTERNAL_ID.fullmatch(external_id):
        raise ApiError(400, "InvalidParameter.ExternalId", "The parameter ExternalId is wrongly formed.")
    if policy:
        _check_policy(policy)


def _check_policy(policy: str) -> None:
    if len(policy) > MAX_POLICY_CHARS:
        raise ApiError(400, "InvalidParameter.PolicySize", "The size of Policy must be smaller than 2048 bytes.")
    try:
        parsed = json.loads(policy)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        message = "The parameter Policy has not passed grammar check."
        raise ApiError(400, "InvalidParameter.PolicyGrammar", message)


def untrusted() -> ApiError:
    """Return the refusal of somebody whom the role does not trust (STS error codes)."""
    return ApiError(403, "NoPermission", "You are not authorized to do this action. You should be authorized by RAM.")
