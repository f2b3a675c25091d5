"""Every benchmark, one table: `make bench`.

    python -m bench.all [--quick] [--only NAME] [--renew]

Each program runs by itself, one after the other, and prints its rows (bench/row.py) as soon as it has them; what they
say besides goes to standard error. Exits 1 where a program failed. An aim that is missed is marked, and fails nothing: a
machine that is busy with something else misses some. With `--renew` the table goes into docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from bench.row import HEAD, Row, read

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- begin: python -m bench.all --renew -->\n", "<!-- end -->\n"
PROGRAMS: dict[str, tuple[str, ...]] = {
    "cloud": (),
    "calls": (),
    "publish": (),
    "start": (),
    "many": ("--credentials", "100,1000", "--dependents", "500,5000"),
    "idle": (),
    "memory": ("--polls", "20", "--rotations", "20"),
    "fleet": ("--hours", "4"),
    "convergence": (),
    "serve": (),
    "report": (),
    "safe": (),
    "soak": ("--minutes", "1"),
}
"""The programs in their order, and how each is called. crash.py takes an hour and is run by itself."""


def run(name: str, arguments: tuple[str, ...]) -> tuple[list[Row], int]:
    """Run one program, and print its rows as they come; return them and its exit status."""
    argv = [sys.executable, "-m", f"bench.{name}", *arguments, "--json"]
    found: list[Row] = []
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        for line in program.stdout:
            for row in read([line]):
                print(row, flush=True)
                found.append(row)
    return found, program.returncode


def machine() -> str:
    """The machine, in a line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{os.cpu_count()} cores ({model}), Python {platform.python_version()}, Linux {platform.release()}"


def page(rows: list[Row], took_s: float) -> str:
    """The table in Markdown."""
    when = f"{datetime.now(UTC):%Y-%m-%d}, {machine()}; {took_s / 60:.0f} minutes; load at the end {os.getloadavg()[0]:.1f}."
    lines = [when, "", "| what | figure | yardstick | ratio | aim | |", "| --- | ---: | ---: | ---: | ---: | --- |"]
    lines += [f"| {' | '.join(row.cells())} |" for row in rows]
    return "\n".join(lines) + "\n"


def renew(rows: list[Row], took_s: float) -> None:
    """Put the table into docs/performance.md."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{page(rows, took_s)}{END}{after}")


def main() -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few of everything: whether the programs still run")
    parser.add_argument("--only", choices=PROGRAMS, action="append", help="this program; may be given again")
    parser.add_argument("--renew", action="store_true", help="write the table to docs/performance.md")
    options = parser.parse_args()
    began, rows, failed = time.monotonic(), [], []
    print(HEAD, flush=True)
    for name in options.only or PROGRAMS:
        found, status = run(name, ("--quick",) if options.quick else PROGRAMS[name])
        rows += found
        if status:
            failed.append(name)
    took_s = time.monotonic() - began
    missed = [row for row in rows if not row.met]
    print(f"{len(rows)} rows in {took_s:.0f} s, {len(missed)} aims missed; failed: {', '.join(failed) or 'none'}")
    if options.renew:
        renew(rows, took_s)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
