"""A VM with keyturn on it: real processes, real files, real HTTPS to an emulated cloud on loopback."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.control import client
from agent.core.errors import DaemonUnreachableError
from providers.emulator import Cloud, EmulatorServer
from providers.emulator.pki import client_key_file, read_client_key_file, server_context
from tests.support.processes import (
    KEYTURN,
    PATIENCE_S,
    ROOT,
    Daemon,
    Done,
    Zygote,
    at_rest,
    eventually,
    finished,
    voluntary_switches,
)

__all__ = [
    "PASSWORD",
    "PATIENCE_S",
    "Daemon",
    "Done",
    "Vm",
    "Zygote",
    "at_rest",
    "eventually",
    "make_template",
    "quoted",
    "voluntary_switches",
]

PASSWORD = "Aa1!canary-of-the-client-key-password"

AS_ANOTHER = """\
import contextlib, io, json, os, sys
from agent.cli.main import main
import agent.cli.refresh, agent.cli.credential, agent.cli.credential_from_files
for codec in ("unicode_escape", "idna", "latin-1", "ascii"):  # found by name when first used, and then out of reach
    "x".encode(codec)
(uid, groups), arguments = json.loads(sys.argv[1]), sys.argv[2:]
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    main([*arguments[:2], "check", "--offline"])
    main([*arguments[:2], "status"])
os.setgroups(groups); os.setgid(uid); os.setuid(uid)
sys.exit(main(arguments))
"""
"""Imports everything as root, since the interpreter may lie where others cannot read, then becomes somebody else."""


class Vm:
    """A directory with a ClientKey, a config and sinks; clouds that know the key; keyturns at work there."""

    def __init__(self, directory: Path, template: Path, zygote: Zygote) -> None:
        self.directory = directory
        self._zygote = zygote
        directory.mkdir(mode=0o755, exist_ok=True)
        directory.chmod(0o755)
        for name in ("ca.pem", "ca-key.pem", "clientKey.json", "password"):
            shutil.copy2(template / name, directory / name)
        self.app = self._made("app")
        self.log_directory = self._made("log")
        self.state = directory / "state"
        self.run_directory = directory / "run"
        self.config = directory / "keyturn.toml"
        self.environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        self.servers: list[EmulatorServer] = []
        self.daemons: list[Daemon] = []
        self.cloud, self.server = self.add_cloud()
        self.cloud.add_ram_secret("uploader-ak", user="uploader")

    def _made(self, name: str) -> Path:
        path = self.directory / name
        path.mkdir(mode=0o755)
        return path

    # -- the cloud ----------------------------------------------------------------------------------

    def add_cloud(self) -> tuple[Cloud, EmulatorServer]:
        """One more region, with the same ClientKey and the same CA."""
        cloud = Cloud(old_key_life_s=60.0)
        key_id, private_key = _opened((self.directory / "clientKey.json").read_text())
        cloud.add_client_key(key_id=key_id, private_key=private_key, public_key=private_key.public_key())
        place = self.directory / f"cloud{len(self.servers)}"
        place.mkdir(mode=0o700)
        for name in ("ca.pem", "ca-key.pem"):
            shutil.copy2(self.directory / name, place / name)
        server = EmulatorServer(cloud, place)
        server.start()
        self.servers.append(server)
        return cloud, server

    # -- the config ---------------------------------------------------------------------------------

    def agent(self, extra: str = "", **cloud: str) -> str:
        """The tables that are not about a credential; keywords replace keys of [cloud]."""
        named = {
            f"{product}_endpoint": self.server.endpoint_of(product) for product in ("sts", "kms", "ram", "ims")
        } | cloud
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in named.items())
        return f"""\
[agent]
state_directory = {quoted(self.state)}
runtime_directory = {quoted(self.run_directory)}
settle = "0s"
{extra}
[agent.audit]
path = {quoted(self.log_directory / "audit.jsonl")}
[cloud]
ca_file = {quoted(self.directory / "ca.pem")}
{lines}
"""

    def credential(
        self,
        name: str = "uploader",
        *,
        secret: str = "uploader-ak",
        endpoint: str | None = None,
        poll: str = "1h",
        settings: str = "",
        provider: str = "",
        sinks: str | None = None,
        notify: str = "",
    ) -> str:
        """One credential: a kms_secret, an ini sink and an env sink unless something else is said."""
        regions = f'[{{ region_id = "cn-hangzhou", endpoint = "{endpoint or self.server.endpoint}" }}]'
        asked = (
            provider
            or f"""\
