"""Faults with real processes: helpers of the sinks' tests (mounts) and of the e2e tests (a VM) are used here too."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parent.parent / "sinks"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
