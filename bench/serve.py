"""What credentials on request cost: answers a second, and what they do to a publish.

    python -m bench.serve [--endpoint] [--rate 1000] [--rounds 40] [--idle 1000] [--directory DIR] [--quick] [--json]

A real daemon with one credential from a file (no cloud, no proof), which is served. A process asks over credentials.sock at a
steady rate, each time by a connection of its own, as `keyturn credential` does, or (`--endpoint`) over HTTP as an SDK does;
`--idle` connections that say nothing are open besides. The key changes again and again, in turn with and without that load: a
publish is timed by the daemon itself (the audit's `duration_ms`, whole milliseconds). Exit status 1 where an answer was not whole
or held another key's secret.

On a busy machine the processor time of an answer is the figure to read. For the delay of a publish run it before the others
(`nice -n -18`, as root) and on a tmpfs (`--directory /dev/shm`), or what it waits for are they.
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
from collections.abc import Iterator
from multiprocessing import Process, Queue, Value
from pathlib import Path
from typing import Any

from bench.row import Row, add_option, show

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
GET = "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: AlibabaCloud (Linux; x86_64) Python/3\r\n\r\n"


class Unix:
    """credentials.sock, as `keyturn credential` asks it."""

    name, config = "credentials.sock", ""

    def __init__(self, directory: Path) -> None:
        self._path = str(directory / "run/credentials.sock")

    def connect(self) -> socket.socket:
        """Open a connection."""
        channel = socket.socket(socket.AF_UNIX)
        channel.connect(self._path)
        return channel

    def ask(self) -> bool:
        """Ask once; return whether the answer is whole and of one key."""
        line, _feed, document = heard(self.connect(), QUESTION).partition(b"\n")
        found = json.loads(document)
        return json.loads(line)["length"] == len(document) and fits(found["access_key_id"], found["access_key_secret"])


class Http:
    """The credentials endpoint, as an SDK asks it."""

    name = "the endpoint"

    def __init__(self, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = free.getsockname()
        self.config, self._file = ENDPOINT.format(directory, self._address[1]), directory / "uri.env"

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(self._address)

    def ask(self) -> bool:
        """Ask once; return whether the answer is whole and of one key."""
        path = self._file.read_text().strip().partition(str(self._address[1]))[2]
        head, _blank, document = heard(self.connect(), GET.format(path).encode()).partition(b"\r\n\r\n")
        found = json.loads(document)
        is_whole = f"Content-Length: {len(document)}\r\n".encode() in head
        return is_whole and fits(found["AccessKeyId"], found["AccessKeySecret"])


def heard(channel: socket.socket, question: bytes) -> bytes:
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
    wrong, due = 0, time.monotonic()
    while switch.value != 2:
        if not switch.value:
            time.sleep(0.001)
            due = time.monotonic()
            continue
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))
        began = time.monotonic()
        wrong += not line.ask()
        took.append(time.monotonic() - began)
        answered.value += 1
    results.put((took, wrong))


class Bench:
    """One daemon."""

    def __init__(self, directory: Path, line: Unix | Http) -> None:
        self.directory, self.number = directory, 0
        self.config = directory / "keyturn.toml"
        self.config.write_text(CONFIG.format(directory) + line.config)
        self.new_key()
        command = [sys.executable, "-m", "agent", "--config", self.config, "run"]
        self.daemon = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        while not is_served(line):
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


def is_served(line: Unix | Http) -> bool:
    """Return whether there is an answer already."""
    try:
        return line.ask()
    except (OSError, ValueError, KeyError):
        return False


def run(directory: Path, line: Unix | Http, rate: float, rounds: int, idle: int, for_s: float) -> Iterator[Row]:
    """Measure; yield what was found."""
    bench = Bench(directory, line)
    switch, answered, results = Value("i", 0), Value("i", 0), Queue()
    asker = Process(target=load, args=(line, rate, switch, answered, results))
    asker.start()
    silent = []
    for _ in range(idle):
        silent.append(line.connect())
    try:
        bench.publish()
        for number in range(rounds):
            with switch.get_lock():
                switch.value = number % 2
            time.sleep(0.2)
            bench.publish()
        with switch.get_lock():
            switch.value = 1
        before_s, before = bench.cpu_s(), answered.value
        time.sleep(for_s)
        cpu_s, counted = bench.cpu_s() - before_s, answered.value - before
        with switch.get_lock():
            switch.value = 2
        took, wrong = results.get()
    finally:
        with switch.get_lock():
            switch.value = 2
        asker.join()
        bench.daemon.terminate()
        bench.daemon.wait()
    quiet, loaded = bench.durations_ms()[2::2], bench.durations_ms()[3::2]
    took_ms = sorted(1000 * one for one in took)
    load_of = f"{rate:g} questions a second and {idle} idle connections"
    yield Row(f"an answer of {line.name}: processor time of the daemon", 1000 * cpu_s / max(1, counted), "ms")
    yield Row("the same, until a client has it, the median", statistics.median(took_ms), "ms")
    yield Row(f"questions of {len(took)} that were not answered wholly", wrong, "", aim=0)
    delay_ms = statistics.median(loaded) - statistics.median(quiet)
    yield Row(f"a publish, later by {load_of}", max(0.0, delay_ms), "ms", aim=DELAY_MS)


def main() -> int:
    """Run it as the command line says."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--endpoint", action="store_true", help="over HTTP instead of the socket")
    options.add_argument("--rate", type=float, default=1000.0, help="questions a second")
    options.add_argument("--rounds", type=int, default=40, help="publishes, half of them under load")
    options.add_argument("--idle", type=int, default=1000, help="connections that say nothing")
    options.add_argument("--directory", help="on a real disk; default: a temporary one")
    options.add_argument("--quick", action="store_true", help="a look whether it still runs")
    add_option(options)
    chosen = options.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    rounds, for_s = (4, 0.5) if chosen.quick else (chosen.rounds, 5.0)
    with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
        line = (Http if chosen.endpoint else Unix)(Path(directory))
        rows = list(run(Path(directory), line, chosen.rate, rounds, chosen.idle, for_s))
    show(rows, chosen.json)
    return int(not rows[2].met)


if __name__ == "__main__":
    sys.exit(main())
