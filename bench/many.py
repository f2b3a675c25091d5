"""Many credentials, or many dependents, in one daemon: does its loop turn, does it answer, what does it cost.

    python -m bench.many [--credentials 100,300,1000] [--dependents 2000,5000] [--by exec|signal|http] [--directory DIR]

A real daemon against the emulated cloud in a process of its own, which answers at once. Credentials are `kms_secret`
with verification, ten sinks of ten kinds in a directory each, one ClientKey and one hook for all, as on a real host.
Dependents are all those of one such credential. The daemon feeds the watchdog every 0.1 s, and is asked for its
status every 0.25 s by a process that does nothing else; what is printed is the longest pause and the slowest answer of

start     from its exec until all are published and told
SIGUSR1   all are asked again, nothing has changed
reload    SIGHUP, the same config
rotate    all have a new key at once; SIGUSR1, until all are published and told
alone     with credentials, the same again, and nobody asks for the status meanwhile: what a rotation costs
stop      SIGTERM; with dependents, while half of them are still to be told

The yardstick of READY and of a rotation is a bare loop that writes, flushes and renames as many files, without a
network. The phases go to standard error, the rows of the table of `make bench` to standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.cloud_process import CloudProcess, secret_name
from bench.row import Row, add_option, show
from bench.watched_daemon import Answer, WatchedDaemon, busy_s, cpu_s, peak_mib

READY_S, GAP_S, STATUS_S, HEARD_S = 30.0, 2.0, 1.0, 1.0
"""The aims."""
SINKS = (
    '{type="credentials_ini",path="%/a"}',
    '{type="ini",path="%/b",keys="ossutil"}',
    '{type="ini",path="%/c",keys="oss_config",section="default"}',
    '{type="ini",path="%/d",section="s3",keys={key="access_key_id",secret="access_key_secret"}}',
    '{type="env_file",path="%/e"}',
    '{type="env_file",path="%/f",dialect="shell",variables=["oss"]}',
    '{type="env_file",path="%/g",dialect="docker"}',
    '{type="aliyun_cli",path="%/h"}',
    '{type="json",path="%/i"}',
    '{type="template",path="%/j",source="T"}',
)
FAILURES = ("fetch_failed", "verify_failed", "publish_failed", "notify_failed", "notify_gave_up")


@dataclass(frozen=True)
class Meters:
    """Seconds of processor time of the daemon, of the cloud, of the whole machine; and the calls that the cloud answered."""

    daemon_s: float
    cloud_s: float
    machine_s: float
    calls: int

    def since(self, before: Meters) -> Meters:
        """What was used in between."""
        return Meters(
            self.daemon_s - before.daemon_s,
            self.cloud_s - before.cloud_s,
            self.machine_s - before.machine_s,
            self.calls - before.calls,
        )


@dataclass(frozen=True)
class Phase:
    """What was seen in one stretch of time."""

    name: str
    took_s: float
    gap_s: float
    answers: Sequence[Answer]
    used: Meters

    HEAD = (
        f"{'':10} {'took s':>8} {'gap s':>7} {'status s':>8} {'asked':>6} {'failed':>6} {'calls/s':>8} "
        f"{'CPU':>6} {'cloud':>6} {'others':>6}"
    )

    @property
    def status_s(self) -> float:
        """The slowest answer."""
        return max((answer.took_s for answer in self.answers if not answer.error), default=0.0)

    @property
    def unanswered(self) -> int:
        """How often there was none."""
        return sum(bool(answer.error) for answer in self.answers)

    def __str__(self) -> str:
        """One line; processor time as a share of one core."""
        used, took_s = self.used, self.took_s
        waits = f"{took_s:8.2f} {self.gap_s:7.2f} {self.status_s:8.2f} {len(self.answers):6} {self.unanswered:6}"
        others = used.machine_s - used.daemon_s - used.cloud_s
        cores = " ".join(f"{seconds / took_s:6.2f}" for seconds in (used.daemon_s, used.cloud_s, others))
        return f"{self.name:10} {waits} {used.calls / took_s:8.1f} {cores}"


class Farm:
    """A host with so many credentials, of which the first has so many dependents of its own, or all share one."""

    def __init__(
        self,
        root: Path,
        credentials: int,
        dependents: int = 0,
        by: str = "exec",
        *,
        poll_interval: str = "1h",
        watched: bool = True,
    ) -> None:
        self._root, self.credentials, self.dependents, self._by = root, credentials, dependents, by
        self._poll_interval = poll_interval
        self.cloud = CloudProcess(root / "cloud", credentials)
        (root / "template").write_text("{{ access_key_id }} {{ access_key_secret }}\n")
        (root / "keyturn.toml").write_text("\n".join(self._config()))
        self.daemon = WatchedDaemon(root, watched)
        self.phases: list[Phase] = []
        self._rounds = 0

    def _config(self) -> Iterator[str]:
        root, cloud = self._root, self.cloud
        places = f'state_directory="{root}/state",runtime_directory="{root}/run",audit={{path="{root}/audit.jsonl"}}'
        yield f'agent = {{log_level="error",{places}}}'
        places = ",".join(f'{product}_endpoint="{place}"' for product, place in cloud.endpoints.items())
        yield f'cloud = {{ca_file="{cloud.ca}",{places}}}'
        for number in range(self.credentials):
            name = secret_name(number)
            place = root / name
            place.mkdir(mode=0o750)
            sinks = ",".join(SINKS).replace("%", str(place)).replace('"T"', f'"{root}/template"')
            yield f"[credentials.{name}]\nsinks = [{sinks}]\nnotify = [{','.join(self._notify())}]"
            asked = f'secret_name="{name}",poll_interval="{self._poll_interval}"'
            yield f'provider = {{type="kms_secret",properties_file="{cloud.properties}",{asked}}}'

    def _notify(self) -> Iterator[str]:
        if not self.dependents:
            yield '{type="exec",command=["/bin/true"]}'
        for number in range(self.dependents):
            if self._by == "exec":
                yield f'{{type="exec",command=["/bin/true","{number}"]}}'
            elif self._by == "http":
                yield f'{{type="http",url="{self.cloud.told_url}/{number}"}}'
            else:
                pid_file = self._root / f"p{number}"
                pid_file.write_text(f"{self.cloud.pid}\n")
                yield f'{{type="signal",signal="SIGUSR2",pid_file="{pid_file}"}}'

    @property
    def name(self) -> str:
        """The farm, for a row's name."""
        if self.dependents:
            return f"{self.dependents} dependents ({self._by})"
        return f"{self.credentials} credentials x {len(SINKS)} sinks"

    def phase(self, name: str, act: Callable[[], float]) -> float:
        """Watch while `act` does something; it returns when that had been done. Returns the seconds that it took."""
        daemon, since, before = self.daemon, time.monotonic(), self._meters()
        until = act()
        used = self._meters().since(before)
        gap_s = daemon.largest_gap_s(since, until)
        if name != "alone":
            daemon.wait_for_status()  # so that every answer to what was asked in this phase is there
        found = Phase(name, until - since, gap_s, daemon.statuses(since, until), used)
        print(found, file=sys.stderr, flush=True)
        self.phases.append(found)
        return found.took_s

    def _meters(self) -> Meters:
        return Meters(self.daemon.cpu_s(), cpu_s(self.cloud.pid), busy_s(), self.calls())

    def calls(self) -> int:
        """The calls that the cloud was asked for so far."""
        return sum(self.cloud.ask("count").values())

    # The phases

    def start(self) -> float:
        self.daemon.start()
        ready = self.daemon.wait_for("READY=1", self.daemon.started)
        print(f"READY after {ready - self.daemon.started:.2f} s", file=sys.stderr, flush=True)
        self._rounds += 1
        return self._all_told()

    def ask_all(self) -> float:
        wanted = self.cloud.ask("count")["GetSecretValue"] + self.credentials
        self.daemon.signal(signal.SIGUSR1)
        self.daemon.wait_until("a call for each", lambda: self.cloud.ask("count")["GetSecretValue"] >= wanted, 0.1)
        return self.daemon.wait_for_status()

    def reload(self) -> float:
        return self.daemon.wait_for("READY=1", self.daemon.signal(signal.SIGHUP))

    def rotate(self) -> float:
        self._begin_to_rotate()
        return self._all_told()

    def rotate_alone(self) -> float:
        self.daemon.asking(False)
        return self.rotate()

    def stop(self) -> float:
        """Say SIGTERM; return when the daemon said that it stops."""
        if self.dependents:
            self._begin_to_rotate()
            half = self._wanted() - self.dependents // 2
            self.daemon.wait_until("half told", lambda: self.daemon.events("notified") >= half)
        return self.daemon.signal(signal.SIGTERM)

    def _begin_to_rotate(self) -> None:
        self.cloud.ask("rotate")
        self._rounds += 1
        self.daemon.signal(signal.SIGUSR1)

    def _wanted(self) -> int:
        return self._rounds * self.credentials * max(1, self.dependents)

    def _all_told(self) -> float:
        self.daemon.wait_until("all told", lambda: self.daemon.events("notified") >= self._wanted())
        assert self.daemon.events("published") == self._rounds * self.credentials
        return time.monotonic()

    def close(self) -> None:
        self.daemon.close()
        self.cloud.close()


