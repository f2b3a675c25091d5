"""The default chain of Alibaba's credentials library, the real one, in its own process: each link, and what goes wrong."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.cloud.transport import UntrustedServerError
from agent.core.credential import Credential, Kind
from agent.core.errors import (
    BadAnswerError,
    CancelledError,
    CredentialFileError,
    NotPermittedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from agent.core.provider import ProviderContext
from agent.core.secret import Secret
from agent.core.settings import CloudSettings, FilePath
from agent.system.procfs import group_is_empty
from providers.default_chain import DefaultChain, DefaultSettings
from providers.emulator import Cloud, EmulatorServer, MetadataServer

REROUTED = """\
import json, sys
told = json.load(sys.stdin)
sys.path[:] = told["path"]
import providers.default_child as child
class Rerouted(child.Transport):
    def request(self, method, url, **options):
        return super().request(method, url.replace("http://100.100.100.200", "{metadata}"), **options)
child.Transport = Rerouted
child.main(told)
"""
"""The child's program, with the metadata server's fixed address led to the emulated one."""


class Machine:
    """A home directory, an environment, and an emulated cloud around them; nothing configured."""

    def __init__(self, directory: Path) -> None:
        self.cloud = Cloud()
        self.metadata = MetadataServer(self.cloud)
        self.server = EmulatorServer(self.cloud, directory / "emulator")
        self.home = directory / "home"
        self.environ = {"HOME": str(self.home), "NO_PROXY": "127.0.0.1"}

    def write(self, path: str, content: str, mode: int = 0o600) -> Path:
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(mode)
        return file

    def profile(self, **keys: object) -> Path:
        config = {"current": "p", "profiles": [{"name": "p", **keys}]}
        return self.write(".aliyun/config.json", json.dumps(config))

    def provider(self, *, trusted: bool = True) -> DefaultChain:
        ca_file = FilePath(self.server.ca_file) if trusted else None
        cloud = CloudSettings(sts_endpoint=self.server.endpoint, ca_file=ca_file)
        context = ProviderContext("uploader", cloud, environ=self.environ)
        made = DefaultChain(DefaultSettings(type="default"), context)
        made.program = REROUTED.format(metadata=self.metadata.url)
        return made

    def fetch(self, timeout_s: float = 30.0, *, trusted: bool = True) -> Credential:
        return self.provider(trusted=trusted).fetch(datetime.now(UTC), timeout_s)

    def role(self, name: str = "worker") -> dict[str, str]:
        """A user that may assume a new role: what a RamRoleArn profile needs."""
        self.cloud.add_role(name)
        self.cloud.add_user("builder", "sts:AssumeRole")
        key = self.cloud.add_access_key("builder")
        return {
            "access_key_id": key.access_key_id, "access_key_secret": key.access_key_secret,
            "ram_role_arn": self.cloud.role_arn(name), "ram_session_name": "keyturn",
        }  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Both servers running, and a caller whose own environment has nothing to do with it."""
    for name in [name for name in os.environ if name.startswith("ALIBABA_CLOUD_")]:
        monkeypatch.delenv(name)
    made = Machine(tmp_path)
    with made.metadata, made.server:
        yield made


def test_a_key_in_the_environment(machine: Machine) -> None:
    """The first link; it is named in the version id, and the value is polled."""
    machine.environ |= {"ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAIx", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "s"}
    assert machine.fetch() == Credential(access_key_id="LTAIx", access_key_secret=Secret("s"), version_id="default/env")


def test_a_session_in_the_environment(machine: Machine) -> None:
    """With a token it is a session, of whose end nobody knows."""
    machine.environ |= {
        "ALIBABA_CLOUD_ACCESS_KEY_ID": "STS.x", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "s",
        "ALIBABA_CLOUD_SECURITY_TOKEN": "t",
    }  # fmt: skip
    found = machine.fetch()
    assert (found.kind, found.security_token, found.expiration) == (Kind.STS, Secret("t"), None)


