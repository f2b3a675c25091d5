"""`systemd` calls systemctl and understands what it says. The systemctl here is a script that the test writes."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.core.errors import CancelledError, NotifyError
from agent.core.events import PublishEvent
from agent.core.settings import Duration
from agent.notifiers.interface import HookFailedError, Pickup
from agent.notifiers.systemd import SystemdNotifier, SystemdSettings

UNIT = "uploader.service"


class Systemctl:
    """A systemctl that says what the test wants, and notes how it was called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.says("")

    def says(self, out: str = "", err: str = "", status: int = 0) -> None:
        """Answer every call like this."""
        self.runs(f"printf %s {shlex.quote(out)}; printf %s {shlex.quote(err)} >&2; exit {status}")

    def runs(self, body: str) -> None:
        """Do this at every call."""
        script = self.directory / "systemctl"
        script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >"{self.directory}/calls"\n{body}\n')
        script.chmod(0o755)

    @property
    def called(self) -> list[str]:
        """The arguments of the last call."""
        return (self.directory / "calls").read_text().splitlines()

    def notifier(self, action: str = "reload-or-restart", unit: str = UNIT, **fields: object) -> SystemdNotifier:
        """Make one as the config would, with this systemctl on its path."""
        settings = SystemdSettings(type="systemd", unit=unit, action=action, **fields)  # type: ignore[arg-type]
        return SystemdNotifier(settings, str(self.directory))


@pytest.fixture
def systemctl(tmp_path: Path) -> Systemctl:
    """A systemctl that is content with everything."""
    return Systemctl(tmp_path)


