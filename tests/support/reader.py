"""Somebody who does what a page says, block by block, on a host below a directory and against the emulated cloud.

Real: the config, every `keyturn` command, the daemon, the SDKs, the files. Stood in for, by programs of the same names:

* `systemctl` starts the daemon for keyturn, and notes what else it was told; so does the `systemd` notifier, which becomes a
  command that calls it: pytest is no service of systemd's (tests/systemd runs the real one).
* `install`, `chown` and `runuser` act as the user that runs the tests: the page's users do not exist here.
* `aliyun`, `ossutil`, `terraform`, `docker` and `crontab` note their words: they need an account, or would change this machine.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import signal
import subprocess
import sys
from pathlib import Path

from providers.emulator import Cloud, EmulatorServer, MetadataServer
from providers.emulator.directory import Files, write_directory
from tests.support.blocks import ROOT, Block, blocks
from tests.support.processes import eventually

SYSTEM = re.compile(r"(?<![\w./$}])/(etc|run|srv|var|opt|home|usr/local/lib|usr/local/bin)/")
"""Where a path begins that the reader's host has below its directory."""
SECOND = re.compile(r'type = "systemd"\nunit = "(\S+)"\naction = "(\S+)"')
REGION = '{ region_id = "cn-hangzhou"'

NOTED = ("aliyun", "ossutil", "terraform", "docker", "logger")
STANDINS = {
    "keyturn": """\
[ "${1-}" = systemd-setup ] && set -- "$@" --root "$HOST"/image
exec "$PYTHON" -m agent "$@"
""",
    "python3": 'exec "$PYTHON" "$@"\n',
    "install": """\
words=()
while [ $# -gt 0 ]; do case "$1" in -o|-g) shift;; *) words+=("$1");; esac; shift; done
exec /usr/bin/install "${words[@]}"
""",
    "chown": "exit 0\n",
    "runuser": 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"\n',
    "systemctl": """\
echo "systemctl $*" >> "$HOST/noted"
[ "$*" = "reload keyturn" ] && kill -HUP "$(cat "$HOST/daemon.pid")"
[ "$*" = "enable --now keyturn" ] || exit 0
"$PYTHON" -m agent run > "$HOST/daemon.log" 2>&1 < /dev/null &
echo $! > "$HOST/daemon.pid"
LOG="$HOST"/var/log/keyturn/audit.jsonl
for _ in $(seq 600); do grep -qE '"event":"(published|fetch_failed)"' "$LOG" 2>/dev/null && exit 0; sleep 0.1; done
cat "$HOST/daemon.log"; exit 1
""",
    "crontab": 'echo "crontab $*" >> "$HOST/noted"\n[ "$*" != - ] || cat >> "$HOST/noted"\n',
} | {name: f'echo "{name} $*" >> "$HOST/noted"\n' for name in NOTED}


