"""What is answered to whom, by what the engine says or does not say."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from agent.http.message import RefusedError, Request
from agent.metrics.endpoints import Endpoints
from agent.metrics.snapshot import Row, Snapshot
from agent.system.clock import Clock
from tests.support.scraper import row

DAY = 86400.0


def now() -> float:
    return Clock().now().timestamp()


def seen(*rows: Row, taken_at: float | None = None) -> Snapshot:
    return Snapshot(taken_at=now() if taken_at is None else taken_at, passed=True, awaited=(), rows=rows)


class Glass:
    """An engine that takes a snapshot of its rows whenever it is asked, or is stuck."""

    def __init__(self, *rows: Row) -> None:
        self.rows, self.last = rows, None if not rows else seen(*rows, taken_at=now() - 5)
        self.asked, self.is_stuck = 0, False

    def look(self, _patience_s: float) -> Snapshot | None:
        self.asked += 1
        if not self.is_stuck:
            self.last = seen(*self.rows)
        return None if self.is_stuck else self.last


def asked(glass: Glass, path: str) -> tuple[int, str]:
    reply = Endpoints(glass).answer(Request("GET", path, {}))  # type: ignore[arg-type]
    return reply.status, reply.body.decode()


def test_many_readers_are_one_question_a_second() -> None:
    """Each renewal asks the engine, but not while its newest answer is younger than a second."""
    glass = Glass(row())
    assert {asked(glass, "/")[0] for _ in range(3)} == {200}
    assert glass.asked == 1


@pytest.mark.parametrize("age_s", [5.0, -DAY], ids=["old", "of tomorrow"])
def test_an_old_answer_is_not_taken_for_new(age_s: float) -> None:
    """The engine is asked; where it is stuck, the page says that it shows what was."""
    glass = Glass(row())
    glass.is_stuck, glass.last = True, seen(row(), taken_at=now() - age_s)
    assert "<h1>Old: 1 of 1 fresh</h1>" in asked(glass, "/")[1]
    assert glass.asked == 1


READY = {
    "fresh": (row(expires_at=None), 200, "fresh, generation 3 is in use"),
    "failing, and its value lives on": (
        row(state="failing", expires_at=now() + DAY),
        200,
        "failing, generation 3 is in use",
    ),
    "stale": (row(state="stale", expires_at=None), 200, "stale, generation 3 is in use"),
    "never had": (
        row(state="failing", generation=0, expires_at=None),
        503,
        "not ready: failing, no value was published yet",
    ),
    "expired": (row(state="expired", expires_at=now() - 1), 503, "not ready: the value in use has expired"),
    "expired since the engine is stuck": (row(expires_at=now() - 1), 503, "not ready: the value in use has expired"),
}


@pytest.mark.parametrize("name", READY)
def test_a_credential_is_ready_while_its_value_lives(name: str) -> None:
    """However its refreshes fare; whether the engine answers or not."""
    one, status, sentence = READY[name]
    for is_stuck in (False, True):
        glass = Glass(one)
        glass.is_stuck = is_stuck
        assert asked(glass, "/readyz/a") == (status, f"{sentence}\n")


def test_before_there_is_anything_nothing_is_ready() -> None:
    """503, for it may become ready; no 404, which would be for ever."""
    glass = Glass()
    glass.is_stuck = True
    assert asked(glass, "/readyz/a")[0] == asked(glass, "/readyz")[0] == asked(glass, "/")[0] == 503


WHICH = "the config has no credential of that name\n"
NO_PAGE = "there is no such page; ask for /, /metrics, /livez, /readyz\n"
ABSENT = {
    "/readyz/": WHICH, "/readyz/b": WHICH, "/readyz/a/": WHICH, "/readyz/A": WHICH, "/readyz/%61": WHICH,
    "/readyz/../readyz/a": WHICH, "/a": NO_PAGE, "//": NO_PAGE, "": NO_PAGE,
}  # fmt: skip


@pytest.mark.parametrize("path", ABSENT)
def test_what_there_is_not(path: str) -> None:
    """404, and nothing of the request in the answer."""
    with pytest.raises(RefusedError) as refused:
        asked(Glass(row()), path)
    assert refused.value.reply.status is HTTPStatus.NOT_FOUND
    assert refused.value.reply.body.decode() == ABSENT[path]
