"""Who fetched which generation: what counts as moved, what is forgotten, and how much is remembered."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.serving.fetches import FetchRecord
from agent.serving.peer import Peer

NOW = datetime(2030, 1, 1, tzinfo=UTC)
WEB = Peer(33, frozenset({33}), 700, "/usr/bin/web", "web.service")
OTHER = Peer(34, frozenset({34}), 800, "/usr/bin/other", "")


def after(seconds):
    return NOW + timedelta(seconds=seconds)


class Machine:
    """The processes that live, and what they fetch: an answer is asked for again after 60 s, and good for 240 s."""

    def __init__(self, limit=10):
        self.lives = {700: 1.0, 800: 1.0}
        self.record = FetchRecord(self.lives.get, limit)

    def fetch(self, peer, generation, at=0):
        return self.record.note("app", generation, peer, after(at), after(at + 60), after(at + 240))

    def behind(self, generation, at=0):
        return [(one.peer, one.generation) for one in self.record.laggards("app", generation, after(at))]


def test_it_says_how_long_an_answer_is_kept_by_a_client_in_use():
    """The longest of a generation, whoever is asked about it."""
    machine = Machine()
    machine.fetch(WEB, 1)
    machine.record.note("app", 1, WEB, after(1), after(6), after(186))
    (one,) = machine.record.laggards("app", 2, after(2))
    assert (one.hold, one.until) == (timedelta(seconds=60), after(240))


@pytest.fixture
def machine():
    return Machine()


def test_a_process_that_came_back_has_moved_when_its_older_answer_is_due(machine):
    """One of its other clients may still sign with the older answer until it is to ask again, and a moment longer."""
    machine.fetch(WEB, 1)
    assert machine.fetch(WEB, 2, at=10)
    assert machine.behind(2, at=60) == [(WEB, 1)]
    assert machine.behind(2, at=62) == []


def test_a_process_that_did_not_come_back_counts_until_its_expiry(machine):
    """Whatever its window: until the expiry that it was told the older key must live for it."""
    machine.fetch(WEB, 1)
    assert machine.behind(2, at=239) == [(WEB, 1)]
    assert machine.behind(2, at=241) == []
    assert machine.behind(1) == []


def test_a_newer_answer_that_expires_first_is_not_forgotten(machine):
    """As in an emergency, which shortens the answers: the process has come back, whatever its older answer named."""
    machine.fetch(WEB, 1)
    machine.record.note("app", 2, WEB, after(10), after(15), after(195))
    assert machine.behind(2, at=200) == []
    assert machine.record.clients("app", after(200))[0].generation == 2
    assert machine.behind(2, at=200) == []
    assert machine.record.clients("app", after(241)) == ()


def test_the_latest_answer_of_a_process_counts(machine):
    """Two clients of one process: the one that asked later holds its answer longer."""
    machine.fetch(WEB, 1)
    machine.fetch(WEB, 1, at=50)
    machine.fetch(WEB, 2, at=60)
    assert machine.behind(2, at=100) == [(WEB, 1)]
    assert machine.behind(2, at=112) == []


def test_a_process_that_is_gone_is_forgotten(machine):
    """Also where another one has got its pid."""
    machine.fetch(WEB, 1)
    machine.fetch(OTHER, 1)
    machine.lives[700] = 2.0
    assert machine.behind(2) == [(OTHER, 1)]
    del machine.lives[800]
    assert machine.behind(2) == []
    assert machine.record.clients("app", NOW) == ()


def test_what_is_shown_is_the_newest_that_each_fetched(machine):
    """With the process, and the expiry that it was told."""
    machine.fetch(WEB, 1)
    machine.fetch(WEB, 2, at=5)
    machine.fetch(OTHER, 1)
    found = [(one.peer, one.generation, one.until) for one in machine.record.clients("app", after(6))]
    assert found == [(WEB, 2, after(245)), (OTHER, 1, after(240))]


def test_processes_that_cannot_be_seen_count_until_their_expiry(machine):
    """Where /proc hides them, one user's processes of one service are one entry."""
    hidden = Peer(35, frozenset({35}))
    machine.fetch(hidden, 1)
    assert machine.behind(2, at=200) == [(hidden, 1)]


def test_more_than_fit_are_remembered_without_names():
    """The record is bounded, and whoever does not fit in is still waited for."""
    machine = Machine(limit=1)
    machine.fetch(WEB, 1)
    machine.fetch(OTHER, 1, at=10)
    assert machine.behind(2, at=20) == [(None, 1), (WEB, 1)]
    assert machine.behind(2, at=245) == [(None, 1)]
    assert machine.behind(2, at=251) == []
    machine.fetch(OTHER, 1, at=260)  # there is room again
    assert machine.behind(2, at=261) == [(OTHER, 1)]


def test_a_full_record_is_looked_through_once_a_second():
    """Each look reads the /proc entries of thousands, and everybody's next answer waits for it."""
    machine = Machine(limit=1)
    asked = []
    machine.record = FetchRecord(lambda pid: asked.append(pid) or machine.lives.get(pid), 1)
    machine.fetch(WEB, 1)
    for at in (0, 0.5, 1):
        machine.fetch(OTHER, 1, at)
    assert asked == [700, 800, 700, 800, 800, 700]


def test_a_credential_that_left_the_config_is_forgotten(machine):
    """Its name may come back as another one."""
    machine.fetch(WEB, 1)
    machine.record.drop("app")
    assert machine.behind(2) == []
