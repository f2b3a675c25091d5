"""All rigs."""

from __future__ import annotations

from tests.support.rigs import kms as rigs_kms
from tests.support.rigs import local as rigs_local
from tests.support.rigs import sessions as rigs_sessions
from tests.support.rigs import third_party as rigs_third_party
from tests.support.rigs.rig import Rig

RIGS: tuple[type[Rig], ...] = (*rigs_kms.RIGS, *rigs_sessions.RIGS, *rigs_local.RIGS, *rigs_third_party.RIGS)
