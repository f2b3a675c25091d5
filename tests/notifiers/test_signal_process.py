"""`signal` tells the process meant and no other: every refusal is proved by who was not signalled."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.core.errors import NotifyError
from agent.core.events import PublishEvent
from agent.core.settings import FilePath
from agent.notifiers.interface import Pickup
from agent.notifiers.signal_process import SignalNotifier, SignalSettings
from agent.system.accounts import own_account
from agent.system.pidfile import NoProcessError, read_pid_file
from tests.support.processes import in_child

ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not ROOT, reason="only root can act for another user")
HOUR_S = 3600.0


class Dependent:
    """A process of its own executable, and its pid file. SIGHUP ends it, so its status says what it got first."""

    def __init__(self, directory: Path, name: str = "dependent", user: str | None = None) -> None:
        self.exe = Path(shutil.copy("/bin/sleep", directory / name)) if user is None else Path("/bin/sleep").resolve()
        self.process = subprocess.Popen([self.exe, "1000"], user=user)
        self.pid_file = directory / f"{name}.pid"
        self.pid_file.write_text(f"{self.process.pid}\n")
        self.pid_file.chmod(0o644)

    def first_signal(self) -> int:
        """What it got first: a later SIGTERM is delivered after a pending SIGHUP (signal(7): lowest first)."""
        self.process.send_signal(signal.SIGTERM)
        return -self.process.wait()

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def dependent(tmp_path: Path) -> Iterator[Dependent]:
    """A dependent that runs."""
    found = Dependent(tmp_path)
    yield found
    found.close()


def notifier(
    pid_file: Path | None = None, exe: Path | None = None, user: str | None = None, sig: str = "SIGHUP"
) -> SignalNotifier:
    """Make one as the config would."""
    file, program = FilePath(pid_file) if pid_file else None, FilePath(exe) if exe else None
    return SignalNotifier(SignalSettings(type="signal", signal=sig, user=user, pid_file=file, exe=program))


def refused(one: SignalNotifier, event: PublishEvent, dependent: Dependent) -> NotifyError:
    """Tell, expect a refusal with a remedy, and prove that the dependent got nothing."""
    with pytest.raises(NotifyError) as caught:
        one.tell(event, threading.Event())
    assert dependent.first_signal() == signal.SIGTERM
    assert caught.value.remedy
    return caught.value


def test_the_process_in_the_pid_file_is_told(
    dependent: Dependent, event: PublishEvent, cancel: threading.Event
) -> None:
    """The plain case, and the log says who got what."""
    told = notifier(dependent.pid_file).tell(event, cancel)
    assert dependent.process.wait() == -signal.SIGHUP
    assert told.detail.startswith(f"SIGHUP to pid {dependent.process.pid} (")


def test_another_signal_can_be_sent(dependent: Dependent, event: PublishEvent, cancel: threading.Event) -> None:
    """`signal` is the operator's choice, with or without SIG."""
    notifier(dependent.pid_file, sig="USR1").tell(event, cancel)
    assert dependent.process.wait() == -signal.SIGUSR1


def test_both_pid_file_and_executable_must_fit(
    dependent: Dependent, event: PublishEvent, cancel: threading.Event
) -> None:
    """With both, a process that fits both is told."""
    notifier(dependent.pid_file, dependent.exe).tell(event, cancel)
    assert dependent.process.wait() == -signal.SIGHUP


def test_a_recycled_number_is_never_signalled(dependent: Dependent, event: PublishEvent) -> None:
    """A process that started after its pid file was written is another one that got the number."""
    old = time.time() - HOUR_S
    os.utime(dependent.pid_file, (old, old))
    error = refused(notifier(dependent.pid_file), event, dependent)
    assert "started after this file was written" in error.problem


def test_another_executable_is_never_signalled(dependent: Dependent, event: PublishEvent, tmp_path: Path) -> None:
    """The file names a living process, and it is not the program meant."""
    other = Path(shutil.copy("/bin/sleep", tmp_path / "other"))
    error = refused(notifier(dependent.pid_file, other), event, dependent)
    assert f"does not run {other}" in error.problem


