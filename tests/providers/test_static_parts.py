"""What the providers of static values share: parts from files and variables, never a half-replaced pair."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.core.credential import Credential, Kind
from agent.core.errors import BadAnswerError, CredentialFileError, SourceUnavailableError
from agent.core.provider import POLL_INTERVAL_S, ProviderContext
from agent.core.secret import Secret
from agent.core.settings import FilePath
from providers.access_key import AccessKey, AccessKeySettings
from providers.bearer import Bearer, BearerSettings
from providers.static_parts import QUIET_S, StaticProvider, StaticSettings
from providers.sts import Sts, StsSettings

Write = Callable[[Path, bytes | str], Path]
NOW = datetime(2026, 11, 22, tzinfo=UTC)
END = "2026-11-22T01:00:00Z"


def session(directory: Path, **changes: Any) -> StsSettings:
    given = {
        "access_key_id_from_file_path": FilePath(directory / "id"),
        "access_key_secret_from_file_path": FilePath(directory / "secret"),
        "security_token_from_file_path": FilePath(directory / "token"),
        "expiration_from_file_path": FilePath(directory / "end"),
        **changes,
    }
    return StsSettings(type="sts", **given)


def sts(settings: StsSettings, **environ: str) -> Sts:
    return Sts(settings, ProviderContext("uploader", environ=environ))


@pytest.fixture
def directory(tmp_path: Path, private: Write) -> Path:
    """The four parts of a session; id and end are readable by others."""
    (tmp_path / "id").write_text("STS.x\n")
    (tmp_path / "end").write_text(END + "\n")
    private(tmp_path / "secret", "s3cret\n")
    private(tmp_path / "token", "t0ken\n")
    return tmp_path


def test_a_session_from_files(directory: Path) -> None:
    """All four parts; the end tells keyturn when to ask again."""
    settings = session(directory)
    assert list(settings.problems()) == []
    assert sts(settings).fetch(NOW) == Credential(
        access_key_id="STS.x", access_key_secret=Secret("s3cret"), security_token=Secret("t0ken"),
        expiration=NOW + timedelta(hours=1),
    )  # fmt: skip
    assert [(finding.level, finding.place.rpartition(".")[2]) for finding in sts(settings).inspect()] == [
        ("ok", "access_key_id"), ("ok", "access_key_secret"), ("ok", "security_token"), ("ok", "expiration"),
    ]  # fmt: skip


def test_a_session_whose_end_is_not_told(directory: Path) -> None:
    """Without an expiration the parts are polled."""
    settings = session(directory, expiration_from_file_path=None)
    assert list(settings.problems()) == []
    found = sts(settings).fetch(NOW)
    assert (found.kind, found.expiration) == (Kind.STS, None)
    assert sts(settings).poll_interval_s == POLL_INTERVAL_S


def test_a_session_from_variables() -> None:
    """Each part may come from the environment that keyturn was started with."""
    settings = StsSettings(
        type="sts", access_key_id_from_env_variable="ID", access_key_secret_from_env_variable="SECRET",
        security_token_from_env_variable="TOKEN", expiration_from_env_variable="END",
    )  # fmt: skip
    found = sts(settings, ID="STS.x", SECRET="s3cret", TOKEN="t0ken", END="2026-11-22T09:00:00+08:00").fetch(NOW)
    assert found.expiration == NOW + timedelta(hours=1)
    with pytest.raises(CredentialFileError, match=r"credentials\.uploader: security_token: .* TOKEN is not set"):
        sts(settings, ID="STS.x", SECRET="s3cret", END=END).fetch(NOW)


def test_a_session_that_is_over_is_refused(directory: Path) -> None:
    """Its end is named against this machine's clock."""
    with pytest.raises(BadAnswerError, match=r"already expired: it died at 2026-11-22T01:00:00Z"):
        sts(session(directory)).fetch(NOW + timedelta(hours=2))


@pytest.mark.parametrize("content", ["soon", "2026-11-22", "1795309200", "2026-11-22T01:00:00"])
def test_an_end_that_is_no_time_is_named(directory: Path, content: str) -> None:
    """Without a zone, or as a number, nobody knows when that is."""
    (directory / "end").write_text(content)
    with pytest.raises(CredentialFileError, match=r"credentials\.uploader: expiration: not a time") as caught:
        sts(session(directory)).fetch(NOW)
    assert "2026-01-01T00:00:00Z" in caught.value.remedy


def test_a_token_that_others_can_read_is_refused(directory: Path) -> None:
    """A session's token is as secret as its secret."""
    (directory / "token").chmod(0o640)
    with pytest.raises(CredentialFileError, match=r"security_token: .*0640"):
        sts(session(directory)).fetch(NOW)
    assert [finding.level for finding in sts(session(directory)).inspect()] == ["ok", "ok", "error", "ok"]


def test_what_the_config_must_name() -> None:
    """Three parts are needed once each; the end may be left out, but not be named twice."""
    settings = StsSettings(type="sts", expiration_from_file_path=FilePath("/x"), expiration_from_env_variable="END")
    assert [(key, said.split(";")[0]) for key, said in settings.problems()] == [
        ("access_key_id_from_file_path", "missing"),
        ("access_key_secret_from_file_path", "missing"),
        ("security_token_from_file_path", "missing"),
        ("expiration_from_file_path", "named twice"),
    ]


