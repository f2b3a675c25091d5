"""Where the audit log is, on this host or as a copy, what the config says of a credential, and the incident that they make."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from agent import __version__
from agent.app import wiring
from agent.audit.head import Remembered
from agent.audit.hmac_key import HmacKey
from agent.audit.proof import Verdict, Witnesses, verify, verify_against
from agent.cli.audit_log import refuse_none, warn
from agent.cli.audit_verify import configured_keys
from agent.config.outline import outline
from agent.core.errors import KeyturnError
from agent.core.settings import Settings
from agent.evidence.emergencies import Emergencies, Emergency
from agent.evidence.incident import Incident
from agent.evidence.incident_from_log import Frame, emergencies_in, incident_from_log


@dataclass(frozen=True, slots=True)
class Evidence:
    """An audit log, and what is known of it besides.

    Attributes:
        log: its newest file.
        credentials: the names that the config has; none of a copy.
        settings: the whole config; None where it is broken, or the log is a copy.
        head: the state's file about the log, or what somebody knows of a copy's newest record.
        keys: those of `--hmac-key-file`; the config's is taken where there are none.
        first_seq: the number that the oldest record must have; None for whichever it has.
        is_copy: neither config nor state belong to it.
    """

    log: Path
    credentials: Collection[str]
    settings: Settings | None
    head: Path | Remembered | None
    keys: tuple[HmacKey, ...] = ()
    first_seq: int | None = None
    is_copy: bool = False

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
        frame = frame_of(self.settings, emergency.credential, now)
        made = incident_from_log(self.log, self._prove, found, emergency, frame, _not_again)
        end_proved = bool(made.basis.whole) and self.head is not None
        first_seq = self.first_seq or made.basis.verified_from
        basis = replace(made.basis, is_copy=self.is_copy, end_proved=end_proved, verified_from=first_seq)
        return replace(made, basis=basis)

    def _prove(self, oldest: int) -> Verdict:
        """Prove the log as `audit verify` does, from its oldest record on unless another one was named."""
        first_seq = self.first_seq or oldest
        if isinstance(self.head, Path):
            keys = self.keys or (configured_keys(self.settings) if self.settings is not None else ())
            return verify_against(self.log, self.head, first_seq=first_seq, witnesses=Witnesses(keys))
        return verify(self.log, self.head, first_seq=first_seq, witnesses=Witnesses(self.keys), is_copy=True)


def of_this_host(config: str, keys: tuple[HmacKey, ...] = (), first_seq: int | None = None) -> Evidence:
    """Return the log of a config, which may be broken as long as it says where the log is.

    Raises:
        ConfigError, NotPermittedError: the config does not say where it is.
    """
    found = outline(config, os.environ)
    settings = _settings(config, needed=found is None)
    if settings is not None:
        state, _runtime, log = wiring.paths(settings)
        credentials: Collection[str] = settings.credentials.keys()
    else:
        assert found is not None
        state, log, credentials = Path(found.state), Path(found.audit), found.credentials
    return Evidence(log, credentials, settings, state / wiring.AUDIT_HEAD, keys, first_seq)


def of_a_copy(
    log: Path, head: Remembered | None, keys: tuple[HmacKey, ...] = (), first_seq: int | None = None
) -> Evidence:
    """Return a copy of a log, as an auditor has it.

    Raises:
        AuditError: there is none.
    """
    refuse_none(log)
    return Evidence(log, (), None, head, keys, first_seq, is_copy=True)


def _settings(config: str, *, needed: bool) -> Settings | None:
    try:
        return wiring.load_settings(config, os.environ)
    except KeyturnError:
        if needed:
            raise
        return None


def frame_of(settings: Settings | None, credential: str, now: datetime) -> Frame:
    """Return what a document says of itself, and of the credential where there is a config."""
    if settings is None:
        return Frame(now, __version__)
    known = settings.credentials.get(credential)
    return Frame(now, __version__, (known.owner if known else None) or "", settings.cloud.region_id)


def _not_again(_error: KeyturnError) -> None:
    """It was said when the log was read first."""
