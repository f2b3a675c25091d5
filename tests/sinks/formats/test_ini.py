"""Chosen keys of any INI file, judged by configparser and by the rules of the readers that are not here."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.secret import Secret
from agent.core.settings import FilePath
from agent.sinks.check import inspect
from agent.sinks.formats.ini import Ini, IniSettings
from tests.support.sinks import bearer, ini, key, publish, session

OSSUTIL_SPELLINGS = {
    "id": "accessKeyID access_key_id access_id accessid access-key-id access-id",
    "secret": "accessKeySecret access_key_secret access_key accesskey access-key-secret access-key",
    "token": "stsToken sts_token sts-token",
}
"""ossutil 1.7 `lib/config_helper.go`, CredOptionMap, without those that differ by case only."""

KEY = key()
TABLE = {"Id": "access_key_id", "Secret": "access_key_secret", "Token": "security_token", "Until": "expiration"}


def chosen(path: Path | str = "/etc/app/app.ini", keys: Any = "ossutil", **more: Any) -> Ini:
    return Ini(IniSettings(type="ini", path=FilePath(path), keys=keys, **more))


def render(text: bytes | None, value: Credential = KEY, keys: Any = "ossutil", **more: Any) -> bytes:
    return chosen(keys=keys, **more).render(text, value, 1)


def by_ossutil(content: bytes, section: str = "Credentials") -> dict[str, set[str]]:
    """ossutil 1: alyu/configparser reads lines one by one; every spelling counts, and Go's maps have no order."""
    found: dict[str, set[str]] = {"id": set(), "secret": set(), "token": set()}
    names = {word.lower(): part for part, words in OSSUTIL_SPELLINGS.items() for word in words.split()}
    inside, last = False, dict[str, str]()
    for line in content.decode().replace("\r\n", "\n").split("\n"):  # as Go's bufio.ScanLines
        if line.startswith("["):
            inside = line.strip(" []") == section
        elif inside:
            name, _, value = line.partition("=" if "=" in line else ":")
            last[name.strip(" ")] = value.strip()
    for name, value in last.items():
        if name.lower() in names:
            found[names[name.lower()]].add(value)
    return found


def test_ossutil_finds_its_keys_where_it_looks_for_them(tmp_path: Path) -> None:
    """The preset writes `[Credentials]` with the names of ossutil's own `config` command."""
    path = tmp_path / ".ossutilconfig"
    publish([chosen(path)], session(4))
    assert path.read_text().splitlines() == [
        "[Credentials]",
        "accessKeyID = STS.Key000004",
        "accessKeySecret = secretOf000004",
        "stsToken = CAISt0ken/of+000004==",
    ]
    assert by_ossutil(path.read_bytes()) == {
        "id": {"STS.Key000004"},
        "secret": {"secretOf000004"},
        "token": {"CAISt0ken/of+000004=="},
    }


@pytest.mark.parametrize("spelling", " ".join(OSSUTIL_SPELLINGS.values()).split())
def test_no_other_spelling_of_a_key_survives(spelling: str) -> None:
    """ossutil takes one of several spellings at random, so an old one must not stand beside ours."""
    after = by_ossutil(render(f"[Credentials]\nlanguage = EN\n{spelling} = old\nendpoint = e\n".encode(), session()))
    assert after == {"id": {"STS.Key000001"}, "secret": {"secretOf000001"}, "token": {"CAISt0ken/of+000001=="}}


def test_the_default_section_of_ossutil_2_can_be_named() -> None:
    """ossutil 2 looks into [default] or [profile NAME], and knows the same names."""
    before = b"# mine\n[default]\nregion=cn-hangzhou\naccessKeyId=old\n[profile b]\naccessKeyId=theirs\n"
    assert render(before, section="default") == (
        b"# mine\n[default]\naccessKeySecret = secretOf000001\nregion=cn-hangzhou\naccessKeyId=LTAI5tKey000001\n"
        b"[profile b]\naccessKeyId=theirs\n"
    )
    assert b"[profile b]\naccessKeyID = " in render(None, section="profile b")


def test_alibabas_sample_for_oss_reads_the_preset(tmp_path: Path) -> None:
    """The form that Alibaba's samples for OSS read with configparser: lower-case names under a section of one's own."""
    path = tmp_path / "config.ini"
    publish([chosen(path, "oss_config", section="configName")], key(2))
    config = configparser.ConfigParser()
    config.read(path)
    assert config.get("configName", "alibaba_cloud_access_key_id") == "LTAI5tKey000002"
    assert config.get("configName", "alibaba_cloud_access_key_secret") == "secretOf000002"
    assert not config.has_option("configName", "alibaba_cloud_security_token")


