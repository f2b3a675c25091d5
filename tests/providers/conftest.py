"""A ClientKey on disk and an emulated KMS that knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from agent.core.credential import Credential
from agent.core.provider import Base, ProviderContext
from agent.core.settings import CloudSettings, FilePath, ProviderSettings
from providers.emulator import Cloud, EmulatorServer, MetadataServer
from providers.emulator.pki import client_key_file
from providers.kms.secret import KmsSecret
from providers.kms.settings import KmsSecretSettings, Region

PASSWORD = "Pass~word#1"


def write_private(path: Path, content: bytes | str) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def private() -> Callable[[Path, bytes | str], Path]:
    """Write a file that only its owner may read."""
    return write_private


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    """One key for all tests: making one takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Kms:
    """An emulated account with the managed secret `uploader-ak`, and a ClientKey for it on disk."""

    def __init__(self, directory: Path, key: rsa.RSAPrivateKey) -> None:
        self.directory = directory
        self.cloud = Cloud()
        self.cloud.add_ram_secret("uploader-ak", user="uploader")
        self.client_key = self.cloud.add_client_key(private_key=key)
        self.key_file = write_private(directory / "clientKey.json", client_key_file(self.client_key, PASSWORD))
        self.password_file = write_private(directory / "password", PASSWORD + "\r\n")
        self.server = EmulatorServer(self.cloud, directory / "emulator")
        self.metadata = MetadataServer(self.cloud)
        self.endpoint = self.server.endpoint
        self.environ: dict[str, str] = {}

    def inline(self) -> dict[str, Any]:
        return {
            "client_key_private_key_path": FilePath(self.key_file),
            "client_key_password_from_file_path": FilePath(self.password_file),
            "regions": (Region(region_id="cn-hangzhou", endpoint=self.endpoint),),
        }

    def settings(self, **changes: Any) -> KmsSecretSettings:
        given = self.inline() if "properties_file" not in changes else {}
        return KmsSecretSettings(**{"type": "kms_secret", "secret_name": "uploader-ak", **given, **changes})

    def provider(self, **changes: Any) -> KmsSecret:
        cloud = CloudSettings(ca_file=FilePath(self.server.ca_file), sts_endpoint=self.endpoint)
        return KmsSecret(self.settings(**changes), self.context(cloud))

    def context(self, cloud: CloudSettings) -> ProviderContext:
        return ProviderContext("uploader", cloud, "host", self.environ, self.base_of)

    def base_of(self, settings: ProviderSettings | str) -> Base:
        """As agent/app/wiring.py does it, but that the metadata service is the emulated one."""
        from agent.engine.base_credentials import InlineBase
        from agent.system.clock import Clock
        from providers.ecs_ram_role import EcsRamRole, EcsRamRoleSettings
        from providers.oidc_role_arn import OidcRoleArn, OidcRoleArnSettings

        if isinstance(settings, OidcRoleArnSettings):
            cloud = CloudSettings(ca_file=FilePath(self.server.ca_file), sts_endpoint=self.endpoint)
            return InlineBase(OidcRoleArn(settings, self.context(cloud)), Clock().now)
        assert isinstance(settings, EcsRamRoleSettings)
        here = replace(settings, metadata_endpoint=self.metadata.url)
        return InlineBase(EcsRamRole(here, ProviderContext("uploader.provider.base")), Clock().now)

    def fetch(self, timeout_s: float = 10.0, **changes: Any) -> Credential:
        return self.provider(**changes).fetch(datetime.now(UTC), timeout_s)

    def properties(self, **changes: str | None) -> FilePath:
        lines = {
            "credentials_type": "client_key",
            "client_key_private_key_path": str(self.key_file),
            "client_key_password_from_file_path": str(self.password_file),
            "cache_client_region_id": f'[{{"regionId":"cn-hangzhou","endpoint":"{self.endpoint}"}}]',
            **changes,
        }
        path = self.directory / "secretsmanager.properties"
        write_private(path, "".join(f"{key}={value}\n" for key, value in lines.items() if value is not None))
        return FilePath(path)


@pytest.fixture
def kms(tmp_path: Path, rsa_key: rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kms]:
    """A running emulator, reached directly."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Kms(tmp_path, rsa_key)
    with made.server, made.metadata:
        yield made