def test_a_key_of_the_cli(machine: Machine) -> None:
    """~/.aliyun/config.json, mode AK: read anew at each look."""
    machine.profile(mode="AK", access_key_id="LTAI1", access_key_secret="s")
    provider = machine.provider()
    found = provider.fetch(datetime.now(UTC))
    assert (found.access_key_id, found.version_id) == ("LTAI1", "default/cli_profile/static_ak")
    machine.profile(mode="AK", access_key_id="LTAI2", access_key_secret="s")
    assert provider.fetch(datetime.now(UTC)).access_key_id == "LTAI2"


def test_a_session_of_the_cli(machine: Machine) -> None:
    """Mode StsToken."""
    machine.profile(mode="StsToken", access_key_id="STS.x", access_key_secret="s", sts_token="t")
    found = machine.fetch()
    assert (found.kind, found.version_id) == (Kind.STS, "default/cli_profile/static_sts")


def test_a_role_of_the_cli(machine: Machine) -> None:
    """Mode RamRoleArn: AssumeRole is sent to `cloud.sts_endpoint` over our TLS, and the session's end is known."""
    machine.profile(mode="RamRoleArn", expired_seconds=900, **machine.role())
    found = machine.fetch()
    assert (found.kind, found.version_id) == (Kind.STS, "default/cli_profile/ram_role_arn/static_ak")
    assert found.expiration is not None
    assert 800 < (found.expiration - datetime.now(UTC)).total_seconds() <= 900


def test_a_profile_of_credentials_ini(machine: Machine) -> None:
    """~/.alibabacloud/credentials.ini, or the file that the environment names."""
    content = "[default]\ntype = access_key\naccess_key_id = {id}\naccess_key_secret = s\n"
    machine.write(".alibabacloud/credentials.ini", content.format(id="LTAI1"))
    found = machine.fetch()
    assert (found.access_key_id, found.version_id) == ("LTAI1", "default/profile/static_ak")
    other = machine.write("other.ini", content.format(id="LTAI2"))
    machine.environ["ALIBABA_CLOUD_CREDENTIALS_FILE"] = str(other)
    assert machine.fetch().access_key_id == "LTAI2"


def test_the_instances_role(machine: Machine) -> None:
    """The metadata server, with the session's end."""
    machine.cloud.add_role("worker", trusted=["ecs"])
    machine.cloud.set_instance_role("worker")
    found, handed_out = machine.fetch(), machine.cloud.instance_session()
    assert (found.access_key_id, found.version_id) == (handed_out.access_key_id, "default/ecs_ram_role")
    assert found.expiration == datetime.fromtimestamp(int(handed_out.expires_at), UTC)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_credentials_uri(machine: Machine, scheme: str) -> None:
    """The last link, over plain http on loopback and over TLS with `cloud.ca_file`; its query arrives."""
    machine.cloud.add_role("worker")
    session = machine.cloud.assume_role(machine.cloud.role_arn("worker"), "test", 3600)
    machine.cloud.uri_credential = session
    uri = machine.metadata.credentials_uri if scheme == "http" else machine.server.credentials_uri
    machine.environ["ALIBABA_CLOUD_CREDENTIALS_URI"] = uri + "?cap=x"
    found = machine.fetch()
    assert (found.access_key_id, found.version_id) == (session.access_key_id, "default/credential_uri")
    assert found.expiration == datetime.fromtimestamp(int(session.expires_at), UTC)
    assert machine.cloud.uri_queries[-1] == "cap=x"


def test_an_access_key_at_the_credentials_uri_has_no_end(machine: Machine) -> None:
    """As for the provider `credentials_uri`."""
    machine.cloud.add_user("uploader")
    machine.cloud.uri_credential = machine.cloud.add_access_key("uploader")
    machine.environ["ALIBABA_CLOUD_CREDENTIALS_URI"] = machine.metadata.credentials_uri
    found = machine.fetch()
    assert (found.kind, found.expiration) == (Kind.ACCESS_KEY, None)


def test_a_token_of_a_pod(machine: Machine, private: Callable[[Path, bytes | str], Path]) -> None:
    """OIDC goes before every file."""
    machine.cloud.add_role("pod", trusted=["oidc:cluster"])
    arn = machine.cloud.add_oidc_provider("cluster")
    token = private(machine.home.parent / "token", machine.cloud.oidc_token("cluster"))
    machine.environ |= {
        "ALIBABA_CLOUD_OIDC_TOKEN_FILE": str(token), "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": arn,
        "ALIBABA_CLOUD_ROLE_ARN": machine.cloud.role_arn("pod"),
    }  # fmt: skip
    machine.profile(mode="AK", access_key_id="LTAI1", access_key_secret="s")
    found = machine.fetch()
    assert (found.kind, found.version_id) == (Kind.STS, "default/oidc_role_arn")
    assert found.expiration is not None


