"""What the daemon holds in memory with one provider alone, beside a bare interpreter.

    python bench/memory.py

Each row is a real `keyturn run` against the emulated cloud with one credential, read from /proc after its first publish.
`ram_role_arn` builds on an inline AccessKey, so that nothing but itself is loaded.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
KEYTURN = [sys.executable, "-m", "agent"]
PATIENCE_S = 60.0


def resident_mb(pid: int, field: str = "VmRSS") -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def wait_for(stream: IO[str], words: str) -> None:
    for line in stream:
        if words in line:
            return
    raise SystemExit(f"the process ended before it said {words!r}")


def bare_mb() -> float:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bare:
        time.sleep(0.3)
        found = resident_mb(bare.pid)
        bare.kill()
    return found


def secret(directory: Path, name: str, text: str) -> str:
    path = directory / name
    path.touch(mode=0o600)
    path.write_text(text)
    return str(path)


def tables(directory: Path) -> dict[str, dict[str, Any]]:
    """A provider's table for each type: those that the emulator writes, and the static ones."""
    config = directory / "providers" / "keyturn.toml"
    subprocess.run([*KEYTURN, "--config", str(config), "once", "uploader", "session"], cwd=ROOT, check=True)
    key, session = (
        json.loads((config.parent / "app" / f"{name}.json").read_text()) for name in ("uploader", "session")
    )
    known = tomllib.loads(config.read_text())["credentials"]
    found = {table["provider"]["type"]: dict(table["provider"]) for table in known.values()}
    found["kms_secret"]["poll_interval"] = "1h"
    found["access_key"] = {"type": "access_key", **parts(directory, "key", key)}
    found["sts"] = {"type": "sts", **parts(directory, "session", session)}
    found["ram_role_arn"]["base"] = found["access_key"]
    token = secret(directory, "token", "bearer-token-of-the-benchmark")
    found["bearer"] = {"type": "bearer", "bearer_token_from_file_path": token}
    found["process"] = {"type": "process", "command": [printing(directory, key)]}
    found["default"] = {"type": "default"}
    ini = "enable = true\ntype = access_key\naccess_key_id = {AccessKeyId}\naccess_key_secret = {AccessKeySecret}\n"
    secret(directory, "credentials.ini", "[default]\n" + ini.format_map(key))
    return found


def parts(directory: Path, name: str, value: Mapping[str, str]) -> dict[str, str]:
    """The keys that name each part by a file."""
    keys = {"AccessKeyId": "access_key_id", "AccessKeySecret": "access_key_secret", "SecurityToken": "security_token"}
    return {
        f"{key}_from_file_path": secret(directory, f"{name}-{key}", value[part])
        for part, key in keys.items()
        if value.get(part)
    }


def printing(directory: Path, key: Mapping[str, str]) -> str:
    """A command that prints a credential."""
    said = {"mode": "AK", "access_key_id": key["AccessKeyId"], "access_key_secret": key["AccessKeySecret"]}
    script = directory / "print.sh"
    script.write_text(f"#!/bin/sh\ncat {secret(directory, 'said.json', json.dumps(said))}\n")
    script.chmod(0o700)
    return str(script)


def toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(part)}" for key, part in value.items()) + " }"
    return json.dumps(value)


def write_config(directory: Path, name: str, provider: Mapping[str, Any]) -> Path:
    """One credential, one sink."""
    own = directory / f"only-{name}"
    own.mkdir(mode=0o700)
    cloud = tomllib.loads((directory / "providers" / "keyturn.toml").read_text())["cloud"]
    agent = {"state_directory": str(own / "state"), "runtime_directory": str(own / "run")}
    sink: dict[str, Any] = {"type": "env_file", "path": str(own / "x.env")}
    if provider["type"] == "bearer":
        sink["variables"] = {"TOKEN": "bearer_token"}
    lines = [f"agent = {toml({**agent, 'audit': {'path': str(own / 'audit.jsonl')}})}", f"cloud = {toml(cloud)}"]
    lines += [f"[credentials.{name}]", f"provider = {toml(provider)}", f"sinks = [{toml(sink)}]"]
    path = own / "keyturn.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def measure(directory: Path, name: str, provider: Mapping[str, Any]) -> tuple[float, float]:
    """Resident now, and at most, in MB."""
    command = [*KEYTURN, "--config", str(write_config(directory, name, provider)), "run"]
    chain = {"ALIBABA_CLOUD_CREDENTIALS_FILE": str(directory / "credentials.ini")}
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(directory), **chain}
    with subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr is not None
        wait_for(daemon.stderr, "published")
        time.sleep(1.0)  # the daemon has come to rest
        found = resident_mb(daemon.pid), resident_mb(daemon.pid, "VmHWM")
        daemon.terminate()
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        emulator = subprocess.Popen(
            [*KEYTURN, "emulator", "--directory", name], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert emulator.stdout is not None
        wait_for(emulator.stdout, "ready")
        try:
            print(f"{'a bare interpreter':22} {bare_mb():6.1f} MB")
            for type_name, provider in sorted(tables(directory).items()):
                now, peak = measure(directory, type_name, provider)
                print(f"{type_name:22} {now:6.1f} MB, at most {peak:.1f}", flush=True)
        finally:
            emulator.terminate()
            emulator.wait(PATIENCE_S)
    return 0


if __name__ == "__main__":
    sys.exit(main())
