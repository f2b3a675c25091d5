"""Env files, judged by the shell that is here and by the documented rules of the readers that are not."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.secret import Secret
from agent.sinks.formats.env_file import EnvFileSettings
from agent.sinks.formats.env_lines import entries
from tests.support.sinks import bearer, env, key, publish, session

DIALECTS = ["systemd", "docker", "shell", "dotenv"]
EVERYTHING = {
    "KEY_ID": "access_key_id",
    "KEY_SECRET": "access_key_secret",
    "TOKEN": "security_token",
    "UNTIL": "expiration",
}


KEY = key()


def render(text: bytes | None, value: Credential = KEY, **more: Any) -> bytes:
    return env(Path("/run/app/app.env"), **more).render(text, value, 1)


def by_docker(content: bytes) -> dict[str, str]:
    """docker CLI `pkg/kvfile`: left-trimmed lines, `#` comments, everything after the first `=` is the value."""
    lines = [line.lstrip() for line in content.decode().split("\n")]
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#") and "=" in line)


def by_dotenv(content: bytes) -> dict[str, str]:
    """python-dotenv `parser.py`, as far as unquoted values go: ` #` begins a comment, blanks are stripped."""
    found = re.finditer(r"^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=[ \t]*([^\r\n]*)", content.decode(), re.MULTILINE)
    return {name: re.sub(r"\s+#.*", "", value).rstrip() for name, value in (match.groups() for match in found)}


def by_systemd(content: bytes) -> dict[str, str]:
    """systemd `src/basic/env-file.c`, as far as unquoted values without backslash go."""
    pairs = (line.split("=", 1) for line in content.decode().splitlines() if "=" in line and line[:1] not in "#;")
    return {name.strip(): value.strip() for name, value in pairs}


def by_shell(path: Path, *names: str) -> dict[str, str]:
    """A real sh that sources the file with every assignment exported, and shows its environment."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'set -eua; . "$0"; exec env -0', str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={},
    )
    seen = dict(line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)
    return {name: seen[name] for name in names if name in seen}


def test_every_reader_reads_back_every_part(tmp_path: Path) -> None:
    """The shell, docker, dotenv and systemd all read the same values from the same bytes."""
    path = tmp_path / "app.env"
    want = {
        "KEY_ID": "STS.Key000001",
        "KEY_SECRET": "secretOf000001",
        "TOKEN": "CAISt0ken/of+000001==",
        "UNTIL": "2030-01-02T03:04:05Z",
    }
    for dialect in DIALECTS:
        path.unlink(missing_ok=True)
        publish([env(path, variables=EVERYTHING, dialect=dialect)], session())
        content = path.read_bytes()
        assert by_shell(path, *want) == by_docker(content) == by_dotenv(content) == by_systemd(content) == want


@given(st.text("ABCxyz0189+/=._:-", min_size=1, max_size=40))
def test_no_character_that_is_let_through_means_anything_to_a_reader(value: str) -> None:
    """Any value that we write is read back as it is, whatever it is made of."""
    content = render(None, Credential(access_key_id="I", access_key_secret=Secret(value)))
    name = "ALIBABA_CLOUD_ACCESS_KEY_SECRET"
    assert by_docker(content)[name] == by_dotenv(content)[name] == by_systemd(content)[name] == value


def test_the_shell_takes_no_character_that_is_let_through_for_syntax(tmp_path: Path) -> None:
    """All the characters at once, the shell's tilde position after `:` included."""
    path = tmp_path / "app.env"
    value = ":+/=._-:=0aZ/:"
    publish([env(path, variables={"V": "access_key_secret"})], Credential("I", Secret(value)))
    assert by_shell(path, "V") == {"V": value}


@pytest.mark.parametrize("bad", ["a b", "a$b", "a#b", 'a"b', "a'b", "a\\b", "a`b", "a\nb", "a%b", "a;b"])
def test_a_value_that_some_reader_would_change_is_refused_unnamed(bad: str) -> None:
    """The error names the file and the part, never the value."""
    with pytest.raises(SinkError) as caught:
        render(None, Credential(access_key_id="I", access_key_secret=Secret(bad)))
    assert "/run/app/app.env: the access_key_secret holds a character" in str(caught.value)
    assert bad not in str(caught.value)


def test_presets_are_the_names_that_the_sdks_read() -> None:
    """The two presets write what alibabacloud_credentials and oss2 look up."""
    assert render(None, session(), variables=("alibaba_cloud", "oss")).decode().splitlines() == [
        "ALIBABA_CLOUD_ACCESS_KEY_ID=STS.Key000001",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET=secretOf000001",
        "ALIBABA_CLOUD_SECURITY_TOKEN=CAISt0ken/of+000001==",
        "OSS_ACCESS_KEY_ID=STS.Key000001",
        "OSS_ACCESS_KEY_SECRET=secretOf000001",
        "OSS_SESSION_TOKEN=CAISt0ken/of+000001==",
    ]


