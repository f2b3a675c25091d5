"""A secret in the place of a path is refused without being repeated; a path is a path, however long."""

from __future__ import annotations

import pytest

from agent.config.scalars import file_path
from agent.config.unfit import Unfit

SECRET = "abCD12efGH34ijKL56mnOP78qrST90"


@pytest.mark.parametrize("written", [SECRET, f"/{SECRET}", "/" + "aB3d" * 20])
def test_a_secret_is_not_repeated(written: str) -> None:
    """Relative, or as the only name behind a slash."""
    with pytest.raises(Unfit) as caught:
        file_path(written, {})
    assert written.strip("/") not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/keyturn/credentials/production/eu-central-1/uploader/password.txt",
        "/var/lib/docker/overlay2/" + "0a1b2c3d" * 8 + "/merged/etc/keyturn/ca.pem",
        "/srv/" + "a-long-name-of-a-directory/" * 8 + "credentials.ini",
    ],
)
def test_a_long_path_is_a_path(path: str) -> None:
    """Longer than any token's beginning, with names that are hashes."""
    assert file_path(path, {}) == path
