"""The demo's children: heard line by line, missed when they die, never left behind."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from agent.demo.children import ChildEndedError, Children, DemoError, clock, environment

SOON_S = 60.0


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_what_a_child_writes_is_heard_and_kept(tmp_path: Path) -> None:
    """A JSON object arrives as such, any other line as text; both stand in the log, standard error too."""
    code = """import sys; print('{"event": "up"}', flush=True); print("hello", file=sys.stderr, flush=True)"""
    with Children() as children:
        heard = [said.words for said in children.run("one", python(code), tmp_path / "log", SOON_S)]
    assert heard == [{"event": "up"}, {"text": "hello"}]
    assert (tmp_path / "log").read_text() == '{"event": "up"}\nhello\n'


@pytest.mark.parametrize(
    ("code", "fate"),
    [
        ("print('no luck'); raise SystemExit(3)", "one ended with status 3; its last line: no luck"),
        ("import os; os.kill(os.getpid(), 9)", "one was ended by SIGKILL"),
        ("pass", "one ended with status 0"),
    ],
)
def test_a_child_that_ends_unasked_is_missed(tmp_path: Path, code: str, fate: str) -> None:
    """Whoever waits for anything learns that a child has died, how, and its last words."""
    with Children() as children:
        children.start("one", python(code), tmp_path / "log")
        with pytest.raises(ChildEndedError) as caught:
            while children.hear(clock() + SOON_S):
                pass
    assert caught.value.problem == fate


def test_a_command_that_fails_is_an_error(tmp_path: Path) -> None:
    """A command may end by itself, but only with 0."""
    with Children() as children, pytest.raises(ChildEndedError, match="ended with status 1"):
        list(children.run("command", python("raise SystemExit(1)"), tmp_path / "log", SOON_S))


def test_a_command_that_hangs_is_given_up_and_ended(tmp_path: Path) -> None:
    """The limit holds, and the command does not outlive the context."""
    with Children() as children:
        with pytest.raises(DemoError, match="did not end in time"):
            list(children.run("command", python("import signal; signal.pause()"), tmp_path / "log", 0.0))
        pid = children["command"].pid
    with pytest.raises(ChildProcessError):  # ended and reaped; whether another has its number by now is no matter
        os.waitpid(pid, os.WNOHANG)


def test_a_stopped_child_is_no_news(tmp_path: Path) -> None:
    """What was asked to end is not missed; its status comes back."""
    with Children() as children:
        children.start("one", python("import signal; signal.pause()"), tmp_path / "log")
        assert children.stop("one") == -signal.SIGTERM
        assert children.hear(clock()) is None


def test_an_error_in_the_story_ends_all_children(tmp_path: Path) -> None:
    """The context ends every child, whatever happened in it."""
    pids = []
    with pytest.raises(ZeroDivisionError), Children() as children:
        for name in ("one", "two"):
            children.start(name, python("import signal; signal.pause()"), tmp_path / name)
            pids.append(children[name].pid)
        raise ZeroDivisionError
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def test_a_signal_is_a_message_and_the_handlers_come_back() -> None:
    """Ctrl-C interrupts at the next wait, never between two statements; afterwards all is as before."""
    before = signal.getsignal(signal.SIGTERM)
    children = Children()
    with children.hearing_signals():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            children.hear(clock() + SOON_S)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_ignored_signal_stays_ignored() -> None:
    """`nohup keyturn demo` outlives its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    children = Children()
    try:
        with children.hearing_signals():
            signal.raise_signal(signal.SIGHUP)
            assert children.hear(clock()) is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_children_get_no_proxy_and_no_foreign_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulated cloud is on this machine: neither a proxy nor the config of a real keyturn may come between."""
    for name in ("HTTPS_PROXY", "all_proxy", "KEYTURN_CONFIG", "NOTIFY_SOCKET"):
        monkeypatch.setenv(name, "somewhere")
    monkeypatch.setenv("LANG", "C.UTF-8")
    found = environment()
    assert "somewhere" not in found.values()
    assert found["LANG"] == "C.UTF-8"
