"""Signals that come before there is somebody to handle them."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from agent.system.signals import deliver_kept, keep


@pytest.fixture
def own_handlers() -> Iterator[None]:
    """The test may set handlers."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_handlers")
def test_an_early_signal_is_handled_once_there_is_a_handler() -> None:
    """Each once, however often it came; and none a second time."""
    keep(signal.SIGHUP, signal.SIGUSR1)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGHUP):
        signal.raise_signal(number)
    heard: list[int] = []
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda received, _frame: heard.append(received))
    deliver_kept()
    assert sorted(heard) == [signal.SIGHUP, signal.SIGUSR1]
    deliver_kept()
    assert len(heard) == 2


@pytest.mark.usefixtures("own_handlers")
def test_a_command_that_is_started_meanwhile_can_be_ended_by_the_signal() -> None:
    """Neither blocked nor ignored there: a hook or a provider's command hears SIGHUP as usual."""
    keep(signal.SIGHUP)
    command = subprocess.Popen(["/bin/sleep", "1000"])
    command.send_signal(signal.SIGHUP)
    assert command.wait() == -signal.SIGHUP
