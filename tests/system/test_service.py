"""What an operator is told to type names the user who will write there, and works as it stands."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from agent.audit.log import AuditLog
from agent.audit.preflight import log_problem
from agent.core.errors import AuditError, SinkError, StateError
from agent.core.settings import AgentSettings, FileSinkSettings
from agent.metrics.check import findings
from agent.sinks.transaction.target import pin
from agent.state.store import StateStore
from agent.system import systemd_unit
from agent.system.clock import Clock

UNIT = "[Service]\nUser=keyturn\n"
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="plays another user")


def installed(root: Path, text: str = UNIT) -> Path:
    place = root / "usr/lib/systemd/system/keyturn.service"
    place.parent.mkdir(parents=True)
    place.write_text(text)
    return root


@pytest.fixture
def as_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service's user is `daemon` here, whom every machine has."""
    monkeypatch.setattr(systemd_unit, "USER", "daemon")
    monkeypatch.setattr(systemd_unit, "installed", lambda *_: "[Service]\nUser=daemon\n")


def test_the_service_has_a_user_where_it_is_installed_as_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not without the unit, not with an operator's own that runs as root, not where the user was never made."""
    monkeypatch.setattr(systemd_unit, "find_account", lambda _name: object())
    assert systemd_unit.service_user(tmp_path) is None
    assert systemd_unit.service_user(installed(tmp_path)) == "keyturn"
    assert systemd_unit.service_user(installed(tmp_path / "own", "[Service]\nUser=root\n")) is None
    monkeypatch.setattr(systemd_unit, "find_account", lambda _name: None)
    assert systemd_unit.service_user(tmp_path) is None


@only_root
def test_a_sinks_directory_belongs_to_who_writes_it(tmp_path: Path, as_daemon: None) -> None:
    """`install -d -g uploader` alone would make it root's; the command, typed, makes one that the service can write."""
    settings = FileSinkSettings(type="json", path=f"{tmp_path}/no/x.json", group="nogroup")  # type: ignore[arg-type]
    with pytest.raises(SinkError) as caught:
        pin(settings)
    assert caught.value.remedy == f"make it: `install -d -o daemon -g nogroup -m 0750 {tmp_path}/no`"
    subprocess.run(["sh", "-c", caught.value.remedy.split("`")[1]], check=True)
    assert (tmp_path / "no").owner() == "daemon"


@only_root
def test_the_metrics_directory_belongs_to_who_writes_it(tmp_path: Path, as_daemon: None) -> None:
    """The same for metrics_textfile."""
    ((remedy),) = [one.remedy for one in findings(AgentSettings(metrics_textfile=f"{tmp_path}/no/x.prom"))]  # type: ignore[arg-type]
    assert remedy == f"install -d -o daemon -m 0755 {tmp_path}/no"


@only_root
def test_an_audit_log_of_somebody_elses_is_given_to_the_agent(public_path: Path) -> None:
    """Its directory is fine, so the remedy is about the file; `check` says it beforehand."""
    path = public_path / "audit.jsonl"
    path.touch(0o600)
    os.seteuid(65534)
    try:
        with pytest.raises(AuditError) as caught:
            AuditLog(path, public_path / "head", Clock().now)
        said = log_problem(path)
    finally:
        os.seteuid(0)
    assert caught.value.remedy == f"chown nobody {path}"
    assert said is not None and said.remedy == caught.value.remedy


@only_root
def test_root_sees_that_the_service_cannot_go_on_in_roots_log(tmp_path: Path, as_daemon: None) -> None:
    """Root may write it, and that says nothing; a log of another config is none of the service's."""
    path = tmp_path / "audit.jsonl"
    assert log_problem(path, of_the_service=True) is None
    path.touch(0o600)
    said = log_problem(path, of_the_service=True)
    assert said is not None and "belongs to user root" in said.text and said.remedy == f"chown daemon {path}"
    assert log_problem(path) is None
    subprocess.run(["sh", "-c", said.remedy], check=True)
    assert log_problem(path, of_the_service=True) is None


@only_root
def test_the_services_state_is_the_services(public_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else has its credentials, and giving its state to root ends the service: systemd is to start it."""
    monkeypatch.setattr("agent.state.store.service_user", lambda: "daemon")
    state = public_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, 1, 1)
    with pytest.raises(StateError) as caught:
        StateStore(state).prepare()
    assert "systemctl start keyturn" in caught.value.remedy and "keyturn-once" in caught.value.remedy
    assert "chown" not in caught.value.remedy and "sudo" not in caught.value.remedy
    os.seteuid(65534)
    try:
        with pytest.raises(StateError) as refused:
            StateStore(state).prepare()
    finally:
        os.seteuid(0)
    assert "systemctl start keyturn" in refused.value.remedy
