"""One loop, one inbox: nothing is lost, nobody is held up, nothing spins."""

import threading
import time

import pytest

from agent.core.errors import SinkError
from agent.runtime import event_loop as loop_module
from agent.runtime.event_loop import EventLoop
from agent.runtime.workers import Lane


def boottime():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def turn_until(loop, condition):
    while not condition():
        loop.turn(boottime() + 0.05)


def test_messages_of_many_threads_arrive_all_and_each_in_order():
    """Every message is called once, on the loop's thread, each sender's in its order."""
    loop, seen = EventLoop(), []

    def send(sender):
        for number in range(100):
            loop.post(lambda number=number: seen.append((sender, number, threading.get_ident())))

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(8)]
    for thread in threads:
        thread.start()
    turn_until(loop, lambda: len(seen) == 800)
    assert {ident for _s, _n, ident in seen} == {threading.get_ident()}
    for sender in range(8):
        assert [number for s, number, _i in seen if s == sender] == list(range(100))


def test_a_message_that_raises_ends_nothing():
    """A fault in one message is logged; those behind it are called."""
    loop, seen = EventLoop(), []
    loop.post(lambda: 1 / 0)
    loop.post(lambda: (_ for _ in ()).throw(SinkError("x")))
    loop.post(lambda: seen.append(True))
    loop.turn(None)
    assert seen == [True]


def test_work_comes_back_as_a_message():
    """What a worker returns or raises is handed over on the loop's thread."""
    loop, seen = EventLoop(), []

    def fail():
        raise SinkError("no")

    loop.start(lambda: 42, lambda value, error: seen.append((value, error)), Lane.REFRESH)
    loop.start(fail, lambda value, error: seen.append((value, str(error))), Lane.REFRESH)
    turn_until(loop, lambda: len(seen) == 2)
    assert sorted(seen, key=str) == [(42, None), (None, "no")]
    assert loop.busy() == 0


def test_a_hanging_worker_holds_up_nobody():
    """The loop and the other workers go on while one never comes back."""
    loop, seen, hang = EventLoop(), [], threading.Event()
    loop.start(hang.wait, lambda *_: None, Lane.REFRESH)
    loop.start(lambda: "through", lambda value, _error: seen.append(value), Lane.REFRESH)
    turn_until(loop, lambda: bool(seen))
    assert loop.busy() == 1
    hang.set()


def test_a_turn_ends_in_time_and_commands_come_before_the_ends_of_work(monkeypatch):
    """However many ends wait, a turn calls no more of them than fit into its time, and what was posted since comes first."""
    monkeypatch.setattr(loop_module, "TURN_S", 0.0)
    loop, seen = EventLoop(), []
    for number in range(3):
        loop.post_end(lambda number=number: seen.append(number))
    loop.turn(None)
    assert seen == [0]
    loop.post(lambda: seen.append("command"))
    loop.turn(None)  # which does not sleep: there is more
    assert seen == [0, "command", 1]
    loop.turn(None)
    assert seen == [0, "command", 1, 2]


def test_submit_returns_and_raises_across_threads():
    """`call` gives another thread the function's result, or its exception."""
    loop, seen = EventLoop(), []

    def ask():
        seen.append(loop.submit(threading.get_ident).result(10))
        with pytest.raises(SinkError):
            loop.submit(lambda: (_ for _ in ()).throw(SinkError("x"))).result(10)
        seen.append("raised")

    asker = threading.Thread(target=ask)
    asker.start()
    turn_until(loop, lambda: len(seen) == 2)
    assert seen == [threading.get_ident(), "raised"]


def test_the_alarm_rings_at_its_instant_and_not_before():
    """A turn with an instant ends no earlier than it; one in the past ends at once."""
    loop = EventLoop()
    until = boottime() + 0.1
    loop.turn(until)
    assert boottime() >= until
    loop.turn(boottime() - 1000)
    loop.turn(0.0)


def test_a_message_wakes_a_sleeping_loop():
    """With nothing planned the loop sleeps until somebody posts."""
    loop, seen = EventLoop(), []
    threading.Timer(0.05, lambda: loop.post(lambda: seen.append(True))).start()
    loop.turn(None)
    assert seen == [True]
