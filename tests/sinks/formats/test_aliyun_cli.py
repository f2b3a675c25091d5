"""One profile of ~/.aliyun/config.json, judged by the stock SDK and by the rules of the Go CLI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from alibabacloud_credentials.provider.cli_profile import CLIProfileCredentialsProvider
from hypothesis import given
from hypothesis import strategies as st

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.settings import FilePath
from agent.sinks.formats.aliyun_cli import AliyunCli, AliyunCliSettings
from agent.sinks.interface import SinkContext
from agent.sinks.offered import can_be_read_back
from tests.support.sinks import bearer, key, publish, session

KEY = key()
THEIRS = {"name": "theirs", "mode": "RamRoleArn", "ram_role_arn": "acs:ram::1:role/x", "expired_seconds": 900}


def cli(path: Path | str = "/home/app/.aliyun/config.json", region: str = "ap-southeast-1", **more: Any) -> AliyunCli:
    settings = AliyunCliSettings(type="aliyun_cli", path=FilePath(path), **more)
    return AliyunCli(settings, SinkContext("uploader", region))


def render(config: Any, value: Credential = KEY, **more: Any) -> dict[str, Any]:
    text = config if isinstance(config, bytes | None) else go(config)
    read: dict[str, Any] = json.loads(cli(**more).render(text, value, 1))
    return read


def go(config: Any) -> bytes:
    r"""As the CLI lays it out: `json.MarshalIndent(config, "", "\t")`, no line feed at the end."""
    return json.dumps(config, indent="\t", ensure_ascii=False).encode()


def valid_for_the_cli(profile: dict[str, Any]) -> bool:
    """`Profile.Validate` of aliyun-cli 3 for the two modes."""
    keys = [profile.get(name) for name in ("region_id", "access_key_id", "access_key_secret")]
    return all(keys) and (profile["mode"] == "AK" or (profile["mode"] == "StsToken" and bool(profile["sts_token"])))


def by_sdk(path: Path, profile: str | None = None) -> tuple[str, str, str | None]:
    """Alibaba's own reader in Python, as in the default chain."""
    read = CLIProfileCredentialsProvider(profile_file=str(path), profile_name=profile).get_credentials()
    return read.get_access_key_id(), read.get_access_key_secret(), read.get_security_token()


@pytest.mark.parametrize("value", [key(7), session(7)], ids=["AK", "StsToken"])
def test_the_sdk_reads_back_what_was_published(tmp_path: Path, value: Credential) -> None:
    """A new file is whole: the SDK finds the profile by `current`, and the CLI has everything that it validates."""
    path = tmp_path / "config.json"
    publish([cli(path)], value)
    token = "CAISt0ken/of+000007==" if value.security_token else None
    assert by_sdk(path) == (value.access_key_id, "secretOf000007", token)
    config = json.loads(path.read_bytes())
    assert [*config] == ["current", "profiles", "meta_path"] and config["meta_path"] == ""
    assert valid_for_the_cli(config["profiles"][0])
    assert path.read_bytes() == go(config)


def test_a_session_leaves_no_token_behind(tmp_path: Path) -> None:
    """From session to key and back: mode and token always belong together."""
    path = tmp_path / "config.json"
    for value in (session(1), key(2), session(3)):
        publish([cli(path)], value)
        (profile,) = json.loads(path.read_bytes())["profiles"]
        assert (profile["mode"] == "StsToken") is ("sts_token" in profile) is (value.security_token is not None)
        assert by_sdk(path)[0] == value.access_key_id


def test_two_profiles_of_one_file_are_two_sinks(tmp_path: Path) -> None:
    """Each writes its own, and the first one becomes `current`."""
    path = tmp_path / "config.json"
    publish([cli(path, profile="a"), cli(path, profile="b")], key(1))
    publish([cli(path, profile="b")], session(2))
    assert by_sdk(path)[0] == by_sdk(path, "a")[0] == key(1).access_key_id
    assert by_sdk(path, "b")[0] == session(2).access_key_id


def test_everything_else_stays_where_it_is() -> None:
    """Other profiles, unknown keys, their order and `current` are somebody else's."""
    before = {
        "current": "theirs",
        "future": {"x": [1, 2.5, None, True, "ä<&>"]},
        "profiles": [
            THEIRS,
            {
                "name": "default",
                "verified": "",
                "mode": "AK",
                "access_key_id": "old",
                "region_id": "cn-beijing",
                "new": 1,
            },
            {"name": "last"},
        ],
        "meta_path": "/x",
    }
    after = render(before)
    assert [*after] == [*before] and after["current"] == "theirs" and after["future"] == before["future"]
    assert after["profiles"][0] == THEIRS and after["profiles"][2] == {"name": "last"}
    assert after["profiles"][1] == {
        "name": "default",
        "mode": "AK",
        "access_key_id": "LTAI5tKey000001",
        "access_key_secret": "secretOf000001",
        "verified": "",
        "region_id": "cn-beijing",
        "new": 1,
    }
    assert [*after["profiles"][1]][:4] == ["name", "mode", "access_key_id", "access_key_secret"]


def test_a_file_that_says_the_right_thing_is_left_as_it_is() -> None:
    """However it is laid out: keyturn and `aliyun configure` must not rewrite each other's layout for ever."""
    for text in (go(render(None)), json.dumps(render(None)).encode(), go(render(None)).replace(b"/", b"\\/") + b"\n"):
        assert cli().render(text, KEY, 1) == text