def bare_s(root: Path, credentials: int) -> float:
    """Return the seconds of a bare loop that writes, flushes and renames as many files, and flushes each directory."""
    began = time.monotonic()
    for number in range(credentials):
        place = root / f"bare{number}"
        place.mkdir()
        for sink in range(len(SINKS)):
            with (place / f"{sink}.tmp").open("wb") as file:
                file.write(b"x" * 200)
                file.flush()
                os.fsync(file.fileno())
            (place / f"{sink}.tmp").rename(place / str(sink))
        directory = os.open(place, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    return time.monotonic() - began


def rows(farm: Farm, costs: list[float], bare: float | None) -> Iterator[Row]:
    """Go through the phases.

    Args:
        farm: not yet started.
        costs: milliseconds of processor time for each credential or dependent of the first farm, which fills it.
        bare: seconds of the bare loop.
    """
    daemon, many = farm.daemon, farm.name
    print(f"{many}\n{Phase.HEAD}", file=sys.stderr, flush=True)
    told_s = farm.phase("start", farm.start)
    ready = daemon.heard("READY=1", daemon.started)
    assert ready is not None
    yield Row(f"{many}: READY", ready - daemon.started, "s", bare, READY_S, aim_of_figure=True)
    yield Row(f"{many}: start until all are told", told_s, "s")
    for name, act in (("SIGUSR1", farm.ask_all), ("reload", farm.reload), ("rotate", farm.rotate)):
        yield Row(f"{many}: {name}", farm.phase(name, act), "s")
    if not farm.dependents:
        yield Row(f"{many}: rotate, and nobody asks", farm.phase("alone", farm.rotate_alone), "s", bare)
        daemon.asking(True)
    phases = farm.phases
    yield Row(f"{many}: largest gap", max(found.gap_s for found in phases), "s", aim=GAP_S)
    yield Row(f"{many}: slowest status", max(found.status_s for found in phases), "s", aim=STATUS_S)
    first, last = phases[0], phases[-1]
    each_ms = last.used.daemon_s / max(farm.credentials, farm.dependents) * 1000
    costs.append(each_ms)
    yield Row(f"{many}: CPU of that for each, by the first number", each_ms, "ms", costs[0])
    cores = first.used.daemon_s / first.took_s
    yield Row(f"{many}: cores at the start, by the cloud's", cores, "", first.used.cloud_s / first.took_s)
    yield Row(f"{many}: most memory", peak_mib(daemon.process.pid), "MiB")
    failed = {event: daemon.events(event) for event in FAILURES if daemon.events(event)}
    print(f"failures in the audit log: {json.dumps(failed)}", file=sys.stderr, flush=True)
    yield Row(f"{many}: failures in the audit log", sum(failed.values()), "", aim=0)
    yield Row(f"{many}: status not answered", sum(found.unanswered for found in phases), "", aim=0)
    asked = farm.stop()
    heard = daemon.wait_for("STOPPING=1", asked)
    daemon.process.wait(120)
    yield Row(f"{many}: SIGTERM heard", heard - asked, "s", aim=HEARD_S)
    yield Row(f"{many}: SIGTERM until the end", time.monotonic() - asked, "s")


def all_rows(options: argparse.Namespace) -> Iterator[Row]:
    """The rows of each number of credentials, then of dependents."""
    costs: dict[bool, list[float]] = {False: [], True: []}
    for credentials, dependents in (
        *((int(text), 0) for text in options.credentials.split(",") if text),
        *((1, int(text)) for text in options.dependents.split(",") if text),
    ):
        with tempfile.TemporaryDirectory(prefix="kt", dir=options.directory) as root:
            bare = None if dependents else bare_s(Path(root), credentials)
            farm = Farm(Path(root), credentials, dependents, options.by)
            try:
                yield from rows(farm, costs[dependents > 0], bare)
            finally:
                farm.close()


def main() -> None:
    """Print a row for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--credentials", default="", help="how many, separated by commas")
    parser.add_argument("--dependents", default="", help="how many of one credential")
    parser.add_argument("--by", choices=("exec", "signal", "http"), default="exec", help="how dependents are told")
    parser.add_argument("--directory", default=None, help="where to write; by default the temporary directory")
    parser.add_argument("--quick", action="store_true", help="few of each: whether the program still runs")
    add_option(parser)
    options = parser.parse_args()
    if options.quick:
        options.credentials, options.dependents = "5,10", "20"
    elif not options.credentials and not options.dependents:
        options.credentials, options.dependents = "100,1000", "5000"
    show(all_rows(options), options.json)


if __name__ == "__main__":
    main()
