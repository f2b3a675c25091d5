"""What who can write the board, or only its stream, makes a host do: no more than its timer would (docs/fleet.md has the table)."""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from agent.core.credential import Credential
from agent.core.events import Cause, Trigger
from agent.core.outcome import Outcome, Report, Result
from agent.core.secret import Secret
from agent.core.settings import CredentialSettings, FleetSettings, Settings
from agent.engine.engine import Engine
from agent.engine.version_held import VersionHeld
from agent.fleet import member as members
from agent.fleet.entries import Announcement, HostState, Why, proof
from agent.fleet.member import HEARD, KNOWN, PAUSE_S, TRIES, Member
from providers.kms.settings import KmsSecretSettings

NAME = "uploader"
START = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


class Engine_:
    """An engine whose clock is moved by the test, and whose source hands out `source`."""

    def __init__(self) -> None:
        self.now_s, self.wall_off = 1000.0, timedelta()
        self.clock = types.SimpleNamespace(boottime=lambda: self.now_s, now=self._wall)
        self.source, self.held, self.owed, self.is_held = "v1", "v1", 0, False
        self.asked: list[tuple[float, str, Trigger]] = []
        self._timers: dict[Any, float] = {}
        self._observer: Any = None

    def _wall(self) -> datetime:
        return START + timedelta(seconds=self.now_s) + self.wall_off

    def observe(self, observer: Any) -> None:
        self._observer = observer

    def watch_in_use(self, act: Callable[[str], None]) -> None:
        act(NAME)

    def post(self, message: Callable[[], None]) -> None:
        message()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self._timers[act] = self.now_s + max(0.0, seconds)

    def version_held(self, name: str) -> VersionHeld | None:
        if name != NAME:
            return None
        value = Credential("LTAI0001", Secret(f"secret of {self.held}"))
        return VersionHeld(self.held, 1, "LTAI0001", value, self.owed, (), self.is_held)

    def refresh(self, name: str, cause: Cause) -> Future[Report]:
        self.asked.append((self.now_s, name, cause.trigger))
        self.held = self.source
        done: Future[Report] = Future()
        self._observer.refreshed(name, Outcome(Result.PUBLISHED, 1))
        done.set_result(Report(name, Outcome(Result.PUBLISHED, 1), None))
        return done

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end = self.now_s + seconds
        while due := [(at, act) for act, at in self._timers.items() if at <= end]:
            at, act = min(due, key=lambda one: one[0])
            del self._timers[act]
            self.now_s = max(self.now_s, at)
            act()
        self.now_s = end


class Link:
    """Keeps what was to be said."""

    def __init__(self, *_more: Any) -> None:
        self.said: list[HostState] = []
        self.news: list[Announcement] = []

    def start(self) -> None:
        pass

    def end(self) -> None:
        pass

    def follow(self, names: Any, *, counts: bool = False) -> None:
        assert list(names) == [NAME]

    def say(self, states: dict[str, HostState]) -> None:
        self.said.append(states[NAME])

    def announce(self, credential: str, news: Announcement) -> None:
        self.news.append(news)


class Host:
    """A member, its engine and its link."""

    def __init__(self) -> None:
        self.engine = Engine_()
        self.member = Member(cast(Engine, self.engine), "web-1", "m1", chance=lambda: 0.5)
        fleet = FleetSettings(url="redis://127.0.0.1:1/0")
        provider = KmsSecretSettings(type="kms_secret", secret_name=NAME)
        self.settings = Settings(credentials={NAME: CredentialSettings(provider=provider)}, fleet=fleet)
        self.member.follow(self.settings, cast(Any, None))
        self.engine.run(1.0)
        self._number = 0

    @property
    def link(self) -> Link:
        return cast(Link, self.member._link)

    def hear(self, version: str, *, nonce: str = "a", name: str = NAME, entry: str = "", **more: Any) -> None:
        self._number += 1
        deadline = more.pop("deadline", (START + timedelta(seconds=self.engine.now_s + 300)).timestamp())
        why = more.pop("why", Why.EMERGENCY)
        news = Announcement(entry or f"{self._number}-0", version, nonce * 32, why, deadline, "web-9")
        self.member._hear_later(name, news)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(members, "Link", Link)
    return Host()


def test_a_forged_version_costs_a_few_calls_and_changes_nothing(host: Host) -> None:
    """The source hands out what it has: `TRIES` calls, ever further apart, and the value stays."""
    host.hear("made-up", deadline=9e10)
    host.engine.run(3600.0)
    times = [at for at, _name, _trigger in host.engine.asked]
    assert len(times) == TRIES and host.engine.held == "v1"
    assert all(later - earlier >= PAUSE_S for earlier, later in itertools.pairwise(times))
    assert {trigger for _at, _name, trigger in host.engine.asked} == {Trigger.FLEET}


