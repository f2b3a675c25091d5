"""Rigs of the providers that are handed sessions over the network: STS, the metadata service, a credentials URI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from providers.emulator.model import Session
from tests.support.rigs.rig import NO_TLS, Case, Gives, ServedRig, World, rsa_key, toml


class RamRoleArn(ServedRig):
    """AssumeRole, signed by an AccessKey from files that is its inline base."""

    title = "ram_role_arn on an inline access_key"
    type_name = "ram_role_arn"
    gives: ClassVar[Gives] = "session"
    makes_sessions = True
    action = "AssumeRole"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.cloud.add_user("rig-assumer", "sts:AssumeRole")
        self.cloud.add_role("rig-assumed", trusted=["rig-assumer"])
        self.change()

    def change(self) -> None:
        """The base has another key; the old one is dead, so only a provider that reads anew goes on."""
        for old in self.cloud.keys_of("rig-assumer"):
            self.cloud.delete_access_key(old.access_key_id)
        key = self.cloud.add_access_key("rig-assumer")
        self._id = self.world.write("assumer.id", key.access_key_id)
        self._secret = self.world.write("assumer.secret", key.access_key_secret)

    def table(self, name: str) -> str:
        fields = {
            "type": self.type_name,
            "role_arn": self.cloud.role_arn("rig-assumed"),
            "role_session_name": "rig",
            "sts_endpoint": self.world.front.endpoint,
        }
        base = {
            "type": "access_key",
            "access_key_id_from_file_path": self._id,
            "access_key_secret_from_file_path": self._secret,
        }
        return toml(fields) + f"[credentials.{name}.provider.base]\n" + toml(base)

    def owner(self) -> str:
        return ":assumed-role/rig-assumed/rig"


class OidcRoleArn(ServedRig):
    """AssumeRoleWithOIDC, for a token in a file."""

    title = "oidc_role_arn"
    type_name = "oidc_role_arn"
    gives: ClassVar[Gives] = "session"
    makes_sessions = True
    action = "AssumeRoleWithOIDC"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._provider = self.cloud.add_oidc_provider("rig-cluster")
        self.cloud.add_role("rig-pod", trusted=["oidc:rig-cluster"])
        self._tokens: list[str] = []
        self.change()

    def change(self) -> None:
        """The token was renewed."""
        self._tokens.append(self.cloud.oidc_token("rig-cluster"))
        self._file = self.world.write("oidc.token", self._tokens[-1])

    def table(self, name: str) -> str:
        return toml(
            {
                "type": self.type_name,
                "role_arn": self.cloud.role_arn("rig-pod"),
                "oidc_provider_arn": self._provider,
                "oidc_token_file_path": self._file,
                "role_session_name": "rig",
                "sts_endpoint": self.world.front.endpoint,
            }
        )

    def owner(self) -> str:
        return ":assumed-role/rig-pod/rig"

    def canaries(self) -> list[str]:
        signatures = [token.split(".")[2] for token in self._tokens]
        return [*super().canaries(), *self._tokens, *signatures]


class RsaKeyPair(ServedRig):
    """GenerateSessionAccessKey: an AccessKey that dies, without a token."""

    title = "rsa_key_pair"
    type_name = "rsa_key_pair"
    makes_sessions = True
    action = "GenerateSessionAccessKey"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.cloud.add_user("rig-signer")
        self._pair = self.cloud.add_rsa_key_pair("rig-signer", private_key=rsa_key())
        self._pem = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        self.change()

    def change(self) -> None:
        """The same key in another file: each answer is another session anyway."""
        self._file = self.world.write("rsa.pem", self._pem)

    def table(self, name: str) -> str:
        fields = {"type": self.type_name, "public_key_id": self._pair.public_key_id, "private_key_file": self._file}
        return toml({**fields, "sts_endpoint": self.world.front.endpoint})

    def owner(self) -> str:
        return ":user/rig-signer"

    def canaries(self) -> list[str]:
        return [*super().canaries(), *self._pem.splitlines()[1:-2]]


class EcsRamRole(ServedRig):
    """The instance's role, in hardened mode."""

    title = "ecs_ram_role, hardened mode"
    type_name = "ecs_ram_role"
    gives: ClassVar[Gives] = "session"
    action = "MetadataCredentials"
    imds_v1 = False
    lacks: ClassVar[Mapping[Case, str]] = dict.fromkeys((Case.UNKNOWN_CA, Case.WRONG_HOST), NO_TLS)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.cloud.add_role("rig-instance", trusted=["ecs"])
        self.cloud.set_instance_role("rig-instance")
        self.cloud.imds_v1 = self.imds_v1

    def table(self, name: str) -> str:
        fields = {"type": self.type_name, "metadata_endpoint": self.world.metadata.url}
        return toml({**fields, "imds_v1": True} if self.imds_v1 else fields)

    def owner(self) -> str:
        return ":assumed-role/rig-instance/i-emulated"

    def change(self) -> None:
        self.cloud.rotate_instance_session()

    def expire(self) -> None:
        super().expire()
        self.change()

    def heal(self) -> None:
        super().heal()
        self.change()


class EcsRamRoleV1(EcsRamRole):
    """Without tokens."""

    title = "ecs_ram_role, imds_v1"
    imds_v1 = True


class UriRig(ServedRig):
    """An address whose query lets us in."""

    type_name = "credentials_uri"
    gives: ClassVar[Gives] = "session"
    action = "CredentialsUri"
    pass_word = "canary-of-the-query-of-a-uri"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._role = self.cloud.add_role("rig-neighbour")
        self.cloud.add_user("rig-neighbour-user")
        self.change()

    @property
    def uri(self) -> str:
        """Where it is asked."""
        return f"{self.world.front.credentials_uri}?code={self.pass_word}"

    def table(self, name: str) -> str:
        return toml({"type": self.type_name, "credentials_uri": self.uri})

    def owner(self) -> str:
        return ":assumed-role/rig-neighbour/neighbour"

    def change(self) -> None:
        self.cloud.uri_credential = self.cloud.new_session(self._role, "neighbour", 3600.0)

    def expire(self) -> None:
        super().expire()
        self.change()

    def heal(self) -> None:
        super().heal()
        if isinstance(self.cloud.uri_credential, Session):
            self.change()

    def canaries(self) -> list[str]:
        return [*super().canaries(), self.pass_word]


class HttpsUri(UriRig):
    """A session over https."""

    title = "credentials_uri, https"


class HttpUri(UriRig):
    """An AccessKey over http."""

    title = "credentials_uri, http"
    gives: ClassVar[Gives] = "key"
    lacks: ClassVar[Mapping[Case, str]] = {
        **dict.fromkeys((Case.UNKNOWN_CA, Case.WRONG_HOST), NO_TLS),
        Case.EXPIRED: "without a token it lives until it is rotated, whatever its Expiration says (session_json.py)",
    }

    @property
    def uri(self) -> str:
        return f"{self.world.metadata.credentials_uri}?code={self.pass_word}"

    def owner(self) -> str:
        return ":user/rig-neighbour-user"

    def change(self) -> None:
        keys = self.cloud.keys_of("rig-neighbour-user")
        if len(keys) > 1:
            self.cloud.delete_access_key(keys[0].access_key_id)
        key = self.cloud.add_access_key("rig-neighbour-user")
        self.cloud.uri_credential = key


RIGS = (RamRoleArn, OidcRoleArn, RsaKeyPair, EcsRamRole, EcsRamRoleV1, HttpsUri, HttpUri)
