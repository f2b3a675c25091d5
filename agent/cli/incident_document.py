"""Where the audit log is, what the config says of a credential, and the incident that both make."""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from agent import __version__
from agent.app import wiring
from agent.audit.proof import Verdict, Witnesses, verify_against
from agent.cli.audit_log import warn
from agent.cli.audit_verify import configured_keys
from agent.config.outline import outline
from agent.core.errors import KeyturnError
from agent.core.settings import Settings
from agent.evidence.emergencies import Emergencies, Emergency
from agent.evidence.incident import Incident
from agent.evidence.incident_from_log import Frame, emergencies_in, incident_from_log


class Evidence:
    """The audit log of a config, which may be broken as long as it says where the log is.

    Attributes:
        log: the newest file of the audit log.
        credentials: the names that the config has.
        settings: the whole config; None where it is broken.
    """

    def __init__(self, config: str) -> None:
        """Find it.

        Raises:
            ConfigError, NotPermittedError: the config does not say where it is.
        """
        found = outline(config, os.environ)
        self.settings = self._read(config, needed=found is None)
        if self.settings is not None:
            state, _runtime, self.log = wiring.paths(self.settings)
            self.credentials: Collection[str] = self.settings.credentials.keys()
        else:
            assert found is not None
            state, self.log, self.credentials = Path(found.state), Path(found.audit), found.credentials
        self._head = state / wiring.AUDIT_HEAD

    @staticmethod
    def _read(config: str, *, needed: bool) -> Settings | None:
        try:
            return wiring.load_settings(config, os.environ)
        except KeyturnError:
            if needed:
                raise
            return None

    def read(self) -> Emergencies:
        """Read the log for its emergencies.

        Raises:
            NotPermittedError: this user may not.
        """
        return emergencies_in(self.log, warn)

    def incident(self, found: Emergencies, emergency: Emergency, now: datetime) -> Incident:
        """Return one of them with all that the log says of it.

        Raises:
            NotPermittedError: this user may not read the log.
        """
        frame = self.frame(emergency.credential, now)
        return incident_from_log(self.log, self._prove, found, emergency, frame, _not_again)

    def _prove(self, first_seq: int) -> Verdict:
        """Prove the log as `audit verify` does, with the key of the config where it names one."""
        witnesses = Witnesses(configured_keys(self.settings) if self.settings is not None else ())
        return verify_against(self.log, self._head, first_seq=first_seq, witnesses=witnesses)

    def frame(self, credential: str, now: datetime) -> Frame:
        """Return what a document says of itself and of the credential."""
        return frame_of(self.settings, credential, now)


def frame_of(settings: Settings | None, credential: str, now: datetime) -> Frame:
    """Return what a document says of itself, and of the credential where there is a config."""
    if settings is None:
        return Frame(now, __version__)
    known = settings.credentials.get(credential)
    return Frame(now, __version__, (known.owner if known else None) or "", settings.cloud.region_id)


def _not_again(_error: KeyturnError) -> None:
    """It was said when the log was read first."""
