"""`oidc_role_arn`: a session of a RAM role, from AssumeRoleWithOIDC, for a token that an identity provider left in a file.

As in ACK's RRSA, where the kubelet projects the token and the webhook sets the `ALIBABA_CLOUD_*` variables; these are
the defaults of the keys. The file is read for each fetch, because it is renewed many times in an agent's life.

The call is anonymous: the token alone proves who we are, and whoever has it can do what we can. The official SDK sends
the token in the URL, from where it gets into exception texts and proxies' logs. Here it travels in the body
(`OpenApi.call_anonymously` says who does so too).
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from agent.cloud.failures import ServiceError
from agent.cloud.openapi import RoleSession, Sts
from agent.cloud.transport import Transport
from agent.core.credential import Credential
from agent.core.errors import CredentialFileError, KeyturnError, NotPermittedError, UnsetVariableError
from agent.core.finding import Finding
from agent.core.provider import Provider, ProviderContext
from agent.core.secret import Secret
from agent.core.settings import FilePath, Problems, ProviderSettings
from agent.system.clock import Clock
from providers.static_parts import PART_LIMIT_BYTES, read_open, text_of, told_as
from providers.sts_sessions import (
    RoleSettings,
    SessionReader,
    default_session_name,
    provider_arn_fault,
    role_arn_fault,
    session_name_fault,
)

MAX_TOKEN_CHARS = 20_000
"""STS API, AssumeRoleWithOIDC: 4 to 20,000 characters."""

Fault = Callable[[str], str | None]


def _path_fault(text: str) -> str | None:
    return None if text.startswith("/") and text.isprintable() else "want an absolute path"


@dataclass(frozen=True, slots=True)
class _Field:
    """A key of the settings, and the variable of Alibaba's SDKs that serves where it is not set."""

    key: str
    variable: str
    fault: Fault

    def value(self, settings: ProviderSettings, environ: Mapping[str, str]) -> str:
        """Return the configured value, else the variable's, "" where there is neither.

        Raises:
            CredentialFileError: the variable holds something impossible; the config was looked at when it was read.
        """
        configured = getattr(settings, self.key)
        if configured is not None:
            return str(configured)
        text = environ.get(self.variable, "").strip()
        if text and (fault := self.fault(text)):
            raise CredentialFileError(
                f"the environment variable {self.variable}: {fault}", f"correct it, or set {self.key}"
            )
        return text

    def needed(self, settings: ProviderSettings, environ: Mapping[str, str]) -> str:
        """Return the same for a value that must be given.

        Raises:
            UnsetVariableError: it is not; the text names key and variable.
        """
        text = self.value(settings, environ)
        if not text:
            raise UnsetVariableError(
                f"{self.key} is not set, and neither is the environment variable {self.variable}",
                f"set {self.key} (in a properties file: credentials_{self.key}), or {self.variable} for keyturn",
            )
        return text


