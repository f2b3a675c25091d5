"""The report as one HTML file: the population, then each credential with its timeline."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from agent.core.text import first_few
from agent.core.timestamps import rfc3339
from agent.evidence.as_text import MOODS, proof
from agent.evidence.fields import NOT_RECORDED
from agent.evidence.model import Change, CredentialReport, Emergency, Report
from agent.evidence.page import (
    Block,
    Cell,
    Facts,
    Legend,
    Mark,
    Notice,
    Page,
    Paragraph,
    Pill,
    Section,
    Span,
    Table,
    Timeline,
    render,
)
from agent.evidence.report import SHOWN, age, alarms, basis, days, exposure, period, rotations

UNKNOWN = Pill(NOT_RECORDED, "dim")
LEGEND = Legend([
    ("span", "", "a key in use"), ("span", "bad", "older than max_age"), ("dot", "", "published"),
    ("diamond", "bad", "emergency"), ("square", "", "old key disabled"), ("cross", "", "old key deleted"),
])  # fmt: skip
MOST_DRAWN = 200
"""Keys in one timeline: more are narrower than a pixel or two."""


def html(report: Report) -> Iterator[str]:
    """Yield the document, in pieces."""
    hosts = ", ".join(report.hosts) or f"host {NOT_RECORDED}"
    footer = [
        f"Made {rfc3339(report.made_at)} by {report.made_by}; ages are as of {rfc3339(report.as_of)}.",
        f"The log was written by keyturn {', '.join(report.agent_versions) or f'of a version that is {NOT_RECORDED}'}.",
    ]
    return render(Page("Rotation report", f"{hosts}, {period(report)}", list(_blocks(report)), footer))


def _blocks(report: Report) -> Iterator[Block]:
    log = report.log
    if not log.verified:
        yield Notice(
            "bad", "The audit log did not verify. What follows cannot be relied upon.", first_few(log.problems, SHOWN)
        )
    else:
        yield Notice("good" if log.end_proved else "so-so", f"The audit log: {basis(report)[0]}", basis(report)[3:])
    yield Section(
        "Population", [_population(report.credentials)], Pill(f"{len(report.credentials)} credentials", "dim")
    )
    yield LEGEND
    for one in report.credentials:
        yield _section(one, report)
    yield Section("What this rests on", [Facts(list(_basis(report)))])


def _population(credentials: list[CredentialReport]) -> Table:
    head = ("Credential", "Owner", "Compliant", "Age", "Max. age", "Rotations", "Key in use", "Owed")
    rows = [
        (
            one.name,
            one.owner or Pill("not named", "dim"),
            Pill(one.compliant, MOODS[one.compliant]),
            age(one),
            days(one.max_age_s),
            rotations(one),
            _key_id(one.key) if one.key else Pill("none published here", "dim"),
            Pill(str(len(one.owed)), "bad") if one.owed else "0",
        )
        for one in credentials
    ]
    return Table(head, rows)


def _section(one: CredentialReport, report: Report) -> Section:
    verdict = {"yes": "compliant", "no": "not compliant", "unknown": "compliance unknown"}[one.compliant]
    return Section(one.name, list(_about(one, report)), Pill(verdict, MOODS[one.compliant]))


def _about(one: CredentialReport, report: Report) -> Iterator[Block]:
    if one.in_config is False:
        yield Notice("so-so", f"It is not in the config any more; its last record is of {_time(one.last_record_at)}.")
    yield Facts(list(_facts(one)))
    drawn = _timeline(one, report)
    if drawn is not None:
        yield drawn
    if one.changes:
        yield Table(
            ("Published", "Key", "Trigger", "Asked by", "Reason", "Proved", "End"), list(map(_change, _ends(one)))
        )
    if one.changes_left_out:
        yield Paragraph(f"{one.changes_left_out} keys before these are counted only.")
    if one.emergencies:
        head = ("Emergency", "Asked by", "Reason", "Keys", "Exposure", "Outcome", "Left behind")
        yield Table(head, [_emergency(emergency) for emergency in one.emergencies])


def _facts(one: CredentialReport) -> Iterator[tuple[str, Cell]]:
    yield "Owner", one.owner or Pill("not named", "dim")
    yield "RAM user or role", f"{one.identity} ({one.identity_source})" if one.identity else UNKNOWN
    if one.provider:
        yield "Source", f"{one.provider} {one.secret}"
    yield "Compliant", [Pill(one.compliant, MOODS[one.compliant]), one.why]
    key = one.key
    if key is not None:
        yield "Key in use", [key.access_key_id or "no AccessKey", f"version {key.version_id or 'none'}"]
        yield "Created", rfc3339(key.created_at) if key.created_at else UNKNOWN
        yield "Published here", rfc3339(key.at)
        yield "Proved", proof(key)
        limit = days(one.max_age_s) or ("no limit" if one.in_config else "")
        yield "Age", f"{age(one)} of {limit}" if limit else age(one)
    yield "First published", _time(one.first_published_at) or Pill("never", "dim")
    yield "Files", one.files or Pill("none", "dim")
    yield "Told", [f"{who}: {what}" for who, what in one.told.items()] or Pill("nobody", "dim")
    if one.owed:
        yield "Owed", [Pill(who, "bad") for who in one.owed]
    yield "Rotations", rotations(one) + (f", and {one.sessions} sessions" if one.sessions else "")
    yield "Longest age", days(one.longest_age_s) or Pill("none", "dim")
    if one.quarters_without:
        yield "No rotation in", ", ".join(one.quarters_without)
    if one.failures:
        yield "Went wrong", alarms(one)
    ids = [each for change in one.changes[-3:] for each in change.request_ids]
    if ids:
        yield "Last request ids", ids


def _ends(one: CredentialReport) -> Iterator[tuple[Change, list[str]]]:
    """Yield each key that was published in the period, with its end."""
    ends = {old.access_key_id: old for old in one.old_keys}
    for change in one.changes:
        old = ends.get(change.access_key_id)
        told = [f"replaced {rfc3339(change.replaced_at)}"] if change.replaced_at else ["in use"]
        if old is not None:
            told += [f"disabled {rfc3339(old.disabled_at)}"] if old.disabled_at else []
            told += [f"seen refused {rfc3339(old.refused_at)}"] if old.refused_at else []
            told += [f"deleted {rfc3339(old.deleted_at)}"] if old.deleted_at else []
        yield change, told


def _change(of: tuple[Change, list[str]]) -> tuple[Cell, ...]:
    change, end = of
    return (
        rfc3339(change.at),
        _key_id(change),
        change.trigger,
        change.actor,
        change.reason,
        _owner(change),
        end,
    )


def _owner(key: Change) -> Cell:
    """Return the user or role of an ARN: `user/uploader`; the account is the same all over a table."""
    return key.identity.rpartition(":")[2] or UNKNOWN


def _emergency(one: Emergency) -> tuple[Cell, ...]:
    not_seen = Pill("nothing was done", "dim") if one.turned_away else Pill("not seen refused", "bad")
    is_known = one.exposure_s is not None or (one.refused_at is not None and not one.turned_away)
    seen = Pill(exposure(one), "good") if is_known else not_seen
    outcome: list[str | Pill] = [Pill(one.outcome, "bad"), one.error] if one.error else [one.outcome]
    return (
        rfc3339(one.asked_at),
        one.actor or UNKNOWN,
        one.reason,
        [f"old {one.old_key or '-'}", f"new {one.new_key or '-'}"],
        seen,
        outcome,
        one.left_behind or Pill("nobody recorded", "dim"),
    )


def _basis(report: Report) -> Iterator[tuple[str, Cell]]:
    yield "Audit log", basis(report)
    yield "Notes", first_few(report.log.notes, SHOWN) or Pill("none", "dim")
    yield "Hosts", report.hosts or UNKNOWN
    yield "Agent versions", report.agent_versions or UNKNOWN
    yield "Configs", report.configs or UNKNOWN


def _key_id(key: Change) -> str:
    return key.access_key_id or key.version_id or f"generation {key.generation}"


def _time(at: datetime | None) -> str:
    return rfc3339(at) if at else ""


# -- the timeline ----------------------------------------------------------------------------------------


def _timeline(one: CredentialReport, report: Report) -> Timeline | None:
    """Return the drawing of a credential's keys; None where there is nothing to draw."""
    keys = one.changes[-MOST_DRAWN:]
    if one.key is not None and one.key not in keys:
        keys = [*keys, one.key]
    if not keys or all(key.is_session for key in keys):
        return None
    start = report.since or keys[0].at
    scale = _Scale(start, report.as_of)
    limit = timedelta(seconds=one.max_age_s) if one.max_age_s is not None else None
    spans = [span for key in keys for span in _spans(key, scale, limit)]
    return Timeline(
        f"{one.name}: {len(keys)} keys from {start:%Y-%m-%d} to {report.as_of:%Y-%m-%d}",
        spans,
        list(_marks(one, keys, scale)),
        list(scale.ticks()),
    )


