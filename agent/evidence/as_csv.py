"""The report as CSV (RFC 4180): a header, then for each credential one row of its state, its keys and its emergencies.

The first column says which: `credential`, `key` or `emergency`; every credential has exactly one row of the first kind, so
these are the population. Each row ends with what it rests on. A cell that a spreadsheet would take for a formula gets an
apostrophe before it (OWASP, "CSV Injection"), behind a semicolon too, and what is not printable is written out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from agent.core.text import escaped
from agent.core.timestamps import rfc3339
from agent.evidence.model import Change, CredentialReport, Emergency, Report

COLUMNS = (
    "row", "credential", "in_config", "owner", "provider", "identity", "access_key_id", "secret", "version_id", "created_at",
    "first_published_at", "age_days", "max_age_days", "compliant", "why", "rotations", "sessions", "longest_age_days",
    "quarters_without_rotation", "trigger", "actor", "reason", "proved_at", "proved_as", "published_at", "replaced_at", "files",
    "told", "owed", "old_access_key_id", "disabled_at", "refused_at", "deleted_at", "exposure_seconds", "outcome", "left_behind",
    "failures", "request_ids", "host", "agent_version", "config", "seq", "log_first_seq", "log_last_seq", "log_head_hash",
    "log_verdict",
)  # fmt: skip
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a cell of a spreadsheet begins with that is a formula, in the wide forms of East Asia too."""

_NEW_CELL = re.compile(rf";(?=\s*[{re.escape(''.join(FORMULAS))}])")
"""Where a spreadsheet that takes semicolons for separators, as in much of Europe, would begin a cell with a formula."""

Cell = str | int | float | datetime | None


def rows(report: Report) -> Iterator[str]:
    """Yield the rows as text, with their line ends (CR LF), the header first."""
    yield _line(COLUMNS)
    log = report.log
    basis = (log.first_seq, log.last_seq, log.head_hash, log.verdict)
    ending: dict[str, Cell] = dict(zip(COLUMNS[-4:], basis, strict=True))
    for one in report.credentials:
        for row in _rows(one):
            cells = row | ending
            yield _line([cell(cells.get(name)) for name in COLUMNS])


def _line(cells: Sequence[str]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out).writerow(cells)
    return out.getvalue()


def cell(value: Cell) -> str:
    """Return a value as a cell."""
    if isinstance(value, str):
        shown = _NEW_CELL.sub(";'", escaped(value))
        return f"'{shown}" if value.startswith(FORMULAS) else shown
    if isinstance(value, datetime):
        return rfc3339(value)
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def _rows(one: CredentialReport) -> Iterator[dict[str, Cell]]:
    yield _credential(one)
    ends = {old.access_key_id: old for old in one.old_keys}
    for change in one.changes:
        old = ends.get(change.access_key_id)
        row = _common("key", one) | _key(change) | {"told": _told(change.told), "seq": change.seq}
        if old is not None:
            row |= {"disabled_at": old.disabled_at, "refused_at": old.refused_at, "deleted_at": old.deleted_at}
        yield row
    for emergency in one.emergencies:
        yield _common("emergency", one) | _emergency(emergency)


def _common(kind: str, one: CredentialReport) -> dict[str, Cell]:
    return {
        "row": kind,
        "credential": one.name,
        "in_config": "unknown" if one.in_config is None else "yes" if one.in_config else "no",
        "owner": one.owner,
        "provider": one.provider,
        "identity": one.identity,
        "secret": one.secret,
    }


def _credential(one: CredentialReport) -> dict[str, Cell]:
    row = _common("credential", one) | (_key(one.key) if one.key else {})
    row |= {
        "first_published_at": one.first_published_at,
        "age_days": _days(one.age_s),
        "max_age_days": _days(one.max_age_s),
        "compliant": one.compliant,
        "why": one.why,
        "rotations": "; ".join(f"{trigger}={count}" for trigger, count in sorted(one.rotations.items())) or "0",
        "sessions": one.sessions,
        "longest_age_days": _days(one.longest_age_s),
        "quarters_without_rotation": "; ".join(one.quarters_without),
        "files": "; ".join(one.files),
        "told": _told(one.told),
        "owed": "; ".join(one.owed),
        "failures": "; ".join(f"{event}={count}" for event, count in sorted(one.failures.items())),
    }
    return row


def _key(key: Change) -> dict[str, Cell]:
    return {
        "access_key_id": key.access_key_id,
        "version_id": key.version_id,
        "created_at": key.created_at,
        "first_published_at": key.at,
        "published_at": key.at,
        "replaced_at": key.replaced_at,
        "trigger": key.trigger,
        "actor": key.actor,
        "reason": key.reason,
        "proved_at": key.proved_at,
        "proved_as": key.identity,
        "files": "; ".join(key.files),
        "old_access_key_id": key.previous_access_key_id,
        "request_ids": "; ".join(key.request_ids),
        "host": key.host,
        "agent_version": key.agent_version,
        "config": key.config,
    }


def _emergency(one: Emergency) -> dict[str, Cell]:
    return {
        "access_key_id": one.new_key,
        "version_id": one.version_id,
        "trigger": "emergency",
        "actor": one.actor,
        "reason": one.reason,
        "published_at": one.published_at,
        "old_access_key_id": one.old_key,
        "disabled_at": one.disabled_at,
        "refused_at": one.refused_at,
        "deleted_at": one.deleted_at,
        "exposure_seconds": one.exposure_s,
        "outcome": f"{one.outcome}: {one.error}" if one.error else one.outcome,
        "left_behind": "; ".join(one.left_behind),
        "request_ids": "; ".join(one.request_ids),
        "host": one.host,
        "agent_version": one.agent_version,
        "seq": one.seq,
    }


def _told(told: dict[str, str]) -> str:
    return "; ".join(f"{who} ({what})" for who, what in told.items())


def _days(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 86400