def test_any_names_can_be_chosen(tmp_path: Path) -> None:
    """A table says which key holds which part, spelled as the reader wants it."""
    path = tmp_path / "app.ini"
    publish([chosen(path, TABLE, section="cloud")], session())
    assert path.read_text().splitlines() == [
        "[cloud]",
        "Id = STS.Key000001",
        "Secret = secretOf000001",
        "Token = CAISt0ken/of+000001==",
        "Until = 2030-01-02T03:04:05Z",
    ]


def test_a_long_term_key_removes_the_tokens_line() -> None:
    """A token of an old session beside a new key would make every request fail."""
    before = b"[cloud]\n; note\nx = 1\n"
    after = render(render(before, session(), TABLE, section="cloud"), key(3), TABLE, section="cloud")
    assert after == b"[cloud]\nId = LTAI5tKey000003\nSecret = secretOf000003\n; note\nx = 1\n"


def test_every_other_line_stays_byte_for_byte() -> None:
    """Comments, other keys, other sections, endings and spacing are somebody else's."""
    before = b"; top\r\n[Credentials]\r\nlanguage=CH\r\n\tendpoint = e\r\n\r\n[Bucket-Endpoint]\r\nb1 = e1\r\n\xff\xfe"
    after = render(before)
    ours = [b"accessKeyID = LTAI5tKey000001", b"accessKeySecret = secretOf000001"]
    assert [line for line in after.split(b"\r\n") if line not in ours] == before.split(b"\r\n")
    assert all(line in after.split(b"\r\n") for line in ours)


@pytest.mark.parametrize("line", ["accessKeyID = old", "stsToken = old", "access_key_id = old"])
def test_an_indented_line_that_readers_disagree_about_is_refused(line: str) -> None:
    """For configparser it goes on with the value above, for ossutil it is a key: one would stay stale for ever."""
    with pytest.raises(SinkError, match="an indented line of") as caught:
        render(f"[Credentials]\nlanguage = EN\n    {line}\n".encode())
    assert "indentation" in caught.value.remedy


@pytest.mark.parametrize(
    ("mode", "value", "fits"),
    [("AK", key(), True), ("AK", session(), False), ("StsToken", session(), True), ("StsToken", key(), False),
     ("EcsRamRole", key(), False), ("RamRoleArn", session(), False)],
)  # fmt: skip
def test_a_mode_under_which_ossutil_would_not_use_the_value_is_refused(
    mode: str, value: Credential, fits: bool
) -> None:
    """`mode = AK` leaves the token out, `StsToken` wants one, the others ask elsewhere (ossutil `lib/command.go`)."""
    before = f"[Credentials]\nmode = {mode}\n".encode()
    if fits:
        assert render(before, value).endswith(before.split(b"\n")[1] + b"\n")
    else:
        with pytest.raises(SinkError, match=f"`mode = {mode.lower()}`"):
            render(before, value)


def test_a_colon_before_a_token_becomes_an_equals_sign() -> None:
    """ossutil splits a line at its first `=`, which a token may hold; where it holds none, the colon stays."""
    after = render(b"[Credentials]\n\tstsToken: old\naccessKeyID : old\n", session())
    assert b"\n\tstsToken= CAISt0ken/of+000001==\n" in after and b"\naccessKeyID : STS.Key000001\n" in after


def test_a_section_that_occurs_twice_is_refused() -> None:
    """ossutil takes the first, the SDK for Java the last, configparser neither."""
    with pytest.raises(SinkError, match=r"\[Credentials\] occurs more than once"):
        render(b"[Credentials]\n[x]\n[Credentials]\n")


@pytest.mark.parametrize("bad", ["a#b", "a%b", 'a"b', "a b", "a;b", "a\\b", "a\nb", "ä"])
def test_a_value_that_would_not_be_read_back_is_refused_unnamed(bad: str) -> None:
    """The error names the file and the part, and shows nothing of the value."""
    with pytest.raises(SinkError) as caught:
        render(None, Credential("id", Secret(bad)))
    assert "/etc/app/app.ini: the access_key_secret holds a character" in str(caught.value)
    assert bad not in str(caught.value)


