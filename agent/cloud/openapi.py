"""The few calls of STS, KMS and RAM that keyturn makes, as thin methods over one signed POST.

Wire facts: the models of alibabacloud-sts20150401 1.2.0, -kms20160120 3.3.1, -ram20150501 1.3.0; the tests send by both.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.cloud import acs3, failures
from agent.cloud.failures import Judge, rotation_running
from agent.cloud.permissions import Asked
from agent.cloud.transport import Transport
from agent.core.credential import Credential
from agent.core.errors import BadAnswerError, LeakedKeyError
from agent.core.secret import Secret
from agent.core.timestamps import moment_of, rfc3339

CALL_TIMEOUT_S = 10.0
"""Seconds for one call, everything included; the services answer in well under a second."""


class OpenApi:
    """One service at one endpoint."""

    def __init__(self, transport: Transport, endpoint: str, version: str) -> None:
        """Keep what every call needs.

        Args:
            endpoint: "host" or "host:port".
            version: of the API, such as "2015-04-01".
        """
        self._transport = transport
        self.endpoint = endpoint
        self._version = version

    def call(
        self,
        action: str,
        params: Mapping[str, str],
        identity: Credential,
        *,
        now: datetime,
        timeout_s: float = CALL_TIMEOUT_S,
        judge: Judge | None = None,
    ) -> dict[str, Any]:
        """Call one action, signed by `identity`, and return the reply's JSON object.

        Args:
            now: the wall clock, which is signed.
            judge: the caller's own reading of an error reply.

        Raises:
            SourceUnavailableError: no answer, throttling, a 5xx; trying again can help.
            NotPermittedError: the identity may not.
            SourceRefusedError: a refusal that stays one; `code` says which.
            BadAnswerError: the answer is not a JSON object.
        """
        signed = acs3.sign(
            action, self._version, params, identity, host=self.endpoint, at=now, nonce=secrets.token_hex(16)
        )
        asked = Asked(action, params, identity.access_key_id)
        try:
            return self.send(
                action, signed.query, signed.headers, now=now, timeout_s=timeout_s, judge=judge, asked=asked
            )
        except LeakedKeyError as error:
            error.restricted_key = identity.access_key_id
            raise

    def call_anonymously(
        self,
        action: str,
        params: Mapping[str, str],
        *,
        now: datetime,
        timeout_s: float = CALL_TIMEOUT_S,
        judge: Judge | None = None,
    ) -> dict[str, Any]:
        """Call one action that takes no signature, and return the reply's JSON object.

        Its parameters travel in the body, as a form: what proves the caller (a token) is then in no URL, which proxies and
        libraries write down. Alibaba's own credentials library for Go sends AssumeRoleWithOIDC so (aliyun/credentials-go,
        credentials/providers/oidc.go); the generated SDKs put it into the query.

        Raises:
            KeyturnError: as `call`.
        """
        query = acs3.canonical_query(self.rpc_params(action, now))
        body = acs3.canonical_query(params).encode()
        headers = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"}
        return self.send(action, query, headers, body=body, now=now, timeout_s=timeout_s, judge=judge)

    def rpc_params(self, action: str, now: datetime) -> dict[str, str]:
        """Return the query parameters of every call in the RPC style (Alibaba, "Common parameters")."""
        return {
            "Action": action,
            "Format": "JSON",
            "SignatureNonce": secrets.token_hex(16),
            "Timestamp": rfc3339(now),
            "Version": self._version,
        }

    def send(
        self,
        action: str,
        query: str,
        headers: Mapping[str, str],
        *,
        body: bytes = b"",
        now: datetime,
        timeout_s: float = CALL_TIMEOUT_S,
        judge: Judge | None = None,
        asked: Asked | None = None,
    ) -> dict[str, Any]:
        """Send a call that is ready, and return the reply's JSON object.

        Args:
            asked: who makes it and what it is about, for the remedy where it is not permitted.

        Raises:
            KeyturnError: as `call`.
        """
        reply = self._transport.post(self.endpoint, query, headers=headers, body=body, timeout_s=timeout_s)
        if reply.status != 200:
            failed = failures.read(self.endpoint, reply)
            error = (judge(failed) if judge else None) or failures.explain(failed, now, asked)
            error.request_id = failed.request_id
            raise error.at(action)
        answer = failures.json_object(reply.body)
        if answer is None:
            raise self.bad(action, "is not a JSON object")
        return answer

    def bad(self, action: str, what: str) -> BadAnswerError:
        """Return the error for an answer to `action` that cannot be used."""
        return BadAnswerError(
            f"{self.endpoint}: the answer to {action} {what}", "check that the endpoint is the service that you mean"
        )

    def _text(self, action: str, answer: Mapping[str, Any], name: str) -> str:
        value = answer.get(name)
        if not isinstance(value, str) or not value or len(value) > 1024 or not value.isprintable():
            raise self.bad(action, f"has no {name}")
        return value


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """The owner of a key, as STS names it; `request_id` is its name for the call."""

    arn: str
    account_id: str
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSession:
    """The session that is asked for, in either way of assuming a role.

    Attributes:
        policy: what the session may do at most, as JSON; None: whatever the role may.
    """

    role_arn: str
    session_name: str
    duration_s: int
    policy: str | None = None

    def params(self) -> dict[str, str]:
        """Return the parameters of the call; what is None is left out."""
        params = {
            "DurationSeconds": str(self.duration_s),
            "RoleArn": self.role_arn,
            "RoleSessionName": self.session_name,
        }
        return params if self.policy is None else {**params, "Policy": self.policy}


class Sts(OpenApi):
    """STS 2015-04-01."""

    def __init__(self, transport: Transport, endpoint: str) -> None:
        super().__init__(transport, endpoint, "2015-04-01")

    def get_caller_identity(
        self, identity: Credential, *, now: datetime, timeout_s: float = CALL_TIMEOUT_S
    ) -> CallerIdentity:
        """Ask whose key `identity` is: any valid key may.

        Raises:
            KeyturnError: as `OpenApi.call`.
        """
        action = "GetCallerIdentity"
        answer = self.call(action, {}, identity, now=now, timeout_s=timeout_s)
        arn, account_id = self._text(action, answer, "Arn"), self._text(action, answer, "AccountId")
        return CallerIdentity(arn, account_id, failures.request_id_of(answer))

    def assume_role(
        self,
        wanted: RoleSession,
        identity: Credential,
        *,
        external_id: str | None = None,
        now: datetime,
        timeout_s: float = CALL_TIMEOUT_S,
        judge: Judge | None = None,
    ) -> dict[str, Any]:
        """Return the reply with a session in `Credentials`, as it is; the caller reads it.

        Raises:
            KeyturnError: as `OpenApi.call`.
        """
        params = wanted.params()
        if external_id is not None:
            params["ExternalId"] = external_id
        return self.call("AssumeRole", params, identity, now=now, timeout_s=timeout_s, judge=judge)

    def assume_role_with_oidc(
        self,
        wanted: RoleSession,
        provider_arn: str,
        token: Secret,
        *,
        now: datetime,
        timeout_s: float = CALL_TIMEOUT_S,
        judge: Judge | None = None,
    ) -> dict[str, Any]:
        """Return the reply with a session in `Credentials`, as it is; the token alone proves who asks.

        Raises:
            KeyturnError: as `OpenApi.call`.
        """
        params = {**wanted.params(), "OIDCProviderArn": provider_arn, "OIDCToken": token.reveal()}
        return self.call_anonymously("AssumeRoleWithOIDC", params, now=now, timeout_s=timeout_s, judge=judge)


class Kms(OpenApi):
    """KMS 2016-01-20 for a RAM identity. A ClientKey signs otherwise, and may only read secrets."""

    def __init__(self, transport: Transport, endpoint: str) -> None:
        super().__init__(transport, endpoint, "2016-01-20")

    def get_secret_value(
        self,
        secret_name: str,
        version_stage: str,
        identity: Credential,
        *,
        now: datetime,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> dict[str, Any]:
        """Return the reply with a secret's value in `SecretData`, as it is; the caller reads it.

        The identity needs kms:GetSecretValue on the secret and kms:Decrypt on the key that encrypts it.

        Raises:
            KeyturnError: as `OpenApi.call`.
        """
        # "True" is how the generated SDK writes it (alibabacloud-kms20160120 3.3.1, tea-openapi 0.4.6).
        params = {"SecretName": secret_name, "VersionStage": version_stage, "FetchExtendedConfig": "True"}
        return self.call("GetSecretValue", params, identity, now=now, timeout_s=timeout_s)

    def rotate_secret(
        self,
        secret_name: str,
        version_id: str,
        identity: Credential,
        *,
        now: datetime,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> str:
        """Rotate a managed secret at once, to the version `version_id`; return KMS's name for the call, "" for none.

        `version_id` is the caller's and makes a repetition harmless (KMS API, RotateSecret). KMS allows
        50 rotations per hour and account.

        Raises:
            RotationRunningError: the secret is being rotated already.
            KeyturnError: otherwise as `OpenApi.call`.
        """
        action = "RotateSecret"
        params = {"SecretName": secret_name, "VersionId": version_id}
        answer = self.call(action, params, identity, now=now, timeout_s=timeout_s, judge=rotation_running)
        self._text(action, answer, "VersionId")
        return failures.request_id_of(answer)


@dataclass(frozen=True, slots=True)
class MadeAccessKey:
    """A key that RAM has just made; no later answer has its secret. `request_id` is RAM's name for the call, "" for none."""

    access_key_id: str
    access_key_secret: Secret
    created_at: datetime | None
    request_id: str = ""


