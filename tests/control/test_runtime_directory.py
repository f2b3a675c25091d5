"""The kind: the control socket is reached or made by a name that somebody else, or another daemon, decides about."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from agent.control import client, protocol
from agent.control.client import UntrustedDaemonError
from agent.control.runtime_directory import RuntimeDirectory
from agent.control.server import ControlServer
from agent.core.errors import BusyError, KeyturnError, StateError
from tests.support.vm import Vm

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="plays another user")
STRANGER = 65534


@pytest.fixture
def false_daemon() -> Iterator[Callable[[Path, int], list[bytes]]]:
    """Plays a stranger who answers on control.sock that all is well; gives what was asked of them."""
    with ExitStack() as made:

        def make(directory: Path, uid: int) -> list[bytes]:
            heard: list[bytes] = []
            listener = made.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(directory / protocol.SOCKET_NAME))
            (directory / protocol.SOCKET_NAME).chmod(0o666)
            os.seteuid(uid)  # SO_PEERCRED tells who called listen(2)
            try:
                listener.listen(8)
            finally:
                os.seteuid(0)

            def answer() -> None:
                while True:
                    try:
                        channel, _ = listener.accept()
                    except OSError:
                        return
                    with channel, suppress(OSError):
                        asked = channel.recv(65536)
                        if not asked:
                            continue
                        heard.append(asked)
                        result = {"safe": True, "credential": "uploader", "credentials": [], "exit_code": 0}
                        channel.sendall(json.dumps({"result": result, "exit_code": 0}).encode() + b"\n")

            made.callback(listener.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=answer, daemon=True).start()
            return heard

        yield make


# -- who else has a say -------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("made", ["theirs", "everybody's", "a group's", "below theirs", "a link of theirs"])
def test_a_directory_that_somebody_else_can_write_is_refused(public_path: Path, made: str) -> None:
    """Judged as the state directory is, and everything above it; a daemon does not start in it."""
    directory = public_path / "above" / "run"
    directory.mkdir(parents=True)
    if made == "theirs":
        os.chown(directory, STRANGER, STRANGER)
    elif made == "below theirs":
        os.chown(directory.parent, STRANGER, STRANGER)
    elif made == "a link of theirs":
        (public_path / "link").symlink_to(directory)
        os.chown(public_path / "link", STRANGER, STRANGER, follow_symlinks=False)
        directory = public_path / "link"
    else:
        os.chown(directory, 0, STRANGER)
        directory.chmod(0o1777 if made == "everybody's" else 0o775)
    with pytest.raises(StateError) as caught:
        RuntimeDirectory(directory)
    assert str(public_path) in caught.value.problem
    assert caught.value.remedy
    assert not (directory / protocol.SOCKET_NAME).exists()


@needs_root
def test_check_says_it_before_the_daemon_does(public_vm: Vm) -> None:
    """With the key of the config, and a remedy."""
    public_vm.configure(public_vm.agent(), public_vm.credential())
    public_vm.run_directory.mkdir()
    os.chown(public_vm.run_directory, STRANGER, STRANGER)
    done = public_vm.keyturn("check", "--offline", "--json")
    wrong = [one for one in json.loads(done.stdout)["findings"] if one["level"] == "error"]
    assert [one["place"] for one in wrong] == ["agent.runtime_directory"]
    daemon = public_vm.daemon()
    assert daemon.ended() == 1
    assert str(public_vm.run_directory) in daemon.log


@needs_root
def test_no_planted_name_leads_a_change_of_owner_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is swapped for a link in the middle of the start: the file at its end keeps its owner and its mode."""
    victim = tmp_path / "shadow"
    victim.write_text("root's")
    victim.chmod(0o600)
    run = tmp_path / "run"
    run.mkdir()
    real = os.umask

    def swap(mask: int) -> int:
        name = run / protocol.SOCKET_NAME
        if name.exists() and not name.is_symlink():
            name.unlink()
            name.symlink_to(victim)
        return real(mask)

    monkeypatch.setattr(os, "umask", swap)
    with pytest.raises(StateError), RuntimeDirectory(run) as directory:
        directory.listen(STRANGER, 8)
    monkeypatch.undo()
    found = victim.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, 0, 0o600)


