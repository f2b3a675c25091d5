"""What `audit show --follow` sees of a log that is written and rotated meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.audit.follow import Follower
from agent.audit.log import AuditLog
from agent.core.errors import AuditError
from agent.core.events import Event


class Written:
    """A log with two records, followed from behind them."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.path = directory, directory / "audit.jsonl"
        self.log = self.open()
        self.write(2)
        self.follower = Follower(self.path, lambda _why: None)

    def open(self) -> AuditLog:
        return AuditLog(self.path, self.directory / "head", lambda: datetime(2026, 11, 22, tzinfo=UTC))

    def write(self, count: int = 1) -> None:
        for _ in range(count):
            self.log.record(Event.NOTIFIED)

    def rotate(self, name: str) -> None:
        self.path.rename(self.path.with_name(f"{self.path.name}-{name}"))

    @property
    def news(self) -> list[int]:
        return [record["seq"] for record in self.follower.news()]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    made = Written(tmp_path)
    yield made
    made.follower.close()
    made.log.close()


def test_each_record_is_seen_once_and_those_before_not_at_all(written: Written) -> None:
    """Also one that was read elsewhere, between the start and the first look."""
    assert written.news == []
    written.write(2)
    written.follower.seen(json.loads(written.path.read_bytes().splitlines()[2]))
    assert written.news == [4]
    assert written.news == []


def test_nothing_is_lost_over_logrotates_renames(written: Written) -> None:
    """Neither what still went into the renamed file, nor a file that came and went between two looks."""
    written.write()
    written.rotate("1")
    assert written.news == [3], "renamed, and nothing new yet"
    written.write()
    written.rotate("2")
    written.write()
    written.rotate("3")
    written.write(2)
    assert written.news == [4, 5, 6, 7]
    written.path.with_name("audit.jsonl-2").unlink()
    written.write()
    assert written.news == [8]


def test_half_a_line_is_seen_when_it_is_whole_and_rubbish_never(written: Written) -> None:
    """A reader may come in the middle of a write."""
    written.write()
    line = written.path.read_bytes().splitlines(keepends=True)[-1]
    half = written.path.stat().st_size - len(line)
    os.truncate(written.path, half + 50)
    assert written.news == []
    with written.path.open("ab") as stream:
        stream.write(line[50:] + b"rubbish\n[]\n" + b"x" * 300_000)
    assert written.news == [3]


def test_a_number_that_a_stranger_appended_hides_nothing(written: Written) -> None:
    """keyturn goes on behind its own newest record, and so does whoever follows."""
    with written.path.open("ab") as stream:
        stream.write(json.dumps({"seq": 10**30, "hash": "f" * 64}).encode() + b"\n")
    written.write()
    assert written.news == [10**30, 3]
    written.rotate("1")
    written.write()
    assert written.news == [4]


def test_a_log_that_is_begun_anew_is_followed_from_its_first_record(written: Written) -> None:
    """Somebody removed log and state."""
    written.log.close()
    written.path.unlink()
    (written.directory / "head").unlink()
    assert written.news == []
    written.log = written.open()
    written.write()
    assert written.news == [1]


def test_what_is_no_file_any_more_is_one_sentence(written: Written) -> None:
    """A directory, or a link to somebody else's file."""
    written.path.unlink()
    written.path.symlink_to("/etc/passwd")
    with pytest.raises(AuditError):
        _ = written.news
