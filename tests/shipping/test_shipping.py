"""The audit log through a collector to a Kafka broker: what arrives is whole, whatever happens on the way.

Real programs: a keyturn daemon, logrotate with the shipped rule, syslog-ng with the config of docs/shipping/syslog-ng.conf, and
librdkafka's mock broker, which kcat holds open and reads. The broker speaks no SASL_SSL, so those lines are left out.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.vm import PATIENCE_S, Vm, eventually

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / "build" / "tools"
"""Where .ci/run unpacks the packages, since an installed syslog-ng would be a service."""
PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", *(str(UNPACKED / "usr" / name) for name in ("bin", "sbin"))])
TOOLS = {name: shutil.which(name, path=PATH) or "" for name in ("syslog-ng", "kcat", "logrotate")}
MODULES = [*UNPACKED.glob("usr/lib/syslog-ng/*.*/"), *Path("/usr/lib/syslog-ng").glob("*.*/")]
LIBRARIES = [
    *UNPACKED.glob("usr/lib/*-linux-gnu"),
    *UNPACKED.glob("lib/*-linux-gnu"),
    UNPACKED / "usr/lib/syslog-ng",
    *MODULES,
]
ENVIRON = {"PATH": PATH, "LC_ALL": "C.UTF-8", "LD_LIBRARY_PATH": os.pathsep.join(map(str, LIBRARIES))}

MISSING = [name for name, at in TOOLS.items() if not at]
MISSING += [] if any((one / "libkafka.so").exists() for one in MODULES) else ["syslog-ng-mod-rdkafka"]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not here: {MISSING}")


class Broker:
    """A broker on loopback, without a disk: it ends with the process that holds it."""

    def __init__(self, directory: Path) -> None:
        said = directory / "broker.log"
        with said.open("wb") as err:
            command = [TOOLS["kcat"], "-P", "-t", "held-open", "-b", "x", "-X", "test.mock.num.brokers=1"]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=err, env=ENVIRON)
        eventually(lambda: re.search(r"replaced with (\S+)", said.read_text()))
        found = re.search(r"replaced with (\S+)", said.read_text())
        assert found is not None
        self.address = found[1]

    def arrived(self) -> list[str]:
        """Every line that it has, from all partitions, in the order in which they are handed out."""
        command = [TOOLS["kcat"], "-C", "-b", self.address, "-t", "audit", "-o", "beginning", "-e", "-q"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=ENVIRON, check=False)
        return done.stdout.splitlines()


class Collector:
    """syslog-ng with the config of the documents, which differs in places and addresses only."""

    def __init__(self, directory: Path, log: Path, broker: str) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        text = (ROOT / "docs" / "shipping" / "syslog-ng.conf").read_text()
        for there, here in (
            ("/var/log/keyturn", str(log.parent)),
            ("<SLS_PROJECT>.<REGION>.log.aliyuncs.com:10012", broker),
            ("<SLS_LOGSTORE>", "audit"),
        ):
            assert there in text
            text = text.replace(there, here)
        self._config = directory / "syslog-ng.conf"
        self._config.write_text(re.sub(r"\n *(security|sasl)\.[^\n]*", "", text))

    def start(self) -> None:
        own = {"-R": "persist", "-p": "pid", "-c": "control"}
        files = [part for option, name in own.items() for part in (option, str(self._directory / name))]
        command = [
            TOOLS["syslog-ng"],
            "-F",
            "--no-caps",
            f"--module-path={MODULES[0]}",
            "-f",
            str(self._config),
            *files,
        ]
        with (self._directory / "syslog-ng.log").open("ab") as err:
            self._process = subprocess.Popen(command, stdout=err, stderr=err, env=ENVIRON)

    def end(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE_S)
            self._process = None


class World:
    """A daemon that rotates, its log, the collector and the broker."""

    def __init__(self, vm: Vm) -> None:
        self.vm, self.log = vm, vm.log_directory / "audit.jsonl"
        self.directory = vm.directory / "shipping"
        self.directory.mkdir()
        self.broker = Broker(self.directory)
        self.collector = Collector(self.directory, self.log, self.broker.address)
        self.rule = self.directory / "logrotate.conf"
        text = (ROOT / "systemd" / "keyturn.logrotate").read_text()
        self.rule.write_text(
            text.replace("/var/log/keyturn/audit.jsonl", str(self.log)).replace("su keyturn keyturn\n", "")
        )
        self.rule.chmod(0o644)
        vm.configure(vm.credential())
        vm.daemon().ready()

    def rotate_keys(self, times: int = 3) -> None:
        for _ in range(times):
            self.vm.cloud.rotate("uploader-ak")
            assert self.vm.keyturn("refresh", "uploader").returncode == 0

    def rotate_log(self) -> None:
        """As cron would. Names are by the second, so two of one second would be the same."""
        before = time.time()
        eventually(lambda: int(time.time()) > int(before))
        command = [TOOLS["logrotate"], "-f", "-s", str(self.directory / "logrotate.state"), str(self.rule)]
        subprocess.run(command, check=True, timeout=PATIENCE_S, env=ENVIRON)

    def written(self) -> list[str]:
        """Every line that keyturn wrote, in order."""
        files = sorted(self.log.parent.glob("audit.jsonl-*"), key=lambda path: path.name)
        texts = [gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in files]
        newest = self.log.read_bytes() if self.log.exists() else b""
        return b"".join([*texts, newest]).decode().splitlines()

    def exported(self) -> Path:
        """What arrived, in order, once all of it is there."""
        eventually(lambda: set(self.broker.arrived()) >= set(self.written()), "not everything arrived", 180)
        export, copy = self.directory / "export", self.directory / "copy.jsonl"
        export.write_text("\n".join(self.broker.arrived()) + "\n")
        done = subprocess.run(
            ["sh", ROOT / "docs/shipping/in-order.sh", export], capture_output=True, text=True, check=True
        )
        copy.write_text(done.stdout)
        return copy

    def verify(self, copy: Path) -> tuple[int, str]:
        done = self.vm.keyturn("audit", "verify", "--log", str(copy))
        return done.returncode, done.stdout + done.stderr

    def close(self) -> None:
        self.broker.process.send_signal(signal.SIGCONT)
        self.collector.end(signal.SIGKILL)
        self.broker.process.kill()
        self.broker.process.wait(PATIENCE_S)


@pytest.fixture
def world(vm: Vm) -> Iterator[World]:
    made = World(vm)
    yield made
    made.close()


def test_what_arrives_is_whole_whatever_happens_on_the_way(world: World) -> None:
    """Log rotations, a broker that is away for a while, a collector that is ended, killed and started again meanwhile.

    Only what no collector has read for two rotations of the log is lost: the second one compresses it.
    """
    world.collector.start()
    world.rotate_keys()
    world.exported()
    world.rotate_log()
    world.rotate_keys()
    world.broker.process.send_signal(signal.SIGSTOP)  # away: connections stay open, and nothing answers
    world.rotate_keys()
    world.rotate_log()
    world.rotate_keys()
    world.collector.end(signal.SIGKILL)
    world.rotate_keys()
    world.collector.start()
    world.rotate_keys()
    world.broker.process.send_signal(signal.SIGCONT)
    world.exported()
    world.collector.end()  # away itself while the log is renamed
    world.rotate_keys()
    world.rotate_log()
    world.collector.start()
    world.rotate_keys()
    copy = world.exported()
    assert copy.read_text().splitlines() == world.written()
    code, said = world.verify(copy)
    assert code == 0, said
    assert f"{len(world.written())} records" in said


def test_a_record_that_was_lost_or_changed_on_the_way_is_named(world: World) -> None:
    """The proof needs nothing but the copy: no state, no key, no config."""
    world.collector.start()
    world.rotate_keys()
    copy = world.exported()
    lines = copy.read_text().splitlines()
    copy.write_text("\n".join([*lines[:4], *lines[5:]]) + "\n")
    code, said = world.verify(copy)
    assert code == 1
    assert "seq 5" in said
    copy.write_text("\n".join([*lines[:4], lines[4].replace("uploader", "uploadex", 1), *lines[5:]]) + "\n")
    assert world.verify(copy)[0] == 1
