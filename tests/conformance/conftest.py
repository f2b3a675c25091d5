"""A rig, and the provider that it feeds, made of a config as an operator writes it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.app import wiring
from agent.core.provider import Provider
from agent.core.settings import ProviderSettings, Settings
from providers.emulator import Cloud
from providers.emulator.pki import server_context
from tests.support.rigs.rig import Rig, World
from tests.support.rigs.third_party import install

NAME = "rigged"
FIXED_METADATA = "http://100.100.100.200"


class Factory(wiring.Factory):
    """The real wiring, but that the fixed address of the metadata service is the emulated one's."""

    def __init__(self, world: World, settings: Settings) -> None:
        super().__init__(settings, world.environ)
        self._world = world

    def provider(self, name: str, settings: ProviderSettings) -> Provider:
        """As the real one."""
        if getattr(settings, "metadata_endpoint", "") == FIXED_METADATA:
            settings = replace(settings, metadata_endpoint=self._world.metadata.url)  # type: ignore[call-arg]
        return super().provider(name, settings)


class Bench:
    """A rig with a provider on it."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.world = rig, rig.world
        self.config = rig.world.write("keyturn.toml", self._config(), 0o644)
        settings = wiring.load_settings(str(self.config), rig.world.environ)
        self.provider = Factory(rig.world, settings).provider(NAME, settings.credentials[NAME].provider)

    def _config(self) -> str:
        endpoint = json.dumps(self.world.front.endpoint)
        sink = self.world.directory / "app.env"
        return f"""\
[cloud]
ca_file = {json.dumps(str(self.world.ca_file))}
sts_endpoint = {endpoint}
kms_endpoint = {endpoint}
[credentials.{NAME}.provider]
{self.rig.table(NAME)}
[[credentials.{NAME}.sinks]]
type = "env_file"
path = {json.dumps(str(sink))}
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of packages, with a third party's provider."""
    return install(tmp_path_factory.mktemp("packages") / "site")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one CA for all tests: to load the system's beside it takes a while, and is done once a CA."""
    directory = tmp_path_factory.mktemp("authority")
    server_context(directory)
    return directory


@pytest.fixture
def bench(
    tmp_path: Path, site: Path, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[type[Rig]], Bench]]:
    """Brings a rig up, and lets go of it with the test."""
    for name in [name for name in os.environ if name.startswith("ALIBABA_CLOUD_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    # For how long files must have been left alone; tests/providers/test_static_parts.py waits for the real half second.
    monkeypatch.setattr("providers.static_parts.QUIET_S", 0.1)
    monkeypatch.syspath_prepend(site)
    made: list[Bench] = []
    worlds: list[World] = []

    def make(kind: type[Rig]) -> Bench:
        worlds.append(World(tmp_path, Cloud(), authority))
        made.append(Bench(kind(worlds[0])))
        return made[0]

    yield make
    for each in made:
        each.provider.close()
        each.rig.close()
    for world in worlds:
        world.close()
