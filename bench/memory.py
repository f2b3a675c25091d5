"""What the daemon holds in memory, beside a bare interpreter, and what each import adds.

    python -m bench.memory [--rotations 50] [--polls 60] [--only TYPE]

The rows are real daemons with one credential each, beside a bare interpreter of the same run. On standard error is more, in
MB (1024 x 1024 bytes) from /proc/PID/smaps_rollup:

* the imports in the order in which a daemon with one `kms_secret` comes to them, each on top of those before it, and beside
  that alone in an interpreter of its own;
* a `keyturn run` with one credential of each type, at rest after its first publish. `ram_role_arn` builds on an inline
  AccessKey, so that nothing but itself is loaded;
* one `kms_secret` after more polls and after rotations: a figure that grows with them is a leak.

`resident` is what ps and top show. `own` is its anonymous part: what the machine gets back when the daemon ends, and what the
kernel cannot drop and read again from a file. The rest are pages of programs and libraries, which all processes share that
use the same files; `share` is the proportional set size, which divides those among them. It depends on who else runs (here:
the emulator with the same libraries), so compare `resident` and `own`.
"""

from __future__ import annotations

import argparse
import json
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from bench.row import Row, add_option, show

ROOT = Path(__file__).resolve().parent.parent
KEYTURN = [sys.executable, "-m", "agent"]
PATIENCE_S = 60.0
SECRET = "uploader-ak"
AIM_MB = 40
"""Of one `kms_secret`."""

IMPORTS = {
    "argparse": "argparse",
    "ssl, hashlib (the machine's OpenSSL)": "ssl, hashlib",
    "structlog": "structlog",
    "msgspec": "msgspec",
    "schedule": "schedule",
    "requests, as keyturn imports it": "agent.cloud.http_library",
    "cryptography (an OpenSSL of its own)": "cryptography.hazmat.primitives.serialization.pkcs12, "
    "cryptography.hazmat.primitives.asymmetric.padding",
    "the official client, as keyturn imports it": "providers.kms.official_sdk",
    "keyturn's own modules": "agent.cli.main, agent.cli.run, agent.app.daemon, providers.kms.secret, "
    "providers.kms.shared_gateway, agent.sinks.formats.env_file",
}
ONLY_WHERE_ASKED_FOR = {
    "jinja2 (a `template` sink)": "jinja2.sandbox",
    "prometheus_client (metrics)": "prometheus_client",
}
STEPS = """
import json, sys
sys.path.insert(0, sys.argv[1])
def held():
    lines = [line.split() for line in open("/proc/self/smaps_rollup")]
    found = {line[0]: int(line[1]) for line in lines if len(line) == 3}
    print(json.dumps([found["Rss:"], found["Anonymous:"], found["Pss:"], len(sys.modules)]), flush=True)
held(); held()
for names in sys.argv[2:]:
    exec("import " + names)
    held()
"""
"""Prints what it holds before the first import and after each; the first line pays for reading it."""


class Held(NamedTuple):
    """Memory in MB: what is resident, the anonymous part of it, the proportional share, and the most there was."""

    resident: float
    own: float
    share: float
    peak: float = 0.0

    def __str__(self) -> str:
        most = f"{self.peak:9.1f}" if self.peak else ""
        return f"{self.resident:9.1f}{self.own:9.1f}{self.share:9.1f}{most}"


def held(pid: int) -> Held:
    rollup = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    found = {line[0]: int(line[1]) / 1024 for line in rollup if len(line) == 3}
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Held(found["Rss:"], found["Anonymous:"], found["Pss:"], int(status["VmHWM"].split()[0]) / 1024)