def test_a_link_that_goes_away_is_replaced(machine: Machine) -> None:
    """One provider, asked again and again: each link takes over when the one before it has nothing more to give."""
    machine.cloud.add_role("worker", trusted=["ecs"])
    machine.cloud.set_instance_role("worker")
    machine.write(
        ".alibabacloud/credentials.ini", "[default]\ntype=access_key\naccess_key_id=LTAI1\naccess_key_secret=s\n"
    )
    machine.profile(mode="AK", access_key_id="LTAI2", access_key_secret="s")
    provider, links = machine.provider(), []
    for path in (".aliyun/config.json", ".alibabacloud/credentials.ini", None):
        links.append(provider.fetch(datetime.now(UTC)).version_id)
        if path:
            (machine.home / path).unlink()
    machine.cloud.set_instance_role(None)
    with pytest.raises(SourceRefusedError):
        provider.fetch(datetime.now(UTC))
    assert links == ["default/cli_profile/static_ak", "default/profile/static_ak", "default/ecs_ram_role"]


def test_nothing_anywhere(machine: Machine) -> None:
    """It is a refusal that says where a credential could be put."""
    with pytest.raises(SourceRefusedError, match=r"credentials\.uploader: no link .* has a credential") as caught:
        machine.fetch()
    for word in ("ALIBABA_CLOUD_ACCESS_KEY_ID", ".aliyun/config.json", "credentials.ini", "RAM role", "_URI"):
        assert word in caught.value.remedy


def test_no_metadata_server_is_no_trouble(machine: Machine) -> None:
    """Outside of ECS nobody answers there: still nothing anywhere, rather than a network that fails."""
    machine.metadata.stop()
    with pytest.raises(SourceRefusedError, match="no link"):
        machine.fetch()


FILES = {
    "no JSON": (".aliyun/config.json", "Canary {"),
    "a profile of an unknown mode": (
        ".aliyun/config.json",
        '{"current":"p","profiles":[{"name":"p","mode":"Canary"}]}',
    ),
    "an ini that is none": (".alibabacloud/credentials.ini", "Canary = Canary\n"),
    "an ini with a trap": (".alibabacloud/credentials.ini", "[default]\ntype=access_key\naccess_key_id=%(Canary)s\n"),
    "an ini of type sts": (".alibabacloud/credentials.ini", "[default]\ntype=sts\naccess_key_id=Canary\n"),
}


@pytest.mark.parametrize("story", FILES)
def test_a_file_that_the_library_cannot_use_is_named(
    machine: Machine, story: str, shown: Callable[[BaseException], str], caplog: pytest.LogCaptureFixture
) -> None:
    """The file that is there is named; the library's own text, with lines of it, is not shown."""
    caplog.set_level(0)
    path, content = FILES[story]
    file = machine.write(path, content)
    with pytest.raises(SourceRefusedError, match=f"{file} is there, without a usable profile") as caught:
        machine.fetch()
    assert "Canary" not in shown(caught.value) + caplog.text


def test_a_broken_file_does_not_hide_the_next_link(machine: Machine) -> None:
    """The chain goes on, as in an SDK."""
    machine.write(".aliyun/config.json", "{")
    machine.write(
        ".alibabacloud/credentials.ini", "[default]\ntype=access_key\naccess_key_id=LTAI1\naccess_key_secret=s\n"
    )
    assert machine.fetch().version_id == "default/profile/static_ak"


def test_sts_refuses(machine: Machine) -> None:
    """A role that may not be assumed is told as STS tells it."""
    machine.profile(mode="RamRoleArn", **machine.role())
    machine.cloud.fail_next(403, "NoPermission", action="AssumeRole")
    with pytest.raises(NotPermittedError, match=r"no link .*NoPermission \(HTTP 403") as caught:
        machine.fetch()
    assert caught.value.code == "NoPermission"


