"""What the start of each command costs beside a bare interpreter that imports argparse.

    python bench/start.py [--rounds 15] [--bin DIR]

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
from pathlib import Path

AIM = 2.5
"""The ratio that each command is to stay below; `run`, `once`, `check` and the like do their work, and have none."""
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
        "bare": [str(binaries / "python"), "-c", "pass"],
        "argparse": [str(binaries / "python"), "-c", "import argparse"],
        "--version": [*keyturn, "--version"],
        "status": [*keyturn, "status"],
        "refresh": [*keyturn, "refresh"],
        "credential": [*keyturn, "credential", "uploader"],
        "audit show": [*keyturn, "audit", "show"],
        "audit show --since": [*keyturn, "audit", "show", "--since", "2d"],
        "--help": [*keyturn, "--help"],
        **{f"{name} --help": [*keyturn, name, "--help"] for name in HELP},
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            spent = cpu_ms(command)
            if turn:  # the first one warms the caches
                found[name].append(spent)
    return found


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--bin", type=Path, default=Path(sys.executable).parent)
    given = options.parse_args()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": "/"}
    with tempfile.TemporaryDirectory() as place:
        keyturn, config = str(given.bin / "keyturn"), Path(place) / "keyturn.toml"
        cloud = subprocess.Popen([keyturn, "emulator", "--directory", place], **pipes)
        try:
            wait_for(cloud, "emulator ready", "stdout")
            served = '\n[credentials.uploader.serve]\nusers = ["root"]\n'
            config.write_text(config.read_text().replace('poll_interval = "1s"', 'poll_interval = "1h"') + served)
            daemon = subprocess.Popen([keyturn, "--config", str(config), "run"], **pipes)
            try:
                wait_for(daemon, "ready", "stderr")
                found = measured(given.bin, config, given.rounds)
            finally:
                daemon.terminate()
                daemon.communicate()
        finally:
            cloud.terminate()
            cloud.communicate()
    yardstick = min(found["argparse"])
    print(f"{'command':<22} CPU ms  ratio")
    for name, spent in found.items():
        print(f"{name:<22} {min(spent):6.1f} {min(spent) / yardstick:6.2f}")
    above = [name for name, spent in found.items() if min(spent) > AIM * yardstick]
    print(f"above {AIM}: {', '.join(above) or 'none'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