def test_a_long_term_key_removes_the_tokens_line() -> None:
    """A stale token beside a new key would make every request fail: its line goes."""
    assert render(render(b"A=1\n", session()) + b"B=2\n", key()) == (
        b"A=1\nALIBABA_CLOUD_ACCESS_KEY_ID=LTAI5tKey000001\nALIBABA_CLOUD_ACCESS_KEY_SECRET=secretOf000001\nB=2\n"
    )


def test_our_line_keeps_its_place_and_a_second_one_goes() -> None:
    """The last assignment would win in every reader, so only one of ours is left, where the first was."""
    before = b"A=1\nALIBABA_CLOUD_ACCESS_KEY_ID='old'\nB=2\n ALIBABA_CLOUD_ACCESS_KEY_ID = older\nC=3"
    after = render(before, variables={"ALIBABA_CLOUD_ACCESS_KEY_ID": "access_key_id"})
    assert after == b"A=1\nALIBABA_CLOUD_ACCESS_KEY_ID=LTAI5tKey000001\nB=2\nC=3"


def test_commented_lines_of_ours_are_comments() -> None:
    """A commented-out assignment is a foreign line."""
    before = b"#ALIBABA_CLOUD_ACCESS_KEY_ID=example\n; ALIBABA_CLOUD_ACCESS_KEY_ID=example\n"
    assert render(before).startswith(before)


@pytest.mark.parametrize(
    ("dialect", "word"), [("shell", b"export "), ("dotenv", b"export "), ("systemd", b""), ("docker", b"")]
)
def test_export_stays_where_readers_know_the_word(dialect: str, word: bytes) -> None:
    """`export KEY=` is rewritten in place; for readers that would not know `export` it is put right."""
    after = render(b"export KEY=old\n", variables={"KEY": "access_key_id"}, dialect=dialect)
    assert after == word + b"KEY=LTAI5tKey000001\n"


@pytest.mark.parametrize("dialect", ["systemd", "shell", "dotenv"])
def test_an_assignment_inside_a_quoted_value_is_left_alone(dialect: str) -> None:
    """A `KEY=` on a line of its own inside somebody's quotes is part of their value."""
    before = b"NOTE=\"first\nKEY=inside\nlast\"\nKEY='old\nlines'\nB=2\n"
    after = render(before, variables={"KEY": "access_key_id"}, dialect=dialect)
    assert after == b'NOTE="first\nKEY=inside\nlast"\nKEY=LTAI5tKey000001\nB=2\n'


@pytest.mark.parametrize("dialect", ["systemd", "shell"])
def test_a_continued_line_is_one_entry(dialect: str) -> None:
    """A backslash at the end of a foreign line makes the next one a part of it."""
    before = b"NOTE=a\\\nKEY=b\n"
    added = render(before, variables={"KEY": "access_key_id"}, dialect=dialect)
    assert added == before + b"KEY=LTAI5tKey000001\n"


def test_docker_knows_neither_quotes_nor_continuations() -> None:
    """For docker every line stands alone, and a bare name is taken from its own environment: ours is set."""
    before = b"NOTE=\"first\nKEY\nB=it's\n"
    after = render(before, variables={"KEY": "access_key_id"}, dialect="docker")
    assert after == b"NOTE=\"first\nKEY=LTAI5tKey000001\nB=it's\n"


def test_the_shell_agrees_about_foreign_lines(tmp_path: Path) -> None:
    """After an edit the real shell sees every foreign variable unchanged, and ours new."""
    path = tmp_path / "app.env"
    path.write_bytes(
        b"# it's a \"comment\nA='x\nKEY=no'\nexport B=\"q\\\"\nKEY=no\"\nC=a\\\nb # don't\n"
        b": 'it = quoted'; : \"and = so\"\nKEY=old\nD=$A\n"
    )
    os.chmod(path, 0o600)
    before = by_shell(path, "A", "B", "C", "D")
    publish([env(path, variables={"KEY": "access_key_id"}, dialect="shell")], key(5))
    assert by_shell(path, "A", "B", "C", "D") == before
    assert by_shell(path, "KEY") == {"KEY": "LTAI5tKey000005"}


@pytest.mark.parametrize("dialect", ["systemd", "shell"])
def test_a_quote_that_is_never_closed_is_an_error_with_its_line(dialect: str) -> None:
    """Appended after an open quote our line would be part of a value: the error says where it opens."""
    with pytest.raises(SinkError, match="line 2 opens a quote"):
        render(b"A=1\nB='x\nC=2\n", dialect=dialect)