_ROLE = _Field("role_arn", "ALIBABA_CLOUD_ROLE_ARN", role_arn_fault)
_PROVIDER = _Field("oidc_provider_arn", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", provider_arn_fault)
_TOKEN_FILE = _Field("oidc_token_file_path", "ALIBABA_CLOUD_OIDC_TOKEN_FILE", _path_fault)
_SESSION_NAME = _Field("role_session_name", "ALIBABA_CLOUD_ROLE_SESSION_NAME", session_name_fault)


@dataclass(frozen=True, kw_only=True)
class OidcRoleArnSettings(RoleSettings):
    """The settings of `type = "oidc_role_arn"`. What is None comes from the variable of the same meaning."""

    role_arn: str | None = None
    oidc_provider_arn: str | None = None
    oidc_token_file_path: FilePath | None = None

    def problems(self) -> Problems:
        """Yield (key, sentence) for what the types cannot rule out."""
        yield from super().problems()
        for field in (_ROLE, _PROVIDER):
            text = getattr(self, field.key)
            if text is not None and (fault := field.fault(text)):
                yield field.key, fault


class OidcRoleArn(Provider):
    """The provider of `type = "oidc_role_arn"`."""

    type_name: ClassVar[str] = "oidc_role_arn"
    Settings: ClassVar[type[ProviderSettings]] = OidcRoleArnSettings
    settings: OidcRoleArnSettings

    def __init__(self, settings: Any, context: ProviderContext) -> None:
        super().__init__(settings, context)
        self._sts = Sts(Transport(context.cloud.ca_file), settings.sts_endpoint or context.cloud.sts)

    def _fetch(self, timeout_s: float) -> Credential:
        with told_as(f"credentials.{self.context.credential}"):
            return self._assume(timeout_s)

    def _assume(self, timeout_s: float) -> Credential:
        answer = self._sts.assume_role_with_oidc(
            self._wanted(),
            self._needed(_PROVIDER),
            _token(self._needed(_TOKEN_FILE)),
            now=Clock().now(),
            timeout_s=timeout_s,
            judge=_not_permitted,
        )
        return SessionReader("AssumeRoleWithOIDC", self._sts.endpoint).read_role_session(answer)

    def _wanted(self) -> RoleSession:
        return RoleSession(
            role_arn=self._needed(_ROLE),
            session_name=_SESSION_NAME.value(self.settings, self.context.environ) or default_session_name(self.context),
            duration_s=int(self.settings.role_session_expiration),
            policy=self.settings.policy,
        )

    def _needed(self, field: _Field) -> str:
        return field.needed(self.settings, self.context.environ)

    def inspect(self) -> Iterator[Finding]:
        """Yield whether role, provider and token are known. Uses no network."""
        place = f"credentials.{self.context.credential}.provider"
        for field in (_ROLE, _PROVIDER, _TOKEN_FILE):
            try:
                text = self._needed(field)
                if field is _TOKEN_FILE:
                    _token(text)
            except KeyturnError as error:
                yield Finding.of("error", f"{place}.{field.key}", error.as_problem())
            else:
                yield _seen(field, f"{place}.{field.key}", text)
        yield from self._inspect_session_name(f"{place}.{_SESSION_NAME.key}")

    def _inspect_session_name(self, place: str) -> Iterator[Finding]:
        try:
            _SESSION_NAME.value(self.settings, self.context.environ)
        except KeyturnError as error:
            yield Finding.of("error", place, error.as_problem())


def _token(path: str) -> Secret:
    """Read the token.

    The file decides who we are, so nobody else may write it. That others can read it is not refused: Kubernetes projects
    tokens as root's, through links, with mode 0644 or, with an fsGroup, 0640, and isolates them by the pod.

    Raises:
        CredentialFileError: it is missing, others can write it, or it holds no token.
        NotPermittedError: the agent's user may not read it.
    """
    text = text_of(path, read_open(path, PART_LIMIT_BYTES))
    if not 4 <= len(text) <= MAX_TOKEN_CHARS or not text.isascii() or not text.isprintable() or " " in text:
        raise CredentialFileError(
            f"{path}: holds no OIDC token", f"put a token of 4 to {MAX_TOKEN_CHARS} characters there, and nothing else"
        )
    return Secret(text)


def _seen(field: _Field, place: str, text: str) -> Finding:
    if field is _TOKEN_FILE and _others_can_read(text):
        said = f"{text}: others on this machine can read the token, and be who we are"
        return Finding("warning", place, said, "outside of a pod: chmod 600, with keyturn's user as its owner")
    return Finding("ok", place, text)


def _others_can_read(path: str) -> bool:
    try:
        return bool(Path(path).stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False


def _not_permitted(failed: ServiceError) -> KeyturnError | None:
    """Return the error for a role that does not trust the token. Its trust policy decides alone; the caller needs no right."""
    if not failed.code.startswith("NoPermission"):
        return None
    return NotPermittedError(
        f"{failed.host} does not let this OIDC token assume the role: {failed.name}",
        "let the role's trust policy name the OIDC provider, with conditions on oidc:iss, oidc:aud and oidc:sub that fit",
        code=failed.code,
    )
