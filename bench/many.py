"""Many credentials that rotate at once in one daemon: how long until all are published and told, and how much memory.

    python bench/many.py [--credentials 100,1000] [--rounds 3] [--directory DIR]

A real daemon; each credential has a source of its own (`access_key`, from files, so that no emulated cloud is measured),
two sinks in a directory of its own, and a hook that all share, as a unit that uses them all would be. A round rewrites
every source, sends SIGUSR1 and waits until the audit log has every `published` and `notified`. Prints the median
round, what a credential costs in time and in the daemon's processor time, and the peak of its resident memory. The
last two columns compare a credential's cost with that of the first row: 1.0 where all is linear.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 300.0


class Farm:
    """One daemon with so many credentials."""

    def __init__(self, root: Path, count: int) -> None:
        self._root, self._names = root, [f"c{number:04}" for number in range(count)]
        self._audit = root / "audit.jsonl"
        for name in self._names:
            (root / name).mkdir(mode=0o750)
        self._generation = 0
        self.turn_keys()
        (root / "keyturn.toml").write_text(self._config())
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._listener.bind(str(root / "notify"))
        self._listener.settimeout(1.0)
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": str(root / "notify")}
        argv = [sys.executable, "-m", "agent", "--config", str(root / "keyturn.toml"), "run"]
        with (root / "log").open("wb") as log:
            self.process = subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while not self._heard_ready():
            if self.process.poll() is not None:
                raise RuntimeError((root / "log").read_text()[-2000:])
        self._listener.settimeout(None)
        threading.Thread(target=self._hear, daemon=True).start()  # whoever is not heard waits
        self._wait()

    def _hear(self) -> None:
        while True:
            self._listener.recv(65536)

    def _heard_ready(self) -> bool:
        try:
            return b"READY=1" in self._listener.recv(65536)
        except TimeoutError:
            return False

    def _config(self) -> str:
        tables = [
            f'[agent]\nstate_directory = "{self._root}/state"\nruntime_directory = "{self._root}/run"\n'
            f'log_level = "error"\n[agent.audit]\npath = "{self._audit}"\n'
        ]
        for name in self._names:
            place, table = self._root / name, f"credentials.{name}"
            tables.append(
                f'[{table}]\nverify = "off"\n[{table}.provider]\ntype = "access_key"\n'
                f'access_key_id_from_file_path = "{place}/id"\naccess_key_secret_from_file_path = "{place}/secret"\n'
                f'[[{table}.sinks]]\ntype = "credentials_ini"\npath = "{place}/credentials.ini"\n'
                f'[[{table}.sinks]]\ntype = "env_file"\npath = "{place}/aliyun.env"\n'
                f'[[{table}.notify]]\ntype = "exec"\ncommand = ["/bin/true"]\n'
            )
        return "\n".join(tables)

    def turn_keys(self) -> None:
        """Every source holds another key."""
        self._generation += 1
        for number, name in enumerate(self._names):
            for part, text in (
                ("id", f"LTAI5t{self._generation:09}{number:09}"),
                ("secret", f"{self._generation:030}"),
            ):
                path = self._root / name / part
                path.touch(mode=0o600)
                path.write_text(text)

    def round(self) -> tuple[float, float]:
        """Rotate all at once; seconds until all were published, and until all were told."""
        self.turn_keys()
        start = time.perf_counter()
        self.process.send_signal(signal.SIGUSR1)
        published_at, told_at = self._wait()
        return published_at - start, told_at - start

    def _wait(self) -> tuple[float, float]:
        wanted, end, published_at = self._generation * len(self._names), time.perf_counter() + PATIENCE_S, 0.0
        while time.perf_counter() < end:
            found = self._audit.read_bytes()
            now = time.perf_counter()
            if not published_at and found.count(b'"event":"published"') >= wanted:
                published_at = now
            if published_at and found.count(b'"event":"notified"') >= wanted:
                return published_at, now
            time.sleep(0.02)
        raise TimeoutError((self._root / "log").read_text()[-2000:])

    def cpu_s(self) -> float:
        """Processor time so far, of all its threads, the kernel's part too: proc(5)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self) -> float:
        """VmHWM, proc(5)."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def main() -> None:
    """Print a row for each number of credentials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--credentials", default="100,1000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", default=None, help="where to write; by default the temporary directory")
    options = parser.parse_args()
    print("credentials  published s  told s  ms each  CPU ms each  peak MiB   time   CPU")
    first: tuple[float, float] | None = None
    for count in map(int, options.credentials.split(",")):
        with tempfile.TemporaryDirectory(dir=options.directory) as root:
            farm = Farm(Path(root), count)
            try:
                before_s = farm.cpu_s()
                rounds = [farm.round() for _ in range(options.rounds)]
                cpu_ms = (farm.cpu_s() - before_s) / options.rounds / count * 1000
                published_s, told_s = (statistics.median(times) for times in zip(*rounds, strict=True))
                each_ms = published_s / count * 1000
                first = first or (each_ms, cpu_ms)
                print(
                    f"{count:11} {published_s:12.2f} {told_s:7.2f} {each_ms:8.2f} {cpu_ms:12.2f} "
                    f"{farm.peak_mib():9.1f} {each_ms / first[0]:6.2f} {cpu_ms / first[1]:5.2f}",
                    flush=True,
                )
            finally:
                farm.close()


if __name__ == "__main__":
    main()
