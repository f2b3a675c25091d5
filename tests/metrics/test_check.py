"""`check` says beforehand why metrics would not be seen."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from agent.core.problem import Problem
from agent.core.settings import AgentSettings, FilePath
from agent.metrics import check as module
from agent.metrics.check import findings
from tests.support.scraper import free_port


def only(**settings: str) -> tuple[str, str, str, str]:
    given = {key: FilePath(value) if key == "metrics_textfile" else value for key, value in settings.items()}
    (found,) = findings(AgentSettings(**given))  # type: ignore[arg-type]
    return found.level, found.place, found.text, found.remedy


def test_nothing_configured_is_nothing_said() -> None:
    """No line about what nobody asked for."""
    assert list(findings(AgentSettings())) == []


def test_a_free_address_is_well() -> None:
    """And it is free afterwards."""
    address = f"127.0.0.1:{free_port()}"
    for _ in range(2):
        assert only(metrics_listen=address)[:3] == ("ok", "agent.metrics_listen", f"{address} is free")


def test_an_address_that_a_stranger_holds_is_an_error() -> None:
    """In use by something that is no keyturn, or that does not even answer."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        level, _place, text, remedy = only(metrics_listen=address)
    assert level == "error" and "in use" in text and "ss -ltnp" in remedy


def test_an_address_of_another_machine_is_an_error() -> None:
    """192.0.2.0/24 is nobody's (RFC 5737)."""
    level, _place, text, remedy = only(metrics_listen="192.0.2.1:9464")
    assert level == "error" and "no interface" in text and remedy


def test_the_file_must_be_where_it_can_be_written_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that is missing or closed is an error, a name that node_exporter passes over a warning."""
    assert only(metrics_textfile=str(tmp_path / "k.prom"))[0] == "ok"
    level, _place, _text, remedy = only(metrics_textfile=str(tmp_path / "no" / "k.prom"))
    assert level == "error" and "install -d" in remedy
    level, _place, _text, remedy = only(metrics_textfile=str(tmp_path / "k.txt"))
    assert level == "warning" and ".prom" in remedy
    monkeypatch.setattr(module.os, "access", lambda *_args, **_more: False)
    level, _place, text, remedy = only(metrics_textfile=str(tmp_path / "k.prom"))
    assert level == "error" and str(os.geteuid()) in text and "ReadWritePaths=" in remedy
    monkeypatch.setattr(module, "write_problem", lambda _directory: Problem("it is full", "make room"))
    assert only(metrics_textfile=str(tmp_path / "k.prom"))[2:] == ("it is full", "make room")