def test_trouble_with_one_link_does_not_stop_the_next(machine: Machine) -> None:
    """As in an SDK: what can be had is taken."""
    machine.profile(mode="RamRoleArn", **machine.role())
    machine.cloud.fail_next(503, action="AssumeRole")
    machine.cloud.add_role("instance", trusted=["ecs"])
    machine.cloud.set_instance_role("instance")
    assert machine.fetch().version_id == "default/ecs_ram_role"


def test_a_server_that_is_not_trusted(machine: Machine) -> None:
    """Without `cloud.ca_file` nothing is sent to a server whose authority the system does not know."""
    machine.profile(mode="RamRoleArn", **machine.role())
    with pytest.raises(UntrustedServerError, match=r"cloud\.ca_file"):
        machine.fetch(trusted=False)
    assert machine.cloud.calls_of("AssumeRole") == []


def test_plain_http_to_another_machine_is_not_spoken(machine: Machine, shown: Callable[[BaseException], str]) -> None:
    """A credentials URI that would show the key on the way is passed over, and named without its path."""
    machine.environ["ALIBABA_CLOUD_CREDENTIALS_URI"] = "http://keys.example/let-me-in-42"
    with pytest.raises(SourceRefusedError, match=r"keys\.example: only https") as caught:
        machine.fetch()
    assert "let-me-in-42" not in shown(caught.value)


@pytest.mark.parametrize("path", [".aliyun/config.json", ".alibabacloud/credentials.ini"])
def test_files_that_others_can_write_are_refused(machine: Machine, path: str) -> None:
    """Whoever writes them has commands executed; refused, and found by `check`, even where another link comes first."""
    machine.environ |= {"ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAIx", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "s"}
    file = machine.write(path, "{}", 0o620)
    with pytest.raises(CredentialFileError, match=f"{file}: its mode 0620 lets others"):
        machine.fetch()
    assert "error" in [finding.level for finding in machine.provider().inspect()]


def test_check_looks_at_the_files(machine: Machine) -> None:
    """Offline: which files are there, and whether others can read them."""
    assert list(machine.provider().inspect()) == []
    machine.profile(mode="AK")
    machine.write(".alibabacloud/credentials.ini", "", 0o644)
    machine.environ["ALIBABA_CLOUD_ACCESS_KEY_ID"] = "LTAIx"
    assert [finding.level for finding in machine.provider().inspect()] == ["ok", "warning", "ok"]


def external(machine: Machine, script: str) -> Path:
    command = machine.write("give", f"#!/bin/sh\n{script}\n", 0o755)
    return machine.profile(mode="External", process_command=str(command))


def test_a_command_of_the_cli(machine: Machine) -> None:
    """Mode External is served, and unlike the library it leaves the config file as it was."""
    answer = {
        "mode": "StsToken", "access_key_id": "STS.x", "access_key_secret": "s", "sts_token": "t",
        "expiration": "2099-01-01T00:00:00Z",
    }  # fmt: skip
    config = external(machine, f"env > {machine.home}/env; echo '{json.dumps(answer)}'")
    machine.environ["ALIBABA_CLOUD_SECURITY_TOKEN"] = "Canary"
    before = config.read_bytes()
    found = machine.fetch()
    assert (found.version_id, found.expiration) == ("default/cli_profile/external", datetime(2099, 1, 1, tzinfo=UTC))
    assert config.read_bytes() == before
    assert "Canary" not in (machine.home / "env").read_text()


def test_a_command_of_the_cli_that_hangs_is_ended(machine: Machine) -> None:
    """With everything that it started, at the fetch's limit."""
    external(machine, f"ps -o pgid= -p $$ > {machine.home}/group; sleep 300")
    began = time.monotonic()
    with pytest.raises(SourceUnavailableError, match="did not end in time"):
        machine.fetch(4.0)
    assert time.monotonic() - began < 20.0
    assert group_is_empty(int((machine.home / "group").read_text()))


