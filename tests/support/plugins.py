"""Third parties' providers: a package that an entry point names, and one that wedges the daemon that runs it."""

from __future__ import annotations

import textwrap
from pathlib import Path


def packaged(site: Path, name: str, code: str, provider: str, type_name: str = "") -> Path:
    """What an installer leaves in a directory of packages: the module `name`, and an entry point for its class `provider`."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text(textwrap.dedent(code))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[keyturn.providers]\n{type_name or name} = {name}:{provider}\n")
    return site


def wedge(site: Path, before: str = "") -> Path:
    """Install the provider `wedge`: once there is something at its `fifo`, it blocks the scheduler's own thread there.

    `before` is code that runs when the package is imported.
    """
    return packaged(site, "wedge", before + WEDGE, "Wedge")


WEDGE = """
import gc
import os
from dataclasses import dataclass
from agent.core.credential import Credential
from agent.core.provider import Provider
from agent.core.secret import Secret
from agent.core.settings import ProviderSettings
from agent.runtime.event_loop import EventLoop

@dataclass(frozen=True, kw_only=True)
class Settings(ProviderSettings):
    fifo: str

class Wedge(Provider):
    type_name, Settings = "wedge", Settings

    def _fetch(self, timeout_s):
        if os.path.exists(self.settings.fifo):  # keyturn asks nothing of a provider on the scheduler's own thread
            loop = next(each for each in gc.get_objects() if isinstance(each, EventLoop))
            loop.post(self.block)
        return Credential(access_key_id="LTAI5tWedge", access_key_secret=Secret("s" * 30))

    def block(self):
        with open(self.settings.fifo) as fifo:
            fifo.read()

    @property
    def poll_interval_s(self):
        return 0.1
"""
