"""The document of a `rotate`: made of the audit log, or of what `rotate` itself was told.

The latter where this user may not read the log, or the log has nothing of this emergency.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from agent.cli.incident_document import Evidence, frame_of
from agent.core.errors import KeyturnError
from agent.emergency.request import Request
from agent.evidence.fields import steps_of, texts_of
from agent.evidence.formats import Format
from agent.evidence.incident import Attempt, Incident
from agent.evidence.incident_file import written
from agent.evidence.incident_from_log import newest
from agent.evidence.incident_from_result import incident_from_result
from agent.system.accounts import actor_name
from agent.system.clock import Clock

EARLIER = timedelta(seconds=2)
"""By so much a record may be older than the command by this clock: they are on one machine, and a clock may be set."""


@dataclass(frozen=True, slots=True)
class Told:
    """What `rotate` was told.

    Attributes:
        request: what was asked for.
        began_at: when.
        steps: those that have ended, as they were shown.
        result: the object that `rotate --json` prints, or as much of it as there is.
    """

    request: Request
    began_at: datetime
    steps: Sequence[dict[str, Any]]
    result: dict[str, Any]


def document(told: Told, config: str, form: Format) -> str:
    """Return the document, whole."""
    request = told.request
    settings = None
    try:
        evidence = Evidence(config)
        settings = evidence.settings
        incident = _from_log(evidence, told)
        why_not = f"{evidence.log} has no record of this emergency"
    except KeyturnError as error:
        incident, why_not = None, error.problem
    if incident is None:
        now, result = Clock().now(), told.result
        has_ended = "steps" in result or "error" in result
        attempt = Attempt(
            told.began_at,
            now if has_ended else None,
            {"uid": os.getuid(), "user": actor_name(os.getuid()), "pid": os.getpid()},
            os.uname().nodename,
            request.reason,
            request.leaked or "",
            steps=steps_of(told.steps),
        )
        incident = incident_from_result(result, attempt, frame_of(settings, request.credential, now), why_not)
    return written(incident, form)


def _from_log(evidence: Evidence, told: Told) -> Incident | None:
    """Return what the log says of it; None where it has nothing of it."""
    found = evidence.read()
    emergency = newest(found.found(), told.request.credential)
    if emergency is None or emergency.asked[-1].told.began_at < told.began_at - EARLIER:
        return None
    incident = evidence.incident(found, emergency, Clock().now())
    *earlier, last = incident.attempts
    if last.steps is None and told.steps:  # interrupted: it goes on in the daemon, or was stopped
        last = replace(last, steps=steps_of(told.steps))
    return replace(incident, attempts=(*earlier, last), notes=texts_of(told.result, "notes"))
