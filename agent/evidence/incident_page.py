"""An incident in words: the page that is written as HTML or as Markdown."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from agent.core.cut_off import cutting_off, letting_back, role_in
from agent.core.text import first_few
from agent.core.timestamps import rfc3339
from agent.evidence.actiontrail import looks, window
from agent.evidence.fields import NOT_RECORDED
from agent.evidence.incident import Attempt, Dependent, Host, How, Incident, LeftBehind
from agent.evidence.incident_basis import basis_of
from agent.evidence.page import Block, Cell, Commands, Facts, Notice, Page, Paragraph, Pill, Section, Table

MAX_ROWS = 200
"""Rows of one table; the JSON has all."""
NO_RECORD = "no record of it"
SET_BACK = "after a time that is not known, because the clock was set back meanwhile"
_MOODS = {
    "done": "good", "failed": "bad", "warning": "so-so",
    How.CONFIRMED: "good", How.ASSUMED: "dim", How.LEFT_BEHIND: "bad", How.NOT_TOLD: "bad",
}  # fmt: skip


def page_of(incident: Incident) -> Page:
    """Return the document."""
    key = incident.old.access_key_id or "a key that is not known"
    return Page(
        f"Emergency of {incident.credential}: {'session' if incident.old.is_session else 'AccessKey'} {key}",
        f"asked for at {instant(incident.commanded_at)}"
        + (f" on {host}" if (host := incident.attempts[0].host) else ""),
        [
            _verdict(incident),
            Section("What leaked", [_what_leaked(incident)]),
            Section("Who asked", list(_who_asked(incident))),
            Section("What was done", list(_what_was_done(incident))),
            Section("How long the key lived", list(_how_long(incident))),
            Section("Who was told", list(_who_was_told(incident))),
            Section("Who was left behind", list(_who_was_left_behind(incident))),
            *([Section("The other hosts", list(_other_hosts(incident)))] if incident.hosts is not None else []),
            Section("What keyturn cannot know, and how to look", list(_unknown(incident))),
            Section("What this rests on", list(basis_of(incident))),
        ],
        [f"Made at {instant(incident.made_at)} by keyturn {incident.made_by}. All times are UTC."],
    )


# -- words ------------------------------------------------------------------------------------------


def instant(at: datetime | None) -> str:
    """Return a time in milliseconds; what is not known is said."""
    return NOT_RECORDED if at is None else f"{rfc3339(at)[:-1]}.{at.microsecond // 1000:03d}Z"


def span(ms: int | None) -> str:
    """Return milliseconds in the two largest units that tell something."""
    if ms is None:
        return ""
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.3f} s" if seconds < 10 else f"{seconds:.1f} s"
    whole = round(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    begun = list(itertools.dropwhile(lambda part: not part[0], parts))
    return " ".join(f"{count} {unit}" for count, unit in begun[:2] if count)


def _named(left: Sequence[LeftBehind]) -> str:
    names = list(dict.fromkeys(one.dependent or f"the credential {one.credential}" for one in left))
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _first(count: int) -> str:
    return f"These are the first {MAX_ROWS} of {count}; --format json has all."


def _table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    return Table(head, rows[:MAX_ROWS], _first(len(rows)) if len(rows) > MAX_ROWS else "")


# -- the sections -----------------------------------------------------------------------------------


def _verdict(incident: Incident) -> Notice:
    """Return what is to be read first."""
    old, behind = incident.old, incident.still_behind
    details = []
    if behind or incident.left_behind_more:
        more = f" and {incident.left_behind_more} more" if incident.left_behind_more else ""
        details.append(f"Left behind on the old key: {_named(behind)}{more}.")
    elif incident.new_access_key_id:
        details.append("Nobody on this host is known to be left behind.")
    if assumed := [one.name for one in incident.dependents if one.how is How.ASSUMED]:
        names = ", ".join(first_few(list(dict.fromkeys(assumed)), 10))
        details.append(f"Only assumed to use the new key, told and without evidence either way: {names}.")
    if incident.hosts is not None:
        details.append(_hosts_in_short(incident))
    if incident.last.ended_at is None:
        details.append("The last attempt has no end in what this document was made of: it goes on, or was interrupted.")
    if incident.basis.whole is False:
        details.append("The audit log did not verify: see the last section before you rely on this.")
    passed = incident.lived_on_ms(old.refused_at or old.disabled_at)
    after = f"{span(passed)} after the command" if passed is not None else SET_BACK
    if old.refused_at:
        return Notice("so-so" if behind else "good", f"The old key was seen refused {after}", details)
    if old.deleted_at:
        return Notice("so-so", "The old key was deleted; a refusal was not seen", details)
    if old.disabled_at:
        return Notice("so-so", f"The old key was disabled {after}; a refusal was not seen", details)
    if old.is_session and incident.new_access_key_id:
        return Notice("so-so", "A new session was taken; the old one lives until it expires", details)
    if incident.new_access_key_id:
        return Notice("bad", "The old key was replaced and not disabled: it may still work", details)
    if old.is_anothers:
        return Notice("bad", "Nothing was done: the key that was named is not one of this credential's", details)
    return Notice("bad", "No new key was published: the key that leaked is still in use here", details)


def _what_leaked(incident: Incident) -> Facts:
    old = incident.old
    named = next((one.leaked for one in incident.attempts if one.leaked), "")
    how = "the command named it (--leaked)" if named else "the command named no key; this was the one in use"
    told: list[tuple[str, Cell]] = [
        ("Credential", incident.credential),
        ("Owner", incident.owner or "the config names none"),
        ("Session" if old.is_session else "AccessKey id", old.access_key_id or NOT_RECORDED),
        ("Known how", how if old.access_key_id else NOT_RECORDED),
    ]
    told.append(("Whose", old.identity or NOT_RECORDED))
    if not old.is_session:
        told.append(("Secret version", old.version_id or NOT_RECORDED))
    told.append(("Held by", list(old.sinks[:MAX_ROWS]) or NOT_RECORDED))
    told.append(("Replaced by", incident.new_access_key_id or "nothing"))
    if incident.version_id and incident.new_access_key_id:
        told.append(("Its version", incident.version_id))
    others = [f"{name} (generation {generation})" for name, generation in incident.moved if name != incident.credential]
    if others:
        told.append(("Moved with it", others))
    return Facts(told)


def _who_asked(incident: Incident) -> Iterator[Block]:
    for number, one in enumerate(incident.attempts, 1):
        if len(incident.attempts) > 1:
            yield Paragraph(f"Attempt {number} of {len(incident.attempts)}:")
        actor = one.actor
        told: list[tuple[str, Cell]] = [
            ("User", f"{actor.get('user', '?')} (uid {actor.get('uid', '?')}, pid {actor.get('pid', '?')})"),
            ("Host", one.host or NOT_RECORDED),
            ("Asked at", instant(one.began_at)),
            ("Reason", one.reason or NOT_RECORDED),
            ("Ended at", instant(one.ended_at)),
        ]
        if one.outcome:
            told.append(("Came to", one.outcome))
        if one.error:
            told.append(("Error", one.error))
        yield Facts(told)


def _what_was_done(incident: Incident) -> Iterator[Block]:
    for number, one in enumerate(incident.attempts, 1):
        if len(incident.attempts) > 1:
            yield Paragraph(f"Attempt {number}, since its own command at {instant(one.began_at)}:")
        yield from _steps(one)
    for note in incident.notes:
        yield Commands(note) if note.startswith("aliyun ") else Paragraph(f"Note: {note}")


def _steps(one: Attempt) -> Iterator[Block]:
    if one.turned_away:
        yield Paragraph("It was turned away before it began.")
        return
    if one.steps is None:
        yield Paragraph(
            "How its steps ended is not recorded: it was written by an older keyturn, or was interrupted. The records that it "
            "did leave:"
        )
        rows = [(instant(record.at), str(record.seq), record.event, record.text) for record in one.records]
        yield _table(("At", "seq", "Event", "What it says"), rows)
        return
    if not one.steps:
        yield Paragraph("It ended before its first step.")
        return
    yield _table(
        ("Step", "Outcome", "Took", "Ended after", "At", "Detail"),
        [
            (
                step.name,
                Pill(step.outcome, _MOODS.get(step.outcome, "")),
                span(step.ms),
                span(step.at_ms),
                instant(one.began_at + timedelta(milliseconds=step.at_ms)),
                step.detail,
            )
            for step in one.steps
        ],
    )


def _how_long(incident: Incident) -> Iterator[Block]:
    old = incident.old
    published = "first published on this host"
    if old.generation is not None:
        published += f" (generation {old.generation}{f', by {old.trigger}' if old.trigger else ''})"
    course: list[tuple[str, datetime | None]] = [
        ("created, as the cloud says", old.created_at),
        (published, old.published_at),
        ("the command", incident.commanded_at),
        ("its successor published on this host", old.replaced_at),
    ]
    if old.is_session:
        course.append(("it expires by itself", old.expires_at))
    else:
        course += [("set inactive in RAM", old.disabled_at), ("seen refused", old.refused_at)]
    if old.deleted_at:
        course.append(("deleted in RAM", old.deleted_at))
    rows = [(what, instant(at) if at else NO_RECORD, _since(incident.since_command_ms(at))) for what, at in course]
    yield _table(("What", "When", "Since the command"), rows)
    yield Paragraph(_exposure(incident))
    known = old.created_at or old.published_at
    before = "Since when it had been in strangers' hands, keyturn cannot know."
    if known is not None:
        age = span(-(incident.since_command_ms(known) or 0))
        before = (
            f"It was known to be {'in existence' if old.created_at else 'in use here'} for {age} before that. {before}"
        )
    yield Paragraph(before)


def _since(ms: int | None) -> str:
    if ms is None:
        return ""
    return f"{span(-ms)} before" if ms < 0 else span(ms)


def _exposure(incident: Incident) -> str:
    old = incident.old
    if old.is_session:
        return (
            "A session cannot be ended: it works until it expires, unless its role is cut off as a whole. keyturn took a new one, "
            "which ends nothing."
        )
    if old.is_anothers:
        return "The log shows other keys in use here when it was named: see in RAM whose it is, and end it there."
    if old.refused_at is None and old.disabled_at is None:
        if not incident.new_access_key_id:
            return "It was neither replaced nor disabled: it is still exposed."
        return (
            "It was replaced, and not disabled: KMS may keep it alive for up to two days, and until then it is exposed. To cut it "
            "off now, see the last lines of the section on what keyturn cannot know."
        )
    to_disabled, to_refused = incident.lived_on_ms(old.disabled_at), incident.lived_on_ms(old.refused_at)
    if (to_disabled is None and old.disabled_at) or (to_refused is None and old.refused_at):
        return f"It was {incident.ended}, {SET_BACK}."
    told = [f"It was set inactive {span(to_disabled)} after the command"] if to_disabled is not None else []
    if to_refused is None:
        return f"{told[0]}, and no refusal was seen: it may have worked for longer."
    told.append(f"{'and' if told else 'It was'} seen refused {span(to_refused)} after it: so long it lived on.")
    return " ".join(told)


def _who_was_told(incident: Incident) -> Iterator[Block]:
    if not incident.basis.log:
        yield Paragraph(
            "Only the audit log has who was told and when; it was not read. The steps above name what is known."
        )
    elif not incident.dependents:
        yield Paragraph("The log knows of nobody who was told.")
        return
    if any(one.how is How.ASSUMED for one in incident.dependents):
        yield Paragraph(
            "Confirmed: it was seen to use the new key. Assumed: it was told without an error, and there is no evidence either way."
        )
    if incident.dependents:
        rows = [_dependent(one) for one in incident.dependents]
        yield _table(("Dependent", "Credential", "Told at", "Pickup", "Seen at", "Remark"), rows)


def _dependent(one: Dependent) -> Sequence[Cell]:
    return (
        one.name or "whoever fetched it",
        one.credential,
        instant(one.told_at) if one.told_at else "",
        Pill(str(one.how), _MOODS[one.how]),
        instant(one.at) if one.at else "",
        one.text,
    )


def _who_was_left_behind(incident: Incident) -> Iterator[Block]:
    if not incident.left_behind and not incident.left_behind_more:
        if incident.last.steps is None:
            yield Paragraph("Not recorded.")
        elif incident.new_access_key_id:
            yield Paragraph("Nobody on this host is known to be still on the old key.")
        else:
            yield Paragraph("No new key was published, so nobody moved.")
        return
    for one in incident.left_behind[:MAX_ROWS]:
        yield from _left_behind(one)
    if len(incident.left_behind) > MAX_ROWS:
        yield Paragraph(_first(len(incident.left_behind)))
    if incident.left_behind_more:
        yield Paragraph(f"And {incident.left_behind_more} more, for whom the record had no room.")


def _left_behind(one: LeftBehind) -> Iterator[Block]:
    who = one.dependent or "the credential itself"
    moved = f"; seen to have moved at {instant(one.moved_at)}" if one.moved_at else ""
    yield Paragraph(f"Of {one.credential}, {who}: {one.reason}{moved}. What moves it:")
    yield Commands(one.move)


def _hosts_in_short(incident: Incident) -> str:
    hosts, more = incident.hosts or (), incident.hosts_more
    moved = sum(one.moved_at is not None for one in hosts)
    unnamed = f" ({more} more are not named in the record)" if more else ""
    return f"Of the fleet, {moved} of {len(hosts)} other hosts proved the new key{unnamed}."


def _other_hosts(incident: Incident) -> Iterator[Block]:
    yield Paragraph(
        f"{_hosts_in_short(incident)} A host proves it by the new secret, and only while nobody there is known to be on the old "
        "key; the time is when that was seen."
    )
    hosts = sorted(
        incident.hosts or (), key=lambda one: (one.moved_at is not None, one.moved_at or incident.made_at, one.host)
    )
    if hosts:
        yield _table(("Host", "Moved", "At", "What was missing"), [_host(one) for one in hosts])


def _host(one: Host) -> Sequence[Cell]:
    if one.moved_at is not None:
        return one.host, Pill("yes", "good"), instant(one.moved_at), ""
    return one.host, Pill("absent" if one.state == "absent" else "no", "bad"), "", one.why


def _unknown(incident: Incident) -> Iterator[Block]:
    found = looks(incident)
    if not found:
        yield Paragraph("Which key it was about is not recorded, so there is nothing to look for.")
        return
    begin, end = window(incident)
    yield Paragraph(
        "What was done with the key. keyturn sees neither its use nor who used it; ActionTrail does. In its console: Event Detail "
        f"Query, the region, AccessKey ID {incident.old.access_key_id}, from {rfc3339(begin)} to {rfc3339(end)}; or AccessKey "
        "Pair Audit. It keeps 90 days, of which one question spans 30; what is older is in the Logstore or bucket of a trail, if "
        "one was set up."
    )
    for one in found:
        yield Paragraph(one.what)
        yield Commands(one.command)
    yield Paragraph(
        "Which sessions were issued with it. Each AssumeRole (service Sts) among these events gave out a session, whose id "
        "(STS....) stands in its answer: look it up in the same way. A session lives until it expires, whatever becomes of the "
        "key; to cut a role off before, detach all policies from it, or deny it everything."
    )
    hosts = "Other hosts, laptops" if incident.hosts is None else "Hosts that are not of the fleet, laptops"
    yield Paragraph(
        f"Who else holds it. {hosts}, images and pipelines are not known to this keyturn: whatever still uses the key "
        "is refused from the moment at which it was disabled. Where other hosts share the secret, have each refresh:"
    )
    yield Commands(f"keyturn refresh {shlex.quote(incident.credential)}")
    if incident.old.is_session:
        yield from _cutting_off(role_in(incident.old.identity), incident.notes)
        return
    if incident.old.refused_at or incident.old.deleted_at:
        return
    yield Paragraph("The old key is not seen dead. What cuts it off, and takes up what was begun:")
    yield Commands(
        f"keyturn rotate {shlex.quote(incident.credential)} --leaked {shlex.quote(incident.old.access_key_id)} --disable-old "
        "--reason 'key leaked'"
    )


def _cutting_off(role: str, notes: Sequence[str]) -> Iterator[Block]:
    """Yield the commands for a role whose session leaked; none where STS did not name it, or the notes have them."""
    if not role or cutting_off(role)[0] in notes:
        return
    yield Paragraph(
        f"What cuts off every session of the role {role}, the new one included, until it is taken away again (RAM cannot tell old "
        "sessions from new ones):"
    )
    yield Commands("\n".join(cutting_off(role)))
    yield Paragraph("And what takes that away, once the last session that leaked has expired:")
    yield Commands("\n".join(letting_back(role)))