def test_a_flood_of_forged_versions_leads_to_a_call_in_ten_seconds(host: Host) -> None:
    """And takes no more memory than `KNOWN` versions; the true one is fetched all the same."""
    host.engine.source = "v2"
    for number in range(2000):
        host.hear(f"made-up-{number}")
        host.engine.run(0.05)
    assert len(host.engine.asked) <= 2000 * 0.05 / PAUSE_S + 1
    one = host.member._followed[NAME]
    assert (len(one.news), len(one.entries) <= HEARD, len(one.tries) <= KNOWN) == (KNOWN, True, True)
    assert host.engine.held == "v2"


def test_unknown_credentials_are_passed_over(host: Host) -> None:
    host.hear("v2", name="somebody-elses")
    host.engine.run(60.0)
    assert host.engine.asked == []


def test_a_rotate_on_this_host_is_not_meddled_with(host: Host) -> None:
    host.engine.is_held = True
    host.hear("v2")
    host.engine.run(60.0)
    assert host.engine.asked == []


def test_announcements_again_and_in_any_order_end_in_the_same(host: Host) -> None:
    """The newest version is asked for once, and the proof is about the announcement of it; one that comes twice is one."""
    host.engine.source = "v2"
    for version, entry in (("v2", "5-0"), ("v1", "3-0"), ("v2", "5-0"), ("v1", "3-0"), ("v1", "2-0")):
        host.hear(version, entry=entry, nonce=entry[0])
        host.engine.run(30.0)
    assert host.engine.held == "v2"
    assert len(host.engine.asked) <= TRIES, "a replay of an old version is no version of its own"
    said = host.link.said[-1]
    assert (said.version_id, said.nonce) == ("v2", "5" * 32)
    assert said.mac == proof(Secret("secret of v2"), NAME, "web-1", "v2", "5" * 32)


def test_what_is_read_again_at_a_new_connection_is_no_news(host: Host) -> None:
    """Two announcements of the version before and one of the new one, read again before that was asked for."""
    stream = (("v1", "1-0", "1"), ("v1", "2-0", "2"), ("v2", "3-0", "3"))
    host.engine.source = "v2"
    for _connection in range(3):
        for version, entry, nonce in stream:
            host.hear(version, entry=entry, nonce=nonce)
    host.engine.run(30.0)
    assert (host.engine.held, host.link.said[-1].nonce) == ("v2", "3" * 32)


def test_no_proof_while_something_is_owed(host: Host) -> None:
    host.engine.source, host.engine.owed = "v2", 1
    host.hear("v2")
    host.engine.run(20.0)
    assert (host.link.said[-1].version_id, host.link.said[-1].mac, host.link.said[-1].owed) == ("v2", "", 1)
    host.engine.owed = 0
    host.engine.run(20.0)
    assert host.link.said[-1].mac


@pytest.mark.parametrize("hours", [-30, 30])
def test_a_clock_that_is_hours_off_follows_all_the_same(host: Host, hours: int) -> None:
    host.engine.wall_off = timedelta(hours=hours)
    host.engine.source = "v2"
    host.hear("v2")
    host.engine.run(5.0)
    assert host.engine.held == "v2" and host.link.said[-1].mac


def test_what_the_source_handed_out_is_announced_where_nobody_did(host: Host) -> None:
    """Also at the first refresh after a start: the host may have been killed between its publish and the announcement."""
    assert host.link.news == [], "what it held while it was away is no news"
    host.engine.refresh(NAME, Cause(Trigger.START))
    host.engine.run(1.0)
    assert [news.version_id for news in host.link.news] == ["v1"]
    host.engine.refresh(NAME, Cause(Trigger.POLL))
    host.engine.run(1.0)
    assert len(host.link.news) == 1
    host.engine.source = "v2"
    host.hear("v2")
    host.engine.run(5.0)
    assert len(host.link.news) == 1, "somebody said it"


def test_what_a_rotate_could_not_announce_is_said_after_it(host: Host) -> None:
    host.engine.is_held, host.engine.source = True, "v2"
    host.engine.refresh(NAME, Cause(Trigger.EMERGENCY))
    host.engine.run(1.0)
    assert host.link.news == []
    host.engine.is_held = False
    host.member._changed(NAME)
    host.engine.run(1.0)
    assert [news.version_id for news in host.link.news] == ["v2"]


def test_another_machine_under_this_name_is_told_to_the_fleet(host: Host) -> None:
    """And forgotten some minutes after it was seen last."""
    stranger = HostState(version_id="v1", generation=1, access_key_id_tail="0001", owed=0, machine="m2")
    host.member._seen_later({NAME: stranger})
    host.engine.run(1.0)
    assert host.link.said[-1].twins is True
    host.engine.run(members.TWINS_S + 1.0)
    assert host.link.said[-1].twins is False
