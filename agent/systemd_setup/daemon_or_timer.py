"""The findings of `check` where daemon and timer both start at boot, or where the timer leaves something undone.

They rest on the links that `systemctl enable` makes, which everybody may read. So systemd is not asked, and an image
that does not run can be checked too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent.core.finding import Finding
from agent.core.settings import AgentSettings

SERVICE, TIMER = "keyturn.service", "keyturn-once.timer"
TO_DAEMON = "systemctl disable --now keyturn-once.timer && systemctl enable --now keyturn"
TO_TIMER = "systemctl disable --now keyturn && systemctl enable --now keyturn-once.timer"
_PLACE = "systemd"


def findings(agent: AgentSettings, root: Path = Path("/")) -> Iterator[Finding]:
    """Warn where both are enabled, and where only the timer is and the config wants a file that it does not write.

    Args:
        agent: `[agent]` of the service's config.
        root: the root of the tree that is checked.
    """
    daemon, timer = enabled(SERVICE, root), enabled(TIMER, root)
    if daemon and timer:
        text = f"{SERVICE} and {TIMER} are both enabled, and only one of them runs after a boot"
        yield Finding("warning", _PLACE, text, f"for the daemon, `{TO_DAEMON}`; for the timer, `{TO_TIMER}`")
    elif timer and agent.metrics_textfile:
        text = f"{TIMER} is enabled, and its runs do not renew {agent.metrics_textfile}"
        remedy = f"take agent.metrics_textfile out of the config, and `rm -f {agent.metrics_textfile}`"
        yield Finding("warning", _PLACE, text, remedy)


def enabled(unit: str, root: Path) -> bool:
    """Return whether the unit is enabled, for good or until the next boot."""
    places = ("etc/systemd/system", "run/systemd/system")
    return any(
        (directory / unit).is_symlink()  # which may lead nowhere, as from outside of an image
        for place in places
        for kind in ("wants", "requires")
        for directory in (root / place).glob(f"*.{kind}")
    )