@needs_root
def test_the_word_of_a_strangers_daemon_is_worth_nothing(
    public_vm: Vm, false_daemon: Callable[[Path, int], list[bytes]]
) -> None:
    """It would say "safe" to root: nothing is even asked of it, whatever the command."""
    public_vm.configure(public_vm.agent(), public_vm.credential())
    public_vm.run_directory.mkdir()
    os.chown(public_vm.run_directory, STRANGER, STRANGER)
    heard = false_daemon(public_vm.run_directory, STRANGER)
    for arguments in (["rotate", "uploader", "--reason", "leaked", "--yes", "--json"], ["status"], ["refresh"]):
        done = public_vm.keyturn(*arguments)
        assert done.returncode == 77
        assert '"safe": true' not in done.stdout
        assert "nobody" in done.stdout + done.stderr
    assert heard == []


@needs_root
def test_a_daemon_of_a_user_that_the_config_names_is_believed(
    public_vm: Vm, false_daemon: Callable[[Path, int], list[bytes]]
) -> None:
    """The owner of the state directory runs it; not where that one lies in a directory of somebody else's."""
    public_vm.configure(public_vm.agent(), public_vm.credential())
    public_vm.run_directory.mkdir()
    public_vm.state.mkdir(mode=0o700)
    os.chown(public_vm.state, STRANGER, STRANGER)
    heard = false_daemon(public_vm.run_directory, STRANGER)
    public_vm.keyturn("refresh", "--json")
    assert len(heard) == 1
    public_vm.keyturn("check", "--offline")
    assert len(heard) == 2, "check asks it too"
    public_vm.config.chmod(0o666)  # then it is no config that names anybody
    assert public_vm.keyturn("refresh", "--json").returncode == 77
    assert len(heard) == 2


@needs_root
def test_who_listens_is_told_by_the_kernel(tmp_path: Path, false_daemon: Callable[[Path, int], list[bytes]]) -> None:
    """Root, this user, and whom the caller names besides."""
    false_daemon(tmp_path, STRANGER)
    with pytest.raises(UntrustedDaemonError):
        client.ask(tmp_path, {"command": "status"})
    assert client.ask(tmp_path, {"command": "status"}, agents=[STRANGER])[1] == 0


# -- two daemons --------------------------------------------------------------------------------------


def test_a_second_daemon_is_refused_and_told_who_has_the_directory(vm: Vm) -> None:
    """Whatever state directory it has; the first one is reached afterwards as before."""
    vm.configure(vm.agent(), vm.credential())
    first = vm.daemon().ready()
    socket_before = (vm.run_directory / protocol.SOCKET_NAME).stat().st_ino
    other = vm.directory / "other.toml"
    text = vm.config.read_text().replace(str(vm.state), str(vm.directory / "state2"))
    other.write_text(text.replace("audit.jsonl", "audit2.jsonl"))
    mine, vm.config = vm.config, other
    second = vm.daemon()
    assert second.ended() == 1
    assert f"pid {first.pid}" in second.log
    assert str(mine) in second.log
    assert (vm.run_directory / protocol.SOCKET_NAME).stat().st_ino == socket_before
    refused = vm.keyturn("rotate", "uploader", "--reason", "a test", "--yes", "--json")
    assert refused.returncode == 1
    assert str(mine) in json.loads(refused.stdout)["error"]
    vm.config = mine
    assert vm.keyturn("status").returncode == 0
    assert "rotation_started" not in vm.events()


def test_one_config_under_two_names_is_one(vm: Vm) -> None:
    """A link to it, another config for the same state, and one that cannot be read any more: the daemon is theirs."""
    vm.configure(vm.agent(), vm.credential())
    vm.daemon().ready()
    mine = vm.config
    vm.config = vm.directory / "link.toml"
    vm.config.symlink_to(mine)
    assert vm.keyturn("status").returncode == 0
    vm.config = vm.directory / "copy.toml"
    vm.config.write_text(mine.read_text())
    assert vm.keyturn("status").returncode == 0
    vm.config = mine
    mine.write_text(mine.read_text() + "nonsense = 1\n")
    assert vm.keyturn("status").returncode == 0