class Ram(OpenApi):
    """RAM 2015-05-01; one endpoint for all regions."""

    def __init__(self, transport: Transport, endpoint: str) -> None:
        super().__init__(transport, endpoint, "2015-05-01")

    def create_access_key(
        self, user: str, identity: Credential, *, now: datetime, timeout_s: float = CALL_TIMEOUT_S
    ) -> MadeAccessKey:
        """Make another AccessKey for a user, who may have two.

        The request is never repeated here: after an error that is no refusal, there may be a key whose secret nobody has.
        Whoever calls has written down before that it will, and looks for such a key before it calls again.

        Raises:
            SourceRefusedError: its `code` is "LimitExceeded.User.AccessKey" where the user has two keys.
            BadAnswerError: the key was made, and the answer cannot be read.
            KeyturnError: otherwise as `OpenApi.call`.
        """
        action = "CreateAccessKey"
        answer = self.call(action, {"UserName": user}, identity, now=now, timeout_s=timeout_s)
        if not isinstance(key := answer.get("AccessKey"), dict):
            raise self.bad(action, "has no AccessKey")
        return MadeAccessKey(
            self._text(action, key, "AccessKeyId"),
            Secret(self._text(action, key, "AccessKeySecret")),
            moment_of(str(key.get("CreateDate"))),
            failures.request_id_of(answer),
        )

    def update_access_key(
        self,
        user: str,
        access_key_id: str,
        status: str,
        identity: Credential,
        *,
        now: datetime,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> str:
        """Set a user's AccessKey "Active" or "Inactive"; return RAM's name for the call, "" for none.

        `user` must be named: without it RAM means the caller's own keys.

        Raises:
            KeyturnError: as `OpenApi.call`.
        """
        params = {"UserName": user, "UserAccessKeyId": access_key_id, "Status": status}
        return failures.request_id_of(self.call("UpdateAccessKey", params, identity, now=now, timeout_s=timeout_s))

    def delete_access_key(
        self,
        user: str,
        access_key_id: str,
        identity: Credential,
        *,
        now: datetime,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> str:
        """Delete a user's AccessKey, which must be inactive; return RAM's name for the call, "" for none.

        RAM's recycle bin keeps it for 30 days.

        Raises:
            KeyturnError: as `OpenApi.call`.
        """
        params = {"UserName": user, "UserAccessKeyId": access_key_id}
        return failures.request_id_of(self.call("DeleteAccessKey", params, identity, now=now, timeout_s=timeout_s))

    def see_own_keys(self, identity: Credential, *, now: datetime, timeout_s: float = CALL_TIMEOUT_S) -> None:
        """Ask for the list of the caller's own AccessKeys (ListAccessKeys without a user), and throw it away.

        Raises:
            KeyturnError: as `OpenApi.call`.
        """
        self.call("ListAccessKeys", {}, identity, now=now, timeout_s=timeout_s)


class Ims(OpenApi):
    """IMS 2019-08-15, which knows more of a RAM user's keys than RAM's own API; one endpoint for all regions."""

    def __init__(self, transport: Transport, endpoint: str) -> None:
        super().__init__(transport, endpoint, "2019-08-15")


@dataclass(frozen=True, slots=True)
class Cloud:
    """The services of one config."""

    kms: Kms
    ram: Ram
    sts: Sts
    ims: Ims
