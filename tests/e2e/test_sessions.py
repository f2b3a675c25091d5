"""Sessions of roles in real daemons: renewed under a busy dependent, chained on a key that rotates, through outages."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.faults import Fault
from tests.support.consumers import Busy
from tests.support.vm import Vm, eventually, quoted

pytestmark = pytest.mark.slow

LIFE_S = 30.0
"""Of a session under the busy dependent: renewed after 20 s, so that a busy machine has 10 s for it."""
MANY = 100_000


@pytest.fixture
def chained(vm: Vm) -> Vm:
    """A VM whose `app` is a session of a role, assumed with the key of `uploader`, a secret that is polled each second."""
    vm.cloud.allow("uploader", "sts:AssumeRole")
    vm.cloud.add_role("app", trusted=["uploader"])
    vm.configure(vm.credential(poll="1s", sinks=vm.ini()) + app(vm, 'base = "uploader"'))
    return vm


def app(vm: Vm, base: str, notify: str = "") -> str:
    provider = f'type = "ram_role_arn"\nrole_arn = "{vm.cloud.role_arn("app")}"\n{base}\n'
    return vm.credential("app", provider=provider, sinks=vm.env("app"), notify=notify)


@pytest.fixture
def start_busy(vm: Vm) -> Iterator[Callable[[Path], Busy]]:
    """Starts the dependent of `app`, and ends it with the test."""
    made: list[Busy] = []

    def start(pid_file: Path) -> Busy:
        made.append(Busy(vm.env_path("app"), pid_file, vm.server.endpoint, vm.directory / "ca.pem"))
        return made[0]

    yield start
    for each in made:
        each.kill()


def status_of(vm: Vm, name: str = "app") -> dict[str, Any]:
    return dict(vm.status()["credentials"][name])


def until_due(vm: Vm, lead_s: float) -> None:
    """Wait until so many seconds before the renewal of `app` (after it, where negative)."""
    due = datetime.fromisoformat(status_of(vm)["next_refresh_at"])  # cut to the second, so it is a little later
    time.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds() - lead_s))


def published(vm: Vm, name: str = "app") -> list[str]:
    """The ids that were published, in order."""
    return [record["access_key_id"] for record in vm.audit("published", credential=name)]


def until_published(vm: Vm, times: int) -> None:
    eventually(lambda: len(published(vm)) >= times, f"{times} sessions", patience_s=2 * LIFE_S)


def until_in_use(vm: Vm, times: int) -> None:
    """Wait until so many were published, and the dependent signs with the newest."""
    until_published(vm, times)
    newest = published(vm)[-1]  # the daemon signs with it once, to prove it
    eventually(lambda: len([call for call in vm.cloud.calls if call.access_key_id == newest]) >= 5)


def test_a_busy_dependent_is_never_refused(chained: Vm, start_busy: Callable[[Path], Busy]) -> None:
    """Over two lives of sessions, with the base rotated twice, and STS away when one is due.

    The dependent signs twenty times a second with what it read when it was told last; the cloud refuses no call of
    anybody. The outage begins just before a renewal, and ends when a quarter of the life is left.
    """
    vm, pid_file = chained, chained.directory / "app.pid"
    told = f'[[credentials.app.notify]]\ntype = "signal"\npid_file = {quoted(pid_file)}\n'
    vm.configure(vm.credential(poll="1s", sinks=vm.ini()) + app(vm, 'base = "uploader"', told))
    vm.cloud.session_life_s = LIFE_S
    dependent = start_busy(pid_file)
    daemon = vm.daemon().ready()

    vm.cloud.rotate("uploader-ak")
    until_in_use(vm, 2)  # its base has changed
    until_due(vm, lead_s=0.5)
    vm.cloud.fail_next(503, times=2, action="AssumeRole")
    vm.cloud.inject(Fault.RESET, times=MANY, action="AssumeRole")
    eventually(lambda: vm.audit("fetch_failed", credential="app"))
    expires = datetime.fromisoformat(status_of(vm)["expires_at"])
    time.sleep(max(0.0, (expires - datetime.now(UTC)).total_seconds() - LIFE_S / 4))  # the outage
    assert len(published(vm)) == 2
    vm.cloud.faults.clear()
    until_in_use(vm, 3)
    eventually(lambda: vm.audit("recovered", credential="app"))
    until_in_use(vm, 4)  # a life without anything
    vm.cloud.rotate("uploader-ak")
    until_in_use(vm, 5)
    said = dependent.stop()
    assert said["errors"] == {}
    assert [call for call in vm.cloud.refused() if call.action == "GetCallerIdentity"] == []
    assert said["sent"] > 100
    assert said["keys"] == published(vm)
    assert daemon.stop() == 0


def test_what_builds_on_a_key_is_renewed_in_one_go_when_it_rotates(chained: Vm) -> None:
    """KMS rotates: the base is published, then its dependant, whose session the new key has signed for; once each."""
    vm = chained
    vm.daemon().ready()
    assert len(published(vm)) == 1
    new = vm.cloud.rotate("uploader-ak").access_key_id
    until_published(vm, 2)
    assert [call.access_key_id for call in vm.cloud.calls_of("AssumeRole")][1:] == [new]
    steps = [(record["credential"], record["event"]) for record in vm.audit("published", "credential_fetched")[4:]]
    assert steps == [
        ("uploader", "credential_fetched"),
        ("uploader", "published"),
        ("app", "credential_fetched"),
        ("app", "published"),
    ]
    assert "credentials.uploader" in vm.audit("published", credential="app")[1]["reason"]
    assert status_of(vm)["access_key_id"] in vm.env_path("app").read_text()


@pytest.mark.parametrize(("shift_s", "words"), [(1200.0, "20 min behind"), (-1200.0, "20 min ahead of")])
def test_a_clock_that_is_wrong_is_named_with_how_wrong_it_is(vm: Vm, shift_s: float, words: str) -> None:
    """`once` fails; for KMS and for STS its sentence says by how many minutes, and what to do; nothing is written."""
    vm.cloud.allow("uploader", "sts:AssumeRole")
    vm.cloud.add_role("app")
    key = vm.cloud.current_key("uploader-ak")
    for name, text in (("id", key.access_key_id), ("secret", key.access_key_secret)):
        (vm.directory / name).touch(mode=0o600)
        (vm.directory / name).write_text(text)
    places = [f"access_key_{name}_from_file_path = {quoted(vm.directory / name)}" for name in ("id", "secret")]
    inline = f'base = {{ type = "access_key", {", ".join(places)} }}'
    vm.configure(vm.credential() + app(vm, inline))
    vm.cloud.now = lambda: time.time() + shift_s
    done = vm.keyturn("once", "--retry-for", "0s")
    assert done.returncode == 1
    for name in ("uploader", "app"):
        (line,) = [line for line in done.stderr.splitlines() if f"credentials.{name}: " in line]
        assert f"this machine's clock is {words} its; set the clock" in line
    assert list(vm.app.iterdir()) == []


def test_a_start_without_its_source_is_a_start(chained: Vm) -> None:
    """STS and KMS are away: READY all the same, both credentials failing with their reasons; they come by themselves."""
    vm = chained
    vm.cloud.inject(Fault.RESET, times=MANY)
    vm.daemon().ready()
    assert [status_of(vm, name)["state"] for name in ("uploader", "app")] == ["failing", "failing"]
    assert "its base credentials.uploader failed" in status_of(vm)["last_error"]
    assert not vm.env_path("app").exists()
    vm.cloud.faults.clear()
    until_published(vm, 1)
    eventually(lambda: status_of(vm)["state"] == "fresh")
    assert status_of(vm)["access_key_id"] in vm.env_path("app").read_text()
    eventually(lambda: len(vm.audit("recovered")) == 2)


def test_a_start_with_values_on_disk_serves_them_and_asks_for_no_session(chained: Vm) -> None:
    """Everything is away: READY at once, the session on disk is fresh and untouched, and STS is not asked for another."""
    vm = chained
    vm.configure(vm.credential(poll="1h", sinks=vm.ini()) + app(vm, 'base = "uploader"'))
    assert vm.keyturn("once").returncode == 0
    held = vm.env_path("app").read_bytes()
    vm.cloud.inject(Fault.RESET, times=MANY)
    daemon = vm.daemon().ready()
    status = status_of(vm)
    assert (status["state"], status["generation"], status["last_error"]) == ("fresh", 1, None)
    due, dies = (datetime.fromisoformat(status[key]) for key in ("next_refresh_at", "expires_at"))
    assert (dies - due).total_seconds() < 3600 / 2, "as planned for a session of an hour: at two thirds"
    time.sleep(1.0)  # the absence of a call
    assert len(vm.cloud.calls_of("AssumeRole")) == 1
    assert daemon.stop() == 0
    assert vm.env_path("app").read_bytes() == held
    assert len(published(vm)) == 1
    assert vm.audit("fetch_failed", credential="app") == []


def test_a_stopped_process_renews_what_was_due_when_it_goes_on(chained: Vm) -> None:
    """SIGSTOP over a due renewal, SIGCONT: the session is renewed within seconds, not at the next turn of a plan."""
    vm = chained
    vm.cloud.session_life_s = 9.0
    daemon = vm.daemon().ready()
    daemon.signal(signal.SIGSTOP)
    expires = datetime.fromisoformat(vm.audit("published", credential="app")[0]["expiration"])
    time.sleep(max(0.0, (expires - datetime.now(UTC)).total_seconds() - 1.0))  # two thirds have passed for sure
    assert len(published(vm)) == 1
    daemon.signal(signal.SIGCONT)
    eventually(lambda: len(published(vm)) >= 2, "renewed")
