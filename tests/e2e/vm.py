"""A VM with keyturn on it: real processes, real files, real HTTPS to an emulated cloud on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from agent.control import client
from agent.core.errors import DaemonUnreachableError
from providers.emulator import Cloud, EmulatorServer
from providers.emulator.pki import client_key_file, read_client_key_file, server_context

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "Aa1!canary-of-the-client-key-password"
PATIENCE_S = 20.0
"""How long a test waits for what must come; long, because only a broken product uses it up."""


def eventually(look: Callable[[], T], what: str = "", patience_s: float = PATIENCE_S) -> T:
    """Look until there is something true to see, and return it."""
    end = time.monotonic() + patience_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"it did not happen in {patience_s:g} s: {what or look}"
        time.sleep(0.02)


class Listener:
    """The service manager's end of NOTIFY_SOCKET: keeps every message with its time."""

    def __init__(self) -> None:
        self.address = f"@keyturn-test-{uuid.uuid4()}"
        self.messages: list[tuple[float, str]] = []
        self._changed = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.address[1:])
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            text = self._socket.recv(65536).decode()
            with self._changed:
                self.messages.append((time.monotonic(), text))
                self._changed.notify_all()

    def count(self, word: str) -> int:
        with self._changed:
            return sum(word in text.split("\n") for _at, text in self.messages)

    def times(self, word: str) -> list[float]:
        with self._changed:
            return [at for at, text in self.messages if word in text.split("\n")]

    def status(self) -> str:
        """The newest STATUS=."""
        with self._changed:
            lines = [line for _at, text in self.messages for line in text.split("\n") if line.startswith("STATUS=")]
        return lines[-1].removeprefix("STATUS=") if lines else ""

    def wait(self, word: str, times: int = 1, patience_s: float = PATIENCE_S) -> None:
        with self._changed:
            there = self._changed.wait_for(
                lambda: sum(word in text.split("\n") for _at, text in self.messages) >= times, patience_s
            )
        assert there, f"no {word} for the {times}th time in {patience_s:g} s; heard: {self.messages}"

    def wait_while(self, alive: Callable[[], bool], word: str, patience_s: float = PATIENCE_S) -> None:
        """Wait for a word, but not for a dead process."""
        end = time.monotonic() + patience_s
        while not self.count(word) and alive() and time.monotonic() < end:
            with self._changed:
                self._changed.wait(0.1)


class Daemon:
    """A `keyturn run` of its own process."""

    def __init__(self, vm: Vm, config: Path, environ: Mapping[str, str]) -> None:
        self.listener = Listener()
        self._err = vm.directory / f"daemon-{uuid.uuid4().hex[:8]}.log"
        with self._err.open("wb") as err:
            self.started_at = time.monotonic()
            self.process = subprocess.Popen(
                [*KEYTURN, "--config", str(config), "run"],
                stdin=subprocess.DEVNULL,
                stdout=err,
                stderr=err,
                env={**vm.environ, "NOTIFY_SOCKET": self.listener.address, **environ},
                cwd="/",
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._err.read_text()

    def ready(self) -> Daemon:
        """Wait for READY=1, or say what the daemon died of."""
        self.listener.wait_while(lambda: self.process.poll() is None, "READY=1")
        assert self.listener.count("READY=1"), f"not ready, status {self.process.poll()}: {self.log}"
        return self

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        return self.process.wait(PATIENCE_S)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """As the kernel's OOM killer would."""
        self.process.kill()
        self.ended()


KEYTURN = (sys.executable, "-m", "agent")

AS_ANOTHER = """\
import contextlib, io, json, os, sys
from agent.cli.main import main
import agent.cli.work
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

    def __init__(self, directory: Path, template: Path) -> None:
        self.directory = directory
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
        key_id, private_key = read_client_key_file((self.directory / "clientKey.json").read_text(), PASSWORD)
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
        endpoint = self.server.endpoint
        named = {"sts_endpoint": endpoint, "kms_endpoint": endpoint, "ram_endpoint": endpoint, **cloud}
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

    def configure(self, *tables: str) -> None:
        """Write the config; without `[agent]` among the tables, the usual one."""
        given = "\n".join(tables)
        self.config.write_text(given if "[agent]" in given else self.agent() + given)

    # -- keyturn ------------------------------------------------------------------------------------

    def daemon(self, environ: Mapping[str, str] | None = None, config: Path | None = None) -> Daemon:
        """Start a daemon; it is not ready yet."""
        started = Daemon(self, config or self.config, environ or {})
        self.daemons.append(started)
        return started

    def keyturn(self, *arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return self._finished([*KEYTURN, "--config", str(self.config), *arguments], {**self.environ, **(environ or {})})

    def keyturn_as(self, uid: int, *arguments: str, groups: Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command as another user; the tests must run as root."""
        who = json.dumps([uid, list(groups)])
        return self._finished(
            [sys.executable, "-c", AS_ANOTHER, who, "--config", str(self.config), *arguments], self.environ
        )

    def _finished(self, argv: Sequence[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env=environ, cwd="/", check=False)
        assert "Traceback" not in done.stdout + done.stderr, f"a traceback reached the user: {done.stderr}"
        assert "fault of keyturn itself" not in done.stdout + done.stderr, done.stderr
        return done

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


def make_template(directory: Path) -> Path:
    """What is dear to make and can be shared by all VMs: the CA, and a ClientKey with its password."""
    server_context(directory)
    key = Cloud().add_client_key()
    for name, content in (("clientKey.json", client_key_file(key, PASSWORD)), ("password", PASSWORD)):
        (directory / name).touch(mode=0o600)
        (directory / name).write_text(content)
    return directory
