"""How long an emergency takes from the command to "safe", beside the sum of its own network calls of the same run.

    python -m bench.safe [--rounds 20] [--directory DIR]

The emulated cloud runs in a process of its own and answers at once. The credential has two files and three dependents: one is
told by a signal, one by a command, one by HTTP. Each round is `keyturn rotate --disable-old` as an operator calls it, once
through a daemon and once without one, in turn. Two times are shown: on the wall, from the start of the command to its end,
interpreter and imports included; and from when the command arrived where it is carried out to "safe", as the result says it
(`time_to_safe_ms`). That one stands beside the calls to KMS, RAM and STS, timed where they are made, TLS handshakes included:
below their sum no emergency can be. Of all rounds the one counts that took least, for other work on the machine only adds.
One row more is for a cloud as far away as a real one.
On standard error is what that round consisted of: calls, flushes, and the rest. `--directory` on a tmpfs, where a flush costs
nothing, shows it without the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.cli import main as command
from agent.cloud.transport import Transport
from bench.cloud_process import CloudProcess, secret_name
from bench.row import Row, add_option, show

ROOT = Path(__file__).resolve().parent.parent
AIM_S, AIM_RATIO = 2.0, 1.5
NAME = "uploader"


@dataclass(frozen=True)
class Run:
    """One emergency, in seconds: on the wall, to "safe" as it says itself, in calls to the cloud, in flushes; and its steps."""

    wall_s: float
    safe_s: float
    calls_s: float
    flushes_s: float
    steps: dict[str, int]


def timed(arguments: list[str], report: Path) -> int:
    """Run a command of keyturn, and write down how long each call to the cloud and each flush took."""
    lock = threading.Lock()

    def watched(kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return real(*args, **options)
            finally:
                took = time.perf_counter() - began
                with lock, report.open("a") as out:
                    out.write(f"{kind} {took}\n")

        return act

    Transport.request = watched("call", Transport.request)  # type: ignore[method-assign]
    os.fsync, os.fdatasync = watched("flush", os.fsync), watched("flush", os.fdatasync)
    return command.main(arguments)


class Host:
    """A directory with a config, its state, and the report of the calls."""

    def __init__(self, directory: Path, cloud: CloudProcess, number: int) -> None:
        self.directory, self.report = directory, directory / "calls"
        self.config = directory / "keyturn.toml"
        (directory / "log").mkdir(parents=True)
        (directory / "pid").write_text(str(cloud.pid))
        self.config.write_text(self._config(cloud, number))
        self.config.chmod(0o600)
        self._daemon: subprocess.Popen[str] | None = None
        self._newest = ""  # the key that the last emergency brought

    def _config(self, cloud: CloudProcess, number: int) -> str:
        ends = "\n".join(f'{product}_endpoint = "{endpoint}"' for product, endpoint in cloud.endpoints.items())
        authority = cloud.properties.parent / "authority_access_key"
        return f"""
