"""A look from outside of the service reads what systemd will hand over, and names that place; inside nothing changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.core.errors import CredentialFileError, NotPermittedError
from agent.system import systemd_credentials
from agent.system.files import read_private
from providers.static_parts import read_open

GIVEN = "/run/credentials/no-such.service"
OUTSIDE = {"CREDENTIALS_DIRECTORY": GIVEN}


def looking(**sources: str) -> dict[str, str]:
    return systemd_credentials.with_sources(OUTSIDE, sources)


def test_the_source_is_read_in_the_place_of_the_copy(tmp_path: Path) -> None:
    """A secret as well as a part that is none; a file that lies elsewhere is read where it lies."""
    source = tmp_path / "somewhere"
    source.write_bytes(b"s3cret")
    source.chmod(0o600)
    assert read_private(f"{GIVEN}/key", 100, looking(key=str(source))) == b"s3cret"
    assert read_open(f"{GIVEN}/key", 100, looking(key=str(source))) == b"s3cret"
    assert read_private(source, 100, looking(somewhere="/no/such")) == b"s3cret"


def test_a_source_is_as_private_as_any_secret(tmp_path: Path) -> None:
    """systemd would hand it over all the same; who reads the source has the key."""
    source = tmp_path / "somewhere"
    source.write_bytes(b"s3cret")
    source.chmod(0o644)
    with pytest.raises(CredentialFileError, match="lets others") as caught:
        read_private(f"{GIVEN}/key", 100, looking(key=str(source)))
    assert str(source) in caught.value.remedy


@pytest.mark.parametrize("read", [read_private, read_open])
def test_a_missing_source_is_named_and_not_the_copy(read: object, tmp_path: Path) -> None:
    """Nobody can put a file below /run/credentials; the sentence names the place where it belongs."""
    with pytest.raises(CredentialFileError) as caught:
        read(f"{GIVEN}/key", 100, looking(key=f"{tmp_path}/no"))  # type: ignore[operator]
    assert caught.value.problem.startswith(f"{tmp_path}/no: this file is missing") and GIVEN not in str(caught.value)
    assert "systemctl reload keyturn" in caught.value.remedy
    with pytest.raises(CredentialFileError, match="/etc/keyturn/no-such-key: this file is missing"):
        read(f"{GIVEN}/no-such-key", 100, looking())  # type: ignore[operator]


def test_inside_of_the_service_nothing_changes() -> None:
    """There the copy counts, and its name is what is said."""
    with pytest.raises(CredentialFileError) as caught:
        read_private(f"{GIVEN}/key", 100, OUTSIDE)
    assert caught.value.problem.startswith(f"{GIVEN}/key: this file is missing")


def test_an_encrypted_one_is_for_the_service_alone() -> None:
    """It is not said to be missing; the command that can look is."""
    with pytest.raises(CredentialFileError, match="encrypted") as caught:
        read_private(f"{GIVEN}/key", 100, looking(key=""))
    assert "--check-command" in caught.value.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="plays another user")
def test_who_may_not_look_is_told_who_may(tmp_path: Path) -> None:
    """root, or the service; never to give the file away."""
    source = tmp_path / "somewhere"
    source.write_bytes(b"s3cret")
    source.chmod(0o600)
    os.seteuid(65534)
    try:
        with pytest.raises(NotPermittedError) as caught:
            read_private(f"{GIVEN}/key", 100, looking(key=str(source)))
    finally:
        os.seteuid(0)
    assert "run this as root" in caught.value.remedy and "chown" not in caught.value.remedy
