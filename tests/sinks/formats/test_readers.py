"""When Alibaba's SDK for Python reads again, file by file: the lines marked `run` of agent/notifiers/known_readers.py."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import alibabacloud_oss_v2 as oss
import pytest
from alibabacloud_credentials.provider import refreshable
from alibabacloud_credentials.provider.cli_profile import CLIProfileCredentialsProvider
from alibabacloud_credentials.provider.profile import ProfileCredentialsProvider

from agent.core.settings import FilePath
from agent.sinks.formats.aliyun_cli import AliyunCli, AliyunCliSettings
from agent.sinks.interface import FileSink, SinkContext
from tests.support.sinks import ini, json_file, key, publish

COMMAND = "import pathlib, sys; print(pathlib.Path(sys.argv[1]).read_text())"


def cli(path: Path, **more: object) -> FileSink:
    settings = AliyunCliSettings(type="aliyun_cli", path=FilePath(path), **more)  # type: ignore[arg-type]
    return AliyunCli(
        settings, SinkContext("app", command=(sys.executable, "-c", COMMAND, str(path.with_name("answer"))))
    )


def answer(tmp_path: Path, number: int, seconds: float) -> None:
    """What `keyturn credential` prints from now on."""
    expiration = f"{datetime.now(UTC) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"
    value = {
        "mode": "AK",
        "access_key_id": key(number).access_key_id,
        "access_key_secret": "s",
        "expiration": expiration,
    }
    (tmp_path / "answer").write_text(json.dumps(value))


@pytest.mark.parametrize("kind", ["credentials_ini", "aliyun_cli"])
def test_a_file_with_the_key_is_read_once(tmp_path: Path, kind: str) -> None:
    """A client that runs keeps the old key; a new one has the new."""
    path = tmp_path / "file"
    sink = ini(path) if kind == "credentials_ini" else cli(path)

    def client() -> ProfileCredentialsProvider | CLIProfileCredentialsProvider:
        if kind == "credentials_ini":
            return ProfileCredentialsProvider(profile_file=str(path))
        return CLIProfileCredentialsProvider(profile_file=str(path))

    publish([sink], key(1))
    old = client()
    assert old.get_credentials().get_access_key_id() == key(1).access_key_id
    publish([sink], key(2))
    assert old.get_credentials().get_access_key_id() == key(1).access_key_id
    assert client().get_credentials().get_access_key_id() == key(2).access_key_id


def test_the_command_is_run_again_180_seconds_before_the_expiry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an expiry of now + 180 s + hold the same client has the new key after hold, and not before."""
    path, hold_s = tmp_path / "config.json", 60
    publish([cli(path, profile_mode="External")], key(1))
    answer(tmp_path, 1, 180 + hold_s)
    client = CLIProfileCredentialsProvider(profile_file=str(path))
    assert client.get_credentials().get_access_key_id() == key(1).access_key_id
    answer(tmp_path, 2, 180 + hold_s)
    began, real = time.time(), time.mktime
    for later_s, number in ((hold_s - 2, 1), (hold_s + 1, 2)):
        shift = later_s - (time.time() - began)
        monkeypatch.setattr(refreshable.time, "mktime", lambda at, shift=shift: real(at) + shift)
        assert client.get_credentials().get_access_key_id() == key(number).access_key_id, later_s
        monkeypatch.setattr(refreshable.time, "mktime", real)


def test_a_function_of_ones_own_is_called_at_each_request(tmp_path: Path) -> None:
    """The recipe for alibabacloud_oss_v2: its CredentialsProviderFunc reads the json sink, so a new file counts at once."""
    path = tmp_path / "key.json"

    def read() -> oss.credentials.Credentials:
        found = json.loads(path.read_text())
        return oss.credentials.Credentials(
            found["AccessKeyId"], found["AccessKeySecret"], found["SecurityToken"] or None
        )

    provider = oss.credentials.CredentialsProviderFunc(read)
    for number in (1, 2):
        publish([json_file(path)], key(number))
        assert provider.get_credentials().access_key_id == key(number).access_key_id
