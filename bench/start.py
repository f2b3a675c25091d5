"""What the start of each command costs beside a bare interpreter that imports argparse.

    python -m bench.start [--rounds 15] [--bin DIR]

Each command is the installed `keyturn`, as a user calls it, with a real daemon behind `status` and `refresh`. The rounds are
interleaved; the figures are the least processor time (user and system) of the command alone, which a busy machine changes far
less than the time on the wall or a mean. `--bin` is the `bin` of another environment: measure a plain `pip install .` in a fresh
one, for the finder of an editable install costs each interpreter of its environment some milliseconds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.row import Row, add_option, show

AIM = 2.5
"""The ratio that each command is to stay below; `run`, `once`, `check` and the like do their work, and have none."""
COMMANDS = ("--version", "status", "refresh", "credential uploader", "audit show", "audit show --since 2d", "--help")
HELP = (
    "run",
    "once",
    "refresh",
    "rotate",
    "check",
    "status",
    "credential",
    "audit",
    "systemd-setup",
    "demo",
    "emulator",
)


def wait_for(process: subprocess.Popen[str], words: str, stream: str) -> None:
    for line in getattr(process, stream):
        if words in line:
            return
    raise SystemExit(f"the process ended before it said {words!r}")


def cpu_ms(command: list[str]) -> float:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    _pid, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return (used.ru_utime + used.ru_stime) * 1000


def measured(binaries: Path, config: Path, rounds: int) -> dict[str, list[float]]:
    keyturn = [str(binaries / "keyturn"), "--config", str(config)]
    commands = {
        "argparse": [str(binaries / "python"), "-c", "import argparse"],
        **{name: [*keyturn, *name.split()] for name in COMMANDS},
        **{f"{name} --help": [*keyturn, name, "--help"] for name in HELP},
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            spent = cpu_ms(command)
            if turn:  # the first one warms the caches
                found[name].append(spent)
    return found


def least(binaries: Path, rounds: int) -> dict[str, float]:
    """Return the least processor time of each command, in milliseconds, with a real daemon behind those that ask one."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": "/"}
    with tempfile.TemporaryDirectory() as place:
        keyturn, config = str(binaries / "keyturn"), Path(place) / "keyturn.toml"
        cloud = subprocess.Popen([keyturn, "emulator", "--directory", place], **pipes)
        try:
            wait_for(cloud, "emulator ready", "stdout")
            served = '\n[credentials.uploader.serve]\nusers = ["root"]\n'
            config.write_text(config.read_text().replace('poll_interval = "1s"', 'poll_interval = "1h"') + served)
            time.sleep(1.1)  # a file that changed in the second in which the daemon reads it is judged by each command
            daemon = subprocess.Popen([keyturn, "--config", str(config), "run"], **pipes)
            try:
                wait_for(daemon, "ready", "stderr")
                found = measured(binaries, config, rounds)
            finally:
                daemon.terminate()
                daemon.communicate()
        finally:
            cloud.terminate()
            cloud.communicate()
    return {name: min(spent) for name, spent in found.items()}


def rows(found: dict[str, float]) -> Iterator[Row]:
    """One for each command; of the commands' help the slowest."""
    yardstick = found["argparse"]
    for name in COMMANDS:
        yield Row(f"keyturn {name}, processor time", found[name], "ms", yardstick, AIM)
    slowest = max(HELP, key=lambda name: found[f"{name} --help"])
    yield Row("keyturn COMMAND --help, the slowest", found[f"{slowest} --help"], "ms", yardstick, AIM)
    print(f"the slowest is {slowest} --help", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--bin", type=Path, default=Path(sys.executable).parent)
    parser.add_argument("--quick", action="store_true", help="one round: whether the program still runs")
    add_option(parser)
    options = parser.parse_args()
    show(rows(least(options.bin, 1 if options.quick else options.rounds)), options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
