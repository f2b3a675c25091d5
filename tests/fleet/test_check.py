"""What `check` says of `[fleet]`: one finding at the key that it is about, on a real redis-server, which it does not change."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from agent.app import wiring
from agent.app.check_fleet import findings
from agent.core.settings import Settings
from agent.fleet.client import opened
from agent.fleet.entries import HostState
from agent.fleet.rights import LEASE_PROBES, PROBES
from tests.support.redis_server import RedisServer
from tests.support.vm import Vm

RULES = " ".join(f"+{command.lower()}" for command, _words in PROBES)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


def settings_of(vm: Vm) -> Settings:
    return wiring.load_settings(str(vm.config), vm.environ)


class Config:
    """A VM whose config has a fleet, and the server as its administrator sees it."""

    def __init__(self, vm: Vm, server: RedisServer) -> None:
        self.vm, self.server = vm, server
        self.admin: Any = redis.Redis(port=server.port)
        self.admin.flushall()
        self.password = vm.directory / "redis_password"
        self.password.touch(mode=0o600)
        self.password.write_text("a long one\n")
        self.user(f"~keyturn:* resetchannels -@all {RULES} +select")

    def user(self, rules: str) -> None:
        self.admin.execute_command("ACL", "SETUSER", "keyturn", "reset", "on", ">a long one", *rules.split())

    def settings(self, url: str = "", more: str = "") -> Settings:
        table = f'url = "{url or self.server.url}"\nusername = "keyturn"\npassword_from_file_path = "{self.password}"\n{more}'
        self.vm.configure(f"[fleet]\n{table}", self.vm.credential())
        return settings_of(self.vm)

    def found(self, settings: Settings, *, offline: bool = False) -> dict[str, str]:
        """The worst level at each place."""
        levels: dict[str, str] = {}
        for one in findings(settings, "web-1", self.vm.environ, offline=offline):
            if one.level != "begins" and (one.level != "ok" or one.place not in levels):
                levels[one.place] = one.level
        return levels


@pytest.fixture
def config(vm: Vm, server: RedisServer) -> Config:
    return Config(vm, server)


def test_all_is_well_and_nothing_was_written(config: Config) -> None:
    assert config.found(config.settings()) == {"fleet": "ok", "fleet.url": "ok"}
    assert config.admin.keys("*") == []
    config.server.kill()
    try:
        assert config.found(config.settings(), offline=True) == {"fleet": "ok"}
        assert config.found(config.settings())["fleet.url"] == "error"
    finally:
        config.server.start()


def test_what_is_tried_is_what_the_document_allows() -> None:
    """And SELECT, which the connection itself sends."""
    document = (Path(__file__).parents[2] / "docs/fleet.md").read_text()
    (rules,) = re.findall(r"ACL SETUSER keyturn .*", document)
    assert set(re.findall(r"\+(\w+)", rules)) == {command.lower() for command, _words in (*PROBES, *LEASE_PROBES)} | {
        "select"
    }


def test_each_command_that_the_user_may_not_send_is_named(config: Config) -> None:
    settings = config.settings()
    for command, _words in PROBES:
        config.user(f"~keyturn:* -@all {RULES} +select -{command.lower()}")
        (wrong,) = [one for one in findings(settings, "web-1", {}, offline=False) if one.level == "error"]
        assert wrong.place == "fleet.username" and wrong.text.count(" (") == 1
        assert f"{command} (" in wrong.text and f"+{command.lower()}" in wrong.remedy
    assert config.admin.keys("*") == []


def test_keys_that_the_user_may_not_touch_are_an_error(config: Config) -> None:
    config.user(f"~other:* -@all {RULES} +select")
    assert config.found(config.settings())["fleet.username"] == "error"


def test_a_wrong_password_and_files_that_cannot_be_used(config: Config) -> None:
    settings = config.settings()
    config.password.write_text("wrong")
    assert config.found(settings)["fleet.url"] == "error"
    config.password.chmod(0o644)
    assert config.found(settings, offline=True) == {"fleet.password_from_file_path": "error"}
    config.password.chmod(0o600)
    ca_file = config.vm.directory / "ca.pem"
    ca_file.write_text("no certificate")
    settings = config.settings("rediss://127.0.0.1:1/0", f'ca_file = "{ca_file}"')
    assert config.found(settings, offline=True) == {"fleet.ca_file": "error"}


def test_another_machine_by_this_hosts_name_is_an_error(config: Config) -> None:
    settings = config.settings()
    assert settings.fleet is not None
    state = HostState(version_id="v1", generation=1, access_key_id_tail="abcd", owed=0, machine="another")
    opened(settings.fleet).post("web-1", {"uploader": state})
    assert config.found(settings)["fleet.host"] == "error"


def test_without_the_client_it_says_how_to_install_it(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "redis" or name.startswith("agent.fleet")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    (found,) = findings(config.settings(), "web-1", {}, offline=True)
    assert (found.level, found.place) == ("error", "fleet") and "keyturn[fleet]" in found.remedy


def test_no_fleet_is_nothing_said(vm: Vm, tmp_path: Path) -> None:
    vm.configure(vm.credential())
    assert list(findings(settings_of(vm), "web-1", {}, offline=False)) == []