def test_a_dead_daemon_keeps_nobody_out(tmp_path: Path) -> None:
    """The kernel drops its lock, and its socket is replaced; a file that is no socket is not taken away."""
    with RuntimeDirectory(tmp_path) as first:
        with pytest.raises(BusyError, match=f"pid {os.getpid()}"):
            RuntimeDirectory(tmp_path)
        first.listen(None, 8).close()
        os.link(tmp_path / protocol.SOCKET_NAME, tmp_path / "left")
    (tmp_path / "left").rename(tmp_path / protocol.SOCKET_NAME)
    with RuntimeDirectory(tmp_path) as second:
        second.listen(None, 8).close()
    (tmp_path / protocol.SOCKET_NAME).write_text("somebody's")
    with pytest.raises(StateError), RuntimeDirectory(tmp_path) as third:
        third.listen(None, 8)
    assert (tmp_path / protocol.SOCKET_NAME).read_text() == "somebody's"


def test_a_daemon_takes_away_its_own_socket_alone(tmp_path: Path) -> None:
    """Another one that has the name meanwhile stays."""
    control = ControlServer(RuntimeDirectory(tmp_path), "no-such-group", lambda *_: ({}, 0))
    control.path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(control.path))
        control.close()
        assert control.path.exists()


# -- crowds -------------------------------------------------------------------------------------------


def test_a_full_queue_is_not_no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EAGAIN of connect(2): the daemon is there. The command waits for a place, says so, and gets it or says why not."""
    monkeypatch.setattr(client, "PLACE_S", 4.0)
    said: list[str] = []
    with ExitStack() as opened, RuntimeDirectory(tmp_path) as directory:
        listener = opened.enter_context(directory.listen(None, 0))
        waiting = opened.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(str(directory.socket_path))
        with pytest.raises(BusyError):
            client.ask(tmp_path, {"command": "rotate"}, wait=said.append)
        assert len(said) == 1

        def serve() -> None:
            for _ in range(2):
                channel, _address = listener.accept()
                with channel:
                    if channel.recv(65536):
                        channel.sendall(b'{"result": {}, "exit_code": 0}\n')

        waiting.close()
        threading.Timer(0.5, serve).start()
        assert client.ask(tmp_path, {"command": "rotate"}) == ({}, 0)


def test_as_many_commands_as_there_may_be_refuse_no_emergency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """128 of them hang; `rotate` has places of its own, and another command waits for one that becomes free."""
    monkeypatch.setattr(client, "PLACE_S", 20.0)
    monkeypatch.setattr(client, "ANSWER_S", 60.0)
    freed, begun = threading.Event(), threading.Semaphore(0)

    def handle(request: dict[str, Any], _actor: Any, _send: Any) -> tuple[dict[str, Any], int]:
        if request["command"] == "hang":
            begun.release()
            freed.wait(60)
        return {"did": request["command"]}, 0

    control = ControlServer(RuntimeDirectory(tmp_path), "no-such-group", handle)
    answers: list[object] = []

    def ask(command: str) -> None:
        try:
            answers.append(client.ask(tmp_path, {"command": command})[0]["did"])
        except KeyturnError as error:
            answers.append(error)

    hanging = [threading.Thread(target=ask, args=("hang",)) for _ in range(128)]
    for thread in hanging:
        thread.start()
    for _ in hanging:
        assert begun.acquire(timeout=60)
    ask("rotate")
    assert answers == ["rotate"]
    late = threading.Thread(target=ask, args=("refresh",))
    late.start()
    late.join(0.5)
    assert answers == ["rotate"]
    freed.set()
    for thread in (*hanging, late):
        thread.join(60)
    control.close()
    assert sorted(map(str, answers)) == sorted(["rotate", "refresh", *["hang"] * 128])