def imported(*steps: str) -> list[list[int]]:
    """What an interpreter holds before and after each of these imports: kB resident, own, shared out; modules."""
    done = subprocess.run(
        [sys.executable, "-c", STEPS, str(ROOT), *steps], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return [json.loads(line) for line in done.stdout.splitlines()[1:]]


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def tell_imports() -> None:
    steps = {**IMPORTS, **ONLY_WHERE_ASKED_FOR}
    states = imported(*steps.values())
    tell(f"{'import':46}{'resident':>9}{'own':>9}{'modules':>9}{'alone':>9}{'own':>9}")
    for (words, names), before, after in zip(steps.items(), states, states[1:], strict=False):
        bare, alone = imported(names)
        grown, by_itself = _difference(before, after), _difference(bare, alone)
        tell(f"{words:46}{grown[0]:9.1f}{grown[1]:9.1f}{after[3] - before[3]:9}{by_itself[0]:9.1f}{by_itself[1]:9.1f}")
    whole = states[len(IMPORTS)]
    tell(f"{'all but the last two, with the interpreter':46}{whole[0] / 1024:9.1f}{whole[1] / 1024:9.1f}{whole[3]:9}")


def _difference(before: list[int], after: list[int]) -> tuple[float, float]:
    """Resident and own, in MB."""
    return (after[0] - before[0]) / 1024, (after[1] - before[1]) / 1024


def wait_for(stream: IO[str], words: str) -> str:
    for line in stream:
        if words in line:
            return line
    raise SystemExit(f"the process ended before it said {words!r}")


def bare() -> Held:
    command = [sys.executable, "-c", "print('here', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        wait_for(process.stdout, "here")
        found = held(process.pid)
        process.kill()
    return found


def secret(directory: Path, name: str, text: str) -> str:
    path = directory / name
    path.touch(mode=0o600)
    path.write_text(text)
    return str(path)


def tables(directory: Path) -> dict[str, dict[str, Any]]:
    """A provider's table for each type: those that the emulator writes, and the static ones."""
    config = directory / "providers" / "keyturn.toml"
    once = [*KEYTURN, "--config", str(config), "once", "uploader", "session"]
    subprocess.run(once, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
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


@contextmanager
def daemon(directory: Path, name: str, provider: Mapping[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """A daemon with this one credential, after its first publish."""
    command = [*KEYTURN, "--config", str(write_config(directory, name, provider)), "run"]
    environ = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(directory),
        "ALIBABA_CLOUD_CREDENTIALS_FILE": str(directory / "credentials.ini"),
        "MALLOC_ARENA_MAX": "1",  # as in keyturn.service
    }
    with subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        wait_for(process.stderr, "published")
        try:
            yield process
        finally:
            process.terminate()


def at_rest(process: subprocess.Popen[str]) -> Held:
    time.sleep(1.0)  # the threads of what it did last have ended
    return held(process.pid)


def daemons(directory: Path, providers: Mapping[str, Mapping[str, Any]]) -> Iterator[Row]:
    tell(f"\n{'one credential of type':46}{'resident':>9}{'own':>9}{'share':>9}{'peak':>9}")
    least = bare()
    tell(f"{'(a bare interpreter)':46}{least}")
    for name, provider in sorted(providers.items()):
        with daemon(directory, name, provider) as process:
            found = at_rest(process)
        tell(f"{name:46}{found}")
        aim = AIM_MB if name == "kms_secret" else None
        yield Row(f"one {name}, resident memory", found.resident, "MB", least.resident, aim, True)
        yield Row(f"one {name}, of that its own", found.own, "MB", least.own)


def growth(directory: Path, provider: Mapping[str, Any], polls: int, rotations: int, url: str) -> Iterator[Row]:
    tell(f"\n{'one kms_secret, polled each second':46}{'resident':>9}{'own':>9}{'share':>9}{'peak':>9}")
    with daemon(directory, "growing", {**provider, "poll_interval": "1s"}) as process:
        assert process.stderr is not None
        first = at_rest(process)
        tell(f"{'after its first publish':46}{first}")
        time.sleep(polls)
        tell(f"{f'after {polls} more polls':46}{at_rest(process)}")
        for _each in range(rotations):
            rotate(directory, url)
            process.send_signal(signal.SIGUSR1)
            wait_for(process.stderr, "published")
        last = at_rest(process)
        tell(f"{f'after {rotations} rotations':46}{last}")
    yield Row(f"the same after {polls} polls and {rotations} rotations, beside its start", last.own, "MB", first.own)


def rotate(directory: Path, url: str) -> None:
    """Have the emulated cloud rotate the secret by itself."""
    request = urllib.request.Request(
        f"{url}/_emulator/rotate",
        data=json.dumps({"secret": SECRET}).encode(),
        headers={"X-Emulator-Token": (directory / "admin-token").read_text().strip()},
    )
    trust = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    urllib.request.urlopen(request, timeout=PATIENCE_S, context=trust).close()


def rows(options: argparse.Namespace) -> Iterator[Row]:
    tell_imports()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        # Keys that work at once: what is waited for is the daemon.
        command = [*KEYTURN, "emulator", "--directory", name, "--propagation-delay", "0s"]
        emulator = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert emulator.stdout is not None
        url = wait_for(emulator.stdout, "ready on https://").split()[3].rstrip(",")
        try:
            found = tables(directory)
            yield from daemons(directory, {each: found[each] for each in options.only or found})
            yield from growth(directory, found["kms_secret"], options.polls, options.rotations, url)
        finally:
            emulator.terminate()
            emulator.wait(PATIENCE_S)


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polls", metavar="N", type=int, default=60)
    parser.add_argument("--rotations", metavar="N", type=int, default=50)
    parser.add_argument("--only", metavar="TYPE", action="append", help="this type of provider; may be given again")
    parser.add_argument("--quick", action="store_true", help="one type, one poll, one rotation")
    add_option(parser)
    options = parser.parse_args()
    if options.quick:
        options.polls, options.rotations, options.only = 1, 1, ["kms_secret"]
    show(rows(options), options.json)


if __name__ == "__main__":
    main()
