"""Which config the daemon goes by, and whether it refused the one that it was told to read since.

A refused reload changes nothing, so nobody would notice it before the next start fails: `status`, STATUS=, the metrics
and `check` all ask here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from agent.core.text import escaped

SHOWN_CHARS = 300
"""Characters of the first problem in one line for `systemctl status`."""


class ConfigInForce:
    """The last reload, good or bad. Belongs to the loop's thread.

    Attributes:
        loaded_at: when the config in force was read.
        refused_at: when one was refused last; None where the config in force is the newest that was read.
        problems: what was wrong with that one, a sentence for each.
    """

    def __init__(self, loaded_at: datetime) -> None:
        self.loaded_at = loaded_at
        self.refused_at: datetime | None = None
        self.problems: tuple[str, ...] = ()

    def loaded(self, now: datetime) -> None:
        """Note that a config was taken over."""
        self.loaded_at, self.refused_at, self.problems = now, None, ()

    def refused(self, now: datetime, problems: Sequence[str]) -> None:
        """Note that one was refused, and the old one stays."""
        self.refused_at, self.problems = now, tuple(problems)

    def summary(self) -> str:
        """Return in one line what was refused; "" where nothing was."""
        if self.refused_at is None:
            return ""
        first, more = escaped(self.problems[0])[:SHOWN_CHARS], len(self.problems) - 1
        return f"config refused, the old one stays: {first}" + (f" (and {more} more)" if more else "")
