"""The textfile is whole whenever it is read, as new as a second, and never in the engine's way."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.metrics import textfile
from agent.metrics.snapshot import Snapshot
from agent.metrics.textfile import Textfile
from tests.support.fakes import PATIENCE_S
from tests.support.processes import eventually
from tests.support.scraper import Figures


class StillGlass:
    """Shows a snapshot that a test sets; counts looks."""

    def __init__(self) -> None:
        self.looks = 0
        self.at = 1.0
        self.stuck = False

    def look(self, _patience_s: float) -> Snapshot | None:
        self.looks += 1
        return None if self.stuck else shot(self.at)


def shot(at: float) -> Snapshot:
    return Snapshot(taken_at=at, passed=True, awaited=(), rows=())


class Place:
    """A directory, a glass, and files that are kept there."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "keyturn.prom"
        self.glass = StillGlass()
        self.made: list[Textfile] = []

    def keep(self) -> Textfile:
        self.made.append(Textfile(str(self.path), self.glass))  # type: ignore[arg-type]
        return self.made[-1]

    def says(self) -> float | None:
        """The time in the file; None where there is none."""
        try:
            return Figures(self.path.read_text()).get("keyturn_snapshot_timestamp_seconds")
        except FileNotFoundError:
            return None


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(textfile, "PAUSE_S", 0.05)
    made = Place(tmp_path)
    yield made
    for each in made.made:
        each.close()


def test_it_is_written_at_once_and_at_each_change(place: Place) -> None:
    """Readable for node_exporter, whatever the umask, and nothing else is left in the directory."""
    mask = os.umask(0o077)
    try:
        kept = place.keep()
        eventually(lambda: place.says() == 1.0)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o644
    place.glass.at = 2.0
    kept.changed()
    eventually(lambda: place.says() == 2.0)
    assert os.listdir(place.path.parent) == ["keyturn.prom"]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a link to another user")
def test_it_follows_no_link_of_somebody_elses(place: Place, public_path: Path) -> None:
    """The directory may be node_exporter's; a link of theirs on the way would have root write wherever they like."""
    theirs, roots = public_path / "theirs", public_path / "roots"
    theirs.mkdir()
    roots.mkdir()
    (theirs / "out").symlink_to(roots)
    for path in (theirs, theirs / "out"):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    place.path = theirs / "out" / "keyturn.prom"
    place.keep()
    eventually(lambda: place.glass.looks)
    place.made[-1].close()
    assert os.listdir(roots) == []
    place.path = theirs / "keyturn.prom"
    place.keep()
    eventually(lambda: place.says() == 1.0)


def test_many_changes_are_a_few_writes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand rotations at once do not write a thousand files, and the last change is in the file."""
    monkeypatch.setattr(textfile, "PAUSE_S", 0.5)
    began = time.monotonic()
    kept = place.keep()
    for number in range(1000):
        place.glass.at = 2.0 + number
        kept.changed()
        time.sleep(0.001)
    eventually(lambda: place.says() == 1001.0)
    assert place.glass.looks <= (time.monotonic() - began) / 0.5 + 2


def test_without_a_change_it_is_written_each_minute(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its age an alert knows whether the agent lives."""
    monkeypatch.setattr(textfile, "BEAT_S", 0.05)
    place.keep()
    eventually(lambda: place.says() == 1.0)
    place.glass.at = 2.0
    eventually(lambda: place.says() == 2.0)


def test_an_engine_that_is_stuck_lets_the_file_grow_old(place: Place) -> None:
    """No new time without a new snapshot."""
    kept = place.keep()
    eventually(lambda: place.says() == 1.0)
    place.glass.stuck, written, looks = True, place.path.stat().st_mtime_ns, place.glass.looks
    kept.changed()
    eventually(lambda: place.glass.looks > looks and not kept._news.is_set())
    assert place.path.stat().st_mtime_ns == written


def test_a_directory_that_is_away_is_said_once_and_comes_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """One error for the same reason; written again as soon as that works."""
    said: list[str] = []
    monkeypatch.setattr(textfile.log, "error", lambda _event, path, error: said.append(f"{path}: {error}"))
    kept = place.keep()
    eventually(lambda: place.says() == 1.0)
    place.path.parent.rename(place.path.parent.with_name("aside"))
    for _ in range(3):
        looks = place.glass.looks
        kept.changed()
        eventually(lambda looks=looks: place.glass.looks > looks)
    eventually(lambda: said)
    place.path.parent.with_name("aside").rename(place.path.parent)
    place.glass.at = 5.0
    kept.changed()
    eventually(lambda: place.says() == 5.0)
    assert len(said) == 1 and str(place.path) in said[0] and "install -d -m 0755" in said[0]


def test_it_stays_with_a_last_word_and_goes_when_nobody_wants_it(place: Place) -> None:
    """A stop leaves the newest figures; a config that no longer names the file takes it away."""
    kept = place.keep()
    eventually(lambda: place.says() == 1.0)
    kept.close(shot(9.0))
    assert place.says() == 9.0
    place.keep().close(remove=True)
    assert not place.path.exists()


def test_a_reader_never_sees_half_a_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read again and again while it is written: always whole, and always a file of its own."""
    monkeypatch.setattr(textfile, "PAUSE_S", 0.0)
    kept = place.keep()
    eventually(lambda: place.says() == 1.0)
    seen = set[float]()
    ends = time.monotonic() + PATIENCE_S
    while len(seen) < 50 and time.monotonic() < ends:
        place.glass.at += 1
        kept.changed()
        text = place.path.read_text()
        assert text.endswith("\n") and "keyturn_snapshot_timestamp_seconds " in text
        seen.add(place.says() or 0.0)
    assert len(seen) == 50