type = "kms_secret"
secret_name = "{secret}"
client_key_private_key_path = {quoted(self.directory / "clientKey.json")}
client_key_password_from_file_path = {quoted(self.directory / "password")}
regions = {regions}
poll_interval = "{poll}"
"""
        )
        written = self.ini(name) + self.env(name) if sinks is None else sinks
        return f"""\
[credentials.{name}]
{settings}
[credentials.{name}.provider]
{asked}
{written}{notify}
"""

    def ini(self, name: str = "uploader", path: Path | None = None, extra: str = "") -> str:
        return f"""\
[[credentials.{name}.sinks]]
type = "credentials_ini"
path = {quoted(path or self.ini_path(name))}
{extra}
"""

    def env(self, name: str = "uploader", path: Path | None = None) -> str:
        return f"""\
[[credentials.{name}.sinks]]
type = "env_file"
path = {quoted(path or self.env_path(name))}
variables = ["alibaba_cloud"]
dialect = "systemd"
"""

    def json(self, name: str = "uploader") -> str:
        return f"""\
[[credentials.{name}.sinks]]
type = "json"
path = {quoted(self.json_path(name))}
"""

    def hook(self, command: Sequence[object], name: str = "uploader", extra: str = "") -> str:
        return f"""\
[[credentials.{name}.notify]]
type = "exec"
command = {json.dumps([str(part) for part in command])}
{extra}
"""

    def ini_path(self, name: str = "uploader") -> Path:
        return self.app / f"{name}.ini"

    def env_path(self, name: str = "uploader") -> Path:
        return self.app / f"{name}.env"

    def json_path(self, name: str = "uploader") -> Path:
        return self.app / f"{name}.json"

    def configure(self, *tables: str) -> None:
        """Write the config; without `[agent]` among the tables, the usual one."""
        given = "\n".join(tables)
        self.config.write_text(given if "[agent]" in given else self.agent() + given)

    # -- keyturn ------------------------------------------------------------------------------------

    def daemon(self, environ: Mapping[str, str] | None = None) -> Daemon:
        """Start a daemon; it is not ready yet."""
        started = Daemon(self.config, self.directory, {**self.environ, **(environ or {})})
        self.daemons.append(started)
        return started

    def keyturn(self, *arguments: str) -> Done:
        """Run a command to its end."""
        return self._zygote.run(["--config", str(self.config), *arguments], self.environ, self.directory)

    def keyturn_cold(self, *arguments: str) -> Done:
        """Run a command to its end, from its exec on."""
        return finished([*KEYTURN, "--config", str(self.config), *arguments], self.environ)

    def keyturn_as(self, uid: int, *arguments: str, groups: Sequence[int] = ()) -> Done:
        """Run a command as another user; the tests must run as root."""
        who = json.dumps([uid, list(groups)])
        return finished([sys.executable, "-c", AS_ANOTHER, who, "--config", str(self.config), *arguments], self.environ)

    def audit(self, *events: str, credential: str | None = None) -> list[dict[str, Any]]:
        """The audit log, or only its records of these events and this credential."""
        path = self.log_directory / "audit.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        records = [json.loads(line) for line in lines if line.endswith("\n")]
        return [
            record
            for record in records
            if (not events or record["event"] in events) and credential in (None, record.get("credential"))
        ]

    def events(self, credential: str | None = "uploader") -> list[str]:
        return [record["event"] for record in self.audit(credential=credential)]

    def status(self) -> dict[str, Any]:
        """What `status --json` shows: asked of the daemon at its socket, else by the command."""
        try:
            return client.ask(self.run_directory, {"command": "status"})[0]
        except DaemonUnreachableError:
            return dict(json.loads(self.keyturn("status", "--json").stdout))

    def holds(self, access_key_id: str, *paths: Path) -> bool:
        """Whether these files (the usual sinks) hold this key."""
        return all(
            path.exists() and access_key_id in path.read_text() for path in paths or (self.ini_path(), self.env_path())
        )

    def close(self) -> None:
        for each in self.daemons:
            if each.process.poll() is None:
                each.process.kill()
            each.process.wait()
        for server in self.servers:
            server.stop()


def quoted(value: object) -> str:
    """A JSON string is a TOML basic string."""
    return json.dumps(str(value))


@functools.cache
def _opened(client_key: str) -> tuple[str, Any]:
    """The id and the private key of the ClientKey: to open it is dear, and all VMs have the same."""
    return read_client_key_file(client_key, PASSWORD)


def make_template(directory: Path) -> Path:
    """What is dear to make and can be shared by all VMs: the CA, and a ClientKey with its password."""
    server_context(directory)
    key = Cloud().add_client_key()
    for name, content in (("clientKey.json", client_key_file(key, PASSWORD)), ("password", PASSWORD)):
        (directory / name).touch(mode=0o600)
        (directory / name).write_text(content)
    return directory
