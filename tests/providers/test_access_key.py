"""Static AccessKeys from files and variables, and the register of providers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

import providers
from agent.core.errors import CredentialFileError
from agent.core.provider import Provider, ProviderContext
from agent.core.settings import FilePath
from providers.access_key import AccessKey, AccessKeySettings

Write = Callable[[Path, bytes | str], Path]
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def provider(settings: AccessKeySettings, **environ: str) -> AccessKey:
    return AccessKey(settings, ProviderContext("uploader", environ=environ))


@pytest.fixture
def files(tmp_path: Path, private: Write) -> AccessKeySettings:
    """A public id and a private secret."""
    (tmp_path / "id").write_text("LTAI5tabc\n")
    private(tmp_path / "secret", "s3cret\n")
    return AccessKeySettings(
        type="access_key",
        access_key_id_from_file_path=FilePath(tmp_path / "id"),
        access_key_secret_from_file_path=FilePath(tmp_path / "secret"),
    )


def test_files_are_read_anew_each_time(files: AccessKeySettings, tmp_path: Path) -> None:
    """The id's file need not be private; a replaced secret is found at the next look."""
    assert list(files.problems()) == []
    found = provider(files).fetch(NOW)
    assert found.access_key_secret is not None
    assert (found.access_key_id, found.access_key_secret.reveal()) == ("LTAI5tabc", "s3cret")
    (tmp_path / "secret").write_text("another")
    again = provider(files).fetch(NOW)
    assert again.access_key_secret is not None
    assert again.access_key_secret.reveal() == "another"


def test_variables_are_read() -> None:
    """Parts may come from the environment that keyturn was started with."""
    settings = AccessKeySettings(
        type="access_key", access_key_id_from_env_variable="ID", access_key_secret_from_env_variable="SECRET"
    )
    found = provider(settings, ID="LTAI5tabc", SECRET="s3cret").fetch(NOW)
    assert found.access_key_id == "LTAI5tabc"
    with pytest.raises(CredentialFileError, match=r"credentials\.uploader: access_key_secret: .* SECRET is not set"):
        provider(settings, ID="LTAI5tabc").fetch(NOW)


def test_a_secret_that_others_can_read_is_refused(files: AccessKeySettings, tmp_path: Path) -> None:
    """A public secret is no secret: refused, and found by `check` with its remedy."""
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(CredentialFileError, match="0644"):
        provider(files).fetch(NOW)
    findings = list(provider(files).inspect())
    assert [finding.level for finding in findings] == ["ok", "error"]
    assert "chmod 600" in findings[1].remedy


def test_each_part_is_named_once() -> None:
    """A part that is named twice or not at all is a problem of the config, under its key."""
    settings = AccessKeySettings(
        type="access_key", access_key_id_from_file_path=FilePath("/x"), access_key_id_from_env_variable="ID"
    )
    assert [(key, said.split(";")[0]) for key, said in settings.problems()] == [
        ("access_key_id_from_file_path", "named twice"),
        ("access_key_secret_from_file_path", "missing"),
    ]


@pytest.mark.parametrize("type_name", providers.BUILT_IN)
def test_every_built_in_provider_loads(type_name: str) -> None:
    """Each name in the register leads to a provider of that name, whose settings start from `type`."""
    found = providers.load(type_name)
    assert issubclass(found, Provider)
    assert found.type_name == type_name
    assert type_name in providers.names()


class Installed:
    """What importlib.metadata tells of an installed package."""

    def __init__(self, name: str, value: str) -> None:
        self.name, self.value = name, value


def test_third_parties_are_found_by_their_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider of another package works by its name; it cannot take a built-in one's."""
    installed = [Installed("my_vault", "providers.access_key:AccessKey"), Installed("kms_secret", "os:path")]
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: installed if group == "keyturn.providers" else []
    )
    assert providers.load("my_vault") is AccessKey
    assert providers.load("kms_secret").type_name == "kms_secret"
    assert "my_vault" in providers.names()


def test_an_unknown_type_is_a_key_error() -> None:
    """The config's reader makes the sentence, with the nearest of `names()`."""
    with pytest.raises(KeyError):
        providers.load("kms_secrets")
