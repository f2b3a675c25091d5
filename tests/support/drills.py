"""A host whose config names everything that a drill must not touch, and what a test holds against a drill of it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from agent.state.credential_state import CredentialState
from agent.state.publish_journal import PublishJournal
from agent.state.records import Published
from agent.state.store import StateStore

WATCHED = """
import json, os, sys
report = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
def note(event, *what):
    os.write(report, json.dumps([event, *map(str, what)]).encode() + b"\\n")
def hook(event, args):
    if event == "open" and not isinstance(args[0], int):
        note("writes" if args[2] & WRITES else "reads", os.fsdecode(args[0]))
    elif event.startswith(("os.", "shutil.", "socket.", "subprocess.", "pty.", "signal.")):
        note(event, *args)
sys.addaudithook(hook)
from agent.cli.main import main
sys.exit(main(sys.argv[2:]))
"""
"""Runs a command, and writes down what it opens, changes, connects to and starts, as the interpreter itself reports it."""


class RealHost:
    """A directory with secrets, files with content, a state and a log; and the config over them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.chmod(0o755)
        for name in ("secrets", "app", "state", "run", "log", "etc"):
            (directory / name).mkdir(mode=0o755)
        for name in ("clientKey.json", "password", "ak_id", "ak_secret", "token", "pem"):
            self._file("secrets", name, f"secret {name}", 0o600)
        for name in ("credentials.ini", "app.env", "uri.env"):
            self._file("app", name, "# of somebody else\n", 0o640)
        self._file("log", "audit.jsonl", "", 0o600)
        self._file("run", "web.pid", str(os.getpid()), 0o644)
        self._file("etc", "x.j2", "id={{ access_key_id }}\nsecret={{ access_key_secret }}\n", 0o644)
        self.config = directory / "keyturn.toml"
        self.touched = directory / "touched"
        self.configure(self.usual())

    def _file(self, folder: str, name: str, content: str, mode: int) -> None:
        path = self.directory / folder / name
        path.touch(mode=0o600)
        path.write_text(content)
        path.chmod(mode)

    def configure(self, text: str) -> None:
        """Write the config."""
        self.config.write_text(text.replace("HERE", str(self.directory)))
        self.config.chmod(0o644)

    def usual(self, owner: str = "nobody") -> str:
        """Every kind of sink, notifier and source around one managed secret."""
        return f"""
[agent]
state_directory = "HERE/state"
runtime_directory = "HERE/run"
metrics_listen = "127.0.0.1:1"
metrics_textfile = "HERE/log/keyturn.prom"
[agent.audit]
path = "HERE/log/audit.jsonl"
[agent.endpoint]
listen = "127.0.0.1:8911"
[credentials.uploader]
owner = "the web team"
[credentials.uploader.serve]
users = ["root"]
[credentials.uploader.provider]
type = "kms_secret"
secret_name = "acs:kms:cn-beijing:9876543210:secret/uploader-ak"
client_key_private_key_path = "HERE/secrets/clientKey.json"
client_key_password_from_file_path = "HERE/secrets/password"
regions = [{{ region_id = "cn-beijing", vpc = true }}, {{ region_id = "cn-hangzhou" }}]
[[credentials.uploader.sinks]]
type = "credentials_ini"
path = "HERE/app/credentials.ini"
owner = "{owner}"
mode = "0640"
[[credentials.uploader.sinks]]
type = "env_file"
path = "HERE/app/app.env"
variables = ["alibaba_cloud"]
dialect = "docker"
write = "in_place"
[[credentials.uploader.sinks]]
type = "template"
path = "HERE/app/x.conf"
source = "HERE/etc/x.j2"
[[credentials.uploader.sinks]]
type = "directory"
path = "HERE/app/set"
owner = "{owner}"
files = [
  {{ type = "env_file", name = "a.env", dialect = "shell", variables = ["oss"] }},
  {{ type = "template", name = "b", source = "HERE/etc/x.j2" }},
]
[[credentials.uploader.sinks]]
type = "credentials_uri"
path = "HERE/app/uri.env"
[[credentials.uploader.sinks]]
type = "aliyun_cli"
path = "HERE/app/config.json"
profile_mode = "External"
[[credentials.uploader.notify]]
type = "systemd"
unit = "web.service"
action = "reload-or-restart"
pickup = {{ command = ["/bin/touch", "HERE/touched"] }}
[[credentials.uploader.notify]]
type = "signal"
pid_file = "HERE/run/web.pid"
signal = "SIGTERM"
[[credentials.uploader.notify]]
type = "exec"
command = ["/bin/touch", "HERE/touched"]
splay = "10m"
[credentials.uploader.emergency]
ram_user_name = "robot"
authority = "ops"
[credentials.ops.provider]
type = "ram_role_arn"
role_arn = "acs:ram::9876543210:role/ops"
base = {{ type = "process", command = ["/bin/touch", "HERE/touched"] }}
[credentials.session.provider]
type = "ram_role_arn"
role_arn = "acs:ram::9876543210:role/app"
base = "uploader"
[[credentials.session.sinks]]
type = "json"
path = "HERE/app/session.json"
[[credentials.session.notify]]
type = "http"
url = "http://127.0.0.1:9/reload"
[credentials.twin.provider]
type = "kms_secret"
secret_name = "uploader-ak"
properties_file = "HERE/secrets/missing.properties"
[[credentials.twin.sinks]]
type = "json"
path = "HERE/app/twin.json"
[[credentials.twin.notify]]
type = "systemd"
unit = "web.service"
[credentials.static.provider]
type = "access_key"
access_key_id_from_file_path = "HERE/secrets/ak_id"
access_key_secret_from_file_path = "HERE/secrets/ak_secret"
[[credentials.static.sinks]]
type = "json"
path = "HERE/app/static.json"
[credentials.stranger.provider]
type = "bearer"
bearer_token_from_file_path = "HERE/secrets/token"
[[credentials.stranger.sinks]]
type = "env_file"
path = "HERE/app/stranger.env"
variables = {{ TOKEN = "bearer_token" }}
dialect = "docker"
"""

    def published(self, **keys: str) -> None:
        """Have the state remember which key each of these credentials published last."""
        states = StateStore(self.directory / "state")
        states.prepare()
        for name, key in keys.items():
            states.save(name, CredentialState(PublishJournal(Published(3, access_key_id=key))))

    def snapshot(self) -> dict[str, tuple[object, ...]]:
        """Everything below the directory, with what a change of it would change."""
        return {str(path): _seen(path) for path in [self.directory, *sorted(self.directory.rglob("*"))]}

    def arguments(self, *words: str, name: str = "uploader") -> list[str]:
        """A drill, as it is called."""
        return ["--config", str(self.config), "rotate", name, "--reason", "a drill", "--drill", *words]

    def watched(self, report: Path, *words: str) -> list[str]:
        """The same in a process that writes down what it does."""
        return [sys.executable, "-c", WATCHED, str(report), *self.arguments(*words)]


def _seen(path: Path) -> tuple[object, ...]:
    found = path.lstat()
    content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns, content


def events_in(report: Path) -> list[list[Any]]:
    """What a watched process did."""
    return [json.loads(line) for line in report.read_text().splitlines()]
