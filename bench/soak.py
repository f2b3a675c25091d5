"""Many rotations under running applications: how many of their requests are refused, and what the daemon costs.

    python -m bench.soak [--minutes 10] [--rotate-every 3s] [--applications 2] [--directory DIR]

The world of `keyturn demo` (the emulated cloud: new keys work after 1 s, old ones live 10 s; polls every
second; the default settle), with KMS rotating all the time. Prints one JSON object too; exit status 1 where a
request was refused, the audit log is not whole, or something died. The CPU and the context switches are the
daemon's with its pickup probes; a poll once a second is sixty times the default.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from agent.cli.option_types import seconds
from agent.core.errors import KeyturnError
from agent.demo.children import Children, Said, clock
from agent.demo.world import ACT_S, DAEMON, World
from bench.row import Row, add_option, show


class Soak:
    """One run."""

    def __init__(self, directory: Path, children: Children, applications: int) -> None:
        names = [f"uploader-{number}" for number in range(1, applications + 1)]
        self._world = World(directory, children, self._listen, names)
        self._children = children
        self._published = 0
        self._in_use = dict.fromkeys(names, "")
        self._rotations = 0
        self._troubles: list[str] = []

    def run(self, for_s: float, every_s: float) -> dict[str, Any]:
        """Rotate for so long, every so often; returns the summary."""
        world = self._world
        world.start_cloud()
        world.start_applications()
        world.start_daemon()
        world.wait_until("everybody to have a key", lambda: all(self._in_use.values()), ACT_S)
        began = due = clock()
        while due <= began + for_s:
            newest = world.rotate().access_key_id
            self._rotations += 1
            due += every_s
            world.listen_until(due)
        world.wait_until("everybody to use the newest key", lambda: set(self._in_use.values()) == {newest}, ACT_S)
        return self._summary(clock() - began)

    def _listen(self, said: Said) -> None:
        words = said.words or {}
        if said.says("published"):
            self._published += 1
        elif said.says("signing"):
            self._in_use[said.who] = words["access_key_id"]
        elif said.says("refused") or said.says("unanswered") or words.get("level") in ("warning", "error"):
            self._troubles.append(json.dumps(words))
            print(said.who, self._troubles[-1], file=sys.stderr, flush=True)

    def _summary(self, lasted_s: float) -> dict[str, Any]:
        reports = self._world.end_applications().values()
        peak_kib = _peak_rss_kib(self._children[DAEMON].pid)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._world.stop_daemon()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        (verdict,) = self._world.command("audit", "verify", "--json")
        return {
            "seconds": round(lasted_s),
            "rotations": self._rotations,
            "publishes": self._published,
            "applications": len(self._in_use),
            "requests": sum(report["sent"] for report in reports),
            "refused": sum(report["refused"] for report in reports),
            "unanswered": sum(report["unanswered"] for report in reports),
            "daemon_rss_max_mib": round(peak_kib / 1024, 1),
            "daemon_cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
            "daemon_voluntary_switches_per_s": round((after.ru_nvcsw - before.ru_nvcsw) / lasted_s, 1),
            "daemon_troubles": len(self._troubles),
            "audit_records": verdict["records"],
            "audit_whole": verdict["whole"],
        }


def _peak_rss_kib(pid: int) -> int:
    """VmHWM, proc(5); ru_maxrss would begin with what the parent had before exec."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise ProcessLookupError(pid)


def rows(summary: dict[str, Any]) -> Iterator[Row]:
    """What the table shows of a summary."""
    name = f"{summary['rotations']} rotations under {summary['applications']} applications"
    yield Row(f"{name}: requests refused", summary["refused"], "", aim=0)
    yield Row(f"{name}: requests sent", summary["requests"], "")
    yield Row(f"{name}: cores of the daemon", summary["daemon_cpu_s"] / summary["seconds"], "")
    yield Row(f"{name}: most memory", summary["daemon_rss_max_mib"], "MiB")


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="rotate for a long time under running applications")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rotate-every", metavar="3s", default="3s")
    parser.add_argument("--applications", metavar="N", type=int, default=2)
    parser.add_argument("--directory", metavar="DIR", type=Path, help="a new one, kept; default: a temporary one")
    parser.add_argument("--quick", action="store_true", help="a few seconds: whether the program still runs")
    add_option(parser)
    options = parser.parse_args()
    if options.quick:
        options.minutes = 0.1
    children = Children()
    with ExitStack() as stack:
        stack.enter_context(children.hearing_signals())
        if options.directory:
            options.directory.mkdir(mode=0o700)
            place = options.directory.absolute()
        else:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyturn-soak-")))
        stack.enter_context(children)
        try:
            every_s = seconds(options.rotate_every, "--rotate-every")
            summary = Soak(place, children, options.applications).run(options.minutes * 60, every_s)
        except KeyturnError as error:
            print(f"soak: {error}", file=sys.stderr)
            return 1
    print(json.dumps(summary), file=sys.stderr)
    show(rows(summary), options.json)
    return 0 if not summary["refused"] and summary["audit_whole"] else 1


if __name__ == "__main__":
    sys.exit(main())