def test_closing_ends_a_walk(machine: Machine) -> None:
    """An agent that stops does not wait for it."""
    external(machine, f"touch {machine.home}/runs; sleep 300")
    provider = machine.provider()

    def close_when_it_runs() -> None:
        while not (machine.home / "runs").exists():
            time.sleep(0.01)
        provider.close()

    threading.Thread(target=close_when_it_runs, daemon=True).start()
    with pytest.raises(CancelledError):
        provider.fetch(datetime.now(UTC), 60.0)


def oauth(machine: Machine, **keys: Any) -> Path:
    return machine.profile(mode="OAuth", oauth_site_type="CN", oauth_refresh_token="once", **keys)


def test_a_sign_in_of_the_cli_is_not_used_up(machine: Machine) -> None:
    """Mode OAuth gives the session that is in the file; when that is over, the refresh token stays unused."""
    session = {"access_key_id": "STS.x", "access_key_secret": "s", "sts_token": "t"}
    config = oauth(machine, sts_expiration=4070908800, **session)
    found = machine.fetch()
    assert (found.version_id, found.expiration) == ("default/cli_profile/oauth", datetime(2099, 1, 1, tzinfo=UTC))
    config = oauth(machine, sts_expiration=1, oauth_access_token="a", oauth_access_token_expire=1, **session)
    before = config.read_bytes()
    with pytest.raises(SourceRefusedError, match=r"config\.json is there"):
        machine.fetch()
    assert config.read_bytes() == before


def test_proxies_are_for_https_only(machine: Machine) -> None:
    """The metadata server and a loopback URI are asked directly, whatever the environment says."""
    machine.environ |= {"HTTP_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1", "NO_PROXY": ""}
    machine.cloud.add_role("worker", trusted=["ecs"])
    machine.cloud.set_instance_role("worker")
    assert machine.fetch().version_id == "default/ecs_ram_role"


def test_the_agent_itself_stays_as_it_was(machine: Machine) -> None:
    """No thread, no import and no variable of the library is left in the agent's process."""
    import sys

    machine.environ |= {"ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAIx", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "s"}
    threads, modules = set(threading.enumerate()), set(sys.modules)
    machine.fetch()
    assert set(threading.enumerate()) <= threads
    assert not [name for name in set(sys.modules) - modules if name.startswith(("alibabacloud", "Tea", "apscheduler"))]
    assert "ALIBABA_CLOUD_ACCESS_KEY_ID" not in os.environ


def test_what_the_library_prints_is_no_answer(machine: Machine) -> None:
    """Nobody but the child itself gets to write to the agent."""
    machine.cloud.add_role("worker", trusted=["ecs"])
    machine.cloud.set_instance_role("worker")
    provider = machine.provider()
    provider.program = provider.program.replace("return super()", "print('noise', flush=True); return super()")
    assert provider.fetch(datetime.now(UTC)).version_id == "default/ecs_ram_role"


def test_the_program_itself_is_the_one_of_the_child(machine: Machine) -> None:
    """What production runs, without the detour of these tests, answers as well."""
    machine.environ |= {"ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAIx", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "s"}
    provider = machine.provider()
    provider.program = DefaultChain.program
    assert provider.fetch(datetime.now(UTC)).version_id == "default/env"


@pytest.mark.parametrize(
    ("program", "words"),
    [("print('Canary')", "without an answer"), ("raise SystemExit(3)", "ended with status 3"),
     ("print('{\"broken\": \"ImportError\"}')", "failed with ImportError"),
     ('print(\'{"link": "Canary; rm", "access_key_id": "a", "access_key_secret": "s"}\')', "which link")],
)  # fmt: skip
def test_a_child_that_fails(machine: Machine, program: str, words: str, shown: Callable[[BaseException], str]) -> None:
    """Whatever comes back instead of an answer is told in our words, and tried again."""
    provider = machine.provider()
    provider.program = program
    with pytest.raises((SourceUnavailableError, BadAnswerError), match=words) as caught:
        provider.fetch(datetime.now(UTC))
    assert "Canary" not in shown(caught.value)


def test_without_the_library(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told by name, by a fetch and by `check`."""
    monkeypatch.setattr("providers.default_chain.PACKAGE", "no_such_package_here")
    with pytest.raises(SourceRefusedError, match="which is not installed"):
        machine.fetch()
    assert [finding.level for finding in machine.provider().inspect()] == ["error"]