class _Scale:
    """From times to percent of the width."""

    def __init__(self, start: datetime, end: datetime) -> None:
        self.start, self.end = start, max(end, start + timedelta(minutes=1))

    def at(self, when: datetime) -> float:
        """Return where a time is, within the drawing."""
        share = (when - self.start) / (self.end - self.start)
        return round(100 * min(1.0, max(0.0, share)), 2)

    def shows(self, when: datetime | None) -> bool:
        """Return whether a time is in the drawing."""
        return when is not None and self.start <= when <= self.end

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yield places and labels: the beginnings of months where some fit, else five equal parts."""
        long = self.end - self.start
        if long < timedelta(days=60):
            form = "%Y-%m-%d" if long > timedelta(days=5) else "%d %H:%M" if long > timedelta(hours=5) else "%H:%M:%S"
            for part in range(5):
                yield 25.0 * part, format(self.start + long * part / 4, form)
            return
        step = max(1, round(long.days / 30 / 8))
        month = self.start.year * 12 + self.start.month
        while (at := datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)) <= self.end:
            yield self.at(at), f"{at:%Y-%m}"
            month += step


def _spans(key: Change, scale: _Scale, limit: timedelta | None) -> Iterator[Span]:
    begin, end = max(key.at, scale.start), key.replaced_at or scale.end
    late = min(max(key.born_at + limit, begin), end) if limit is not None else end
    for start, stop, mood in ((begin, late, ""), (late, end, "bad")):
        if stop > start:
            text = f"{_key_id(key)}, {start:%Y-%m-%d %H:%M} to {stop:%Y-%m-%d %H:%M}"
            yield Span(scale.at(start), scale.at(stop), f"{text}{', older than max_age' if mood else ''}", mood)


def _marks(one: CredentialReport, keys: list[Change], scale: _Scale) -> Iterator[Mark]:
    for key in keys:
        if scale.shows(key.at):
            yield Mark(scale.at(key.at), "dot", f"{_key_id(key)} published {rfc3339(key.at)} by {key.trigger}")
    for old in one.old_keys:
        for name, at, shape in (("disabled", old.disabled_at, "square"), ("deleted", old.deleted_at, "cross")):
            if at is not None and scale.shows(at):
                yield Mark(scale.at(at), shape, f"{old.access_key_id} {name} {rfc3339(at)}")
    for emergency in one.emergencies:
        if scale.shows(emergency.asked_at) and not emergency.turned_away:
            text = f"emergency {rfc3339(emergency.asked_at)}: {emergency.reason}; exposure {exposure(emergency)}"
            yield Mark(scale.at(emergency.asked_at), "diamond", text, "bad")