def test_a_bearer_token(tmp_path: Path, private: Write) -> None:
    """From a private file, read anew each time, or from a variable."""
    private(tmp_path / "token", "b3arer\n")
    provider = Bearer(
        BearerSettings(type="bearer", bearer_token_from_file_path=FilePath(tmp_path / "token")), ProviderContext("api")
    )
    found = provider.fetch(NOW)
    assert (found.kind, found.bearer_token, found.access_key_id) == (Kind.BEARER, Secret("b3arer"), "")
    (tmp_path / "token").write_text("another")
    assert provider.fetch(NOW).bearer_token == Secret("another")
    settings = BearerSettings(type="bearer", bearer_token_from_env_variable="TOKEN")
    assert Bearer(settings, ProviderContext("api", environ={"TOKEN": "b"})).fetch(NOW).bearer_token == Secret("b")
    assert list(settings.problems()) == []
    assert [key for key, _ in BearerSettings(type="bearer").problems()] == ["bearer_token_from_file_path"]


def test_a_pair_that_is_being_replaced_is_waited_for(tmp_path: Path, private: Write) -> None:
    """Id and secret that are replaced one after the other are never published as a mixed pair."""
    (tmp_path / "id").write_text("LTAI0")
    private(tmp_path / "secret", "secret0")
    settings = AccessKeySettings(
        type="access_key",
        access_key_id_from_file_path=FilePath(tmp_path / "id"),
        access_key_secret_from_file_path=FilePath(tmp_path / "secret"),
    )
    provider = AccessKey(settings, ProviderContext("uploader"))
    over = threading.Event()
    gaps_s = []

    def rotate() -> None:
        for number in (1, 2):
            private(tmp_path / "new", f"LTAI{number}").rename(tmp_path / "id")
            began = time.monotonic()
            over.wait(QUIET_S / 4)
            private(tmp_path / "new", f"secret{number}").rename(tmp_path / "secret")
            gaps_s.append(time.monotonic() - began)
            over.wait(QUIET_S * 3)

    writer = threading.Thread(target=rotate, daemon=True)
    writer.start()
    seen = []
    while writer.is_alive():
        seen.append(provider.fetch(NOW, 30.0))
    over.set()
    mixed = [value for value in seen if value.access_key_secret != Secret("secret" + value.access_key_id[4:])]
    assert mixed == [] or max(gaps_s) >= QUIET_S, "whom the machine held up for so long did not rotate quickly"
    assert len({value.access_key_id for value in seen}) > 1


class Slow(StaticProvider):
    """A reader that lets somebody replace a file in the middle."""

    type_name, Settings = "slow", StaticSettings
    between: Iterator[Callable[[], object]] = iter(())

    def _read(self, part: Any) -> str:
        found = super()._read(part)
        next(self.between, lambda: None)()
        return found

    def _made_of(self, values: Any) -> Credential:
        return Credential(access_key_id=values["access_key_id"], access_key_secret=Secret(values["access_key_secret"]))


def test_a_change_while_reading_is_noticed(tmp_path: Path, private: Write) -> None:
    """A directory that is switched as a whole between the two reads does not give the old id with the new secret."""
    for number in (0, 1):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "id").write_text(f"LTAI{number}")
        private(tmp_path / str(number) / "secret", f"secret{number}")
    link = tmp_path / "current"
    link.symlink_to("0")
    time.sleep(QUIET_S)
    settings = AccessKeySettings(
        type="access_key",
        access_key_id_from_file_path=FilePath(link / "id"),
        access_key_secret_from_file_path=FilePath(link / "secret"),
    )

    def switch() -> None:
        (tmp_path / "next").symlink_to("1")
        (tmp_path / "next").rename(link)

    provider = Slow(settings, ProviderContext("uploader"))
    provider.between = iter([switch])
    found = provider.fetch(NOW)
    assert (found.access_key_id, found.access_key_secret) == ("LTAI1", Secret("secret1"))


def test_files_that_never_rest_are_told(tmp_path: Path, private: Write) -> None:
    """A value that is rewritten all the time is given up within the fetch's time, and tried again."""
    private(tmp_path / "token", "b")
    settings = BearerSettings(type="bearer", bearer_token_from_file_path=FilePath(tmp_path / "token"))
    over = threading.Event()

    def rewrite() -> None:
        while not over.wait(0.02):
            (tmp_path / "token").write_text("b")

    class Read(Bearer):
        """Should the writer be held up for so long that the file seems to rest: it is written once more as it is read."""

        def _read(self, part: Any) -> str:
            found = super()._read(part)
            (tmp_path / "token").write_text("b")
            return found

    threading.Thread(target=rewrite, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(SourceUnavailableError, match=r"credentials\.api: .*changed all the time"):
        Read(settings, ProviderContext("api")).fetch(NOW, 1.5)
    over.set()
    assert time.monotonic() - began < 10.0


def test_a_clock_that_was_set_back_holds_nobody_up(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files from the future are taken as resting, or a fetch would wait until the future has come."""
    now = datetime.now(UTC) - timedelta(days=1)
    monkeypatch.setattr("providers.static_parts.Clock.now", lambda clock: now)
    assert sts(session(directory)).fetch(NOW, 0.1).access_key_id == "STS.x"