@pytest.mark.parametrize("value", [" 'open", "'x' 'open", '\t"open', "'x' \"y\" 'open"])
def test_a_quote_that_opens_behind_blanks_is_never_closed_either(value: str) -> None:
    """systemd skips blanks before a value and between quotes; inside an unquoted value a quote is a character."""
    with pytest.raises(SinkError, match="line 1 opens a quote"):
        render(f"A={value}\nC=2\n".encode())
    assert render(f"A=x{value}\nC=2\n".encode())


def test_a_comment_that_swallows_our_line_in_old_systemd_is_refused() -> None:
    """systemd before 254 continues a comment that ends in a backslash: our line would silently not exist."""
    with pytest.raises(SinkError, match="systemd before 254"):
        render(b"# path C:\\\n")
    assert render(b"# path C:\\\\\n").endswith(b"ALIBABA_CLOUD_ACCESS_KEY_SECRET=secretOf000001\n")
    assert render(b"# path C:\\\n", dialect="docker")


def test_crlf_of_others_stays_and_ours_end_in_lf() -> None:
    """A shell would take a CR for part of our value."""
    after = render(b"A=1\r\nKEY=old\r\nB=2\r\n", variables={"KEY": "access_key_id"}, dialect="shell")
    assert after == b"A=1\r\nKEY=LTAI5tKey000001\nB=2\r\n"


def test_a_bearer_token_can_be_named_by_a_table_only() -> None:
    """The presets have no place for it; a table has."""
    assert render(None, bearer(), variables={"T": "bearer_token"}) == b"T=eyJhbGciOi.J9.sig-nature_\n"
    with pytest.raises(SinkError, match="kind bearer and has no access_key_id"):
        render(None, bearer())


def test_check_warns_of_a_session_without_its_token() -> None:
    """Id and secret of a session are refused by every service when the token is missing."""
    sink = env(Path("/x"), variables={"A": "access_key_id", "B": "access_key_secret"})
    (warning,) = sink.warnings_for(session())
    assert "`variables`" in warning and "security_token" in warning
    assert sink.warnings_for(key()) == env(Path("/x")).warnings_for(session()) == ()
    assert env(Path("/x"), variables={"A": "access_key_id"}).warnings_for(session()) == ()


@pytest.mark.parametrize("variables", [(), {}, {"A B": "access_key_id"}, {"1A": "access_key_id"}, {"A=": "expiration"}])
def test_impossible_variables_are_config_problems(variables: Any) -> None:
    """No variable at all, or a name that no shell takes, is found before anything runs."""
    settings = EnvFileSettings(type="env_file", path="/x", variables=variables)  # type: ignore[arg-type]
    assert [key for key, _ in settings.problems()] == ["variables"]


def test_two_sinks_may_share_a_file_but_not_a_variable() -> None:
    """The config loader finds an overlap by these keys."""
    one = set(env(Path("/x"), variables=("oss",)).settings.target_keys())
    assert one.isdisjoint(env(Path("/x"), variables=("alibaba_cloud",)).settings.target_keys())
    assert not one.isdisjoint(env(Path("/x"), variables={"OSS_ACCESS_KEY_ID": "access_key_id"}).settings.target_keys())


LINE = st.text("AB=#;'\"\\ \tx$\r", max_size=10)


@given(st.lists(LINE, max_size=12), st.sampled_from(DIALECTS), st.booleans())
def test_foreign_bytes_stay(lines: list[str], dialect: str, ended: bool) -> None:
    """Whatever else a file holds, removing our lines from the result gives the foreign bytes back."""
    content = ("\n".join(lines) + ("\n" if ended and lines else "")).encode()
    try:
        once = render(content, session(), dialect=dialect)
    except SinkError:
        return
    assert render(once, session(), dialect=dialect) == once
    again = render(once, key(2), dialect=dialect)
    for text in (once, again):
        foreign = b"".join(line for line in re.split(rb"(?<=\n)", text) if not line.startswith(b"ALIBABA_CLOUD_"))
        assert foreign == content or (foreign == content + b"\n" and not content.endswith(b"\n"))


@given(st.binary(max_size=60), st.sampled_from(DIALECTS))
def test_entries_joined_are_the_file(content: bytes, dialect: Any) -> None:
    """Cutting a file into entries loses no byte, whatever the bytes."""
    try:
        assert b"".join(entry.raw for entry in entries(content, dialect)) == content
    except ValueError as error:
        assert 1 <= error.args[0] <= content.count(b"\n") + 1
