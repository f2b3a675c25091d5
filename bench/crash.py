"""Every death that keyturn may die in a publish, and what it leaves: kill -9 at every system call and at random, power cuts.

    python bench/crash.py [--rounds 300] [--quick] [--only WORD] [--jobs 2] [--directory DIR]

The whole of what tests/crash takes samples of, with the same code; docs/crash.md says what is proved and how. Prints a
line for each part: how many deaths, and how often something was found that must not be. Exit status 1 where anything was;
what it was is on standard error. It takes about an hour of two processors; it wants root, to look as another user too.

Columns: `deaths`; sinks `torn`, or `mixed` after the recovery; wrong owner or mode (`owner`); files that others can read
(`open`); files left behind by a recovery (`left`); notifications lost (`lost`); generation numbers given to two values
(`twice`); anything else (`other`: the audit log, the state, a traceback). `missed` are deaths that no try came to, because
threads took other turns; more than one in twenty counts as a failure.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.crash import tracing
from tests.support.crash.deaths import Lives, watched
from tests.support.crash.power_cut import MODELS, PAGE, SECTOR, outage
from tests.support.crash.promises import Findings
from tests.support.crash.surviving import (
    INTERRUPTED,
    PUBLISHED,
    STARTS,
    aftermath,
    deaths_at,
    die,
    interrupt,
    publish_under_the_knife,
    temporary_world,
)

COLUMNS = {"torn": "torn", "mixed": "mixed", "attributes": "owner", "readable": "open", "leftovers": "left"}
PR_SET_PDEATHSIG = 1
LIFE = 50
"""Deaths at random in one world."""


@dataclass
class Tally:
    """What a part came to."""

    deaths: int = 0
    missed: int = 0
    looks: int = 0
    seconds: float = 0.0
    found: Findings = field(default_factory=Findings)

    def add(self, other: Tally) -> None:
        self.deaths += other.deaths
        self.missed += other.missed
        self.looks += other.looks
        self.seconds += other.seconds
        self.found.add(other.found)

    @property
    def fine(self) -> bool:
        return self.found.clean and self.deaths > 0 and self.missed * 20 <= self.deaths


@dataclass(frozen=True)
class Work:
    """A piece of a part, for one worker and one world.

    Attributes:
        part: its name.
        kind: "kill", "random" or "power".
        which: every `step`th death, from here on.
        step: see `which`; of "random", how many deaths.
    """

    part: str
    kind: str
    start: str = PUBLISHED
    command: str = "once"
    model: str = ""
    grain: int = PAGE
    volatile: tuple[str, ...] = ()
    which: int = 0
    step: int = 1
    directory: str | None = None


def kill(work: Work) -> Tally:
    """Before and after each of the calls that touch a file."""
    tally = Tally()
    with temporary_world(directory=work.directory) as world:
        calls = publish_under_the_knife(world, work.start, work.command)["calls"]
        for death in deaths_at(calls)[work.which :: work.step]:
            if not die(world, work.start, work.command, death):
                tally.missed += 1
                continue
            tally.deaths += 1
            tally.found.add(told(aftermath(world, work.start), f"{work.part}: {death}"))
    return tally


def at_random(work: Work) -> Tally:
    """A daemon that rotates as fast as it can; readers look."""
    tally = Tally()
    with temporary_world(directory=work.directory) as world:
        lives = Lives(world, seed=work.which)
        with watched(world) as seen:
            for _ in range(work.step):
                lives.live()
            tally.found.add(told(lives.end(), work.part))
        tally.deaths = lives.deaths
    for reader in seen:
        tally.looks += reader["looks"]
        for what in ("torn", "mixed", "attributes", "readable"):
            getattr(tally.found, what).extend(reader["examples"][:1] * reader.get(what, 0))
    return tally


def cut_power(work: Work) -> Tally:
    """Every disk that a power cut may leave."""
    tally = Tally()
    with temporary_world(in_memory=True, volatile=work.volatile) as world:
        if work.start in INTERRUPTED:
            interrupt(world, work.start)
        for number, cut in enumerate(outage(world, work.start, work.model, grain=work.grain).cuts()):
            if number % work.step == work.which:
                cut.strike(world, work.start)
                tally.deaths += 1
                tally.found.add(told(aftermath(world, work.start), f"{work.part}: {cut}"))
    return tally


def told(found: Findings, where: str) -> Findings:
    """On standard error, as it happens."""
    if not found.clean:
        print(f"{where}: {found}", file=sys.stderr, flush=True)
    return found


KINDS: dict[str, Callable[[Work], Tally]] = {"kill": kill, "random": at_random, "power": cut_power}


def timed(work: Work) -> Tally:
    began = time.monotonic()
    tally = KINDS[work.kind](work)
    tally.seconds = time.monotonic() - began
    return tally


def pieces(rounds: int, quick: bool) -> Iterator[Work]:
    """All that there is to do, the parts in their order."""
    few = 25 if quick else 1
    for command in ("once", "run"):
        for start in STARTS:
            for which in range(1 if quick else 4):
                yield Work(
                    f"kill -9, {command}, {start}", "kill", start, command, which=which, step=few if quick else 4
                )
    for first in range(0, rounds, LIFE):
        yield Work("kill -9 at random, run", "random", which=first + 1, step=min(LIFE, rounds - first))
    for model in MODELS:
        for start in STARTS:
            yield Work(f"power cut, {model}, {start}", "power", start, model=model, step=few)
    yield Work("power cut, ordered, torn pages", "power", model="ordered", grain=SECTOR, step=few)
    for model in MODELS:
        for start in INTERRUPTED:
            yield Work(f"power cut in a recovery, {model}", "power", start, model=model, step=few)
    yield Work("power cut, ordered, sinks on tmpfs", "power", model="ordered", volatile=("env", "set"), step=few)


def end_with_parent() -> None:
    """A worker whose parent is gone cleans up and ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def line(name: str, tally: Tally) -> str:
    figures = "".join(f"{number:7}" for number in tally.found.figures().values())
    looks = f"  {tally.looks} looks by readers" if tally.looks else ""
    return f"{name:36}{tally.deaths:8}{figures}{tally.missed:7}{tally.seconds:8.0f}{looks}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300, help="kills at random moments (default: 300)")
    parser.add_argument("--quick", action="store_true", help="one in 25 of everything: some minutes")
    parser.add_argument("--only", default="", metavar="WORD", help="only the parts with this in their name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worlds at a time (default: processors)")
    parser.add_argument("--directory", help="where the worlds are for kill -9 (default: where temporary files go)")
    options = parser.parse_args()
    reason = tracing.available()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    rounds = max(1, options.rounds // 25) if options.quick else options.rounds
    columns = [COLUMNS.get(name, name) for name in Findings().figures()]
    print(f"{'':36}{'deaths':>8}{''.join(f'{name:>7}' for name in columns)}{'missed':>7}{'s':>8}", flush=True)
    todo = [work for work in pieces(rounds, options.quick) if options.only in work.part]
    total, tallies = Tally(), dict[str, Tally]()
    with ProcessPoolExecutor(options.jobs, initializer=end_with_parent) as pool:
        futures = [(work, pool.submit(timed, replace(work, directory=options.directory))) for work in todo]
        last = {work.part: future for work, future in futures}
        for work, future in futures:
            tallies.setdefault(work.part, Tally()).add(future.result())
            if future is last[work.part]:
                print(line(work.part, tallies[work.part]), flush=True)
                total.add(tallies[work.part])
    print(line("all", total))
    return 0 if tallies and all(tally.fine for tally in tallies.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