def test_a_pid_file_that_everybody_can_write_is_not_believed(dependent: Dependent, event: PublishEvent) -> None:
    """Mode 0666: anybody could have named that process."""
    dependent.pid_file.chmod(0o666)
    assert "everybody can write" in refused(notifier(dependent.pid_file), event, dependent).problem


def test_a_pid_file_of_another_program_under_a_second_name_is_not_believed(
    dependent: Dependent, event: PublishEvent, tmp_path: Path
) -> None:
    """Whoever owns the directory linked root's pid file of something else into it: the owner and mode are right."""
    planted = tmp_path / "planted.pid"
    planted.hardlink_to(dependent.pid_file)
    assert "has a second name" in refused(notifier(planted), event, dependent).problem


@only_root
def test_a_strangers_pid_file_is_not_believed(dependent: Dependent, event: PublishEvent) -> None:
    """An attacker's own file names a process of root's: root would do the attacker's work."""
    os.chown(dependent.pid_file, 65534, 65534)
    assert "owns this pid file" in refused(notifier(dependent.pid_file), event, dependent).problem


@only_root
def test_the_dependents_own_user_may_write_its_pid_file(
    tmp_path: Path, event: PublishEvent, cancel: threading.Event
) -> None:
    """A service that writes its pid file as itself is believed about itself."""
    theirs = Dependent(tmp_path, user="nobody")
    try:
        os.chown(theirs.pid_file, 65534, 65534)
        told = notifier(theirs.pid_file, user="nobody").tell(event, cancel)
        assert theirs.process.wait() == -signal.SIGHUP
        assert told.detail == f"SIGHUP to pid {theirs.process.pid} (nobody)"
    finally:
        theirs.close()


@only_root
def test_a_link_of_another_user_on_the_way_is_not_followed(
    dependent: Dependent, event: PublishEvent, tmp_path: Path
) -> None:
    """Its owner would choose which program's pid file is read, each of them root's own and in order, and so whom root signals."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "run").symlink_to(tmp_path)
    os.chown(theirs / "run", 65534, 65534, follow_symlinks=False)
    error = refused(notifier(theirs / "run" / dependent.pid_file.name), event, dependent)
    assert "nobody owns a symbolic link on the way" in error.problem


@only_root
def test_the_dependents_own_user_may_own_the_directory(
    tmp_path: Path, event: PublishEvent, cancel: threading.Event
) -> None:
    """As /run/app is the app's: also where keyturn may pass through it and not list it."""
    home = tmp_path / "app"
    home.mkdir()
    theirs = Dependent(home, user="nobody")
    try:
        for path in (home, theirs.pid_file):
            os.chown(path, 65534, 65534)
        notifier(theirs.pid_file).tell(event, cancel)
        assert theirs.process.wait() == -signal.SIGHUP
    finally:
        theirs.close()


def test_our_own_link_on_the_way_and_a_sticky_directory_are_fine(
    dependent: Dependent, event: PublishEvent, cancel: threading.Event, tmp_path: Path
) -> None:
    """/var/run is a link of root's; in /tmp nobody can replace the pid file of another."""
    tmp_path.chmod(0o1777)
    (tmp_path / "var").symlink_to(tmp_path)
    notifier(tmp_path / "var" / dependent.pid_file.name).tell(event, cancel)
    assert dependent.process.wait() == -signal.SIGHUP


def test_a_pid_file_that_everybody_can_replace_is_not_believed(
    dependent: Dependent, event: PublishEvent, tmp_path: Path
) -> None:
    """Without the sticky bit anybody could give its name to another one of root's that lies beside it."""
    tmp_path.chmod(0o777)
    error = refused(notifier(dependent.pid_file), event, dependent)
    assert "everyone can write this directory" in error.problem


@pytest.mark.parametrize("place", ["gone/x.pid", "x.pid"])
def test_a_missing_pid_file_or_directory_is_nobody(
    event: PublishEvent, cancel: threading.Event, tmp_path: Path, place: str
) -> None:
    """/run/app comes with its unit: until then nobody is there to be told, and that is tried again."""
    with pytest.raises(NoProcessError, match="there is no such pid file") as caught:
        notifier(tmp_path / place).tell(event, cancel)
    assert "start the dependent" in caught.value.remedy


