"""What is published can be read by whoever it is for: the SDK itself, configparser, and what ossutil documents.

A fault outside of our lines is ours too, where it makes the reader refuse the file as a whole: the sink refuses it first.
"""

from __future__ import annotations

import configparser
import json
from pathlib import Path
from typing import Any

import pytest
from alibabacloud_credentials.provider.profile import ProfileCredentialsProvider
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.secret import Secret
from agent.core.settings import FilePath
from agent.sinks.formats.aliyun_cli import AliyunCli, AliyunCliSettings
from agent.sinks.formats.ini import Ini, IniSettings
from agent.sinks.interface import FileSink
from tests.support.env_readers import READERS
from tests.support.sinks import env, ini, json_file, key, publish, session

OWN = "[default]\nenable = true\ntype = access_key\naccess_key_id = foo\naccess_key_secret = bar\n"
UNREADABLE: dict[str, bytes] = {
    "a byte order mark": b"\xef\xbb\xbf" + OWN.encode(),
    "a comment in GBK": "# 默认\n".encode("gbk") + OWN.encode(),
    "a value in GBK": OWN.encode() + "[ci]\nname = 默认\n".encode("gbk"),
    "UTF-16": OWN.encode("utf-16"),
    "a line without a value": OWN.encode() + b"[ci]\nexport FOO\n",
    "a key above the first section": b"access_key_id = foo\n" + OWN.encode(),
    "another section twice": OWN.encode() + b"[ci]\na = b\n[ci]\na = b\n",
    "another key twice": OWN.encode() + b"region = a\nregion = b\n",
    "a key of another section twice": OWN.encode() + b"[ci]\nregion = a\nREGION = b\n",
    "a percent sign": OWN.encode() + b"[proxy]\nurl = http://u:p%40ss@proxy:3128\n",
    "a percent sign in the defaults": b"[DEFAULT]\na = 50%\n" + OWN.encode(),
    "a name that is not there": OWN.encode() + b"[ci]\na = %(b)s\n",
    "an empty header": OWN.encode() + b"[]\n",
}


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def taken(sink: FileSink, value: Credential) -> bool:
    """Publish, and return whether the sink took it; a file that is refused stays as it was."""
    path = Path(sink.path)
    before = path.read_bytes() if path.exists() else None
    try:
        publish([sink], value)
    except SinkError as error:
        assert str(path) in error.problem
        assert (path.read_bytes() if path.exists() else None) == before
        return False
    return True


def read_by_the_sdk(path: Path, profile: str = "default") -> str | None:
    """The id that Alibaba's provider finds; None where it fails, in whatever way."""
    try:
        found = ProfileCredentialsProvider(profile_file=str(path), profile_name=profile).get_credentials()
    except Exception:
        return None
    return str(found.get_access_key_id())


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_file_that_the_sdk_cannot_read_is_refused(tmp_path: Path, what: str) -> None:
    """The SDK refuses it before us; it is refused, and stays as it was."""
    path = put(tmp_path / "credentials.ini", UNREADABLE[what])
    assert read_by_the_sdk(path) is None
    assert not taken(ini(path), key(3))


