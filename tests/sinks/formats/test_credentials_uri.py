"""The env file that sends the SDKs to the endpoint: its line, its token, what stays, and what a reader makes of it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.core.credential import Credential
from agent.core.settings import FilePath
from agent.logs.redaction import redacted
from agent.sinks.formats.credentials_uri import BEFORE, VARIABLE, CredentialsUri, CredentialsUriSettings
from agent.sinks.formats.env_lines import Dialect, entries
from agent.sinks.formats.uri_tokens import MAX_BEFORE, Tokens, read_before
from agent.sinks.interface import SinkContext
from agent.sinks.transaction import transaction
from tests.support.sinks import key, publish, session

NOW = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
LINE = re.compile(rf"{VARIABLE}=http://127\.0\.0\.1:8911/v1/credentials/app\?token=([A-Za-z0-9_-]{{43}})\n")
PATH = Path("/run/app/uri.env")


def uri_sink(
    path: Path = PATH, credential: str = "app", dialect: Dialect = "systemd", endpoint: str = "127.0.0.1:8911"
) -> CredentialsUri:
    settings = CredentialsUriSettings(type="credentials_uri", path=FilePath(str(path)), dialect=dialect)
    return CredentialsUri(settings, SinkContext(credential, endpoint=endpoint))


def render(content: bytes | None, value: Credential | None = None, **more: str) -> bytes:
    """As a process that was just started renders it."""
    return uri_sink(**more).render(content, value or key(), 1)  # type: ignore[arg-type]


def test_a_new_file_has_a_token_that_nobody_had_before() -> None:
    """32 bytes of chance; another one for another file, and none of it in a log."""
    first, second = render(None).decode(), render(None).decode()
    tokens = [match[1] for match in map(LINE.fullmatch, (first, second)) if match]
    assert len(set(tokens)) == 2
    assert tokens[0] not in redacted(f"a hook printed {first}")


def test_the_token_stays_whatever_the_value_is() -> None:
    """Over generations and restarts, a key or a session; and the file does not change at all."""
    first = render(None)
    assert render(first, session()) == render(first, key(2)) == first


@pytest.mark.parametrize("dialect", ["systemd", "docker", "shell", "dotenv"])
def test_every_dialect_reads_the_address_and_keeps_the_rest(dialect: Dialect) -> None:
    """Foreign lines stay byte for byte, an exported variable stays exported for a shell, and the token is read back."""
    before = b"# mine\nOTHER='a b'\nexport " + VARIABLE.encode() + b"=x\n"
    first = render(before, dialect=dialect)
    assert first.startswith(b"# mine\nOTHER='a b'\n") and render(first, dialect=dialect) == first
    (raw,) = [one.raw.decode() for one in entries(first, dialect) if one.key == VARIABLE]
    quote = "'" if dialect == "shell" else ""
    word = "export " if dialect in ("shell", "dotenv") else ""
    assert re.fullmatch(
        rf"{word}{VARIABLE}={quote}http://127.0.0.1:8911/v1/credentials/app\?token=[\w-]{{43}}{quote}\n", raw
    )


OURS = b"ALIBABA_CLOUD_CREDENTIALS_URI=http://127.0.0.1:8911/v1/credentials/app?token=" + b"t" * 43 + b"\n"
FOREIGN = {
    "another credential's": OURS.replace(b"/app?", b"/other?"),
    "one that is too short": OURS.replace(b"tt", b"", 1),
    "one that somebody chose": OURS.replace(b"t" * 43, b"secret"),
    "another protocol": OURS.replace(b"http:", b"https:"),
    "more behind it": OURS.replace(b"\n", b"&x=1\n"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_line_that_is_not_ours_gets_a_token_of_ours(what: str) -> None:
    """And never the one that stood there."""
    assert LINE.fullmatch(render(FOREIGN[what]).decode())
    assert b"t" * 41 not in render(FOREIGN[what])


def test_an_address_that_moved_is_written_with_the_same_token() -> None:
    """The port of the config is another one: whoever is started now goes there."""
    assert render(OURS, endpoint="127.0.0.1:9999") == OURS.replace(b":8911", b":9999")


def test_what_is_known_is_put_right() -> None:
    """A line that somebody changed while the agent runs, a file that is gone: with the same token."""
    sink = uri_sink()
    assert sink.render(OURS, key(), 1) == OURS
    assert sink.render(OURS.replace(b"tttt", b"uuuu"), key(), 1) == OURS
    assert sink.render(None, key(), 1) == OURS


def test_older_tokens_are_kept_as_digests_in_the_file() -> None:
    """With the time of their death; read back after a restart, and kept until the next replacement finds them dead."""
    sink = uri_sink()
    first = Tokens.new()
    second = first.followed(NOW, NOW + timedelta(hours=24))
    content = sink.with_tokens(b"", second)
    assert first.current.reveal() not in content.decode()
    assert content.decode().count(f"{BEFORE}=2026-12-01T12:00:00Z/") == 1
    read = uri_sink().learn(content)
    assert read is not None and read == second
    assert read.digests(NOW) == (second.digest, first.digest)
    assert read.digests(NOW + timedelta(hours=24)) == (second.digest,)
    third = read.followed(NOW + timedelta(days=2), NOW + timedelta(days=3))
    assert [one.digest for one in third.before] == [second.digest]
    assert third.followed(NOW + timedelta(days=9), NOW + timedelta(days=9)).written() is None


def test_only_so_many_older_tokens_are_kept() -> None:
    """The oldest die early, and a file stays a line of some hundred letters."""
    tokens = Tokens.new()
    for _ in range(MAX_BEFORE + 3):
        tokens = tokens.followed(NOW, NOW + timedelta(days=1))
    assert len(tokens.before) == MAX_BEFORE and len(read_before(tokens.written() or "")) == MAX_BEFORE


@pytest.mark.parametrize("text", ["", "x", "2026-12-01T12:00:00Z/ab", "2026-99-01T12:00:00Z/" + "a" * 64, ",,,"])
def test_an_older_token_that_cannot_be_read_is_dead(text: str) -> None:
    """Whatever somebody wrote there."""
    assert read_before(text) == ()


def test_it_is_written_by_the_transaction(tmp_path: Path) -> None:
    """Beside another sink in the same file, with its mode; and a restart takes the file for what was published."""
    path = tmp_path / "uri.env"
    publish([uri_sink(path)], key())
    assert path.stat().st_mode & 0o777 == 0o600 and LINE.fullmatch(path.read_text())
    assert transaction.survey([uri_sink(path)], key(2), 2).in_sync
    assert transaction.stand([uri_sink(path)], key().access_key_id)


def test_check_says_that_node_takes_no_long_term_key() -> None:
    """And nothing about a session."""
    assert "Node" in uri_sink().warnings_for(key())[0]
    assert uri_sink().warnings_for(session()) == ()
    assert uri_sink().read_back(OURS) is None
