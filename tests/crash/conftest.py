"""The folder's helpers on the path, and one world for each worker: a start costs more than a death."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.crash import tracing
from tests.support.crash.surviving import temporary_world
from tests.support.crash.world import World


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """A world on a disk."""
    with temporary_world() as made:
        yield made


@pytest.fixture(scope="session")
def modelled_world() -> Iterator[World]:
    """One in memory: where the power goes, the disk is a model."""
    with temporary_world(in_memory=True) as made:
        yield made


@pytest.fixture(scope="session")
def knife() -> None:
    """Skip where no process can be traced."""
    reason = tracing.available()
    if reason:
        pytest.skip(reason)