LINE = [
    *("[default]", "[ci]", "[ci]", "a = 1", "A: 2", "access_key_id = x", "type = access_key", "b", "c = %", "c = %%"),
    *(
        "   d = %(a)s",
        "  more",
        "# note",
        "; note",
        "",
        "=x",
        "e = 默认",
        "\ufeff",
        "type = sts",
        "type = ecs_ram_role",
    ),
]
LINES = st.lists(st.sampled_from(LINE), max_size=9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(LINES, st.sampled_from(["utf-8", "gbk"]))
def test_published_means_that_the_sdk_reads_it(tmp_path: Path, lines: list[str], encoding: str) -> None:
    """Whatever the file holds: either the SDK reads the new value from it, or it is refused."""
    content = "\n".join([*lines, ""]).encode(encoding, "ignore")
    path = put(tmp_path / "credentials.ini", content)
    if taken(ini(path), key(3)):
        assert read_by_the_sdk(path) == key(3).access_key_id


@pytest.mark.parametrize(
    "kind", ["ram_role_arn", "ecs_ram_role", "oidc_role_arn", "rsa_key_pair", "bearer", "", "access_key", "sts"]
)
def test_a_profile_of_another_type_is_not_converted(tmp_path: Path, kind: str) -> None:
    """Whoever relies on its role would lose it; one without a type, or of ours, is written."""
    text = f"[app]\ntype = {kind}\naccess_key_id = old\nrole_arn = acs:ram::1:role/x\n[other]\ntype = ecs_ram_role\n"
    path = put(tmp_path / "credentials.ini", text.encode())
    assert taken(ini(path, profile="app"), key(3)) is (kind in ("", "access_key", "sts"))
    assert taken(ini(path, profile="new"), key(3)), "a profile beside it is none of its business"


def ini_sink(path: Path, **more: Any) -> Ini:
    return Ini(IniSettings(type="ini", path=FilePath(path), **more))


@pytest.mark.parametrize("what", [name for name in UNREADABLE if "percent" not in name and "not there" not in name])
def test_oss_config_is_read_by_configparser(tmp_path: Path, what: str) -> None:
    """The reader of this preset asks configparser for its own keys, so only a whole file that cannot be read is refused."""
    path = put(tmp_path / "oss.ini", UNREADABLE[what])
    assert not taken(ini_sink(path, keys="oss_config", section="oss"), key(3))


def test_oss_config_does_not_mind_a_percent_sign_of_others(tmp_path: Path) -> None:
    """configparser resolves only what it is asked for."""
    path = put(tmp_path / "oss.ini", UNREADABLE["a percent sign"])
    assert taken(ini_sink(path, keys="oss_config", section="oss"), key(3))
    parser = configparser.ConfigParser()
    parser.read(path)
    assert parser["oss"]["alibaba_cloud_access_key_id"] == key(3).access_key_id


# -- ossutil 2: names without regard to case, `[profile NAME]` for `[NAME]` (Alibaba: "Configure ossutil") --------------


@pytest.mark.parametrize(
    "header", ["[default]", "[Default]", "[DEFAULT]", "[profile default]", "[Profile Default]", "[ default ]"]
)
@pytest.mark.parametrize("section", ["default", "profile default", "Default"])
def test_the_section_of_ossutil_that_is_there_is_rewritten(tmp_path: Path, header: str, section: str) -> None:
    """The old key stays nowhere, and no second section is made."""
    text = f"{header}\naccessKeyId = old\naccessKeySecret = olds\nregion = cn-hangzhou\n"
    path = put(tmp_path / "ossutilconfig", text.encode())
    assert taken(ini_sink(path, keys="ossutil", section=section), key(3))
    after = path.read_text()
    assert after.count("[") == 1 and header in after and "old" not in after and key(3).access_key_id in after


def test_two_spellings_of_one_ossutil_section_are_refused(tmp_path: Path) -> None:
    """ossutil may take the other one."""
    path = put(tmp_path / "ossutilconfig", b"[default]\na = 1\n[profile Default]\na = 1\n")
    assert not taken(ini_sink(path, keys="ossutil", section="default"), key(3))


def test_credentials_of_ossutil_1_is_compared_as_it_stands(tmp_path: Path) -> None:
    """Its parser skips blanks in a header and minds capitals: another section is somebody else's."""
    path = put(tmp_path / "ossutilconfig", b"[ Credentials ]\naccessKeyID=old\n[credentials]\naccessKeyID=theirs\n")
    assert taken(ini_sink(path, keys="ossutil"), key(3))
    assert "old" not in path.read_text() and "accessKeyID=theirs\n" in path.read_text()


def test_two_sinks_for_one_ossutil_section_are_found_in_the_config() -> None:
    """They are one target, however they are spelt; for other readers they are two."""
    paths = [Path("/x/o")] * 2
    for keys, same in (("ossutil", True), ("oss_config", False)):
        one, other = (
            set(ini_sink(path, keys=keys, section=section).settings.target_keys())
            for path, section in zip(paths, ("default", "profile Default"), strict=True)
        )
        assert (not one.isdisjoint(other)) is same


# -- what one takes, all take -----------------------------------------------------------------------------------------

CHARACTERS = [chr(number) for number in range(0x21, 0x7F)]
NAMES = {"KEY_ID": "access_key_id", "KEY_SECRET": "access_key_secret", "TOKEN": "security_token"}


def every_sink(directory: Path) -> dict[str, FileSink]:
    cli = AliyunCliSettings(type="aliyun_cli", path=FilePath(directory / "config.json"))
    sinks: dict[str, FileSink] = {
        name: env(directory / f"{name}.env", variables=NAMES, dialect=name) for name in READERS
    }
    return sinks | {
        "credentials_ini": ini(directory / "c.ini"),
        "ini": ini_sink(directory / "o.ini", keys="oss_config", section="oss"),
        "aliyun_cli": AliyunCli(cli),
        "json": json_file(directory / "c.json"),
    }


def read_back(directory: Path, name: str) -> set[str]:
    """Every value that the reader of this sink finds."""
    if name in READERS:
        return set(READERS[name](directory / f"{name}.env").values())
    if name in ("credentials_ini", "ini"):
        parser = configparser.ConfigParser()
        parser.read(directory / ("c.ini" if name == "credentials_ini" else "o.ini"))
        return {value for section in parser.sections() for value in parser[section].values()}
    found = json.loads((directory / ("c.json" if name == "json" else "config.json")).read_text())
    return set(map(str, (found if name == "json" else found["profiles"][0]).values()))


@pytest.mark.parametrize("part", NAMES.values())
def test_what_one_sink_takes_all_take(tmp_path: Path, part: str) -> None:
    """Each character alone, first, in the middle and last: every sink says the same."""
    for character in CHARACTERS:
        for text in (f"{character}a", f"a{character}b", f"a{character}"):
            said = {}
            for name, sink in every_sink(tmp_path).items():
                try:
                    sink.render(None, _with(part, text), 1)
                    said[name] = True
                except SinkError:
                    said[name] = False
            assert len(set(said.values())) == 1, (text, said)


def test_what_is_taken_is_read_back(tmp_path: Path) -> None:
    """All of it at once, by each reader: the odd characters of the middle too, which no AccessKey has."""
    odd = "".join(char for char in CHARACTERS if char not in "#;%$\"'`\\")
    for text in (odd, f"~{odd}", f"a{odd}~", "*", "-n", "a&b", "a(b)", "{a,b}"):
        value = _with("access_key_secret", text)
        for name, sink in every_sink(tmp_path).items():
            assert taken(sink, value)
            assert text in read_back(tmp_path, name), name


def _with(part: str, text: str) -> Credential:
    value = session(1)
    return Credential(
        access_key_id=text if part == "access_key_id" else value.access_key_id,
        access_key_secret=Secret(text) if part == "access_key_secret" else value.access_key_secret,
        security_token=Secret(text) if part == "security_token" else value.security_token,
        expiration=value.expiration,
    )
