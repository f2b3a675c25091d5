"""What credentials on request cost: answers a second, and what they do to a publish.

    python bench/serve.py [--endpoint] [--rate 1000] [--rounds 40] [--idle 1000] [--directory DIR]

A real daemon with one credential from a file (no cloud, no proof), which is served. A process asks over credentials.sock at a
steady rate, each time by a connection of its own, as `keyturn credential` does, or (`--endpoint`) over HTTP as an SDK does;
`--idle` connections that say nothing are open besides. The key changes again and again, in turn with and without that load: a
publish is timed by the daemon itself (the audit's `duration_ms`, whole milliseconds). Prints one JSON object; exit status 1 where
the median of the publishes under load is more than 10 ms above that of the others, or an answer was not whole or held another
key's secret.

`cpu_us` is the daemon's processor time for an answer: the figure to read where others use the machine as well.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing import Process, Queue, Value
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
QUESTION = b'{"credential": "app", "format": "external"}\n'
DELAY_MS = 10.0
CONFIG = """\
[agent]
state_directory = "{0}/state"
runtime_directory = "{0}/run"
settle = "0s"
[agent.audit]
path = "{0}/audit.jsonl"
[credentials.app]
verify = "off"
[credentials.app.provider]
type = "access_key"
access_key_id_from_file_path = "{0}/id"
access_key_secret_from_file_path = "{0}/secret"
[credentials.app.serve]
users = ["root"]
[[credentials.app.sinks]]
type = "credentials_ini"
path = "{0}/credentials.ini"
[[credentials.app.sinks]]
type = "env_file"
path = "{0}/app.env"
"""


ENDPOINT = """\
[agent.endpoint]
listen = "127.0.0.1:{1}"
[[credentials.app.sinks]]
type = "credentials_uri"
path = "{0}/uri.env"
"""


class Unix:
    """credentials.sock, as `keyturn credential` asks it."""

    config = ""

    def __init__(self, directory: Path) -> None:
        self._path = str(directory / "run/credentials.sock")

    def connect(self) -> socket.socket:
        """Open a connection."""
        channel = socket.socket(socket.AF_UNIX)
        channel.connect(self._path)
        return channel

    def ask(self) -> bool:
        """Ask once; return whether the answer is whole and of one key."""
        line, _feed, document = asked(self.connect(), QUESTION).partition(b"\n")
        found = json.loads(document)
        return json.loads(line)["length"] == len(document) and fits(found["access_key_id"], found["access_key_secret"])


class Http:
    """The credentials endpoint, as an SDK asks it."""

    def __init__(self, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = free.getsockname()
        self.config, self._file = ENDPOINT.format(directory, self._address[1]), directory / "uri.env"

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(self._address)

    def ask(self) -> bool:
        """Ask once; return whether the answer is whole and of one key."""
        path = self._file.read_text().partition("=")[2].strip().partition(str(self._address[1]))[2]
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: AlibabaCloud (Linux; x86_64) Python/3\r\n\r\n"
        said, _blank, document = asked(self.connect(), head.encode()).partition(b"\r\n\r\n")
        found = json.loads(document)
        length = f"content-length: {len(document)}\r\n".encode()
        return length in said.lower() and fits(found["AccessKeyId"], found["AccessKeySecret"])


def asked(channel: socket.socket, question: bytes) -> bytes:
    """Return the whole answer."""
    with channel:
        channel.sendall(question)
        answer = b""
        while got := channel.recv(65536):
            answer += got
    return answer


def fits(key_id: str, secret: str) -> bool:
    """Return whether a secret belongs to an id."""
    return secret == key_id[4:] * 2


def load(line: Unix | Http, rate: float, switch: Any, answered: Any, results: Any) -> None:
    """Ask at a steady rate while the switch is 1; end at 2 and report."""
    took: list[float] = []
    wrong, behind_s, due = 0, 0.0, time.monotonic()
    while switch.value != 2:
        if not switch.value:
            time.sleep(0.001)
            due = time.monotonic()
            continue
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))
        began = time.monotonic()
        behind_s = max(behind_s, began - due)
        wrong += not line.ask()
        took.append(time.monotonic() - began)
        answered.value += 1
    results.put((took, wrong, behind_s))


class Bench:
    """One daemon."""

    def __init__(self, directory: Path, line: Unix | Http) -> None:
        self.directory, self.number = directory, 0
        self.config = directory / "keyturn.toml"
        self.config.write_text(CONFIG.format(directory) + line.config)
        self.new_key()
        self.daemon = subprocess.Popen([sys.executable, "-m", "agent", "--config", self.config, "run"], cwd=ROOT)
        while not (directory / "run/credentials.sock").exists():
            time.sleep(0.05)

    def new_key(self) -> None:
        """Put another key where the source reads it: id last, by renames."""
        self.number += 1
        text = f"{self.number:020}"
        for name, content in (("secret", text * 2), ("id", f"LTAI{text}")):
            path = self.directory / f"{name}.new"
            path.touch(mode=0o600)
            path.write_text(content)
            path.rename(self.directory / name)

    def publish(self) -> None:
        """Have the new key published."""
        self.new_key()
        command = [sys.executable, "-m", "agent", "--config", self.config, "refresh"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    def durations_ms(self) -> list[int]:
        """How long each publish took, in their order."""
        records = map(json.loads, (self.directory / "audit.jsonl").read_text().splitlines())
        return [record["duration_ms"] for record in records if record["event"] == "published"]

    def cpu_s(self) -> float:
        """The daemon's processor time until now (proc(5))."""
        fields = Path(f"/proc/{self.daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(directory: Path, line: Unix | Http, rate: float, rounds: int, idle: int) -> dict[str, Any]:
    """Measure; return the summary."""
    bench = Bench(directory, line)
    bench.publish()  # what is asked for is there now
    switch, answered, results = Value("i", 0), Value("i", 0), Queue()
    asker = Process(target=load, args=(line, rate, switch, answered, results))
    asker.start()
    silent = []
    for _ in range(idle):
        silent.append(line.connect())
    try:
        bench.publish()
        loaded_s = 0.0
        for number in range(rounds):
            with switch.get_lock():
                switch.value = number % 2
            time.sleep(0.2)
            began = time.monotonic()
            bench.publish()
            loaded_s += number % 2 * (time.monotonic() - began + 0.2)
        with switch.get_lock():
            switch.value = 1
        before_s, before, began = bench.cpu_s(), answered.value, time.monotonic()
        time.sleep(5.0)
        cpu_s, lasted_s, counted = bench.cpu_s() - before_s, time.monotonic() - began, answered.value - before
        with switch.get_lock():
            switch.value = 2
        took, wrong, behind_s = results.get()
    finally:
        with switch.get_lock():
            switch.value = 2
        asker.join()
        bench.daemon.terminate()
        bench.daemon.wait()
    quiet, loaded = bench.durations_ms()[3::2], bench.durations_ms()[4::2]
    asked_s = loaded_s + lasted_s
    took_ms = sorted(1000 * one for one in took)
    return {
        "answers": len(took),
        "answers_per_s": round(len(took) / asked_s),
        "wrong": wrong,
        "idle_connections": idle,
        "answer_ms_median": round(statistics.median(took_ms), 2),
        "answer_ms_p99": round(took_ms[len(took_ms) * 99 // 100], 2),
        "behind_ms_max": round(1000 * behind_s, 1),
        "cpu_us": round(1e6 * cpu_s / max(1, counted)),
        "publish_ms_median": statistics.median(quiet),
        "publish_ms_median_under_load": statistics.median(loaded),
        "publish_ms_worst": max(quiet),
        "publish_ms_worst_under_load": max(loaded),
        "delay_ms": round(statistics.median(loaded) - statistics.median(quiet), 1),
        "daemon_rss_max_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1),
    }


def main() -> int:
    """Run it as the command line says."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--endpoint", action="store_true", help="over HTTP instead of the socket")
    options.add_argument("--rate", type=float, default=1000.0, help="questions a second")
    options.add_argument("--rounds", type=int, default=40, help="publishes, half of them under load")
    options.add_argument("--idle", type=int, default=1000, help="connections that say nothing")
    options.add_argument("--directory", help="on a real disk; default: a temporary one")
    chosen = options.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
        line = (Http if chosen.endpoint else Unix)(Path(directory))
        found = run(Path(directory), line, chosen.rate, chosen.rounds, chosen.idle)
    print(json.dumps(found, indent=1))
    return int(found["delay_ms"] > DELAY_MS or found["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
