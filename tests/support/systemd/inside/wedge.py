"""A third party's provider that can bring keyturn's scheduler to a stand: what only the watchdog can mend.

It hands out a value that never changes, ten times a second. While /run/test/wedge holds the id of the process that it
runs in, it has the scheduler's own thread sleep for ever. (keyturn itself asks nothing of a provider on that thread.)
While there is a /run/test/hang, it does not come back itself, whatever it is told.
"""

from __future__ import annotations

import gc
import os
import time
from dataclasses import dataclass
from pathlib import Path

from agent.core.credential import Credential
from agent.core.provider import Provider
from agent.core.secret import Secret
from agent.core.settings import ProviderSettings

MARK, HANG = Path("/run/test/wedge"), Path("/run/test/hang")


@dataclass(frozen=True, kw_only=True)
class Settings(ProviderSettings):
    """Nothing to set."""


class Custom(Provider):
    """The provider."""

    type_name, Settings = "wedge", Settings

    def _fetch(self, timeout_s: float) -> Credential:
        if MARK.exists() and MARK.read_text() == str(os.getpid()):
            loop = next(each for each in gc.get_objects() if type(each).__name__ == "EventLoop")
            loop.post(lambda: time.sleep(1e6))
        while HANG.exists():
            time.sleep(0.1)
        return Credential(access_key_id="LTAI5tWedge", access_key_secret=Secret("s" * 30))

    @property
    def poll_interval_s(self) -> float:
        """Often."""
        return 0.1
