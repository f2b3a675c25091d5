"""All rigs."""

from __future__ import annotations

import rigs_kms
import rigs_local
import rigs_sessions
import rigs_third_party
from rig import Rig

RIGS: tuple[type[Rig], ...] = (*rigs_kms.RIGS, *rigs_sessions.RIGS, *rigs_local.RIGS, *rigs_third_party.RIGS)
