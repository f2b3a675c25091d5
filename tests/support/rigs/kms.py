"""Rigs of `kms_secret`: each way to ask for the secret, and each service that is asked on the way."""

from __future__ import annotations

import functools
import json
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from providers.emulator import Cloud
from providers.emulator.model import iso
from providers.emulator.pki import client_key_file
from tests.support.rigs.rig import NO_TLS, Case, Gives, ServedRig, World, rsa_key, toml

PASSWORD = "Aa1~canary-of-a-client-keys-password"
NO_END = "the AccessKey of a managed RAM secret has no end"
KEY_ID = "KAAP.conformance"


@functools.cache
def client_key_text() -> str:
    """The ClientKey's file; its encryption takes a while."""
    return client_key_file(Cloud().add_client_key(key_id=KEY_ID, private_key=rsa_key()), PASSWORD)


class KmsRig(ServedRig):
    """A managed RAM secret, its gateway in trouble."""

    type_name = "kms_secret"
    action = "GetSecretValue"
    throttled = "Rejected.Throttling"
    forbidden = "Forbidden.NoPermission"
    lacks: ClassVar[Mapping[Case, str]] = {Case.EXPIRED: NO_END}
    secret = "rig-ak"
    user = "rig-user"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._keep()

    def _keep(self) -> None:
        self.cloud.add_ram_secret(self.secret, user=self.user)

    def owner(self) -> str:
        return f":user/{self.user}"

    def change(self) -> None:
        self.cloud.rotate(self.secret)


class ByClientKey(KmsRig):
    """With the inline keys of the config."""

    title = "kms_secret by ClientKey"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.cloud.add_client_key(key_id=KEY_ID, private_key=rsa_key(), public_key=rsa_key().public_key())
        self.key_file = world.write("clientKey.json", client_key_text())
        self.password_file = world.write("password", PASSWORD)

    def table(self, name: str) -> str:
        fields = {
            "type": self.type_name,
            "secret_name": self.secret,
            "client_key_private_key_path": self.key_file,
            "client_key_password_from_file_path": self.password_file,
            "poll_interval": "1s",
        }
        endpoint = self.world.front.endpoint
        return toml(fields) + f'regions = [{{ region_id = "cn-hangzhou", endpoint = "{endpoint}" }}]\n'

    def canaries(self) -> list[str]:
        return [*super().canaries(), PASSWORD, str(rsa_key().private_numbers().d)[:60]]


class WithFields(ByClientKey):
    """Another JSON secret, that holds a session somebody else took."""

    title = "kms_secret by ClientKey, a session by `fields`"
    gives: ClassVar[Gives] = "session"
    lacks: ClassVar[Mapping[Case, str]] = {}
    secret = "rig-session"

    def _keep(self) -> None:
        self._role = self.cloud.add_role("rig-fields")
        self.cloud.add_generic_secret(self.secret, self._text())

    def _text(self) -> str:
        made = self.cloud.new_session(self._role, "somebody", 3600.0)
        names = ("ak", made.access_key_id), ("sk", made.access_key_secret), ("token", made.security_token)
        return json.dumps({**dict(names), "until": iso(made.expires_at)})

    def table(self, name: str) -> str:
        fields = {"access_key_id": "ak", "access_key_secret": "sk", "security_token": "token", "expiration": "until"}
        return super().table(name) + f"[credentials.{name}.provider.fields]\n" + toml(fields)

    def owner(self) -> str:
        return ":assumed-role/rig-fields/somebody"

    def change(self) -> None:
        self.cloud.put_secret_value(self.secret, self._text())

    def expire(self) -> None:
        super().expire()
        self.change()

    def heal(self) -> None:
        super().heal()
        self.change()


class ByProperties(KmsRig):
    """With the official client's properties file."""

    kind: ClassVar[str]

    def __init__(self, world: World) -> None:
        super().__init__(world)
        regions = [{"regionId": "cn-hangzhou", "endpoint": world.front.endpoint}]
        lines = {"credentials_type": self.kind, "cache_client_region_id": json.dumps(regions), **self.lines()}
        self.file = world.write(
            f"{self.kind}.properties", "".join(f"{key}={value}\n" for key, value in lines.items() if value)
        )

    @abstractmethod
    def lines(self) -> dict[str, str]:
        """Who asks; an empty value takes a line away."""

    def table(self, name: str) -> str:
        fields = {"type": self.type_name, "secret_name": self.secret, "properties_file": self.file}
        return toml({**fields, "poll_interval": "1s"})