def test_a_bearer_token_fits_only_where_a_table_names_it() -> None:
    """The presets have no place for it."""
    assert render(None, bearer(), {"t": "bearer_token"}, section="a") == b"[a]\nt = eyJhbGciOi.J9.sig-nature_\n"
    with pytest.raises(SinkError, match="kind bearer and has no access_key_id"):
        render(None, bearer())


def test_check_warns_of_a_session_without_its_token(tmp_path: Path) -> None:
    """Id and secret of a session are refused by every service when the token is missing."""
    sink = chosen(tmp_path / "a.ini", {"a": "access_key_id", "b": "access_key_secret"}, section="a")
    (finding,) = inspect(sink, session())
    assert finding.level == "warning" and "`keys`" in finding.text
    assert [found.level for found in inspect(sink, key())] == ["ok"]
    assert [found.level for found in inspect(chosen(tmp_path / "a.ini"), session())] == ["ok"]


@pytest.mark.parametrize(
    ("more", "keys"),
    [
        ({"keys": {"a": "access_key_id"}}, ["section"]),
        ({"keys": "oss_config"}, ["section"]),
        ({"keys": {}, "section": "a"}, ["keys"]),
        ({"keys": "ossutil", "section": "a]"}, ["section"]),
        ({"keys": "ossutil", "section": "DEFAULT"}, ["section"]),
        ({"keys": "ossutil", "section": ""}, ["section"]),
        ({"keys": {"a = b": "access_key_id"}, "section": "a"}, ["keys"]),
        ({"keys": {"a\nb": "access_key_id"}, "section": "a"}, ["keys"]),
        ({"keys": {"Id": "access_key_id", "ID": "access_key_secret"}, "section": "a"}, ["keys"]),
        ({"keys": "ossutil"}, []),
        ({"keys": "oss_config", "section": "a"}, []),
    ],
)
def test_impossible_keys_and_sections_are_config_problems(more: dict[str, Any], keys: list[str]) -> None:
    """What no file can hold is found before anything runs."""
    settings = IniSettings(type="ini", path="/x", **more)
    assert [found for found, _ in settings.problems()] == keys


def test_the_same_key_twice_is_found_by_the_config() -> None:
    """Two sinks may share a section, not a key of it; a whole profile of credentials.ini is shared with nobody."""
    one = {*chosen("/x", {"Id": "access_key_id"}, section="a").settings.target_keys()}
    assert one.isdisjoint(chosen("/x", {"Other": "access_key_id"}, section="a").settings.target_keys())
    assert one.isdisjoint(chosen("/x", {"Id": "access_key_id"}, section="b").settings.target_keys())
    assert not one.isdisjoint(chosen("/x", {"ID": "access_key_id"}, section="a").settings.target_keys())
    profile = {*ini(Path("/x"), profile="a").settings.target_keys()}
    assert not profile.isdisjoint(chosen("/x", {"access_key_ID": "access_key_id"}, section="a").settings.target_keys())


LINES = st.one_of(
    st.builds("{} = {}".format, st.sampled_from(["language", "endpoint", "b1"]), st.text("ab=:/ ", max_size=6)),
    st.sampled_from(
        ["# note", "; x = 1", "", "[Bucket-Cname]", "accessKeyID=old", "access-key = old", "STSTOKEN: old"]
    ),
    st.sampled_from(["  outputDir = x", "\t[Credentials]", "   accessKeySecret = old", "   mode = AK"]),
)


@given(st.lists(LINES, max_size=12), st.integers(0, 12), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_every_reader_reads_our_value_or_the_file_is_refused(lines: list[str], at: int, token: bool, end: str) -> None:
    """Whatever else stands in the file, ossutil and configparser see one and the same value, and a second render nothing new."""
    lines.insert(min(at, len(lines)), "[Credentials]")
    value = session() if token else key()
    try:
        after = render(end.join(lines).encode(), value)
    except SinkError:
        return
    assert render(after, value) == after
    assert by_ossutil(after) == {
        "id": {value.access_key_id},
        "secret": {"secretOf000001"},
        "token": {"CAISt0ken/of+000001=="} if token else set(),
    }
    parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    parser.optionxform = str.lower  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(after.decode())
    except configparser.Error:
        return
    assert parser["Credentials"]["accesskeyid"] == value.access_key_id
