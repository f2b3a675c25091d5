"""The rotation report: what was collected from the log, what the config says, and what follows from both."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from agent import __version__
from agent.core.events import Event
from agent.core.text import first_few
from agent.evidence.collect import Collected
from agent.evidence.history import History
from agent.evidence.model import Change, Configured, CredentialReport, Emergency, LogRange, OldKey, Report

LONGEST_SESSION = timedelta(hours=12)
"""The most that `DurationSeconds` of AssumeRole and the role's own limit allow (Alibaba Cloud STS: 43200 s)."""
CLOCKS_DIFFER = timedelta(minutes=15)
"""Alibaba Cloud refuses a call whose time differs by more from its own."""
SHOWN = 20
"""What is wrong with a log is shown to people up to so many; programs get all of it."""
NOT_TOLD = frozenset({"failed", "gave up"})


def report(
    found: Collected,
    log: LogRange,
    configured: Mapping[str, Configured] | None,
    *,
    now: datetime,
    since: datetime | None,
    credential: str | None = None,
) -> Report:
    """Return the report.

    Args:
        found: what the log says.
        log: which part of it that is, and whether it verified.
        configured: the credentials of the config; None where none was read, as for the copy of a log.
        now: when the report is made.
        since: the beginning of the period; None for that of the log.
        credential: the only one that is wanted; None for the whole population.
    """
    as_of = now if configured is not None else log.last_at or now
    _share_ends(found.histories.values())
    names = [*(configured or {}), *(name for name in sorted(found.histories) if name not in (configured or {}))]
    one_of = [name for name in names if credential is None or name == credential]
    hosts, versions, configs = (list(found.origins[name]) for name in ("host", "agent_version", "config"))
    rows = [
        _credential(found.histories.get(name) or History(name, since), configured, as_of, since, log) for name in one_of
    ]
    return Report(
        now, f"keyturn {__version__}", as_of, since, configured is not None, log, hosts, versions, configs, rows
    )


def _credential(
    history: History,
    configured: Mapping[str, Configured] | None,
    as_of: datetime,
    since: datetime | None,
    log: LogRange,
) -> CredentialReport:
    config = (configured or {}).get(history.name)
    key = history.key
    history.in_use_until(as_of)
    compliant, why = compliance(key, config, as_of)
    owed, owed_known = _owed(history, config)
    _expose(history)
    return CredentialReport(
        name=history.name,
        in_config=None if configured is None else config is not None,
        provider=config.provider if config else "",
        owner=config.owner if config else "",
        identity=history.identity or (config.identity if config else ""),
        identity_source="proved" if history.identity else "config" if config and config.identity else "",
        secret=config.secret if config else "",
        key=key,
        first_published_at=history.first_published_at,
        last_record_at=history.last_at,
        age_s=_age_s(key, as_of) if key else None,
        max_age_s=config.max_age.total_seconds() if config and config.max_age is not None else None,
        compliant=compliant,
        why=why,
        rotations=dict(+history.rotations),
        sessions=history.sessions,
        changes=list(history.changes),
        changes_left_out=history.listed - len(history.changes),
        files=key.files if key and key.files else list(config.files if config else ()),
        told=dict(key.told) if key else {},
        owed=owed,
        owed_known=owed_known,
        old_keys=[one for one in history.old_keys.values() if _concerns(one, since)],
        emergencies=list(history.emergencies),
        longest_age_s=history.longest_s,
        quarters_without=list(_quarters_without(history, since, as_of, log)),
        failures=dict(history.failures),
    )


def compliance(key: Change | None, config: Configured | None, as_of: datetime) -> tuple[str, str]:
    """Return whether a key is as young as `max_age` asks, "yes", "no" or "unknown", and why."""
    if config is None:
        return "unknown", "max_age stands in the config, which has no such credential, or was not read"
    if config.max_age is None:
        return "unknown", "the config has no max_age for it"
    if key is None:
        return "unknown", "no key was published here"
    if key.is_session and config.max_age >= LONGEST_SESSION:
        return "yes", "no session lives longer than 12 h"
    age_s = _age_s(key, as_of)
    if age_s is None:
        return "unknown", "by its time it is from the future: this host's clock was or is wrong"
    if age_s > config.max_age.total_seconds():
        return "no", "it is older than max_age"
    if key.created_at is not None:
        return "yes", "by the time of its creation"
    return "unknown", "when it was created is not recorded, only when it was first published here"


def _age_s(key: Change, as_of: datetime) -> float | None:
    """Return the age of a key in seconds; None for one from the future, beyond what clocks differ by."""
    age = as_of - key.born_at
    return max(0.0, age.total_seconds()) if age >= -CLOCKS_DIFFER else None


def _owed(history: History, config: Configured | None) -> tuple[list[str], str]:
    """Return who was not told of the newest value, and how that is known."""
    if config is not None and config.owed is not None:
        return list(config.owed), "by the state"
    told = history.key.told if history.key else {}
    expected = dict.fromkeys([*(config.dependents if config else sorted(history.expected)), *told])
    return [who for who in expected if told.get(who, "failed") in NOT_TOLD], "as far as the log tells"


