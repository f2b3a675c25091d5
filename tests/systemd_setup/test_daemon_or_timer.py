"""`check` on the daemon and the timer: which of them is enabled."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.settings import AgentSettings, FilePath
from agent.systemd_setup import daemon_or_timer

LINKS = {
    daemon_or_timer.SERVICE: "etc/systemd/system/multi-user.target.wants/keyturn.service",
    daemon_or_timer.TIMER: "etc/systemd/system/timers.target.wants/keyturn-once.timer",
}


def enable(root: Path, *units: str) -> None:
    """As `systemctl enable` does it."""
    for unit in units:
        link = root / LINKS[unit]
        link.parent.mkdir(parents=True)
        link.symlink_to(f"/lib/systemd/system/{unit}")  # dangles here, and is a link all the same


@pytest.mark.parametrize("units", [(), (daemon_or_timer.SERVICE,), (daemon_or_timer.TIMER,)])
def test_nothing_is_said_of_one_or_none(tmp_path: Path, units: tuple[str, ...]) -> None:
    """Either is a choice."""
    enable(tmp_path, *units)
    assert list(daemon_or_timer.findings(AgentSettings(), tmp_path)) == []


def test_both_enabled_is_warned_of(tmp_path: Path) -> None:
    """With the way to either, whole, as it is typed."""
    enable(tmp_path, *LINKS)
    (found,) = daemon_or_timer.findings(AgentSettings(), tmp_path)
    assert found.level == "warning" and "both enabled" in found.text
    assert f"`{daemon_or_timer.TO_DAEMON}`" in found.remedy and f"`{daemon_or_timer.TO_TIMER}`" in found.remedy


def test_figures_that_nobody_renews_are_warned_of(tmp_path: Path) -> None:
    """The timer's runs write no metrics; a file that the daemon left grows old and rings for ever."""
    figures = AgentSettings(metrics_textfile=FilePath("/srv/keyturn.prom"))
    enable(tmp_path, daemon_or_timer.SERVICE)
    assert list(daemon_or_timer.findings(figures, tmp_path)) == []
    (tmp_path / LINKS[daemon_or_timer.SERVICE]).unlink()
    enable(tmp_path, daemon_or_timer.TIMER)
    (found,) = daemon_or_timer.findings(figures, tmp_path)
    assert found.level == "warning" and "rm -f /srv/keyturn.prom" in found.remedy


def test_the_documents_and_the_unit_say_the_same() -> None:
    """The commands stand in the timer's file, in docs/systemd.md and in `check`, to the letter."""
    root = Path(__file__).parents[2]
    for name in ("systemd/keyturn-once.timer", "docs/systemd.md"):
        text = (root / name).read_text()
        assert daemon_or_timer.TO_DAEMON in text and daemon_or_timer.TO_TIMER in text, name
