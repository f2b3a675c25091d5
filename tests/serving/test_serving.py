"""What the engine offers to those who ask: after a publish, a restart, a reload, half a switch, and in an emergency."""

from datetime import timedelta

import pytest

from agent.core.events import Actor, Cause, Trigger
from agent.core.settings import Duration, ServeSettings, Settings
from agent.serving.serving import Serving
from agent.state.records import Published
from tests.support.fakes import Source, key

SERVE = ServeSettings(users=("app",), groups=("web",), hold=Duration(30))


class Accounts:
    """Every name is known, and each look-up is counted."""

    def __init__(self):
        self.asked = 0
        self.uid = 4242

    def uid_of(self, _name):
        self.asked += 1
        return self.uid

    def gid_of(self, _name):
        return 4343


def serving(bench):
    """What a daemon would serve, without its socket."""
    made = Serving(bench.engine, Accounts(), bench.audit)
    bench.engine.watch_in_use(made._changed)
    return made


def offer(made, name="a"):
    return made._offers.find(name)


@pytest.fixture
def source():
    return Source("a")


def test_a_published_value_is_offered_at_once_with_its_generation(bench, source):
    """Value, generation, hold and who may ask are those of the newest publish; names are looked up once for each config."""
    bench.begin(bench.managed(source=source, serve=SERVE))
    made = serving(bench)
    assert (offer(made).generation, offer(made).value) == (0, None)
    for generation in (1, 2):
        source.value = key(generation)
        assert bench.refresh("a").error is None
        found = offer(made)
        assert (found.generation, found.value, found.hold_s) == (generation, key(generation), 30.0)
        assert (found.users, found.groups) == ({4242}, {4343})
    assert made._accounts.asked == 1


def test_what_nobody_may_ask_for_is_not_kept(bench, source):
    """Without `serve` no value is at hand to be handed out."""
    bench.begin(bench.managed(source=source))
    made = serving(bench)
    bench.refresh("a")
    assert offer(made).value is None and offer(made).users == frozenset()


def test_after_a_restart_the_value_is_read_back(make_bench, source):
    """From a file that holds the generation in use; another key that somebody put there is not it."""
    first = make_bench()
    first.begin(first.managed(source=source, serve=SERVE))
    first.refresh("a")
    second = make_bench()
    second.begin(second.managed(source=source, serve=SERVE))
    found = offer(serving(second))
    assert (found.generation, found.value.access_key_secret) == (1, source.value.access_key_secret)
    for number in range(2):
        second.sink("a", number).unlink()
    assert offer(serving(second)).value is None


def test_without_sinks_a_restart_asks_the_source_at_once(make_bench, source):
    """There is nothing that could be served until it has answered."""
    first = make_bench()
    first.begin(first.managed(source=source, serve=SERVE, sinks=0))
    first.refresh("a")
    second = make_bench()
    second.begin(managed := second.managed(source=source, serve=SERVE, sinks=0))
    assert managed.first_refresh_s(second.clock.now(), 0.5) == 0.0
    made = serving(second)
    assert offer(made).value is None
    second.engine.start_all()
    second.until(lambda: offer(made).value is not None)


def test_while_a_publish_is_half_switched_the_value_before_is_offered(bench, source):
    """Some readers have the new one and some the old one: the one that everybody knew is safe."""
    bench.begin(managed := bench.managed(source=source, serve=SERVE))
    made = serving(bench)
    bench.refresh("a")
    managed.state.journal.begin(Published(generation=2, access_key_id="LTAInew"), [], 0)
    made._changed("a")
    assert (offer(made).generation, offer(made).value) == (1, source.value)
    managed.state.journal.switched()
    made._changed("a")
    assert (offer(made).generation, offer(made).value) == (2, None)  # which nobody here knows


def test_in_an_emergency_answers_are_kept_for_seconds_by_all_that_hold_the_key(bench, source):
    """From its beginning to its end, for a copy of the key as well, and for nobody else."""
    another = Source("c")
    another.value = key(9)
    bench.begin(
        bench.managed(source=source, serve=SERVE),
        bench.managed("b", source=Source("b"), serve=SERVE),
        bench.managed("c", source=another, serve=SERVE),
    )
    made = serving(bench)
    for name in "abc":
        bench.refresh(name)
    held = bench.engine.hold("a", Cause(Trigger.EMERGENCY, Actor(0, "root", 1), "leaked"))
    assert [offer(made, name).hold_s for name in "abc"] == [5.0, 5.0, 30.0]
    held.release()
    bench.until(lambda: offer(made).hold_s == 30.0)


def test_a_reload_takes_effect_and_forgets_who_left(bench, source):
    """Another hold counts from the next answer on, and a credential that left is no more."""
    bench.begin(bench.managed(source=source, serve=SERVE), bench.managed("b", serve=SERVE))
    made = serving(bench)
    bench.refresh("a")
    shorter = ServeSettings(users=("app",), hold=Duration(10))
    bench.engine.reload([bench.managed(source=source, serve=shorter)], 2.0)
    assert (offer(made).hold_s, offer(made, "b")) == (10.0, None)
    assert offer(made).value.access_key_secret == source.value.access_key_secret


def test_a_reload_looks_the_users_up_again(bench, source):
    """A user who was made anew has another number, and the old one may be somebody else's by now."""
    bench.begin(bench.managed(source=source, serve=SERVE))
    made = Serving(bench.engine, Accounts(), bench.audit)
    settings = Settings(credentials={})
    for uid in (4242, 4343):
        made._accounts.uid = uid
        made.follow(settings, "", None, None)
        assert offer(made).users == {uid}


def test_that_everybody_moved_is_recorded_once(bench, source):
    """When the last answer with an older generation cannot be used any more."""
    from agent.serving.peer import Peer

    bench.begin(bench.managed(source=source, serve=SERVE))
    made = serving(bench)
    bench.refresh("a")
    peer, now = Peer(1, frozenset()), bench.clock.now()
    made.fetches.note("a", 1, peer, now, now + timedelta(seconds=30), now + timedelta(seconds=210))
    source.value = key(2)
    bench.refresh("a")
    made.fetches.note("a", 2, peer, now, now + timedelta(seconds=30), now + timedelta(seconds=210))
    made._look("a")
    assert "pickup_confirmed" not in bench.events()
    bench.clock.move(32)
    for _ in range(2):
        made._look("a")
    assert bench.events().count("pickup_confirmed") == 1
