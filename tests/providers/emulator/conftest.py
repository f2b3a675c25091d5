"""A cloud behind HTTPS, and the stock SDKs pointed at it."""

from __future__ import annotations

import base64
import itertools
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aliyunsdkcore.auth.credentials import RsaKeyPairCredential, StsTokenCredential
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.profile import region_provider
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from providers.emulator import Cloud, EmulatorServer, Files, write_directory
from providers.emulator.model import AccessKey, Session
from providers.emulator.pki import read_client_key_file

_regions = itertools.count(1)


class Clock:
    """The real time plus what a test adds, so that SDKs which sign with the real time still fit."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


@pytest.fixture
def port() -> Iterator[int]:
    """A port of loopback that a server may leave and come back to: nobody else gets it meanwhile."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@dataclass
class World:
    """A served cloud with the secret `uploader-ak`, the user `ops` and a ClientKey."""

    cloud: Cloud
    clock: Clock
    server: EmulatorServer
    files: Files

    @property
    def key(self) -> AccessKey:
        return self.cloud.current_key("uploader-ak")

    @property
    def ops(self) -> AccessKey:
        return self.cloud.keys_of("ops")[-1]

    def url(self, path: str = "/") -> str:
        return f"https://{self.server.endpoint}{path}"

    def tea(self, client: Callable[[Any], Any], key: AccessKey | Session) -> Any:
        """A client of the newer SDKs (alibabacloud_*), trusting the emulator's CA only."""
        from alibabacloud_tea_openapi.models import Config

        return client(
            Config(
                access_key_id=key.access_key_id,
                access_key_secret=key.access_key_secret,
                security_token=key.security_token if isinstance(key, Session) else None,
                endpoint=self.server.endpoint,
                ca=str(self.files.ca),
                read_timeout=5000,
            )
        )

    def acs_options(self) -> dict[str, Any]:
        """Endpoints of the older SDK are global to the process, hence a region of its own for every client."""
        region = f"xx-test-{next(_regions)}"
        for product in ("kms", "sts"):
            region_provider.add_endpoint(product, region, self.server.endpoint_of(product))
        return {"region_id": region, "verify": str(self.files.ca), "auto_retry": False, "timeout": 5}

    def acs(self, key: AccessKey | Session) -> AcsClient:
        """A client of the older SDK (aliyunsdkcore) with an AccessKey or a session: RPC, HMAC-SHA1."""
        if isinstance(key, Session) and key.security_token:
            credential = StsTokenCredential(key.access_key_id, key.access_key_secret, key.security_token)
            return AcsClient(credential=credential, **self.acs_options())
        return AcsClient(ak=key.access_key_id, secret=key.access_key_secret, **self.acs_options())

    def official_client(self) -> tuple[Any, Any]:
        """The official secrets-manager client and its cache, with the ClientKey file: RPC, SHA256withRSA.

        Its own loader needs an old pyOpenSSL, and it switches certificate checks off; both are put right here by means
        that it offers in public.
        """
        from alibaba_cloud_secretsmanager_client.auth.client_key_signer import ClientKeySigner
        from alibaba_cloud_secretsmanager_client.model.client_key_credentials import ClientKeyCredential
        from alibaba_cloud_secretsmanager_client.model.region_info import RegionInfo
        from alibaba_cloud_secretsmanager_client.secret_manager_cache_client_builder import (
            SecretManagerCacheClientBuilder,
        )
        from alibaba_cloud_secretsmanager_client.service.default_secret_manager_client_builder import (
            DefaultSecretManagerClientBuilder,
        )

        password = self.files.client_key_password.read_text()
        key_id, key = read_client_key_file(self.files.client_key.read_text(), password)
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        body = base64.b64encode(der).decode()
        credential = RsaKeyPairCredential(key_id, body, 900)
        options = self.acs_options()
        region = RegionInfo(region_id=options["region_id"], endpoint=self.server.endpoint)
        builder = DefaultSecretManagerClientBuilder()
        builder.with_credentials(ClientKeyCredential(ClientKeySigner(key_id, body), credential)).add_region_info(region)
        client = builder.build()
        client.client_dict[region] = AcsClient(credential=credential, **options)
        return client, SecretManagerCacheClientBuilder.new_cache_client_builder(client).build()


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[[], World]]:
    """Makes worlds that end with the test."""
    servers: list[EmulatorServer] = []

    def make(name: str = "emulator") -> World:
        clock = Clock()
        cloud = Cloud(clock, old_key_life_s=10.0)
        cloud.add_ram_secret("uploader-ak", user="uploader")
        server = EmulatorServer(cloud, tmp_path / name)
        servers.append(server)
        server.start()
        return World(cloud, clock, server, write_directory(tmp_path / name, cloud, server.endpoint))

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def world(make_world: Callable[[], World]) -> World:
    """One world."""
    return make_world()


@pytest.fixture
def trusting(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """For SDKs that take a CA by the environment only."""
    for name in ("ALIBABA_CLOUD_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(world.files.ca))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return world
