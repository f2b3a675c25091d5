"""A host that rotates the keys of a RAM user."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.ram_station import RamStation


@pytest.fixture
def ram_station(vm: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[RamStation]:
    """A station whose credential `uploader` is a RAM user's that keyturn itself rotates."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = RamStation(vm)
    yield made
    made.stop()
