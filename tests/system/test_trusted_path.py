"""The kind: a file is judged by its path and then opened by its path, or judged without the directories above it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.cloud import tls
from agent.config.load import load
from agent.core.errors import ConfigError, CredentialFileError, KeyturnError, StateError
from agent.core.provider import ProviderContext
from agent.state.store import StateStore
from agent.system import files
from agent.system.trusted_path import open_trusted
from providers.default_chain import DefaultChain, DefaultSettings
from providers.emulator.pki import server_context
from tests.support.settings import ENVIRON, REGISTRY, Users

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives directories to another user")
STRANGER = 12345


def default_chain(path: Path) -> None:
    """Read the SDKs' own file by the default chain."""
    environ = {"ALIBABA_CLOUD_CREDENTIALS_FILE": str(path), "HOME": str(path.parent)}
    DefaultChain(DefaultSettings(type="default"), ProviderContext("a", environ=environ)).fetch(20.0)


def authority(directory: Path) -> bytes:
    """Make a CA of its own, and return its certificate."""
    server_context(directory)
    return (directory / "ca.pem").read_bytes()


def trusted_by(context: ssl.SSLContext) -> list[bytes]:
    return context.get_ca_certs(binary_form=True)


READERS: dict[str, tuple[Callable[[Path], object], type[KeyturnError]]] = {
    "a CA file": (lambda path: tls.context_for((str(path),)), CredentialFileError),
    "a config": (lambda path: load(str(path), REGISTRY, environ=ENVIRON, users=Users()), ConfigError),
    "a secret": (lambda path: files.read_private(path, 1000), CredentialFileError),
    "a template or properties file": (lambda path: files.read_trusted(path, 1000), CredentialFileError),
    "the file of the SDKs": (default_chain, CredentialFileError),
    "a state directory": (lambda path: StateStore(path.parent / "state").prepare(), StateError),
}


@needs_root
@pytest.mark.parametrize(("read", "error"), READERS.values(), ids=READERS)
@pytest.mark.parametrize("made", ["theirs", "everybody's", "a group's", "behind their link"])
def test_whoever_can_exchange_a_directory_on_the_way_is_refused(
    public_path: Path, read: Callable[[Path], object], error: type[KeyturnError], made: str
) -> None:
    """Whatever is judged by its owner and mode: the text names the directory or link that lets somebody else in."""
    above = public_path / "above"
    (above / "real" / "state").mkdir(parents=True)
    path = above / "real" / "file"
    path.write_text("[default]\n")
    path.chmod(0o600)
    place = above / "real"
    if made == "behind their link":
        place = above / "link"
        place.symlink_to("real")
        path = place / "file"
        os.chown(place, STRANGER, STRANGER, follow_symlinks=False)
    elif made == "theirs":
        place = above
        os.chown(above, STRANGER, STRANGER)
    else:
        os.chown(place, 0, STRANGER)
        place.chmod(0o777 if made == "everybody's" else 0o775)
    with pytest.raises(error) as caught:
        read(path)
    assert f" {place} " in str(caught.value)


def test_what_was_judged_is_what_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that is swapped between the look and the use leads to nothing: the CA's file is looked up once."""
    ours, theirs, link = tmp_path / "ours.pem", tmp_path / "theirs.pem", tmp_path / "ca.pem"
    ours.write_bytes(authority(tmp_path / "one"))
    theirs.write_bytes(authority(tmp_path / "two"))
    link.symlink_to(ours)
    real = os.fstat

    def swap(fd: int) -> os.stat_result:
        found = real(fd)
        if found.st_ino == ours.stat().st_ino:
            link.unlink()
            link.symlink_to(theirs)
        return found

    monkeypatch.setattr(os, "fstat", swap)
    context = tls.context_for((str(link),))
    monkeypatch.undo()
    assert ssl.PEM_cert_to_DER_cert(ours.read_text()) in trusted_by(context)
    assert ssl.PEM_cert_to_DER_cert(theirs.read_text()) not in trusted_by(context)


def test_a_bundle_with_remarks_in_any_encoding_is_read(tmp_path: Path) -> None:
    """Text between the certificates, as bundles have it, in GBK too; a FIFO is refused and not waited for."""
    path = tmp_path / "ca.pem"
    both = [authority(tmp_path / "one"), authority(tmp_path / "two")]
    path.write_bytes(b"\n".join(["# 根证书".encode("gbk"), both[0], "根证书".encode(), both[1]]))
    trusted = trusted_by(tls.context_for((str(path),)))
    assert all(ssl.PEM_cert_to_DER_cert(each.decode()) in trusted for each in both)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(CredentialFileError):
        tls.context_for((str(tmp_path / "fifo"),))


def test_a_path_that_leads_in_a_circle_ends(tmp_path: Path) -> None:
    """As the kernel ends it: ELOOP, for a directory on the way too."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for path in (tmp_path / "a", tmp_path / "a" / "file"):
        with pytest.raises(OSError, match="symbolic links"):
            open_trusted(path, os.O_RDONLY)


def test_no_descriptor_is_left_open(public_path: Path) -> None:
    """Whatever comes of it: a daemon judges paths for years."""
    (public_path / "link").symlink_to("directory/..")
    (public_path / "directory").mkdir()
    (public_path / "file").write_text("x")
    (public_path / "open").mkdir()
    (public_path / "open").chmod(0o777)
    before = len(os.listdir("/proc/self/fd"))
    for path in ("link/file", "directory", "file", "missing", "file/below", "open/missing"):
        try:
            os.close(open_trusted(public_path / path, os.O_RDONLY))
        except (OSError, CredentialFileError):
            continue
    assert len(os.listdir("/proc/self/fd")) == before
