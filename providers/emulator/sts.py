"""The answers of STS 2015-04-01. Field names and types follow the API models of alibabacloud-sts20150401 1.2.0.

GenerateSessionAccessKey is in no API reference any more; its reply is the one that aliyun-python-sdk-core 2.16.1 reads
(`auth/signers/rsa_key_pair_signer.py`).
"""

from __future__ import annotations

from .errors import ApiError
from .model import Role, RsaKeyPair, Session, iso
from .operation import Asked, Json
from .sessions import DEFAULT_SESSION_S

__all__ = ["assume_role", "assume_role_with_oidc", "generate_session_access_key", "get_caller_identity"]


def get_caller_identity(asked: Asked) -> Json:
    """Answer GetCallerIdentity: who signed. A session's ARN has the form of the RAM documentation."""
    principal = None if asked.caller is None else asked.cloud.principal_of(asked.caller)
    if principal is None:  # not reached: Operation.admit has refused it
        raise ApiError(403, "NoPermission", "No RAM identity.")
    account = asked.cloud.account_id
    if isinstance(principal, Role) and isinstance(asked.caller, Session):
        name = asked.caller.role_session_name
        return {
            "IdentityType": "AssumedRoleUser",
            "AccountId": account,
            "RoleId": principal.role_id,
            "PrincipalId": f"{principal.role_id}:{name}",
            "Arn": f"acs:ram::{account}:assumed-role/{principal.name}/{name}",
        }
    assert not isinstance(principal, Role)
    return {
        "IdentityType": "RAMUser",
        "AccountId": account,
        "UserId": principal.user_id,
        "PrincipalId": principal.user_id,
        "Arn": f"acs:ram::{account}:user/{principal.name}",
    }


def assume_role(asked: Asked) -> Json:
    """Answer AssumeRole: a session of a role that trusts the caller."""
    session = asked.cloud.assume_role(
        asked.need("RoleArn"),
        asked.need("RoleSessionName"),
        asked.parameters.get("DurationSeconds") or DEFAULT_SESSION_S,
        external_id=asked.parameters.get("ExternalId"),
        policy=asked.parameters.get("Policy"),
        caller=asked.caller,
    )
    return _assumed(asked, session)


def assume_role_with_oidc(asked: Asked) -> Json:
    """Answer AssumeRoleWithOIDC: a session for the bearer of a token from a provider that the role trusts."""
    token = asked.parameters.get("OIDCToken")
    if not token:
        raise ApiError(401, "AuthenticationFail.OIDCToken.Invalid", "The OIDCToken can not empty.")
    session, told = asked.cloud.assume_role_with_oidc(
        asked.need("OIDCProviderArn"),
        asked.need("RoleArn"),
        token,
        asked.need("RoleSessionName"),
        asked.parameters.get("DurationSeconds") or DEFAULT_SESSION_S,
        policy=asked.parameters.get("Policy"),
    )
    return {**_assumed(asked, session), "OIDCTokenInfo": dict(told)}


def generate_session_access_key(asked: Asked) -> Json:
    """Answer GenerateSessionAccessKey: a session of the user that owns the RSA key pair, without a token."""
    if not isinstance(asked.caller, RsaKeyPair):  # not reached: Operation.admit has refused it
        raise ApiError(403, "NoPermission", "No RSA key pair.")
    duration = asked.parameters.get("DurationSeconds") or DEFAULT_SESSION_S
    session = asked.cloud.generate_session_access_key(asked.caller, duration)
    return {
        "SessionAccessKey": {
            "SessionAccessKeyId": session.access_key_id,
            "SessionAccessKeySecret": session.access_key_secret,
            "Expiration": iso(session.expires_at),
        }
    }


def _assumed(asked: Asked, session: Session) -> Json:
    role, name = session.principal, session.role_session_name
    assert isinstance(role, Role)
    return {
        "AssumedRoleUser": {
            "Arn": f"acs:ram::{asked.cloud.account_id}:role/{role.name}/{name}",
            "AssumedRoleId": f"{role.role_id}:{name}",
        },
        "Credentials": {
            "AccessKeyId": session.access_key_id,
            "AccessKeySecret": session.access_key_secret,
            "SecurityToken": session.security_token,
            "Expiration": iso(session.expires_at),
        },
    }
