"""How the record of a RAM user's keys changes: by what this host does, and by what RAM's list shows. Pure functions.

A key becomes ours in three ways: RAM's reply to our CreateAccessKey named it; the operator adopted it; or it fits a
CreateAccessKey of ours whose reply was lost, and nothing else is known of it. The last is a guess, and the rules for guessed
keys (agent/ram_rotation/decide.py) leave whoever made it by hand the time and the way to say so.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec.structs import replace

from agent.ram_rotation.view import INACTIVE, InUse, Listed, View
from agent.state.ram_record import ADOPTED, GUESSED, MADE, RamIntent, RamKey, RamRecord

LIST_LAG = timedelta(minutes=10)
"""For so long a list of keys may not show what was done: RAM is eventually consistent, and documents no limit."""
BEFORE, AFTER = timedelta(seconds=15), timedelta(seconds=25)
"""A key whose reply was lost was made between our clock's time of the call less the first and plus the second: ten
seconds for the call, the rest for clocks that differ, and for RAM's dates, which are in whole seconds."""


def begin(
    record: RamRecord, host: str, user: str, reason: str, known: Iterable[str], now: datetime, fence: int = 0
) -> RamRecord:
    """Return the record with the intent to make a key; `fence` is the number of the fleet's lease, 0 without one."""
    intent = RamIntent(now, reason, tuple(known))
    return replace(record, host=host, user=user, intent=intent, fence=max(record.fence, fence))


def answered(record: RamRecord, access_key_id: str, created_at: datetime | None) -> RamRecord:
    """Return the record with the id of the key that was made."""
    assert record.intent is not None, "the intent comes before the call"
    return replace(record, intent=replace(record.intent, access_key_id=access_key_id, created_at=created_at))


def refused(record: RamRecord) -> RamRecord:
    """Return the record without the intent: RAM said no, so no key was made."""
    return replace(record, intent=None)


def adopted(record: RamRecord, host: str, user: str, row: Listed, now: datetime) -> RamRecord:
    """Return the record in which a key that somebody else made is ours, and in use. What it said of another host is over.

    Keys that the record of another user or host calls ours are forgotten: only what is adopted here counts.
    """
    kept = record.keys if (record.host, record.user) == (host, user) else ()
    keys = [one for one in kept if one.access_key_id != row.access_key_id]
    mine = RamKey(row.access_key_id, ADOPTED, now, row.created_at, is_published=True)
    return RamRecord(host, user, (*(_replaced(one, now) for one in keys), mine), fence=record.fence)


def changed(record: RamRecord, access_key_id: str, **fields: object) -> RamRecord:
    """Return the record with other fields for one key."""
    keys = tuple(replace(one, **fields) if one.access_key_id == access_key_id else one for one in record.keys)
    return replace(record, keys=keys)


def is_own(record: RamRecord, host: str, user: str, access_key_id: str) -> bool:
    """Return whether a key is this host's own, so that it can go on from it: also one that was published a moment ago."""
    made = record.intent.access_key_id if record.intent is not None else ""
    is_here = (record.host, record.user) == (host, user)
    return is_here and bool(access_key_id) and (access_key_id == made or record.key(access_key_id) is not None)


def without(record: RamRecord, access_key_id: str) -> RamRecord:
    """Return the record in which a key is not ours any more."""
    return replace(record, keys=tuple(one for one in record.keys if one.access_key_id != access_key_id))


def caught_up(view: View) -> RamRecord:
    """Return the record after what can be seen now; as it is where nothing is new. Touches nothing."""
    record = _intent_resolved(view.record, view.in_use, view.now)
    record = _lost_found(record, view)
    keys = tuple(one for each in record.keys if (one := _seen(each, view)) is not None)
    record = replace(record, keys=keys)
    return replace(record, unusable=_unusable(record, view))


def _unusable(record: RamRecord, view: View) -> str:
    """Return the key in use where RAM's list says that nothing can be signed with it; "" otherwise."""
    current = view.in_use.access_key_id
    mine, row = record.key(current), view.row(current)
    if mine is None or (row is None and view.now <= mine.known_at + LIST_LAG):
        return ""
    return "" if row is not None and row.is_active else current


def _intent_resolved(record: RamRecord, in_use: InUse, now: datetime) -> RamRecord:
    intent = record.intent
    if intent is None:
        return record
    if not intent.access_key_id:  # a crash or a broken connection hid RAM's answer
        return replace(record, intent=None, lost=(*record.lost, intent))
    mine = RamKey(intent.access_key_id, MADE, intent.begun_at, intent.created_at)
    if intent.access_key_id == in_use.access_key_id:
        since = in_use.since or now
        keys = tuple(_replaced(one, since) for one in record.keys if one.access_key_id != mine.access_key_id)
        return replace(record, intent=None, keys=(*keys, replace(mine, is_published=True)))
    if intent.access_key_id == in_use.made_id:
        return record
    # The process that had its secret is gone: nobody can use it.
    keys = tuple(one for one in record.keys if one.access_key_id != mine.access_key_id)
    return replace(record, intent=None, keys=(*keys, mine))


def _replaced(key: RamKey, since: datetime) -> RamKey:
    return replace(key, replaced_at=since) if key.is_published and key.replaced_at is None else key


def _lost_found(record: RamRecord, view: View) -> RamRecord:
    for intent in record.lost:
        found = [one for one in view.listed if _fits(one, intent, record, view.in_use)]
        if len(found) == 1:
            mine = RamKey(found[0].access_key_id, GUESSED, view.now, found[0].created_at)
            record = replace(record, keys=(*record.keys, mine))
        if len(found) == 1 or view.now - intent.begun_at > LIST_LAG:
            record = replace(record, lost=tuple(one for one in record.lost if one != intent))
    return record


def _fits(row: Listed, intent: RamIntent, record: RamRecord, in_use: InUse) -> bool:
    """Return whether a key can only be the one of a lost reply: made in these seconds, and known to nobody here."""
    known = {*intent.known, *in_use.in_sinks, in_use.access_key_id, in_use.made_id}
    if row.access_key_id in known or record.key(row.access_key_id) is not None or row.created_at is None:
        return False
    return intent.begun_at - BEFORE <= row.created_at <= intent.begun_at + AFTER


def _seen(key: RamKey, view: View) -> RamKey | None:
    """Return a key of ours as the list shows it; None for one that is gone, or not ours any more."""
    row, now = view.row(key.access_key_id), view.now
    if key.deleted_at is not None:
        # Still there long after: somebody has taken it out of the recycle bin, and it is theirs.
        return key if now - key.deleted_at <= LIST_LAG else None
    if key.access_key_id == view.in_use.access_key_id:
        is_old = key.replaced_at is not None or key.disabled_at is not None or not key.is_published
        return replace(key, is_published=True, replaced_at=None, disabled_at=None) if is_old else key
    if row is None:
        return key if now - (key.disabled_at or key.known_at) <= LIST_LAG else None
    if row.status == INACTIVE:
        return replace(key, disabled_at=now) if key.disabled_at is None else key
    if key.disabled_at is None or now - key.disabled_at <= LIST_LAG:
        return key
    # Somebody has enabled it again: whoever needed it has the whole time once more; a guess was wrong.
    return None if key.origin == GUESSED else replace(key, disabled_at=None, replaced_at=now, is_published=True)