def _is_gone(pid: int) -> bool:
    """Whether a process has ended; nobody may be there to wait for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Reader:
    """One host, one reader, one page at a time."""

    def __init__(self, host: Path) -> None:
        self.host = host
        for each in (
            "bin",
            "downloads",
            "etc/keyturn",
            "run/keyturn",
            "var/lib/keyturn",
            "var/log/keyturn",
            "opt/uploader",
        ):
            (host / each).mkdir(parents=True)
        for each in ("", "run/keyturn", "var/lib/keyturn", "var/log/keyturn"):
            (host / each).chmod(0o755 if not each else 0o711)
        for name, body in STANDINS.items():
            (host / "bin" / name).write_text(f"#!/bin/bash\nHOST={host}\n{body}")
            (host / "bin" / name).chmod(0o755)
        self.environ = {
            "PATH": f"{host}/bin:{os.environ['PATH']}",
            "HOME": str(host / "home"),
            "PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT),
            "KEYTURN_CONFIG": str(host / "etc/keyturn/keyturn.toml"),
            "CREDENTIALS_DIRECTORY": str(host / "etc/keyturn"),
        }
        self.cloud = Cloud()
        self.cloud.add_ram_secret("uploader-ak", user="uploader")
        self.server = EmulatorServer(self.cloud, self._made("cloud"))
        self.metadata = MetadataServer(self.cloud)
        self.said = ""

    def _made(self, name: str) -> Path:
        (self.host / name).mkdir(mode=0o700)
        return self.host / name

    def __enter__(self) -> Reader:
        self.server.start()
        self.metadata.start()
        self.files: Files = write_directory(
            self.host / "cloud",
            self.cloud,
            self.server.endpoint,
            endpoints=self.server.endpoints,
            metadata_url=self.metadata.url,
        )
        downloaded = self.host / "downloads"
        (downloaded / "clientKey_KAAP.example.json").write_bytes(self.files.client_key.read_bytes())
        (downloaded / "clientKey_KAAP.example_Password.txt").write_bytes(self.files.client_key_password.read_bytes())
        return self

    def __exit__(self, *_error: object) -> None:
        pid = self.host / "daemon.pid"
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)
            eventually(lambda: _is_gone(int(pid.read_text())), "the daemon stops")
        self.metadata.stop()
        self.server.stop()

    def has_the_client_key(self) -> None:
        """Do what the page presupposes: the ClientKey is in place."""
        for name, source in (
            ("client_key.json", self.files.client_key),
            ("client_key_password", self.files.client_key_password),
        ):
            (self.host / "etc/keyturn" / name).write_bytes(source.read_bytes())
            (self.host / "etc/keyturn" / name).chmod(0o600)

    def follow(self, page: Path) -> None:
        """Write each block that names its file, and run each block of commands.

        Raises:
            AssertionError: a command failed.
        """
        for block in blocks(page):
            if block.reason:
                continue
            if block.file:
                self._write(block)
            elif block.kind == "sh":
                self._run(block)

    @property
    def noted(self) -> str:
        """What the programs were told that stand in for others."""
        return (self.host / "noted").read_text() if (self.host / "noted").exists() else ""

    def here(self, text: str) -> str:
        """Return a text with the paths of this host, and with the user who is there."""
        me, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
        text = SYSTEM.sub(lambda found: f"{self.host}/{found[1]}/", text)
        text = re.sub(r'^(user|owner) = "\w+"', rf'\1 = "{me}"', text, flags=re.M)
        text = re.sub(r'^group = "\w+"', f'group = "{group}"', text, flags=re.M)
        return re.sub(r'^users = \["\w+"\]', f'users = ["{me}"]', text, flags=re.M)

    def _write(self, block: Block) -> None:
        path, text = Path(self.here(block.file)), self.here(block.text)
        if block.kind == "toml":
            text = self._config(text)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o700 if text.startswith("#!") else 0o644)

    def _config(self, text: str) -> str:
        """Return a config for this host and this cloud."""
        text = text.replace(
            'type = "ecs_ram_role"', f'type = "ecs_ram_role"\nmetadata_endpoint = "{self.metadata.url}"'
        )
        text = text.replace(REGION, f'{REGION}, endpoint = "{self.server.endpoint_of("kms")}"')
        text = SECOND.sub(rf'type = "exec"\ncommand = ["{self.host}/bin/systemctl", "\2", "\1"]', text)
        named = "".join(
            f'{product}_endpoint = "{self.server.endpoint_of(product)}"\n' for product in ("sts", "kms", "ram", "ims")
        )
        places = "" if "[agent]" in text else (
            f'[agent]\nstate_directory = "{self.host}/var/lib/keyturn"\nruntime_directory = "{self.host}/run/keyturn"\n'
            f'[agent.audit]\npath = "{self.host}/var/log/keyturn/audit.jsonl"\n'
        )  # fmt: skip
        return f'{text}\n{places}[cloud]\nca_file = "{self.files.ca}"\n{named}'

    def add(self, block: Block) -> None:
        """Add a block to the config."""
        config = Path(self.environ["KEYTURN_CONFIG"])
        config.write_text(config.read_text() + self.here(block.text))

    def run(self, commands: str) -> str:
        """Run commands of the test's own, and return what they print."""
        return self._run(Block("the test", 0, "sh", commands, ""))

    def _run(self, block: Block) -> str:
        script = "set -euo pipefail\n" + self.here(block.text)
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.host / "downloads",
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.said += done.stdout
        assert done.returncode == 0, f"{block.place}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout
