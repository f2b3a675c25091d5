"""`keyturn check` comes to its end whatever a provider's `inspect` and `fetch` do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import providers
from agent.app import check
from agent.core.credential import Credential
from agent.core.errors import SourceRefusedError
from agent.core.finding import Finding
from agent.core.provider import Provider
from agent.core.secret import Secret
from agent.core.settings import AgentSettings, AuditSettings, CredentialSettings, FilePath, ProviderSettings, Settings

CANARY = "CanaryOfAThirdParty0123"
Look = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Check one credential whose provider does what the test says, with short limits; return its level and text pairs."""
    monkeypatch.setattr(check, "INSPECT_S", 1.0)
    monkeypatch.setattr(check, "FETCH_S", 1.0)

    def look(
        *, offline: bool = False, fetch: Callable[[], Any] | None = None, inspect: Callable[[], Any] | None = None
    ) -> list[tuple[str, str]]:
        class Vendor(Provider):
            type_name, Settings = "vendor", ProviderSettings

            def _fetch(self, timeout_s: float) -> Credential:
                return fetch() if fetch else Credential("LTAI5tGood", Secret("s" * 30))

            def inspect(self) -> Iterator[Finding]:
                return inspect() if inspect else iter(())

        monkeypatch.setattr(providers, "load", lambda _name: Vendor)
        entry = CredentialSettings(provider=ProviderSettings(type="vendor"), verify="off")
        places = {"state_directory": FilePath(tmp_path / "state"), "runtime_directory": FilePath(tmp_path / "run")}
        agent = AgentSettings(**places, audit=AuditSettings(path=FilePath(tmp_path / "audit.jsonl")))
        settings = Settings(credentials={"uploader": entry}, agent=agent)
        found = list(check.findings(settings, "keyturn.toml", {}, offline=offline))
        assert all(one.remedy for one in found if one.level == "error")
        return [(one.level, one.text) for one in found if one.place == "credentials.uploader.provider"]

    return look


def raising(error: BaseException) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


def hang() -> None:
    threading.Event().wait(60)


def test_a_fetch_that_hangs_is_left_behind(look: Look) -> None:
    """The command comes to its end, and the line says who did not come back."""
    assert look(fetch=hang) == [("error", "provider vendor did not come back within 1 s")]


def test_a_fetch_that_exits_is_a_finding(look: Look) -> None:
    """It does not end the command."""
    assert look(fetch=raising(SystemExit(CANARY))) == [
        ("error", "credentials.uploader: provider vendor failed with SystemExit")
    ]


def slow_findings() -> Iterator[Finding]:
    yield Finding("ok", "", "the file is there")
    hang()


def failing_findings() -> Iterator[Finding]:
    yield Finding("ok", "", "the file is there")
    raise SourceRefusedError("the vault is sealed", "unseal it")


INSPECTS: dict[str, tuple[Callable[[], Any], list[tuple[str, str]]]] = {
    "hangs half-way": (
        slow_findings,
        [("ok", "the file is there"), ("error", "provider vendor did not come back within 1 s")],
    ),
    "hangs at once": (hang, [("error", "provider vendor did not come back within 1 s")]),
    "says how it failed": (failing_findings, [("ok", "the file is there"), ("error", "the vault is sealed")]),
    "raises": (raising(RuntimeError(CANARY)), [("error", "provider vendor failed with RuntimeError")]),
    "exits": (raising(SystemExit(CANARY)), [("error", "provider vendor failed with SystemExit")]),
    "returns nothing": (lambda: None, [("error", "provider vendor failed with TypeError")]),
    "yields what is no finding": (lambda: iter([CANARY]), [("error", "provider vendor failed with AttributeError")]),
}


@pytest.mark.parametrize("what", INSPECTS)
def test_an_inspection_that_goes_wrong_is_a_finding(what: str, look: Look) -> None:
    """What was found before counts; what went wrong is a line of its own, without the exception's text."""
    act, wanted = INSPECTS[what]
    assert look(inspect=act, offline=True) == wanted