@pytest.mark.parametrize(("indent", "end"), [("\t", ""), ("  ", "\n"), ("    ", "")])
def test_the_layout_stays(indent: str, end: str) -> None:
    """An indented file keeps its indentation and its end."""
    before = (json.dumps({"current": "default", "profiles": [THEIRS]}, indent=indent) + end).encode()
    after = cli().render(before, KEY, 1).decode()
    assert after == json.dumps(json.loads(after), indent=indent) + end


@pytest.mark.parametrize(
    ("there", "configured", "want"),
    [("cn-beijing", "cn-shanghai", "cn-beijing"), (None, "cn-shanghai", "cn-shanghai"), (None, None, "ap-southeast-1")],
)
def test_the_region_is_kept_or_configured_or_the_clouds(there: str | None, configured: str | None, want: str) -> None:
    """The CLI refuses a profile without a region; one that somebody has chosen is not ours to change."""
    profile = {"name": "default", "mode": "AK"} | ({"region_id": there} if there else {})
    after = render({"profiles": [profile]}, region_id=configured)
    assert after["profiles"][0]["region_id"] == want and valid_for_the_cli(after["profiles"][0])
    assert render(None, region_id=configured)["profiles"][0]["region_id"] == (configured or "ap-southeast-1")


def test_only_a_profile_in_mode_external_names_a_command() -> None:
    """A profile that holds the key sends nobody to keyturn: `check` asks for no `serve`, and the file can be read back."""
    assert cli().process_command == ()
    assert cli(profile_mode="External").process_command[-2:] == ("credential", "uploader")
    assert (can_be_read_back(cli()), can_be_read_back(cli(profile_mode="External"))) == (True, False)


@pytest.mark.parametrize(
    "mode", ["RamRoleArn", "EcsRamRole", "CloudSSO", "OAuth", "External", "CredentialsURI", "ak", 1]
)
def test_a_profile_in_another_mode_is_refused(mode: Any) -> None:
    """It may be what somebody relies on; the remedy says how to give it up."""
    with pytest.raises(SinkError, match="in another mode than AK and StsToken") as caught:
        render({"profiles": [{"name": "default", "mode": mode}]})
    assert "aliyun configure delete --profile default" in caught.value.remedy


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b'{"x": NaN}', "is not JSON"),
        (b'{"x": 1e999}', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "holds no JSON object"),
        (b'{"profiles": {}}', "has no list of profiles"),
        (b'{"profiles": [1]}', "has no list of profiles"),
        (b'{"current": 1}', 'has a "current" that is no name'),
        (b'{"current": "a", "current": "b"}', "has a key twice"),
        (b'{"profiles": [{"name": "default", "mode": "AK", "mode": "AK"}]}', "has a key twice"),
        (b'{"profiles": [{"name": "default"}, {"name": "default"}]}', 'has two profiles named "default"'),
        (b'{"profiles": [{"name": "default", "Access_Key_Id": "x"}]}', "with capital letters"),
        (b'{"Profiles": []}', "with capital letters"),
    ],
)
def test_a_file_that_its_readers_do_not_agree_on_is_refused(content: bytes, why: str) -> None:
    """Nothing is guessed and nothing is lost: the error names the file and what is wrong."""
    with pytest.raises(SinkError, match=why) as caught:
        cli().render(content, KEY, 1)
    assert str(caught.value).startswith("/home/app/.aliyun/config.json: this file ")


@pytest.mark.parametrize("content", [None, b"", b" \n"])
def test_nothing_there_makes_a_whole_file(content: bytes | None) -> None:
    """An empty file is none."""
    assert valid_for_the_cli(render(content)["profiles"][0])


@pytest.mark.parametrize("nothing", [{}, {"profiles": None}, {"profiles": []}, {"current": ""}])
def test_a_file_without_profiles_gets_one(nothing: dict[str, Any]) -> None:
    """Go writes an empty list as null; without `current` the SDK would find nothing."""
    after = render(nothing)
    assert after["current"] == "default" and valid_for_the_cli(after["profiles"][0])


def test_a_bearer_token_has_no_place_here() -> None:
    """The SDKs know no such profile; the error names the file and what is missing."""
    with pytest.raises(SinkError, match="kind bearer and has no access_key_id"):
        render(None, bearer())


@pytest.mark.parametrize(
    ("more", "where"),
    [({"profile": ""}, "profile"), ({"profile": "a\n"}, "profile"), ({"region_id": "x y"}, "region_id")],
)
def test_impossible_profiles_and_regions_are_config_problems(more: dict[str, str], where: str) -> None:
    """Found before anything runs."""
    assert [found for found, _ in cli(**more).settings.problems()] == [where]


JSON = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        2**70,
        1.5,
        1e300,
        "",
        "ä",
        '\\/"',
        "\u2028",
        "\ud800",
        [],
        {},
        [1, {"b": None}],
        {"a": {"name": 1}},
    ]
)
FOREIGN = st.dictionaries(st.sampled_from(["x", "y/", "zä", "sts_region"]), JSON, max_size=3)


@given(FOREIGN, st.lists(FOREIGN, max_size=3), FOREIGN, st.sampled_from([None, "\t", 2]), st.booleans())
def test_foreign_values_survive_every_publish(
    top: dict[str, Any], others: list[dict[str, Any]], own: dict[str, Any], indent: Any, ascii_only: bool
) -> None:
    """Whatever else is there, in the file or in our profile, is the same afterwards, and a second render changes nothing."""
    config = {**top, "profiles": [*others, {**own, "name": "default"}]}
    text = json.dumps(config, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        text.decode()
    except UnicodeDecodeError:
        return
    after = cli().render(text, session(), 1)
    assert cli().render(after, session(), 1) == after
    read = json.loads(after)
    assert read["profiles"][:-1] == others and {**read, **top} == read
    assert {**read["profiles"][-1], **own} == read["profiles"][-1]
