"""A path is judged name by name: as a whole it may be longer than any token."""

from __future__ import annotations

import pytest

from agent.config.scalars import Unfit, file_path

DEEP = "/srv/applications/payments/releases/2026-11-30/shared/credentials/credentials.ini"
SECRET = "aB3" + "x9Q" * 9


def test_a_long_path_is_a_path() -> None:
    """80 characters, of which every one could stand in a token."""
    assert file_path(DEEP, {}) == DEEP


@pytest.mark.parametrize("path", [f"/{SECRET}", f"/etc/{SECRET}", f"/{SECRET * 3}/x"])
def test_a_name_like_a_secret_is_none_and_is_not_repeated(path: str) -> None:
    """Wherever in the path it stands."""
    with pytest.raises(Unfit) as caught:
        file_path(path, {})
    assert SECRET not in str(caught.value)
