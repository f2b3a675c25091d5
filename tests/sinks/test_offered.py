"""What a sink offers: the value that was published is what is read back, in each format that can hold it."""

import os

import pytest

from agent.core.settings import FilePath
from agent.sinks.formats.aliyun_cli import AliyunCli, AliyunCliSettings
from agent.sinks.formats.credentials_ini import CredentialsIni, CredentialsIniSettings
from agent.sinks.formats.directory import DirectorySettings, DirectorySink, member_of
from agent.sinks.formats.env_file import EnvFile, EnvFileSettings
from agent.sinks.formats.ini import Ini, IniSettings
from agent.sinks.formats.json_file import JsonFile, JsonSettings
from agent.sinks.offered import first_offered, offered
from tests.support.sinks import key, session

PARTS = {"THE_ID": "access_key_id", "THE_KEY": "access_key_secret", "THE_TOKEN": "security_token"}
SINKS = {
    "credentials_ini": (CredentialsIni, CredentialsIniSettings, {}),
    "aliyun_cli": (AliyunCli, AliyunCliSettings, {"profile": "app"}),
    "ossutil": (Ini, IniSettings, {"keys": "ossutil"}),
    "oss_config": (Ini, IniSettings, {"keys": "oss_config", "section": "oss"}),
    "json": (JsonFile, JsonSettings, {}),
    "env_file": (EnvFile, EnvFileSettings, {"variables": PARTS, "dialect": "shell"}),
    "docker": (EnvFile, EnvFileSettings, {"variables": ("oss",), "dialect": "docker"}),
}


def sink(name, path):
    made, settings, options = SINKS[name]
    return made(settings(type=made.type_name, path=FilePath(path), **options))


@pytest.mark.parametrize("value", [key(), session()], ids=["key", "session"])
@pytest.mark.parametrize("name", SINKS)
def test_what_was_published_is_read_back(tmp_path, name, value):
    """The id, the secret and the token come back as they were written, and over a value that stood there before."""
    one = sink(name, tmp_path / "file")
    content = one.render(one.render(None, session(2), 1), value, 2)
    (tmp_path / "file").write_bytes(content)
    found = offered(one)
    assert (found.access_key_id, found.access_key_secret, found.security_token) == (
        value.access_key_id,
        value.access_key_secret,
        value.security_token,
    )
    assert found.expiration in (None, value.expiration)


@pytest.mark.parametrize("name", SINKS)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe nothing of ours", b"{", b"[default]\ntype = ecs_ram_role\n"])
def test_a_file_without_our_value_offers_none(tmp_path, name, content):
    """What is missing, foreign or broken is no value, and no error either."""
    (tmp_path / "file").write_bytes(content)
    assert offered(sink(name, tmp_path / "file")) is None
    assert offered(sink(name, tmp_path / "absent")) is None


@pytest.mark.parametrize(
    ("name", "content"),
    {
        "credentials_ini": b"[default]\ntype = access_key\naccess_key_id = LTAI1\naccess_key_secret =\n",
        "json": b'{"AccessKeyId": "LTAI1", "AccessKeySecret": 5}',
        "aliyun_cli": b'{"profiles": [{"name": "app", "mode": "External", "access_key_id": "a", "access_key_secret": "b"}]}',
        "env_file": b"THE_ID=LTAI1\nTHE_KEY=$(cat /key)\n",
        "ossutil": b"[Credentials]\naccessKeyID=LTAI1\n",
    }.items(),
)
def test_half_a_value_is_none(tmp_path, name, content):
    """A value without its secret, or one that is no plain word, is not handed on; nor what an SDK left in External mode."""
    (tmp_path / "file").write_bytes(content)
    assert offered(sink(name, tmp_path / "file")) is None


def test_a_directory_offers_what_is_behind_its_link(tmp_path):
    """Its first file that can be read back counts, wherever the link leads now."""
    member = member_of(JsonFile)(type="json", name="credential.json")
    one = DirectorySink(DirectorySettings(type="directory", path=FilePath(tmp_path / "live"), files=(member,)))
    (tmp_path / "generation").mkdir()
    (tmp_path / "generation/credential.json").write_bytes(one.render(session(), 3)["credential.json"])
    os.symlink("generation", tmp_path / "live")
    assert offered(one) == session()


def test_the_first_sink_that_can_be_read_counts(tmp_path):
    """A sink that is missing, unreadable or holds another key is passed over."""
    for name, number in (("json", 1), ("env_file", 2)):
        (tmp_path / name).write_bytes(sink(name, tmp_path / name).render(None, key(number), 1))
    (tmp_path / "odd").mkdir()
    sinks = [sink("json", tmp_path / "absent"), sink("json", tmp_path / "odd"), sink("json", tmp_path / "json")]
    sinks.append(sink("env_file", tmp_path / "env_file"))
    assert first_offered(sinks).access_key_id == key(1).access_key_id
    assert first_offered(sinks, lambda one: one.access_key_id == key(2).access_key_id) == key(2)
