"""Reloads: the config is read beside the loop, what was asked last counts, and a read that hangs ends no later one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agent.app.config_reads import READ_S, ConfigReads
from agent.core.errors import StateError
from tests.support.bench import Bench


class Reloads:
    """Reads that wait at a gate; each gives its number."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.gate = bench, threading.Event()
        self.begun: list[int] = []
        self.done: list[Any] = []
        self.reads = ConfigReads(bench.engine, "/etc/keyturn.toml", self.read, self.take)

    def read(self) -> Any:
        number = len(self.begun) + 1
        self.begun.append(number)
        self.gate.wait()
        return number

    def take(self, read: Any, error: BaseException | None) -> None:
        self.done.append(error or read)

    def ask(self) -> None:
        self.bench.engine.submit(self.reads.ask)
        self.bench.until(lambda: self.begun)


@pytest.fixture
def reloads(bench: Bench) -> Iterator[Reloads]:
    reloads = Reloads(bench)
    yield reloads
    reloads.gate.set()


def test_what_is_asked_during_a_read_is_read_anew_and_taken_over_once(reloads: Reloads) -> None:
    """A read that was under way may be older than the change that is meant."""
    for _ in range(3):
        reloads.ask()
    reloads.gate.set()
    reloads.bench.until(lambda: reloads.done)
    reloads.bench.settle_down()
    assert (reloads.begun, reloads.done) == ([1, 2], [2])


def test_a_read_that_hangs_is_refused_in_time_and_the_next_one_counts(reloads: Reloads) -> None:
    """The file system or the name service does not answer: said so; a late answer is thrown away."""
    reloads.ask()
    reloads.bench.clock.move(READ_S)
    reloads.bench.until(lambda: reloads.done)
    (late,) = reloads.done
    assert isinstance(late, StateError) and str(late).startswith("/etc/keyturn.toml: ")
    reloads.gate.set()
    reloads.ask()
    reloads.bench.until(lambda: len(reloads.done) == 2)
    reloads.bench.settle_down()
    assert (reloads.begun, reloads.done[1:]) == ([1, 2], [2])
