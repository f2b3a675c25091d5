"""The folder's helpers on the path, and one world for each file of tests: a start costs more than a death."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import tracing
from crash_world import World
from surviving import make_world


def made(**options: Any) -> Iterator[World]:
    """A world where strangers could get to: pytest's own directories are closed to them, and so would prove nothing."""
    with tempfile.TemporaryDirectory(prefix="keyturn-crash-") as place:
        Path(place).chmod(0o755)
        world = make_world(Path(place), **options)
        yield world
        world.close()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A world with every kind of sink."""
    yield from made()


@pytest.fixture(scope="module")
def flat_world() -> Iterator[World]:
    """One whose publishes the model of a power cut knows: without a `directory` sink."""
    yield from made(linked=False)


@pytest.fixture(scope="session")
def knife() -> None:
    """Skip where no process can be traced."""
    reason = tracing.available()
    if reason:
        pytest.skip(reason)