@pytest.fixture
def main_process() -> Iterator[subprocess.Popen[bytes]]:
    """The main process of a unit that runs."""
    process = subprocess.Popen(["/bin/sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def properties(
    pid: int = 0, active: str = "active", reload: str = "yes", loaded: str = "loaded", monotonic: int = 0
) -> str:
    """What `systemctl show` prints."""
    return (
        f"LoadState={loaded}\nActiveState={active}\nMainPID={pid}\nCanReload={reload}\n"
        f"ExecMainStartTimestampMonotonic={monotonic}\n"
    )


def test_the_action_is_done_to_the_unit(systemctl: Systemctl, event: PublishEvent, cancel: threading.Event) -> None:
    """One call that asks nobody for a password, and in which a unit's name can never be an option."""
    told = systemctl.notifier("reload").tell(event, cancel)
    assert systemctl.called == ["--no-ask-password", "reload", "--", UNIT]
    assert told.detail == f"systemctl reload {UNIT}"


def test_kill_sends_the_signal(systemctl: Systemctl, event: PublishEvent, cancel: threading.Event) -> None:
    """`action = "kill"` goes with `signal`."""
    systemctl.notifier("kill", signal="HUP").tell(event, cancel)
    assert systemctl.called == ["--no-ask-password", "--signal=SIGHUP", "kill", "--", UNIT]


def test_what_systemctl_says_is_understood(systemctl: Systemctl, event: PublishEvent, cancel: threading.Event) -> None:
    """Each known complaint becomes a sentence of ours that names the unit, and a remedy; the words go to the log."""
    cases = [
        (5, f"Failed to reload {UNIT}: Unit {UNIT} not found.", "there is no such unit", "daemon-reload"),
        (1, f"Failed to restart {UNIT}: Unit {UNIT} is masked.", "is masked", "unmask"),
        (4, f"Failed to reload {UNIT}: Access denied", "may not reload", "polkit"),
        (1, f"Failed to reload {UNIT}: Interactive authentication required.", "may not reload", "polkit"),
        (1, "Failed to connect to bus: No such file or directory", "cannot be reached", "static User="),
        (
            1,
            "Failed to connect to system scope bus via local transport: Transport endpoint is not connected",
            "cannot be reached",
            "User=",
        ),
        (
            1,
            "System has not been booted with systemd as init system (PID 1). Can't operate.",
            "cannot be reached",
            "host",
        ),
        (
            1,
            f"Failed to reload {UNIT}: Job type reload is not applicable for unit {UNIT}.",
            "cannot reload",
            "reload-or-restart",
        ),
        (1, f"{UNIT} is not active, cannot reload.", "is not running", "try-restart"),
        (1, f"Failed to kill unit {UNIT}: Unit {UNIT} not loaded.", "is not running", "start it"),
        (
            1,
            f"Job for {UNIT} failed because the control process exited with error code.",
            "its job failed",
            "journalctl",
        ),
        (1, f"Job for {UNIT} canceled.", "was cancelled", "again"),
        (1, f"{UNIT}: Start request repeated too quickly.", "too often", "reset-failed"),
        (1, "Something entirely new", "systemctl ended with status 1", "systemctl status"),
        (1, "", "ended with status 1", "systemctl status"),
    ]
    for status, said, problem, remedy in cases:
        systemctl.says(err=said + "\n", status=status)
        with pytest.raises(HookFailedError) as caught:
            systemctl.notifier("reload").tell(event, cancel)
        assert caught.value.output == said
        assert not said or said not in str(caught.value)
        assert problem in caught.value.problem, said
        assert caught.value.problem.startswith(f"{UNIT}: ")
        assert remedy in caught.value.remedy, said


def test_a_job_that_takes_too_long_does_not_hold_the_agent(
    systemctl: Systemctl, event: PublishEvent, cancel: threading.Event
) -> None:
    """The client is ended, and the sentence says that systemd goes on."""
    systemctl.runs("exec sleep 1000")
    with pytest.raises(NotifyError, match="goes on in systemd") as caught:
        systemctl.notifier("restart", timeout=Duration(0.5)).tell(event, cancel)
    assert "timeout" in caught.value.remedy


def test_a_stopping_agent_does_not_begin(systemctl: Systemctl, event: PublishEvent) -> None:
    """Nothing is called, and the unit stays owed."""
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        systemctl.notifier().tell(event, cancel)
    assert not (systemctl.directory / "calls").exists()


def test_a_machine_without_systemctl_is_explained(tmp_path: Path, event: PublishEvent, cancel: threading.Event) -> None:
    """Containers have none; the remedy names other ways."""
    one = SystemdNotifier(SystemdSettings(type="systemd", unit=UNIT), str(tmp_path))
    with pytest.raises(NotifyError, match="no systemctl") as caught:
        one.tell(event, cancel)
    assert "signal or exec" in caught.value.remedy
    assert one.pickup(datetime.now(UTC)) is Pickup.ASSUMED


def test_pickup_is_seen_by_the_start_of_the_main_process(
    systemctl: Systemctl, main_process: subprocess.Popen[bytes]
) -> None:
    """Started after the publish: confirmed. Older after a restart: not picked up. Older after a reload: who knows."""
    systemctl.says(properties(main_process.pid))
    now = datetime.now(UTC)
    before, after = now - timedelta(hours=1), now + timedelta(hours=1)
    cases = {
        ("restart", before): Pickup.CONFIRMED,
        ("restart", after): Pickup.NOT_PICKED_UP,
        ("try-restart", after): Pickup.NOT_PICKED_UP,
        ("reload", before): Pickup.CONFIRMED,
        ("reload", after): Pickup.ASSUMED,
        ("reload-or-restart", after): Pickup.ASSUMED,
    }
    for (action, since), expected in cases.items():
        assert systemctl.notifier(action).pickup(since) is expected, (action, since)
    assert systemctl.called[-2:] == ["--", UNIT]


def test_reload_or_restart_of_a_unit_that_cannot_reload_is_a_restart(
    systemctl: Systemctl, main_process: subprocess.Popen[bytes]
) -> None:
    """Then an old main process is evidence that it did not restart."""
    systemctl.says(properties(main_process.pid, reload="no"))
    assert systemctl.notifier().pickup(datetime.now(UTC) + timedelta(hours=1)) is Pickup.NOT_PICKED_UP


def test_pickup_of_a_unit_without_a_main_process(systemctl: Systemctl) -> None:
    """A stopped unit uses nothing, a failed one picked nothing up, a finished oneshot is known by its timestamp."""
    since = datetime.now(UTC) - timedelta(seconds=30)
    just_now = int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6)
    cases = {
        properties(active="inactive"): Pickup.ASSUMED,
        properties(active="failed", monotonic=just_now): Pickup.NOT_PICKED_UP,
        properties(active="inactive", monotonic=just_now): Pickup.CONFIRMED,
        properties(active="active", monotonic=max(1, just_now - 60_000_000)): Pickup.NOT_PICKED_UP,
        "nonsense": Pickup.ASSUMED,
    }
    for said, expected in cases.items():
        systemctl.says(said)
        assert systemctl.notifier("restart").pickup(since) is expected, said


def test_check_says_whether_the_unit_can_be_told(systemctl: Systemctl) -> None:
    """There, running, able to reload; or a warning or an error with a remedy. Nothing is done to the unit."""
    cases = [
        ("reload", properties(), "ok", f"{UNIT} is active"),
        ("reload-or-restart", properties(), "ok", "will be reloaded"),
        ("reload", properties(reload="no"), "error", "cannot reload"),
        ("restart", properties(active="inactive"), "warning", "inactive"),
        ("restart", properties(loaded="masked", active="inactive"), "error", "masked"),
        ("restart", properties(loaded="not-found", active="inactive"), "error", "no unit"),
    ]
    for action, said, level, text in cases:
        systemctl.says(said)
        (finding,) = systemctl.notifier(action).inspect()
        assert (finding.level, text in finding.text) == (level, True), finding
        assert bool(finding.remedy) is (level != "ok")
        assert "show" in systemctl.called
    systemctl.says(err="Failed to connect to bus: Host is down", status=1)
    (finding,) = systemctl.notifier().inspect()
    assert finding.level == "error"


