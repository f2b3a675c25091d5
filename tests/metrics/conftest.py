"""Engines driven by hand, and what is read from what they show."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))
sys.path.insert(0, str(Path(__file__).parent))

from workbench import Bench


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes engines; the next one made in the same test finds the state of the one before."""
    made: list[Bench] = []

    def make(**options: object) -> Bench:
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
