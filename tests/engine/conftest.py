"""Engines in this process: one on a thread in front of an emulated cloud, one driven by hand under a clock that stands still."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from station import Station
from workbench import Bench


@pytest.fixture
def station(vm: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Station]:
    """A VM whose credential `uploader` may be rotated by the user `ops`, with two dependents."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Station(vm)
    yield made
    made.stop()


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes engines; the next one made in the same test finds the state of the one before."""
    made: list[Bench] = []

    def make(**options: Any) -> Bench:
        if made:
            made[-1].audit.close()  # its process is gone, and its lock with it
        made.append(Bench(tmp_path, made[-1].clock if made else None, **options))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """One engine."""
    return make_bench()
