"""A new token in the file: one switch, done or not begun, with the record of it in between; never the old token back."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.core.errors import AuditError, SinkError
from agent.core.settings import FilePath
from agent.endpoint.rotation import rotate
from agent.sinks.formats.credentials_uri import CredentialsUri, CredentialsUriSettings
from agent.sinks.interface import SinkContext
from agent.sinks.transaction import transaction
from tests.support.processes import in_child
from tests.support.sinks import env, key, publish

NOW = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
UNTIL = NOW + timedelta(hours=1)


def sink_at(path: Path) -> CredentialsUri:
    settings = CredentialsUriSettings(type="credentials_uri", path=FilePath(str(path)))
    return CredentialsUri(settings, SinkContext("app", endpoint="127.0.0.1:8911"))


def nothing() -> None:
    """No record."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a URI and, beside it, a key."""
    found = tmp_path / "uri.env"
    publish([sink_at(found), env(found)], key())
    return found


def test_only_the_token_changes(path: Path) -> None:
    """What other sinks and other people have in the file stays; the agent that runs and one that starts agree."""
    before, sink = path.read_text().splitlines(), sink_at(path)
    tokens = rotate(sink, NOW, UNTIL, nothing)
    after = path.read_text().splitlines()
    assert [line for line in after if not line.startswith(("ALIBABA_CLOUD_CREDENTIALS_URI", "KEYTURN_"))] == before[1:]
    assert sink.tokens == tokens == sink_at(path).learn(path.read_bytes())
    assert transaction.survey([sink, env(path)], key(), 1).in_sync


def test_without_a_record_nothing_is_done(path: Path) -> None:
    """A log that cannot be written stops it, and nothing is left beside the file."""

    def fail() -> None:
        raise AuditError("the log is full")

    before, sink = path.read_bytes(), sink_at(path)
    with pytest.raises(AuditError):
        rotate(sink, NOW, UNTIL, fail)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]
    assert sink.render(before, key(), 1) == before


def test_a_file_that_changed_meanwhile_is_left_alone(path: Path) -> None:
    """It is read again by the next try; no line of somebody else's is lost."""
    sink = sink_at(path)

    def meanwhile() -> None:
        path.write_bytes(path.read_bytes() + b"MINE=1\n")

    with pytest.raises(SinkError):
        rotate(sink, NOW, UNTIL, meanwhile)
    rotate(sink, NOW, UNTIL, nothing)
    assert path.read_bytes().endswith(b"MINE=1\n")


def test_a_file_without_a_token_has_none_to_replace(tmp_path: Path) -> None:
    """Nothing was published yet."""
    with pytest.raises(SinkError):
        rotate(sink_at(tmp_path / "none.env"), NOW, UNTIL, nothing)


def test_killed_at_the_record_the_old_token_stands_and_the_rest_is_swept(path: Path) -> None:
    """The moment between the flushed new file and the rename: at the next start, nothing has happened."""
    before = path.read_bytes()
    end: Callable[[], None] = lambda: os.kill(os.getpid(), 9)  # noqa: E731
    assert in_child(lambda: rotate(sink_at(path), NOW, UNTIL, end)) == -9
    assert path.read_bytes() == before and len(os.listdir(path.parent)) == 2
    transaction.sweep([sink_at(path)], ())
    assert os.listdir(path.parent) == [path.name]
    assert rotate(sink_at(path), NOW, UNTIL, nothing).before


def test_a_sink_that_does_not_know_what_became_of_the_switch_asks_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rename went through and the directory could not be flushed: what the file says is the truth, not the old token."""
    sink = sink_at(path)

    with monkeypatch.context() as patch, pytest.raises(SinkError):
        patch.setattr(transaction, "_sync", lambda directory: _interrupted())
        rotate(sink, NOW, UNTIL, nothing)
    content = path.read_bytes()
    found = sink_at(path).learn(content)
    assert found is not None and found.before and sink.render(content, key(), 1) == content


def _interrupted() -> None:
    raise transaction.CommitInterruptedError("the directory cannot be flushed")
