"""`keyturn audit incident`: one emergency as a document, made of the audit log alone."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.audit.reader import brothers
from agent.cli import output
from agent.cli.audit_log import refuse_unknown
from agent.cli.document_file import encoded, reserved
from agent.cli.incident_document import Evidence
from agent.core.errors import EXIT_DONE, EXIT_FAILED, AuditError
from agent.emergency.request import refuse_secret
from agent.evidence.emergencies import Emergencies, Emergency
from agent.evidence.formats import Format, format_of
from agent.evidence.incident import Incident
from agent.evidence.incident_file import written
from agent.evidence.incident_from_log import newest
from agent.evidence.incident_page import instant
from agent.system.clock import Clock


def audit_incident(options: argparse.Namespace) -> int:
    """Write the newest emergency, or the one that was asked for; return 1 where the log did not verify."""
    if options.key is not None:
        refuse_secret(options.key, "--key")
    with reserved(options.output) as place:
        form = (
            Format(options.format)
            if options.format
            else format_of(place.path, "--output")
            if place
            else Format.MARKDOWN
        )
        evidence = Evidence(options.config)
        if place is not None:
            place.refuse([Path(options.config), evidence.log, *brothers(evidence.log)])
        found = evidence.read()
        emergencies = _of(found, evidence, options.credential)
        if options.list:
            _list(emergencies, options)
            return EXIT_DONE
        emergency = newest(emergencies, key_id=options.key)
        if emergency is None:
            raise AuditError(
                f"{evidence.log}: no emergency {_wanted(options)}is in it",
                "see `keyturn audit incident --list`; older records may be archived elsewhere",
            )
        incident = evidence.incident(found, emergency, Clock().now())
        text = written(incident, form)
        if place is None:
            print(text, end="", file=options.out)
        else:
            place.write(encoded(text))
    return _complain(incident)


def _of(found: Emergencies, evidence: Evidence, credential: str | None) -> list[Emergency]:
    """Return the emergencies of a credential, or all.

    Raises:
        UsageError: nobody knows that credential.
    """
    emergencies = found.found()
    if credential is None:
        return emergencies
    refuse_unknown(credential, {*evidence.credentials, *found.credentials})
    return [one for one in emergencies if one.credential == credential]


def _wanted(options: argparse.Namespace) -> str:
    of = f"of credentials.{options.credential} " if options.credential else ""
    about = f"about {options.key} " if options.key else ""
    return of + about


def _list(emergencies: Sequence[Emergency], options: argparse.Namespace) -> None:
    rows = [_row(one) for one in emergencies if options.key in (None, one.key_id)]
    if options.format == Format.JSON:
        print(json.dumps([dict(zip(_HEAD, row, strict=True)) for row in rows], indent=2), file=options.out)
        return
    for line in output.table([_HEAD, *(tuple(map(output.one_line, row)) for row in rows)]):
        print(line, file=options.out)


_HEAD = ("asked_at", "credential", "key", "attempts", "old_key", "user", "reason")


def _row(one: Emergency) -> tuple[str, ...]:
    first, old = one.asked[0].told, one.old_key()
    became = (
        "not touched"
        if old.is_anothers
        else "refused"
        if old.refused_at
        else "deleted"
        if old.deleted_at
        else "disabled"
        if old.disabled_at
        else "active"
    )
    return (
        instant(first.began_at),
        one.credential,
        one.key_id or "-",
        str(len(one.asked)),
        became,
        str(first.actor.get("user", "-")),
        first.reason,
    )


def _complain(incident: Incident) -> int:
    """Say what is wrong with the log; return the exit code."""
    basis = incident.basis
    for problem in basis.problems:
        print(output.one_line(f"keyturn: {problem}"), file=sys.stderr)
    return EXIT_FAILED if basis.whole is False else EXIT_DONE