def _share_ends(histories: Collection[History]) -> None:
    """Give a key that several credentials held its end in each: it is recorded for the one that was rotated."""
    ended: dict[str, OldKey] = {}
    for old in (old for one in histories for old in one.old_keys.values()):
        if old.disabled_at or old.refused_at or old.deleted_at:
            ended[old.access_key_id] = old
    for old in (old for one in histories for old in one.old_keys.values()):
        end = ended.get(old.access_key_id, old)
        old.disabled_at, old.refused_at = old.disabled_at or end.disabled_at, old.refused_at or end.refused_at
        old.deleted_at, old.refusal = old.deleted_at or end.deleted_at, old.refusal or end.refusal
        old.ended, old.deleted = old.ended or end.ended, old.deleted or end.deleted


def _expose(history: History) -> None:
    """Give each emergency the end of the key that it was about, whichever attempt brought it."""
    for one in history.emergencies:
        old = history.old_keys.get(one.old_key)
        if old is not None:
            one.disabled_at, one.refused_at, one.deleted_at = old.disabled_at, old.refused_at, old.deleted_at
        if one.refused_at is not None and one.exposure_s is None and not one.turned_away:
            passed_s = (one.refused_at - one.asked_at).total_seconds()
            was_before = history.refused_in.get(one.old_key, 0) < one.seq
            one.exposure_s = passed_s if passed_s >= 0 else 0.0 if was_before else None
        one.outcome = one.outcome or "not recorded"


def _concerns(old: OldKey, since: datetime | None) -> bool:
    times = (old.replaced_at, old.disabled_at, old.refused_at, old.deleted_at)
    return since is None or any(at is not None and at >= since for at in times)


# -- quarters --------------------------------------------------------------------------------------------


def _quarters_without(history: History, since: datetime | None, as_of: datetime, log: LogRange) -> Iterator[str]:
    """Yield the quarters since the first publish here in which no key was replaced."""
    begin = history.first_published_at
    if begin is None or (history.key is not None and history.key.is_session):
        return
    start = max(begin, since or begin, log.first_at or begin)
    year, quarter = start.year, (start.month + 2) // 3
    while (begins := _begin_of(year, quarter)) <= as_of:
        ends = _begin_of(year + quarter // 4, quarter % 4 + 1)
        if (year, quarter) not in history.changed_in:
            yield f"{year}-Q{quarter}{'' if begins >= start and ends <= as_of else ' (in part)'}"
        year, quarter = ends.year, (ends.month + 2) // 3


def _begin_of(year: int, quarter: int) -> datetime:
    return datetime(year, 3 * quarter - 2, 1, tzinfo=UTC)


# -- sentences that several formats need ------------------------------------------------------------------


def days(seconds: float | None) -> str:
    """Return a length of time as people say it: `93 d`, `7 h`, `12 s`; "" for none."""
    if seconds is None:
        return ""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def period(made: Report) -> str:
    """Return the period in words."""
    begin = made.since or made.log.first_at
    return (
        f"{begin:%Y-%m-%d %H:%M} to {made.as_of:%Y-%m-%d %H:%M} UTC" if begin else f"to {made.as_of:%Y-%m-%d %H:%M} UTC"
    )


def basis(made: Report) -> list[str]:
    """Return the lines about what the report rests on."""
    log = made.log
    lines = [
        f"{log.verdict}: {log.records} records, seq {log.first_seq} to {log.last_seq}",
        f"head: seq {log.last_seq}, hash {log.head_hash or 'none'}",
        f"files: {', '.join(first_few(log.files)) or 'none'}",
    ]
    if log.verified and not log.end_proved:
        lines.append(
            "nothing here proves that the log ends there: compare the head with `keyturn audit verify` on its host"
        )
    if not made.config_read:
        lines.append("no config was read: owners, max_age and credentials that the log never names are not known")
    return lines


def age(one: CredentialReport) -> str:
    """Return the age of the key in use: `93 d`, or `at least 93 d` where its creation is not recorded."""
    known = one.key is not None and one.key.created_at is not None
    return "" if one.age_s is None else days(one.age_s) if known else f"at least {days(one.age_s)}"


def rotations(one: CredentialReport) -> str:
    """Return how often it was rotated, by trigger: `4 (poll 3, emergency 1)`."""
    by = ", ".join(f"{trigger} {count}" for trigger, count in sorted(one.rotations.items()))
    return f"{sum(one.rotations.values())} ({by})" if by else "0"


def exposure(one: Emergency) -> str:
    """Return how long the old key lived after the command."""
    if one.exposure_s is not None:
        return f"{one.exposure_s:.1f} s"
    if one.turned_away:
        return "not counted: nothing was done"
    if one.refused_at is not None:
        return "seen refused, after a time that is not known: the clock was set back"
    return "not ended: the old key was not seen refused"


def alarms(one: CredentialReport) -> str:
    """Return what went wrong in the period."""
    return ", ".join(f"{Event(event).value} {count}" for event, count in sorted(one.failures.items()))
