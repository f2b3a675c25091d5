"""What `keyturn audit report` costs on a long log: records a second, and whether its memory grows with the log.

    python -m bench.report [--records 200000] [--credentials 10] [--format csv]

Writes a log of that many records, and one of ten times as many, each in ten files of which nine are compressed, and runs the
command over both; `audit verify` would read and prove the same, so the collecting is what is on top of it. What is listed of
one credential is bounded (agent/evidence/history.py), and the smaller log is long enough to reach that bound: so the memory
for ten times the records should be the same.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.audit.chain import follower
from agent.audit.head import Head
from agent.core.events import Event
from agent.core.timestamps import rfc3339_micros
from bench.row import Row, add_option, show

FILES = 10
ROOT = Path(__file__).resolve().parent.parent


def entries(credentials: int) -> Iterator[tuple[Event, dict[str, Any]]]:
    """Yield events and fields of one rotation after the other, without an end."""
    number = 0
    while True:
        name, generation = f"credential-{number % credentials}", number // credentials + 1
        about = {
            "credential": name,
            "access_key_id": f"LTAI5t{number:018}",
            "version_id": f"v{number}",
            "trigger": "poll",
        }
        told = {"credential": name, "generation": generation, "notified": "systemd app.service"}
        yield Event.CREDENTIAL_FETCHED, about | {"host": "web-1", "request_id": f"{number:036}"}
        yield Event.VERIFIED, about | {"outcome": f"acs:ram::1234567890123456:user/{name}"}
        yield Event.PUBLISHED, about | {"generation": generation, "sinks": [f"/etc/{name}/credentials.ini [default]"]}
        yield Event.NOTIFIED, told | {"outcome": "told"}
        yield Event.PICKUP_CONFIRMED, told
        number += 1


def write_log(directory: Path, records: int, credentials: int) -> Path:
    """Write a log with an unbroken chain, oldest file first; return its newest file."""
    head, now, source = Head(), datetime(2024, 1, 1, tzinfo=UTC), entries(credentials)
    newest = directory / "audit.jsonl"
    for part in reversed(range(FILES)):
        with open(newest, "wb") as file:
            for _ in range(records // FILES):
                event, fields = next(source)
                now += timedelta(seconds=3)
                record, line = follower(head, rfc3339_micros(now), event, fields)
                head = Head(record["seq"], record["hash"])
                file.write(line)
        if part:
            with open(newest, "rb") as plain, gzip.open(f"{newest}.{part}.gz", "wb", compresslevel=1) as packed:
                shutil.copyfileobj(plain, packed)
    return newest


def run(log: Path, form: str) -> tuple[float, float]:
    """Run the command; return seconds of processor time, and MiB of the most memory that it had."""
    argv = [sys.executable, "-m", "agent", "audit", "report", "--log", str(log), "--format", form]
    with subprocess.Popen([*argv, "--output", str(log.parent / "out")], cwd=ROOT) as process:
        _pid, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, process.returncode
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def rows(records: int, credentials: int, form: str) -> Iterator[Row]:
    """Yield what the two logs cost."""
    found: dict[int, tuple[float, float]] = {}
    for count in (records, 10 * records):
        with tempfile.TemporaryDirectory() as directory:
            began = time.monotonic()
            log = write_log(Path(directory), count, credentials)
            print(f"{count:,} records written in {time.monotonic() - began:.1f} s", file=sys.stderr)
            found[count] = run(log, form)
    many = 10 * records
    yield Row(f"audit report of {many:,} records: records a second of CPU", many / found[many][0], "/s")
    yield Row(f"the same: most memory; of {records:,} records", found[many][1], "MiB", found[records][1], 1.2)


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--credentials", type=int, default=10)
    parser.add_argument("--format", default="csv", choices=("table", "csv", "json", "ocsf", "html"))
    parser.add_argument("--quick", action="store_true", help="few records")
    add_option(parser)
    options = parser.parse_args()
    records, credentials = (1000, 1) if options.quick else (options.records, options.credentials)
    show(rows(records, credentials, options.format), options.json)


if __name__ == "__main__":
    main()
