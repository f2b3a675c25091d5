"""Federated identities: OIDC providers, the tokens that they sign, and sessions for them.

The tokens are JWTs in form, signed with HMAC by a key that only this emulator has; the real service takes RS256 only
and fetches the provider's public keys. Codes and statuses: STS error codes, API version 2015-04-01 (`AuthenticationFail.*`,
all 401).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from secrets import token_bytes

from .errors import ApiError
from .model import Session
from .sessions import DEFAULT_SESSION_S, Sessions, check_parameters, untrusted

__all__ = ["Federation"]

AUDIENCE = "sts.aliyuncs.com"
_PROVIDER_ARN = re.compile(r"acs:ram::(?P<account>\d+):oidc-provider/(?P<name>[A-Za-z0-9.\-_]{1,128})")
_HEADER = {"alg": "HS256", "typ": "JWT"}


class Federation(Sessions):
    """OIDC providers. `Cloud` is one of these."""

    def __init__(self, now: Callable[[], float] = time.time, *, account_id: str, region_id: str) -> None:
        """Start without a provider."""
        super().__init__(now, account_id=account_id, region_id=region_id)
        self._oidc_keys: dict[str, bytes] = {}

    def add_oidc_provider(self, name: str) -> str:
        """Register a provider, unless it is known, and return its ARN."""
        with self._lock:
            self._oidc_keys.setdefault(name, token_bytes(32))
            return f"acs:ram::{self.account_id}:oidc-provider/{name}"

    def oidc_token(
        self,
        provider_name: str,
        subject: str = "system:serviceaccount:ns:app",
        life_s: float = 3600.0,
        *,
        audience: str = AUDIENCE,
    ) -> str:
        """Return a token of that provider for `subject`, good for `life_s` seconds from now (already expired if negative)."""
        now = self.now()
        claims = {
            "iss": f"https://{provider_name}.oidc.invalid",
            "aud": [audience],
            "sub": subject,
            "iat": int(now),
            "exp": int(now + life_s),
            "jti": str(uuid.uuid4()),
        }
        with self._lock:
            key = self._oidc_keys[provider_name]
        signed = f"{_part(_HEADER)}.{_part(claims)}"
        return f"{signed}.{_base64(hmac.digest(key, signed.encode(), 'sha256'))}"

    def assume_role_with_oidc(
        self,
        provider_arn: str,
        role_arn: str,
        token: str,
        session_name: str,
        duration_s: float | str = DEFAULT_SESSION_S,
        *,
        policy: str | None = None,
    ) -> tuple[Session, Mapping[str, str]]:
        """Assume a role as AssumeRoleWithOIDC does, and return the session and the token's claims about its bearer.

        Raises:
            ApiError: 401 AuthenticationFail.* for a token or a provider that is not believed, 403 NoPermission for a
                role that does not trust the provider; for the parameters, as `assume_role`.
        """
        with self._lock:
            provider, key = self._oidc_provider(provider_arn)
            role = self.role(role_arn)
            check_parameters(session_name, None, policy)
            life = self._checked_life(duration_s, role.max_session_s)
            claims = self._believed(token, provider, key)
            context = {"oidc:iss": str(claims["iss"]), "oidc:aud": AUDIENCE, "oidc:sub": str(claims["sub"])}
            if not role.trusts(f"oidc:{provider}", "Federated", provider_arn, context):
                raise untrusted()
            told = {"Subject": str(claims["sub"]), "Issuer": str(claims["iss"]), "ClientIds": AUDIENCE}
            return self.new_session(role, session_name, life), told

    def _oidc_provider(self, arn: str) -> tuple[str, bytes]:
        match = _PROVIDER_ARN.fullmatch(arn)
        if match is None:
            message = "The parameter OIDCProviderArn is wrongly formed."
            raise ApiError(400, "InvalidParameter.OIDCProviderArn", message)
        if match["account"] != self.account_id or match["name"] not in self._oidc_keys:
            raise ApiError(401, "AuthenticationFail.NoPermission", "No such OIDC Provider registered.")
        return match["name"], self._oidc_keys[match["name"]]

    def _believed(self, token: str, provider: str, key: bytes) -> Mapping[str, object]:
        """Return the claims of a token, which this provider must have signed, for us, and which must not be expired."""
        claims = _claims(token)
        signed, _, signature = token.rpartition(".")
        expected = _base64(hmac.digest(key, signed.encode(), "sha256"))
        if claims.get("iss") != f"https://{provider}.oidc.invalid":
            raise _bad("Invalid", "The issuer of the token does not match that of the provider.")
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise _bad("InvalidSignature", "OIDC token validate failed: invalid signature.")
        if claims.get("aud") != [AUDIENCE]:
            raise _bad("AudienceNotMatch", "Invalid audience.")
        expires_at = claims.get("exp")
        if not isinstance(expires_at, int | float) or self.now() >= expires_at:
            raise _bad("Expired", "This JsonWebToken is expired.")
        return claims


def _claims(token: str) -> Mapping[str, object]:
    parts = token.split(".")
    if len(parts) != 3:
        raise _bad("Invalid", "The number of Jwt field should be divided into 3 parts with '.' .")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        claims = None
    if not isinstance(claims, dict):
        raise _bad("Invalid", "The Jwt content is invalid that cannot be recognized.")
    return claims


def _bad(code: str, message: str) -> ApiError:
    return ApiError(401, f"AuthenticationFail.OIDCToken.{code}", message)


def _part(value: Mapping[str, object]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
