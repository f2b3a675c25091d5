"""Each source of a config has a likeness in the emulated account, and none of the real one's files or variables is used."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import providers
from agent.app import wiring
from agent.core.credential import Kind
from agent.core.provider import ProviderContext
from agent.core.settings import CloudSettings, FilePath, ProviderSettings
from agent.drill.sources import PLAYED, Sources
from agent.engine.base_credentials import InlineBase
from agent.system.clock import Clock
from providers.emulator import Cloud, EmulatorServer, MetadataServer

UNSET = ", ".join(f'{part}_from_env_variable = "UNSET"' for part in ("access_key_id", "access_key_secret"))
TABLES = {
    "kms_secret": (
        'secret_name = "a", client_key_private_key_path = "/x", client_key_password_from_file_path = "/x", '
        'regions = [{ region_id = "cn-beijing" }]'
    ),
    "access_key": 'access_key_id_from_file_path = "/x", access_key_secret_from_env_variable = "UNSET"',
    "sts": f'{UNSET}, security_token_from_env_variable = "UNSET"',
    "bearer": 'bearer_token_from_file_path = "/x"',
    "ecs_ram_role": 'role_name = "anything"',
    "credentials_uri": 'credentials_uri = "http://127.0.0.1:1/x?token=x"',
    "oidc_role_arn": 'oidc_token_file_path = "/x", oidc_provider_arn = "acs:ram::1:oidc-provider/x"',
    "rsa_key_pair": 'public_key_id = "LTAI", private_key_file = "/x"',
    "ram_role_arn": (
        'role_arn = "acs:ram::1:role/x", external_id = "four", sts_endpoint = "sts.invalid", '
        f'base = {{ type = "access_key", {UNSET} }}'
    ),
    "ram_user": f'ram_user_name = "x", authority = {{ type = "access_key", {UNSET} }}',
    "function_compute": "",
    "process": 'command = ["/bin/false"]',
    "default": "",
}
STAND_INS = ("process", "default", "function_compute", "ram_user")
KINDS = {
    "bearer": Kind.BEARER,
    **dict.fromkeys(("kms_secret", "access_key", *STAND_INS), Kind.ACCESS_KEY),
}


class Stage:
    """An account, and the sources in it."""

    def __init__(self, sources: Sources, server: EmulatorServer) -> None:
        self.sources = sources
        self.cloud = CloudSettings(
            region_id="cn-beijing", sts_endpoint=server.endpoint_of("sts"), ca_file=FilePath(server.ca_file)
        )

    def context(self) -> ProviderContext:
        return ProviderContext("a", self.cloud, environ=self.sources.variables, base_of=self.base)

    def base(self, settings: ProviderSettings | str) -> InlineBase:
        assert isinstance(settings, ProviderSettings)
        return InlineBase(providers.load(settings.type).made(settings, self.context()), Clock().now)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One for all."""
    cloud, directory = Cloud(region_id="cn-beijing"), tmp_path_factory.mktemp("cloud")
    with EmulatorServer(cloud, directory) as server, MetadataServer(cloud) as metadata:
        yield Stage(Sources(cloud, server, metadata, directory), server)


@pytest.mark.parametrize("kind", TABLES)
def test_the_likeness_gives_a_value_of_the_same_kind(stage: Stage, kind: str, tmp_path: Path) -> None:
    """Fetched by the real provider; what would have to be run is stood in for, and that is said."""
    config = tmp_path / "keyturn.toml"
    config.touch(mode=0o600)
    fields = ", ".join(filter(None, [f'type = "{kind}"', TABLES[kind]]))
    config.write_text(f'[credentials.a]\nprovider = {{ {fields} }}\nserve = {{ users = ["root"] }}\n')
    real = wiring.load_settings(str(config), {}).credentials["a"].provider
    before = len(stage.sources.remarks)
    played = stage.sources.likeness("credentials.a.provider", real)
    value = providers.load(played.type).made(played, stage.context()).fetch(datetime.now(UTC))
    assert value.kind is KINDS.get(kind, Kind.STS) or (kind == "rsa_key_pair" and value.expiration is not None)
    assert isinstance(real, PLAYED) is (kind not in STAND_INS)
    assert len(stage.sources.remarks) - before == (kind in STAND_INS)


def test_every_built_in_type_is_known_here() -> None:
    """One that is added needs a likeness, or a decision that it has none."""
    assert set(TABLES) == set(providers.BUILT_IN)
