"""The emulated likeness of each source: what the config says of it, in an account that is made for the drill.

Nothing of the real source is read, asked or run: keys, sessions and tokens are made up. They reach the providers by variables
of this run alone and by files in the scratch directory, so no secret is on a command line or in the process's environment.
Everybody in the account may do everything: a drill shows no permissions.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.core.settings import FilePath, ProviderSettings
from agent.drill.extent import bare
from agent.system.files import write_atomic
from providers.access_key import AccessKeySettings
from providers.bearer import BearerSettings
from providers.credentials_uri import CredentialsUriSettings
from providers.ecs_ram_role import EcsRamRoleSettings
from providers.emulator import Cloud, EmulatorServer, MetadataServer
from providers.emulator.model import AccessKey, Session, iso
from providers.emulator.pki import client_key_file
from providers.kms.settings import KmsSecretSettings, Region
from providers.oidc_role_arn import OidcRoleArnSettings
from providers.ram_role_arn import RamRoleArnSettings
from providers.ram_user import RamUserSettings
from providers.rsa_key_pair import RsaKeyPairSettings
from providers.sts import StsSettings

PLAYED = (
    AccessKeySettings,
    BearerSettings,
    CredentialsUriSettings,
    EcsRamRoleSettings,
    KmsSecretSettings,
    OidcRoleArnSettings,
    RamRoleArnSettings,
    RsaKeyPairSettings,
    StsSettings,
)
"""The sources that have a likeness. The others run something or are unknown; an AccessKey stands in where one is built upon."""
STAGE = "ACSCurrent"
PASSWORD = "Aa1!a-drill-and-nothing-else"  # of a ClientKey that lives as long as the drill
INSTANCE_ROLE, OIDC_PROVIDER = "drill-instance", "drill-cluster"


def unplayable(real: ProviderSettings) -> str:
    """Return what has no likeness of a source, as a noun phrase; "" for one that has."""
    if not isinstance(real, PLAYED):
        return f"a source of type {real.type}"
    stage = real.version_stage if isinstance(real, KmsSecretSettings) else STAGE
    return "" if stage == STAGE else f"the stage {stage} of a secret"


class Sources:
    """The account, and the settings that lead to it.

    Attributes:
        variables: what the providers find in their environment.
        remarks: where the likeness differs from the config.
    """

    def __init__(self, cloud: Cloud, server: EmulatorServer, metadata: MetadataServer, directory: Path) -> None:
        self._cloud, self._server, self._metadata, self._directory = cloud, server, metadata, directory
        self.variables: dict[str, str] = {}
        self.remarks: list[str] = []
        self._client_key: dict[str, Any] = {}
        self._secrets: set[str] = set()
        self._made = 0

    def likeness(self, place: str, real: ProviderSettings) -> ProviderSettings:
        """Return the settings of the emulated likeness of a source.

        Args:
            place: of its table, for remarks.
            real: what the config says.
        """
        if without := unplayable(real):
            self.remarks.append(f"{place}: {without} is not played; an AccessKey stands in for it")
            return self.copy_of(self._cloud.add_access_key(self._user()))
        if isinstance(real, KmsSecretSettings):
            return self._kms_secret(real)
        if isinstance(real, RamRoleArnSettings):
            base = real.base if isinstance(real.base, str) else self.likeness(f"{place}.base", real.base)
            role = self._role(real.role_arn)
            return dataclasses.replace(real, role_arn=role, base=base, sts_endpoint=None)
        if isinstance(real, OidcRoleArnSettings):
            return self._oidc(real)
        if isinstance(real, EcsRamRoleSettings):
            self._on_an_instance()
            return dataclasses.replace(real, role_name=None, metadata_endpoint=self._metadata.url)
        if isinstance(real, CredentialsUriSettings):
            self._on_an_instance()
            return dataclasses.replace(real, credentials_uri=self._metadata.credentials_uri)
        if isinstance(real, RsaKeyPairSettings):
            return self._rsa_key_pair(real)
        if isinstance(real, StsSettings):
            return StsSettings(type=real.type, **self._parts(_session_parts(self._session())))
        if isinstance(real, BearerSettings):
            token = self._cloud.add_bearer_token(self._user())
            return BearerSettings(type=real.type, **self._parts({"bearer_token": token}))
        return self.copy_of(self._cloud.add_access_key(self._user()))

    def ram_user(self, real: RamUserSettings) -> ProviderSettings:
        """Return the settings of a RAM user whose keys keyturn makes in the account, signed for by a user of its own."""
        self._cloud.add_user(real.ram_user_name, "*")
        authority = self.copy_of(self._cloud.add_access_key(self._user()))
        return dataclasses.replace(real, authority=authority, owner=True, between="", time_zone="", ram_endpoint=None)

    def copy_of(self, key: AccessKey) -> ProviderSettings:
        """Return a static source of this key."""
        parts = {"access_key_id": key.access_key_id, "access_key_secret": key.access_key_secret}
        return AccessKeySettings(type="access_key", **self._parts(parts))

    def prepare_secret(self, real: ProviderSettings, user: str | None, leaked: str | None) -> AccessKey | None:
        """Make the managed secret that is rotated, with a key of that RAM user; return the key. None for another source."""
        if not isinstance(real, KmsSecretSettings) or real.fields:
            return None
        name = bare(real.secret_name)
        owner = user or name
        self._cloud.add_user(owner, "*")
        if leaked:
            self._cloud.add_access_key(owner, access_key_id=leaked)
        self._cloud.add_ram_secret(name, user=owner)
        self._secrets.add(name)
        return self._cloud.current_key(name)

    # -- each type ----------------------------------------------------------------------------------

    def _kms_secret(self, real: KmsSecretSettings) -> ProviderSettings:
        self._add_secret(bare(real.secret_name), real.fields)
        return KmsSecretSettings(
            type=real.type,
            secret_name=real.secret_name,
            poll_interval=real.poll_interval,
            fields=real.fields,
            regions=(Region(region_id=self._cloud.region_id, endpoint=self._server.endpoint_of("kms")),),
            **self._access(),
        )

    def _add_secret(self, name: str, fields: Mapping[str, str]) -> None:
        if name in self._secrets:
            return
        self._secrets.add(name)
        self._cloud.add_user(name, "*")
        if fields:  # a secret whose JSON has other names is none that KMS manages
            key = self._cloud.add_access_key(name)
            values = {fields[part]: getattr(key, part, "") for part in fields}
            self._cloud.add_generic_secret(name, json.dumps(values))
        else:
            self._cloud.add_ram_secret(name, user=name)

    def _access(self) -> dict[str, Any]:
        """Return the keys of the settings for a ClientKey, which all secrets have in common: to make one takes a while."""
        if not self._client_key:
            path, variable = self._directory / "clientKey.json", self._variable(PASSWORD)
            content = client_key_file(self._cloud.add_client_key(), PASSWORD)
            write_atomic(path, content.encode(), flush=False)
            self._client_key = {
                "client_key_private_key_path": FilePath(path),
                "client_key_password_from_env_variable": variable,
            }
        return self._client_key

    def _role(self, arn: str | None) -> str:
        name = (arn or "").rpartition(":role/")[2] or "drill-role"
        self._cloud.add_role(name, "*")
        return self._cloud.role_arn(name)

    def _oidc(self, real: OidcRoleArnSettings) -> ProviderSettings:
        provider = self._cloud.add_oidc_provider(OIDC_PROVIDER)
        path = self._directory / "oidc_token"
        write_atomic(path, self._cloud.oidc_token(OIDC_PROVIDER, life_s=86400.0).encode(), flush=False)
        return dataclasses.replace(
            real,
            role_arn=self._role(real.role_arn),
            oidc_provider_arn=provider,
            oidc_token_file_path=FilePath(path),
            sts_endpoint=None,
        )

    def _on_an_instance(self) -> None:
        if self._cloud.instance_role is None:
            self._cloud.add_role(INSTANCE_ROLE, "*")
            self._cloud.set_instance_role(INSTANCE_ROLE)
            self._cloud.uri_credential = self._cloud.instance_session

    def _rsa_key_pair(self, real: RsaKeyPairSettings) -> ProviderSettings:
        pair = self._cloud.add_rsa_key_pair(self._user())
        pem = pair.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path = self._directory / f"{pair.public_key_id}.pem"
        write_atomic(path, pem, flush=False)
        return dataclasses.replace(
            real, public_key_id=pair.public_key_id, private_key_file=FilePath(path), sts_endpoint=None
        )

    # -- small things -------------------------------------------------------------------------------

    def _user(self) -> str:
        self._made += 1
        return self._cloud.add_user(f"drill-{self._made}", "*").name

    def _session(self) -> Session:
        return self._cloud.new_session(self._cloud.add_role("drill-session", "*"), "drill", 3600.0)

    def _parts(self, values: Mapping[str, str]) -> dict[str, Any]:
        return {f"{part}_from_env_variable": self._variable(value) for part, value in values.items()}

    def _variable(self, value: str) -> str:
        name = f"KEYTURN_DRILL_{len(self.variables)}"
        self.variables[name] = value
        return name


def _session_parts(session: Session) -> dict[str, str]:
    return {
        "access_key_id": session.access_key_id,
        "access_key_secret": session.access_key_secret,
        "security_token": session.security_token,
        "expiration": iso(session.expires_at),
    }
