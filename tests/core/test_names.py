"""The credentials that an operator names."""

from __future__ import annotations

import pytest

from agent.core.errors import UsageError
from agent.core.names import known_names
from tests.support.misplaced import LONG_CANARY


def test_each_is_named_once_and_none_means_all() -> None:
    """In the order in which they were named."""
    assert known_names(["a", "b", "c"], ["c", "a", "c"]) == ["c", "a"]
    assert known_names(["a", "b", "c"], []) == ["a", "b", "c"]


def test_a_secret_in_the_place_of_a_name_is_not_repeated() -> None:
    """The daemon's answer goes into logs, too."""
    with pytest.raises(UsageError) as refused:
        known_names(["uploader"], [LONG_CANARY])
    assert LONG_CANARY not in str(refused.value)