@only_root
def test_a_directory_that_need_not_be_listed(public_path: Path) -> None:
    """The right to pass through the directory of a pid file is enough: who may read the file, may do so."""
    (public_path / "x.pid").write_text("12345\n")
    (public_path / "x.pid").chmod(0o644)
    public_path.chmod(0o711)

    def read() -> None:
        assert read_pid_file(str(public_path / "x.pid")).pids == (12345,)

    assert in_child(read, user=65534) == 0


@only_root
def test_another_users_process_is_never_signalled(dependent: Dependent, event: PublishEvent) -> None:
    """With `user`, a process of anybody else is refused."""
    error = refused(notifier(dependent.pid_file, user="nobody"), event, dependent)
    assert "not to nobody" in error.problem


@pytest.mark.skipif(ROOT, reason="root may signal everybody")
def test_a_process_that_may_not_be_signalled_is_named(
    tmp_path: Path, event: PublishEvent, cancel: threading.Event
) -> None:
    """Without the right, the sentence says whose process it is and what would help."""
    roots = (entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit() and entry.stat().st_uid == 0)
    (tmp_path / "pid").write_text(next(pid for pid in roots if pid != "1"))
    with pytest.raises(NotifyError, match="may not signal"):
        notifier(tmp_path / "pid").tell(event, cancel)


def test_a_process_that_has_ended_is_nobody(dependent: Dependent, event: PublishEvent, cancel: threading.Event) -> None:
    """A stale pid file and a zombie are both nobody, and the remedy says that a start is enough."""
    dependent.process.kill()
    os.waitid(os.P_PID, dependent.process.pid, os.WEXITED | os.WNOWAIT)
    for _ in ("zombie", "reaped"):
        with pytest.raises(NoProcessError, match="does not run") as caught:
            notifier(dependent.pid_file).tell(event, cancel)
        assert "start the dependent" in caught.value.remedy
        dependent.process.wait()


def test_every_process_of_an_executable_is_told(tmp_path: Path, event: PublishEvent, cancel: threading.Event) -> None:
    """With `exe` alone: all of them, and none of a copy with the same bytes."""
    first = Dependent(tmp_path)
    bystander = Dependent(tmp_path, "bystander")
    second = subprocess.Popen([first.exe, "1000"])
    try:
        told = notifier(exe=first.exe).tell(event, cancel)
        assert first.process.wait() == second.wait() == -signal.SIGHUP
        assert f"pid {first.process.pid}" in told.detail
        assert f"pid {second.pid}" in told.detail
        assert bystander.first_signal() == signal.SIGTERM
    finally:
        first.close()
        bystander.close()
        second.kill()


def test_an_upgraded_dependent_is_still_told(
    dependent: Dependent, event: PublishEvent, cancel: threading.Event
) -> None:
    """A package upgrade removed the executable that the old process runs."""
    dependent.exe.unlink()
    notifier(exe=dependent.exe).tell(event, cancel)
    assert dependent.process.wait() == -signal.SIGHUP


def test_nobody_running_is_an_error_with_a_remedy(tmp_path: Path, event: PublishEvent, cancel: threading.Event) -> None:
    """An executable that nobody runs."""
    exe = Path(shutil.copy("/bin/sleep", tmp_path / "dependent"))
    with pytest.raises(NoProcessError, match="no process runs this executable") as caught:
        notifier(exe=exe, user=own_account().name).tell(event, cancel)
    assert "start the dependent" in caught.value.remedy


WITHOUT_PTRACE = """\
import ctypes, json, os, sys
PR_CAPBSET_DROP, CAP_SYS_PTRACE = 24, 19
if sys.argv[1] == "drop":
    assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0) == 0
    os.execv(sys.executable, [sys.executable, __file__, "look", *sys.argv[2:]])
from agent.core.settings import FilePath
from agent.notifiers.signal_process import SignalNotifier, SignalSettings
exe, pid_file = sys.argv[2:]
for fields in ({"exe": FilePath(exe)}, {"exe": FilePath(exe), "pid_file": FilePath(pid_file)}):
    found = SignalNotifier(SignalSettings(type="signal", **fields)).inspect()
    print(json.dumps([[one.level, one.text, one.remedy] for one in found]))
"""


