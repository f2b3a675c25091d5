"""What a daemon costs that has nothing to do: ten credentials of KMS, asked each second, and nothing ever changes.

    python -m bench.idle [--credentials 10] [--seconds 20]

A real daemon as in bench/many.py, without a watchdog. The yardstick is the emulated cloud's processor time for its answers to the
very same calls: an HTTP server with TLS, in Python too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.many import Farm
from bench.row import Row, add_option, show
from bench.watched_daemon import cpu_s

CORES = 0.1
"""The aim."""


def rows(root: Path, credentials: int, seconds: float) -> Iterator[Row]:
    farm = Farm(root, credentials, poll_interval="1s", watched=False)
    try:
        farm.start()
        pids = farm.daemon.process.pid, farm.cloud.pid
        before, calls, began = [cpu_s(pid) for pid in pids], farm.calls(), time.monotonic()
        time.sleep(seconds)
        took_s, calls = time.monotonic() - began, farm.calls() - calls
        daemon, cloud = ((cpu_s(pid) - cpu) / took_s for pid, cpu in zip(pids, before, strict=True))
        name = f"{credentials} credentials asked each second"
        yield Row(f"{name}: cores of daemon and cloud", daemon, "", cloud, CORES, True)
        yield Row(f"{name}: calls a second", calls / took_s, "/s")
        each_ms, cloud_ms = daemon * took_s / calls * 1000, cloud * took_s / calls * 1000
        yield Row(f"{name}: CPU for each call", each_ms, "ms", cloud_ms)
    finally:
        farm.close()


def main() -> None:
    """Print two rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--credentials", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--quick", action="store_true", help="three seconds: whether the program still runs")
    add_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kt") as root:
        show(rows(Path(root), options.credentials, 3.0 if options.quick else options.seconds), options.json)


if __name__ == "__main__":
    main()
