"""What 10,000 hosts ask of one source: a day, a restart of all at once, an outage of ten minutes.

    python -m bench.fleet                       KMS polled each minute, and AssumeRole sessions of an hour
    python -m bench.fleet --hosts 1000 --hours 2

Discrete events, one agent per host, each planned by agent/core/policy.py: the very functions of the daemon. What is
counted is every request that leaves a host, during the outage too. The yardstick is the quota (Alibaba Cloud: KMS
GetSecretValue 450 a second for an account and region, STS AssumeRole 100 a second); exits 1 when a peak reaches it.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agent.core.policy import Standing, first_refresh, next_refresh
from bench.row import Row, add_option, show

T0 = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Source:
    name: str
    quota: int
    session_s: float | None  # None: a value without expiry, polled
    poll_s: float = 60.0


@dataclass(frozen=True)
class Story:
    """Seconds since the beginning at which things happen to the whole fleet."""

    ends_s: int
    restart_s: int
    outage_s: tuple[int, int]

    def down(self, at_s: float) -> bool:
        return self.outage_s[0] <= at_s < self.outage_s[1]


class Agent:
    """One host: what it knows, and when it asks next."""

    __slots__ = ("failures", "obtained_s", "turn")

    def __init__(self, obtained_s: float) -> None:
        self.obtained_s, self.failures, self.turn = obtained_s, 0, 0

    def standing(self, source: Source) -> Standing:
        if source.session_s is None:
            return Standing(True, None, None, self.failures, source.poll_s)
        obtained = T0 + timedelta(seconds=self.obtained_s)
        return Standing(True, obtained, obtained + timedelta(seconds=source.session_s), self.failures, source.poll_s)


def requests(source: Source, story: Story, hosts: int, chance: Callable[[], float]) -> Iterator[tuple[float, int]]:
    """Each second, as (second, number of requests)."""
    due: list[list[tuple[float, Agent, int]]] = [[] for _ in range(story.ends_s + 1)]

    def plan(agent: Agent, at_s: float) -> None:
        if at_s < story.ends_s:
            due[int(at_s)].append((at_s, agent, agent.turn))

    fleet = [Agent(-chance() * (source.session_s or 0.0) * 2 / 3) for _ in range(hosts)]
    for agent in fleet:
        plan(agent, first_refresh(agent.standing(source), T0, chance()))
    for second in range(story.ends_s):
        if second == story.restart_s:
            now = T0 + timedelta(seconds=second)
            for agent in fleet:
                agent.turn, agent.failures = agent.turn + 1, 0
                plan(agent, second + first_refresh(agent.standing(source), now, chance()))
        count = 0
        for at_s, agent, turn in due[second]:  # grows while it is walked: a retry may fall into the same second
            if turn != agent.turn:
                continue  # planned before the restart
            count += 1
            if story.down(at_s):
                agent.failures += 1
            else:
                agent.failures, agent.obtained_s = 0, at_s
            delay_s = next_refresh(agent.standing(source), T0 + timedelta(seconds=at_s), chance())
            plan(agent, at_s + delay_s)
        due[second] = []
        yield second, count


def peaks(source: Source, story: Story, hosts: int, seed: int) -> Iterator[Row]:
    """The worst second of each stretch of the story."""
    chance = random.Random(seed).random
    stretches = {
        "the day": lambda second: True,
        "after the restart": lambda second: story.restart_s <= second < story.restart_s + 600,
        "the outage": lambda second: story.down(second),
        "after the outage": lambda second: story.outage_s[1] <= second < story.outage_s[1] + 600,
    }
    worst, total = dict.fromkeys(stretches, 0), 0
    for second, count in requests(source, story, hosts, chance):
        total += count
        for name, within in stretches.items():
            if count > worst[name] and within(second):
                worst[name] = count
    mean = total / story.ends_s
    name = f"{hosts} hosts, {source.name}"
    print(f"{name}: {story.ends_s / 3600:g} h, {mean:.1f} requests a second on average", file=sys.stderr)
    for stretch, peak in worst.items():
        yield Row(f"{name}: {stretch}", peak, "/s", source.quota, 0.99)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few hosts: whether the program still runs")
    add_option(parser)
    options = parser.parse_args()
    if options.quick:
        options.hosts, options.hours = 100, 2.0
    ends_s = int(options.hours * 3600)
    story = Story(ends_s, ends_s // 2, (ends_s * 3 // 4, ends_s * 3 // 4 + 600))
    sources = (
        Source("KMS polled each minute", 450, None),
        Source("STS sessions of an hour", 100, 3600.0),
    )
    found = [row for source in sources for row in peaks(source, story, options.hosts, options.seed)]
    show(found, options.json)
    return 0 if all(row.met for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
