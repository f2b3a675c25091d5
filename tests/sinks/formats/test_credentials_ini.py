"""The profile of credentials.ini, judged by Alibaba's own reader."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from alibabacloud_credentials.exceptions import CredentialException
from alibabacloud_credentials.provider.profile import ProfileCredentialsProvider
from hypothesis import example, given
from hypothesis import strategies as st

from agent.app.wiring import SINKS
from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.secret import Secret
from agent.sinks.formats.credentials_ini import CredentialsIniSettings
from agent.sinks.formats.ini_editor import unreadable
from agent.sinks.formats.text import unsafe
from tests.support.sinks import bearer, ini, key, publish, session

OURS = {"enable", "type", "access_key_id", "access_key_secret", "security_token"}


KEY = key()


def render(text: bytes | None, value: Credential = KEY, profile: str = "default") -> bytes:
    return ini(Path("/etc/app/credentials.ini"), profile=profile).render(text, value, 1)


def test_the_sdk_reads_back_what_was_published(tmp_path: Path) -> None:
    """A published key is the one that Alibaba's profile provider gives to an application."""
    path = tmp_path / "credentials.ini"
    publish([ini(path, profile="uploader")], key(7))
    read = ProfileCredentialsProvider(profile_file=str(path), profile_name="uploader").get_credentials()
    assert (read.get_access_key_id(), read.get_access_key_secret()) == ("LTAI5tKey000007", "secretOf000007")


def test_two_profiles_of_one_file_are_both_readable(tmp_path: Path) -> None:
    """Two sinks may share a file, in one publish, and each reader finds its own profile."""
    path = tmp_path / "credentials.ini"
    publish([ini(path, profile="a"), ini(path, profile="b")], key(1))
    publish([ini(path, profile="b")], key(2))
    for profile, number in (("a", 1), ("b", 2)):
        read = ProfileCredentialsProvider(profile_file=str(path), profile_name=profile).get_credentials()
        assert read.get_access_key_id() == key(number).access_key_id


def test_a_session_is_written_in_the_documented_form() -> None:
    """A session becomes `type = sts` with its token."""
    assert render(None, session()).decode().splitlines() == [
        "[default]",
        "enable = true",
        "type = sts",
        "access_key_id = STS.Key000001",
        "access_key_secret = secretOf000001",
        "security_token = CAISt0ken/of+000001==",
    ]


def test_the_warning_about_sessions_is_true(tmp_path: Path) -> None:
    """`check` warns that the Python SDK refuses a session here because that SDK does."""
    sink = ini(tmp_path / "credentials.ini")
    publish([sink], session())
    with pytest.raises(CredentialException, match="unsupported credential type sts"):
        ProfileCredentialsProvider(profile_file=sink.path, profile_name="default").get_credentials()
    (warning,) = sink.warnings_for(session())
    assert all(word in warning for word in ("aliyun_cli", "env_file", "json", "credentials_uri"))
    assert sink.warnings_for(key()) == ()


def test_a_long_term_key_takes_the_token_away() -> None:
    """After a session, a long-term key leaves no stale token behind."""
    assert render(render(None, session()), key()) == render(None, key())


def test_foreign_keys_comments_and_sections_stay() -> None:
    """Only our keys change: comments, order, spacing, other keys and other sections stay byte for byte."""
    before = (
        b"# managed by ops\n[default]\nregion_id=cn-hangzhou\n  \naccess_key_id: OLD\n; note\n"
        b"ACCESS_KEY_SECRET =   old\n[other]\naccess_key_id = theirs\n"
    )
    assert render(before) == (
        b"# managed by ops\n[default]\nenable = true\ntype = access_key\nregion_id=cn-hangzhou\n  \n"
        b"access_key_id: LTAI5tKey000001\n; note\nACCESS_KEY_SECRET =   secretOf000001\n[other]\n"
        b"access_key_id = theirs\n"
    )


@pytest.mark.parametrize("tail", [b"region = cn-beijing", b"[other]", b"region = cn-beijing\n[other]", b"; the end"])
def test_the_last_line_is_never_lost(tail: bytes) -> None:
    """A last line without a line ending stays, be it a foreign key of our profile or the next header."""
    before = render(None) + tail
    assert render(before, key(2)).endswith(tail)
    assert render(render(None, session()) + tail, key(2)).endswith(tail)


def test_crlf_stays_crlf() -> None:
    """A file with CRLF gets CRLF in the lines that we add and change."""
    after = render(b"[default]\r\naccess_key_id = old\r\n[x]\r\na = 1\r\n")
    assert after.count(b"\r\n") == after.count(b"\n") == 7


def test_a_missing_section_is_appended_after_an_unterminated_line() -> None:
    """A file without our profile keeps its bytes and gets the profile at its end."""
    before = b"[other]\na = 1"
    assert render(before) == before + b"\n\n" + render(None)


def test_a_profile_that_occurs_twice_is_refused() -> None:
    """The SDK cannot read such a file, so the error says so, with a remedy."""
    with pytest.raises(SinkError, match=r"/etc/app/credentials.ini: the section \[default\] occurs more than once"):
        render(b"[default]\na = 1\n[default]\nb = 2\n")


def test_a_key_that_occurs_twice_is_left_once() -> None:
    """A second occurrence would make the file unreadable for the SDK: it goes."""
    after = render(b"[default]\naccess_key_id = a\nAccess_Key_Id = b\n")
    assert after.lower().count(b"access_key_id") == 1