def test_an_environment_file_needs_a_restart(systemctl: Systemctl) -> None:
    """An env file alone with a reload, or a signal that ends nothing, is called out; a restart is not."""
    env_file = frozenset({"env_file"})
    for one in (systemctl.notifier("reload"), systemctl.notifier("kill", signal="SIGHUP")):
        doubt = one.hindered(env_file)
        assert doubt is not None and "EnvironmentFile" in doubt.text and "try-restart" in doubt.text
        assert doubt.pickup is Pickup.NOT_PICKED_UP
    assert systemctl.notifier("kill", signal="TERM").hindered(env_file) is None
    for action in ("restart", "try-restart"):
        assert systemctl.notifier(action).hindered(env_file) is None


def test_the_sdks_files_need_a_restart_too(systemctl: Systemctl) -> None:
    """What the Python SDK reads once is called out with a reload; what is read each time, or a second such sink, is not."""
    reload, restart = systemctl.notifier("reload"), systemctl.notifier("restart")
    for types in ({"credentials_ini"}, {"aliyun_cli"}, {"credentials_ini", "env_file"}):
        doubt = reload.hindered(frozenset(types))
        assert doubt is not None and "once for each client" in doubt.text and "try-restart" in doubt.text, types
        assert restart.hindered(frozenset(types)) is None
    for fine in ({"ini"}, {"json"}, {"template"}, {"credentials_ini", "json"}):
        assert reload.hindered(frozenset(fine)) is None, fine


def test_reload_or_restart_is_what_the_unit_makes_of_it(systemctl: Systemctl) -> None:
    """The default action reloads a unit that can: then an env file has no effect. Where systemd says nothing, nothing is said."""
    env_file = frozenset({"env_file"})
    for said, doubted in ((properties(), True), (properties(reload="no"), False), ("nonsense", False)):
        systemctl.says(said)
        assert (systemctl.notifier("reload-or-restart").hindered(env_file) is not None) is doubted, said
    systemctl.says(err="Failed to connect to bus: Host is down", status=1)
    assert systemctl.notifier("reload-or-restart").hindered(env_file) is None


def test_a_unit_has_one_name(systemctl: Systemctl) -> None:
    """Without a suffix it is a service, for systemctl and for us; another action is another thing to tell."""
    short, full = systemctl.notifier(unit="uploader"), systemctl.notifier(unit=UNIT)
    assert short.identity == full.identity
    assert short.target == UNIT
    assert full.identity != systemctl.notifier("restart").identity
    assert systemctl.notifier(unit="app.v2").target == "app.v2.service"
    assert systemctl.notifier(unit="sync.timer").target == "sync.timer"


def test_only_the_name_of_one_unit_is_taken() -> None:
    """No options, globs, paths, blanks or empty names."""
    for unit in (
        "--force",
        "-H root@elsewhere",
        "",
        "*.service",
        "a b.service",
        "/etc/x.service",
        "x\n",
        "a" * 300,
        "ü",
    ):
        assert [key for key, _ in SystemdSettings(type="systemd", unit=unit).problems()] == ["unit"], unit
    for unit in ("uploader", "worker@1.service", r"dev-disk\x2d1.mount", "a:b_c.d-e.service"):
        assert not list(SystemdSettings(type="systemd", unit=unit).problems()), unit


def test_kill_and_signal_go_together() -> None:
    """kill without a signal, a signal without kill, and no signal at all are config errors."""
    for action, signal in (("kill", None), ("reload", "SIGHUP"), ("kill", "SIGNOPE")):
        settings = SystemdSettings(type="systemd", unit=UNIT, action=action, signal=signal)  # type: ignore[arg-type]
        assert [key for key, _ in settings.problems()] == ["signal"]


@pytest.mark.skipif(not Path("/usr/bin/systemctl").exists(), reason="no systemctl on this machine")
@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="a real systemd runs here, and is left alone")
def test_the_real_client_without_a_manager_is_understood(event: PublishEvent, cancel: threading.Event) -> None:
    """What the real systemctl says where no systemd runs, as in most containers."""
    assert os.access("/usr/bin/systemctl", os.X_OK)
    one = SystemdNotifier(SystemdSettings(type="systemd", unit="keyturn-no-such-unit"))
    with pytest.raises(NotifyError, match="cannot be reached"):
        one.tell(event, cancel)


@pytest.mark.parametrize("unit", ["keyturn", "keyturn.service", "keyturn-once.service", "keyturn-once.timer"])
def test_keyturn_is_no_dependent_of_its_own(unit: str) -> None:
    """It would restart itself after each publish, and owe it again, for ever: an error of the config, at `unit`."""
    for action in ("restart", "reload-or-restart", "try-restart", "reload"):
        settings = SystemdSettings(type="systemd", unit=unit, action=action)  # type: ignore[arg-type]
        ((key, sentence),) = settings.problems()
        assert key == "unit" and "is keyturn itself" in sentence and "name the unit that uses" in sentence
    assert not list(SystemdSettings(type="systemd", unit="keyturn-app.service").problems())
