"""The report for a terminal: what did not verify first, then the population in a table, then each credential's details."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence

from agent.core.text import escaped, first_few
from agent.core.timestamps import rfc3339
from agent.evidence.fields import NOT_RECORDED
from agent.evidence.model import Change, CredentialReport, Emergency, OldKey, Report
from agent.evidence.report import SHOWN, age, alarms, basis, days, exposure, period, rotations

Paint = Callable[[str, "str | None"], str]
MOODS = {"yes": "good", "no": "bad", "unknown": "so-so"}
NAME_WIDTH, LABEL_WIDTH = 24, 18
HEAD = ("credential", "compliant", "age", "max", "rotations", "access key in use")


def lines(report: Report, width: int, paint: Paint) -> Iterator[str]:
    """Yield the lines.

    Args:
        report: what is shown.
        width: columns; longer lines are wrapped.
        paint: colours a text in a mood; leaves it as it is where there are no colours.
    """
    log = report.log
    if not log.verified:
        yield paint("THE AUDIT LOG DID NOT VERIFY: what follows cannot be relied upon", "bad")
        for problem in first_few(log.problems, SHOWN):
            yield from _wrapped(problem, width, "  ", 4)
        yield ""
    yield f"keyturn rotation report, {period(report)}"
    yield f"{len(report.credentials)} credentials; {escaped(', '.join(report.hosts)) or f'host {NOT_RECORDED}'}"
    yield ""
    yield from _population(report.credentials, width, paint)
    for one in report.credentials:
        yield ""
        yield from _credential(one, width, paint)
    yield ""
    for number, line in enumerate(basis(report)):
        mood = "bad" if not log.verified else "good" if log.end_proved else "so-so"
        yield from (paint(text, mood if number == 0 else None) for text in _wrapped(line, width))
    for note in first_few(log.notes, SHOWN):
        yield from _wrapped(f"note: {note}", width)


def _population(credentials: Sequence[CredentialReport], width: int, paint: Paint) -> Iterator[str]:
    """Yield a row for each credential: what does not fit into its column goes on below."""
    rows = [(HEAD, None), *((_row(one), MOODS[one.compliant]) for one in credentials)]
    widths = [max(len(cells[column]) for cells, _mood in rows) for column in range(len(HEAD))]
    widths[0] = min(widths[0], NAME_WIDTH)
    used = sum(widths[:4]) + 2 * 5
    widths[4] = max(13, min(widths[4], width - used - 24))
    widths[5] = max(12, width - used - widths[4])
    for cells, mood in rows:
        folded = [_fold(cell, widths[column]) for column, cell in enumerate(cells)]
        for number in range(max(map(len, folded))):
            shown = [part[number] if number < len(part) else "" for part in folded]
            padded = [text.ljust(widths[column]) for column, text in enumerate(shown)]
            padded[1] = paint(padded[1], mood) if shown[1] else padded[1]
            yield "  ".join(padded).rstrip()


def _row(one: CredentialReport) -> tuple[str, ...]:
    return (
        one.name,
        one.compliant,
        age(one).replace("at least ", ">= "),
        days(one.max_age_s) or "-",
        rotations(one),
        (one.key.access_key_id or one.key.version_id or "-") if one.key else "none published here",
    )


def _credential(one: CredentialReport, width: int, paint: Paint) -> Iterator[str]:
    left = one.in_config is False
    yield paint(escaped(one.name), "bad" if one.compliant == "no" else None) + (" (not in the config)" if left else "")
    for label, values in _facts(one):
        several = values if isinstance(values, list) else [values]
        for number, value in enumerate(several):
            before = f"  {'' if number else label:<{LABEL_WIDTH}}"
            yield from _wrapped(value, width, before, len(before) + (2 if len(several) > 1 else 0))


def _facts(one: CredentialReport) -> Iterator[tuple[str, str | list[str]]]:
    yield "owner", one.owner or "not named"
    yield "RAM user or role", f"{one.identity} ({one.identity_source})" if one.identity else NOT_RECORDED
    if one.secret:
        yield "secret", one.secret
    yield "compliant", f"{one.compliant}: {one.why}"
    key = one.key
    if key is not None:
        yield "key", f"{key.access_key_id or '-'}, version {key.version_id or '-'}"
        yield "created", rfc3339(key.created_at) if key.created_at else NOT_RECORDED
        yield "published here", rfc3339(key.at)
        yield "proved", proof(key)
    if one.first_published_at:
        yield "first of all", rfc3339(one.first_published_at)
    yield "files", one.files or "none"
    if one.told:
        yield "told", [f"{who}: {what}" for who, what in one.told.items()]
    if one.owed:
        yield "owed", [f"{who} ({one.owed_known})" for who in one.owed]
    if one.sessions:
        yield "sessions", f"{one.sessions} in the period"
    if one.longest_age_s is not None:
        yield "longest age", days(one.longest_age_s)
    if one.quarters_without:
        yield "no rotation in", ", ".join(one.quarters_without)
    if one.failures:
        yield "went wrong", alarms(one)
    if one.changes:
        yield "keys", [change_line(change) for change in one.changes]
    if one.changes_left_out:
        yield "", f"and {one.changes_left_out} before these"
    if one.old_keys:
        yield "old keys", [old_key_line(old) for old in one.old_keys]
    if one.emergencies:
        yield "emergencies", [emergency_line(emergency) for emergency in one.emergencies]


def proof(key: Change) -> str:
    """Return when a key was proved, and as whom."""
    return f"{rfc3339(key.proved_at)} as {key.identity or NOT_RECORDED}" if key.proved_at else NOT_RECORDED


def change_line(change: Change) -> str:
    """Return one line about a key."""
    asked = f", asked by {change.actor}" if change.actor else ""
    why = f": {change.reason}" if change.reason else ""
    return f"{rfc3339(change.at)} {change.access_key_id or change.version_id or '-'} by {change.trigger}{asked}{why}"


def old_key_line(old: OldKey) -> str:
    """Return one line about the end of a key."""
    ends = [
        f"{name} {rfc3339(at)}"
        for name, at in (
            ("replaced", old.replaced_at),
            ("disabled", old.disabled_at),
            (f"seen {old.refusal or 'refused'}", old.refused_at),
            ("deleted", old.deleted_at),
        )
        if at is not None
    ]
    if old.disabled_at is None and old.refused_at is None and old.deleted_at is None:
        ends.append("its end is not recorded")
    return f"{old.access_key_id}: {', '.join(ends)}"


def emergency_line(one: Emergency) -> str:
    """Return one line about an emergency."""
    error = f" ({one.error})" if one.error else ""
    left = f"; left behind: {', '.join(one.left_behind)}" if one.left_behind else ""
    return (
        f"{rfc3339(one.asked_at)} by {one.actor or NOT_RECORDED}: {one.reason or 'no reason'}; "
        f"{one.old_key or '-'} -> {one.new_key or '-'}; exposure {exposure(one)}; outcome {one.outcome}{error}{left}"
    )


def _fold(text: str, width: int) -> list[str]:
    return textwrap.wrap(escaped(text), width) or [""]


def _wrapped(text: str, width: int, before: str = "", hang: int = 2) -> list[str]:
    """Return lines of at most `width` columns, and all but the first further in."""
    return textwrap.wrap(
        escaped(text), max(width, 40), initial_indent=before, subsequent_indent=" " * hang, break_on_hyphens=False
    ) or [before.rstrip()]