@only_root
def test_root_without_the_right_to_look_says_that_and_what_helps(tmp_path: Path) -> None:
    """Without CAP_SYS_PTRACE root may not see what others run: not "nobody runs it", and not "run as root"."""
    theirs = Dependent(tmp_path, user="nobody")
    try:
        script = tmp_path / "look.py"
        script.write_text(WITHOUT_PTRACE)
        done = subprocess.run(
            [sys.executable, str(script), "drop", str(theirs.exe), str(theirs.pid_file)],
            capture_output=True,
            check=True,
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for line in done.stdout.splitlines():
            level, text, remedy = json.loads(line)[-1]
            assert level in ("error", "warning")
            assert "may not" in text
            assert "CAP_SYS_PTRACE" in remedy
            assert "as root" not in remedy
        assert len(done.stdout.splitlines()) == 2
    finally:
        theirs.close()


def test_pickup_is_confirmed_by_a_process_that_started_later(dependent: Dependent) -> None:
    """A process that started after the publish read the new value; of an older one nothing is known."""
    now = datetime.now(UTC)
    one = notifier(dependent.pid_file)
    assert one.pickup(now - timedelta(hours=1)) is Pickup.CONFIRMED
    assert one.pickup(now + timedelta(hours=1)) is Pickup.ASSUMED
    dependent.close()
    assert one.pickup(now - timedelta(hours=1)) is Pickup.ASSUMED


def test_check_tells_what_it_finds_and_signals_nobody(dependent: Dependent) -> None:
    """ok for a process that fits, a warning for nobody, an error for one that is not meant."""
    one = notifier(dependent.pid_file)
    assert [finding.level for finding in one.inspect()] == ["ok"]
    dependent.pid_file.chmod(0o666)
    assert [finding.level for finding in one.inspect()] == ["error"]
    dependent.pid_file.chmod(0o644)
    assert dependent.first_signal() == signal.SIGTERM
    finding = next(one.inspect())
    assert (finding.level, bool(finding.remedy)) == ("warning", True)


def test_impossible_settings_are_found_before_anything_runs() -> None:
    """Nobody named, no such signal, no such user: each has its key."""
    cases: dict[str, dict[str, str]] = {
        "pid_file": {},
        "signal": {"pid_file": "/run/x.pid", "signal": "SIGNOPE"},
        "user": {"pid_file": "/run/x.pid", "user": "keyturn-nobody-at-all"},
    }
    for key, fields in cases.items():
        problems = dict(SignalSettings(type="signal", **fields).problems())  # type: ignore[arg-type]
        assert list(problems) == [key]
    assert not list(SignalSettings(type="signal", exe=FilePath("/usr/sbin/nginx")).problems())


def test_the_same_dependent_has_one_identity() -> None:
    """Two spellings of one signal are the same; another signal or process is not."""
    path = Path("/run/x.pid")
    assert notifier(path, sig="HUP").identity == notifier(path, sig="SIGHUP").identity
    assert notifier(path).identity != notifier(path, sig="USR1").identity
    assert notifier(path).identity != notifier(exe=path).identity
    assert notifier(path).target == "/run/x.pid"


def test_a_reload_signal_cannot_carry_an_environment() -> None:
    """An env file alone with SIGHUP is called out; with SIGTERM (a restart) or a sink that is read again it is not."""
    path = Path("/run/x.pid")
    doubt = notifier(path).hindered(frozenset({"env_file"}))
    assert doubt is not None and "environment" in doubt.text and doubt.pickup is Pickup.NOT_PICKED_UP
    assert notifier(path).hindered(frozenset({"env_file", "json"})) is None
    assert notifier(path, sig="SIGTERM").hindered(frozenset({"env_file"})) is None


def test_a_reload_signal_does_not_make_the_sdk_read_again() -> None:
    """Files that the Python SDK reads once for each client are called out; what is read each time is not."""
    path = Path("/run/x.pid")
    for types in ({"credentials_ini"}, {"aliyun_cli"}, {"credentials_ini", "env_file"}):
        doubt = notifier(path).hindered(frozenset(types))
        assert doubt is not None and "once for each client" in doubt.text, types
        assert doubt.pickup is Pickup.ASSUMED
        assert notifier(path, sig="SIGTERM").hindered(frozenset(types)) is None
    for sink_type in ("ini", "json", "template"):
        assert notifier(path).hindered(frozenset({sink_type})) is None