def test_a_header_inside_a_continued_value_is_no_header() -> None:
    """An indented line belongs to the key above it, for configparser and for us."""
    before = b"[other]\npolicy = {\n  [default]\n  access_key_id = theirs\n  }\n"
    assert render(before) == before + b"\n" + render(None)


def test_the_continuation_of_our_own_value_goes_with_it() -> None:
    """What continued an old value of ours must not continue the new one."""
    after = render(b"[default]\naccess_key_id = old\n\n   more\nregion = x\n")
    assert b"more" not in after and b"region = x\n" in after


def test_keys_below_an_indented_section_are_not_swallowed() -> None:
    """New keys take the section's indentation, so that the next key does not become their continuation."""
    parser = configparser.ConfigParser()
    parser.read_string(render(b"[default]\n    region = x\n").decode())
    assert parser["default"]["region"] == "x" and parser["default"]["type"] == "access_key"


@pytest.mark.parametrize("bad", ["a#b", "a%b", 'a"b', "a'b", "a b", "a;b", "a\\b", "a\nb", "ä"])
@pytest.mark.parametrize("part", ["access_key_id", "access_key_secret", "security_token"])
def test_a_value_that_would_not_be_read_back_is_refused_unnamed(bad: str, part: str) -> None:
    """The error names the file and the part, and shows nothing of the value."""
    fields = {"access_key_id": "id", "access_key_secret": Secret("s"), "security_token": Secret("t")}
    fields[part] = bad if part == "access_key_id" else Secret(bad)
    with pytest.raises(SinkError) as caught:
        render(None, Credential(**fields))  # type: ignore[arg-type]
    assert f"/etc/app/credentials.ini: the {part} holds a character" in str(caught.value)
    assert bad not in str(caught.value)


def test_a_bearer_token_has_no_place_here() -> None:
    """The error names the kind, the file and what is missing."""
    with pytest.raises(SinkError, match="kind bearer and has no access_key_id"):
        render(None, bearer())


@pytest.mark.parametrize("profile", ["", "DEFAULT", "a]b", "a\nb"])
def test_impossible_profiles_are_config_problems(profile: str) -> None:
    """A profile that no section can be called is found before anything runs."""
    settings = CredentialsIniSettings(type="credentials_ini", path="/x", profile=profile)  # type: ignore[arg-type]
    assert [key for key, _ in settings.problems()] == ["profile"]


NAMES = st.text("abcxyz_. -", min_size=1, max_size=8).map(str.strip).filter(bool)
FOREIGN = st.one_of(
    st.builds("{} = {}".format, NAMES, st.text("abc =:%[]é\"'", max_size=12)),
    st.builds("{}:{}".format, NAMES, NAMES),
    st.builds("# {}".format, st.text("abc[]=", max_size=8)),
    st.builds("   {}".format, NAMES),
    st.just("\taccess_key_id = x"),
    st.just(""),
    st.just("[other section]"),
    st.just("[x] trailing"),
)


@given(st.lists(FOREIGN, max_size=14), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.integers(0, 14))
@example(["[other section]", "a=b", "   [default]"], "\n", False, 0)
def test_foreign_lines_stay_byte_for_byte(lines: list[str], end: str, ended: bool, at: int) -> None:
    """Whatever else a readable file holds, only our lines change, twice in a row, and a second render changes nothing."""
    kept = [line for line in lines if line.partition("=")[0].partition(":")[0].strip().lower() not in OURS]
    kept.insert(min(at, len(kept)), "[default]")
    content = (end.join(["[first]", *kept]) + (end if ended else "")).encode()
    try:
        once = render(content, session())
    except SinkError:
        assert unreadable(content, with_interpolation=True)
        return
    assert render(once, session()) == once
    twice = render(once, key(2))

    def foreign(text: bytes) -> list[bytes]:
        names = {name.encode() for name in OURS}
        return [line for line in text.splitlines() if line.split(b" = ")[0].strip() not in names]

    assert foreign(once) == foreign(twice) == content.splitlines()


@given(st.lists(FOREIGN, max_size=10), st.integers(0, 10))
def test_a_readable_file_stays_readable_and_says_the_new_value(lines: list[str], at: int) -> None:
    """If configparser could read the file before, it reads the same foreign keys and our values afterwards."""
    lines.insert(min(at, len(lines)), "[default]")
    before = configparser.ConfigParser(interpolation=None)
    text = "\n".join(lines) + "\n"
    try:
        before.read_string(text)
    except configparser.Error:
        return
    after = configparser.ConfigParser(interpolation=None)
    if unreadable(text.encode(), with_interpolation=True):
        return
    after.read_string(render(text.encode(), key(3)).decode())
    ours = {"enable": "true", "type": "access_key", "access_key_id": key(3).access_key_id}
    assert ours.items() <= dict(after["default"]).items()
    for section in before.sections():
        theirs = {name: value for name, value in before[section].items() if name not in OURS}
        assert {name: value for name, value in after[section].items() if name not in OURS} == theirs


def test_only_sinks_that_exist_are_recommended() -> None:
    """A remedy that this version does not know would be a second riddle."""
    sink = ini(Path("/etc/a.ini"))
    (warning,) = sink.warnings_for(session())
    named = {*re.findall(r"of type (\w+) or (\w+), or one of type (\w+)", warning)[0]}
    named |= {*re.findall(r"`(\w+)` sink", unsafe(sink, "access_key_id").remedy)}
    assert named == {"aliyun_cli", "env_file", "json", "template"} <= SINKS.keys()