class Dedicated(ByProperties):
    """The protobuf gateway of an instance."""

    title = "kms_secret, dedicated instance"
    kind = "dedicated"
    action = "dkms:GetSecretValue"
    own_words = False
    secret, user = "rig-dedicated", "rig-dedicated-user"

    def lines(self) -> dict[str, str]:
        self.cloud.add_client_key(key_id=KEY_ID, private_key=rsa_key(), public_key=rsa_key().public_key())
        instance = {
            "regionId": "cn-hangzhou",
            "endpoint": self.world.front.endpoint,
            "clientKeyFile": str(self.world.write("clientKey.json", client_key_text())),
            "passwordFromFilePath": str(self.world.write("password", PASSWORD)),
            "caFilePath": str(self.world.ca_file),
        }
        nothing = {"credentials_type": "", "cache_client_region_id": ""}
        return {**nothing, "cache_client_dkms_config_info": json.dumps([instance])}

    def canaries(self) -> list[str]:
        return [*super().canaries(), PASSWORD, str(rsa_key().private_numbers().d)[:60]]


class ByAccessKey(ByProperties):
    """An AccessKey in the file asks."""

    title = "kms_secret by ak"
    kind = "ak"
    secret, user = "rig-by-ak", "rig-by-ak-user"

    def lines(self) -> dict[str, str]:
        self.cloud.add_user("rig-reader", "kms:GetSecretValue", "sts:AssumeRole")
        self.key = self.cloud.add_access_key("rig-reader")
        return {
            "credentials_access_key_id": self.key.access_key_id,
            "credentials_access_secret": self.key.access_key_secret,
        }


class ByRole(ByAccessKey):
    """A role that the AccessKey of the file may assume asks; the session is kept."""

    title = "kms_secret by ram_role"
    kind = "ram_role"

    def lines(self) -> dict[str, str]:
        key = super().lines()
        self.cloud.add_role("rig-worker", "kms:GetSecretValue", trusted=["rig-reader", "ecs"])
        role = self.cloud.role_arn("rig-worker")
        return {**key, "credentials_role_arn": role, "credentials_role_session_name": "vm-1"}


class ByRoleStsDown(ByRole):
    """The same, with STS in trouble before there is a session to keep."""

    title = "kms_secret by ram_role, STS in trouble"
    action = "AssumeRole"
    throttled = "Throttling.User"
    forbidden = "NoPermission"
    warm = False
    lacks: ClassVar[Mapping[Case, str]] = {}


class ByInstanceRole(ByProperties):
    """The instance's role asks; the session is kept."""

    title = "kms_secret by ecs_ram_role"
    kind = "ecs_ram_role"
    secret, user = "rig-by-instance", "rig-by-instance-user"

    def lines(self) -> dict[str, str]:
        self.cloud.add_role("rig-worker", "kms:GetSecretValue", trusted=["rig-reader", "ecs"])
        self.cloud.set_instance_role("rig-worker")
        self.cloud.imds_v1 = False
        assert self.world.metadata.url, "it listens"
        return {"credentials_role_name": "rig-worker"}


class ByInstanceRoleMetadataDown(ByInstanceRole):
    """The same, with the metadata service in trouble before there is a session to keep."""

    title = "kms_secret by ecs_ram_role, metadata in trouble"
    action = "MetadataCredentials"
    warm = False
    lacks: ClassVar[Mapping[Case, str]] = dict.fromkeys((Case.UNKNOWN_CA, Case.WRONG_HOST), NO_TLS)


RIGS = (
    ByClientKey,
    WithFields,
    Dedicated,
    ByAccessKey,
    ByRole,
    ByRoleStsDown,
    ByInstanceRole,
    ByInstanceRoleMetadataDown,
)