[agent]
state_directory = "{self.directory}/state"
runtime_directory = "{self.directory}/run"
[agent.audit]
path = "{self.directory}/log/audit.jsonl"
[cloud]
ca_file = "{cloud.ca}"
{ends}
[credentials.{NAME}.provider]
type = "kms_secret"
secret_name = "{secret_name(number)}"
properties_file = "{cloud.properties}"
poll_interval = "1h"
[[credentials.{NAME}.sinks]]
type = "credentials_ini"
path = "{self.directory}/credentials.ini"
[[credentials.{NAME}.sinks]]
type = "env_file"
path = "{self.directory}/app.env"
variables = ["alibaba_cloud"]
dialect = "docker"
[[credentials.{NAME}.notify]]
type = "signal"
pid_file = "{self.directory}/pid"
signal = "SIGUSR2"
[[credentials.{NAME}.notify]]
type = "exec"
command = ["/bin/true"]
[[credentials.{NAME}.notify]]
type = "http"
url = "{cloud.told_url}/reload"
[credentials.{NAME}.emergency.authority]
type = "access_key"
access_key_id_from_file_path = "{authority}_id.txt"
access_key_secret_from_file_path = "{authority}_secret.txt"
"""

    def start(self) -> None:
        """Start a daemon, whose calls are timed."""
        time.sleep(1.1)  # a file that changed in the second in which the daemon reads it is judged by each command
        argv = [sys.executable, "-m", "bench.safe", "--timed", str(self.report), "--config", str(self.config), "run"]
        self._daemon = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        assert self._daemon.stderr is not None
        if not any("ready" in line for line in self._daemon.stderr):
            raise SystemExit("the daemon ended before it was ready")
        threading.Thread(target=self._daemon.stderr.read, daemon=True).start()

    def stop(self) -> None:
        """End the daemon, where there is one."""
        if self._daemon is not None:
            self._daemon.send_signal(signal.SIGTERM)
            self._daemon.wait(60)

    def rotate(self) -> Run:
        """Run one emergency."""
        self.report.unlink(missing_ok=True)
        keyturn = [str(Path(sys.executable).parent / "keyturn")]
        alone = [sys.executable, "-m", "bench.safe", "--timed", str(self.report)]
        argv = [*(keyturn if self._daemon else alone), "--config", str(self.config)]
        argv += ["rotate", NAME, "--reason", "bench", "--disable-old", "--json"]
        argv += (
            ["--leaked", self._newest] if self._newest else []
        )  # else it is taken for a repetition of the one before
        began = time.perf_counter()
        done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        wall_s = time.perf_counter() - began
        result = json.loads(done.stdout)
        if not (result["safe"] and result["all_moved"]):
            raise SystemExit(f"the emergency did not end well: {result}")
        self._newest = result["new_access_key_id"]
        lines = [line.split() for line in self.report.read_text().splitlines()]
        calls_s, flushes_s = (sum(float(took) for kind, took in lines if kind == one) for one in ("call", "flush"))
        steps = {step["name"]: step["ms"] for step in result["steps"]}
        return Run(wall_s, result["time_to_safe_ms"] / 1000, calls_s, flushes_s, steps)


def rows(directory: Path, rounds: int) -> Iterator[Row]:
    """Measure both ways in turn."""
    cloud = CloudProcess(directory / "cloud", 2)
    cloud.ask("overlap")
    hosts = {"through a daemon": Host(directory / "one", cloud, 0), "without one": Host(directory / "two", cloud, 1)}
    hosts["through a daemon"].start()
    try:
        hosts["without one"].rotate()  # the first key is published; imports are cached
        found: dict[str, list[Run]] = {way: [] for way in hosts}
        for _ in range(rounds):
            for way, host in hosts.items():
                found[way].append(host.rotate())
        cloud.ask("slow")
        far = [hosts["through a daemon"].rotate() for _ in range(max(1, rounds // 4))]
    finally:
        hosts["through a daemon"].stop()
        cloud.close()
    for way, runs in found.items():
        wall_s, best = min(run.wall_s for run in runs), min(runs, key=lambda run: run.safe_s)
        print(f"{way}: {best}", file=sys.stderr)
        yield Row(f"rotate --disable-old {way}, on the wall", wall_s, "s", None, AIM_S)
        yield Row("the same from its arrival to safe; its network calls", *milliseconds(best), AIM_RATIO)
    best = min(far, key=lambda run: run.safe_s)
    yield Row("the same through a daemon, each answer after 20 ms", *milliseconds(best), AIM_RATIO)


def milliseconds(run: Run) -> tuple[float, str, float]:
    """The columns of a row: to safe, and in calls."""
    return run.safe_s * 1000, "ms", run.calls_s * 1000


def main() -> int:
    """Print two rows for each way."""
    if sys.argv[1:2] == ["--timed"]:
        return timed(sys.argv[3:], Path(sys.argv[2]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--directory", default=None, help="where to write; by default the temporary directory")
    parser.add_argument("--quick", action="store_true", help="one round: whether the program still runs")
    add_option(parser)
    options = parser.parse_args()
    os.umask(0o077)
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        show(rows(Path(directory), 1 if options.quick else options.rounds), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
