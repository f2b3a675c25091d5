"""What the records of one credential come to, one after the other: memory grows with its keys and emergencies, and is bounded."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from agent.core.credential import SESSION
from agent.core.events import Event, Trigger
from agent.evidence.fields import Asker, asker_of, left_behind_of, number_of, steps_of, text_of, texts_of, time_of
from agent.evidence.model import Change, Emergency, Ending, OldKey

MOST = 1000
"""Keys, old keys and emergencies of one credential that are listed: the newest; older ones are only counted."""
MOST_OPEN = 16
"""Emergencies without an end that are remembered: the newest."""
MOST_NAMES = 200
"""Dependents, files and request ids that are named for one key."""
FAILURES = frozenset({
    Event.FETCH_FAILED, Event.VERIFY_FAILED, Event.PUBLISH_FAILED, Event.PUBLISH_RECOVERED, Event.DRIFT_REPAIRED,
    Event.NOTIFY_FAILED, Event.NOTIFY_GAVE_UP, Event.STALE, Event.KEY_TOO_OLD, Event.KEY_RESTRICTED,
})  # fmt: skip
OF_DEPENDENTS = {
    Event.NOTIFIED: "told", Event.PICKUP_CONFIRMED: "confirmed", Event.NOTIFY_FAILED: "failed", Event.NOTIFY_GAVE_UP: "gave up",
}  # fmt: skip
IN_USE = "old key in use"
"""How an emergency ended in which nothing was rotated (agent/emergency/end_record.py)."""

Record = Mapping[str, Any]


class History:
    """One credential's part of the log, in a period. `see` takes its records, oldest first."""

    def __init__(self, name: str, since: datetime | None) -> None:
        self.name, self._since = name, since
        self.first_at: datetime | None = None
        self.last_at: datetime | None = None
        self.key: Change | None = None
        self.first_published_at: datetime | None = None
        self.identity = ""
        self.rotations: Counter[str] = Counter()
        self.changed_in: set[tuple[int, int]] = set()
        """Year and quarter of each rotation."""
        self.sessions = self.listed = 0
        self.changes: deque[Change] = deque(maxlen=MOST)
        self.old_keys: dict[str, OldKey] = {}
        self.refused_in: dict[str, int] = {}
        """For each of these that was seen refused, the `seq` of the first record of it."""
        self.emergencies: deque[Emergency] = deque(maxlen=MOST)
        self.failures: Counter[str] = Counter()
        self.longest_s: float | None = None
        self.expected: set[str] = set()
        """The dependents that were told of the value before."""
        self._arriving: dict[str, Any] = {}
        self._open: dict[Asker, Emergency] = {}
        """The emergencies without an end that later records may belong to, the newest last."""

    def see(self, record: Record, at: datetime) -> None:
        """Take note of a record of this credential, written at `at`."""
        event = text_of(record, "event")
        self.first_at, self.last_at = self.first_at or at, at
        if event == Event.CREDENTIAL_FETCHED:
            self._arriving = {
                "created_at": time_of(record, "created_at"),
                "request_ids": _request_ids(record),
                **_of(record),
            }
        elif event == Event.VERIFIED:
            self._proved(record, at)
        elif event == Event.PUBLISHED or (event == Event.PUBLISH_RECOVERED and self._is_made_up_for(record)):
            self._published(record, at)
        elif event in (Event.OLD_KEY_DISABLED, Event.OLD_KEY_DELETED):
            self._old_key_ends(record, at, event)
        elif event in (Event.ROTATION_REQUESTED, Event.ROTATION_STARTED, Event.ROTATION_ENDED):
            self._emergency(record, at, event)
        if event in OF_DEPENDENTS:
            self._dependent(record, OF_DEPENDENTS[Event(event)])
        if event in FAILURES and self.counts(at):
            self.failures[event] += 1

    def counts(self, at: datetime) -> bool:
        """Return whether a time is in the period."""
        return self._since is None or at >= self._since

    def in_use_until(self, end: datetime) -> None:
        """Take account of the age that the key in use has reached at the end of the period."""
        if self.key is not None:
            self._aged(self.key, end)

    # -- keys ---------------------------------------------------------------------------------------

    def _proved(self, record: Record, at: datetime) -> None:
        identity = text_of(record, "identity") or text_of(record, "outcome")
        identity = identity if identity.startswith("acs:") else ""
        self.identity = identity or self.identity
        proof = {"identity": identity, "proved_at": at}
        if self._arriving and _of(record) == _of(self._arriving):
            self._arriving.update(proof, request_ids=[*self._arriving["request_ids"], *_request_ids(record)])
        elif self.key is not None and _of(record) == (
            {"access_key_id": self.key.access_key_id, "version_id": self.key.version_id}
        ):
            self.key.identity, self.key.proved_at = identity or self.key.identity, at

    def _is_made_up_for(self, record: Record) -> bool:
        """Return whether a recovery stands for the record of a publish that a crash prevented."""
        generation = number_of(record, "generation")
        known = self.key.generation if self.key else None
        return text_of(record, "outcome") != "rolled back" and generation is not None and generation > (known or 0)

    def _published(self, record: Record, at: datetime) -> None:
        made, before = self._change(record, at), self.key
        if before is not None:
            self.expected = {who for who, what in before.told.items() if what != "gave up"} or self.expected
            if _same_key(before, made):  # the same key once more: other files, or another generation of them
                before.generation, before.files, before.told = made.generation, made.files or before.files, {}
                return
            before.replaced_at = at
            self._aged(before, at)
        self.key, self._arriving = made, {}
        self.first_published_at = self.first_published_at or at
        if before is not None and before.access_key_id and not before.is_session:
            self._old_key(before.access_key_id).replaced_at = at
        if before is not None and not made.is_session:
            self.changed_in.add((at.year, (at.month + 2) // 3))
            self.rotations[made.trigger or "not recorded"] += self.counts(at)
        asked = self._under_way(record)
        if asked is not None and made.trigger == Trigger.EMERGENCY:
            asked.new_key, asked.published_at = made.access_key_id, at
            _add(asked.request_ids, made.request_ids)
        if self.counts(at):
            self._list(made)

    def _list(self, made: Change) -> None:
        if made.is_session:
            self.sessions += 1
        else:
            self.listed += 1
            self.changes.append(made)

    def _change(self, record: Record, at: datetime) -> Change:
        arrived = self._arriving if _of(self._arriving) == _of(record) else {}
        key_id, expires_at = text_of(record, "access_key_id"), time_of(record, "expiration")
        return Change(
            record["seq"],
            at,
            number_of(record, "generation"),
            text_of(record, "trigger"),
            actor(record),
            text_of(record, "reason"),
            key_id,
            text_of(record, "previous_access_key_id"),
            text_of(record, "version_id"),
            time_of(record, "created_at") or arrived.get("created_at"),
            expires_at,
            arrived.get("identity", ""),
            arrived.get("proved_at"),
            list(texts_of(record, "sinks")[:MOST_NAMES]),
            {},
            _add(list(arrived.get("request_ids", ())), _request_ids(record)),
            text_of(record, "host"),
            text_of(record, "agent_version"),
            text_of(record, "config"),
            expires_at is not None or key_id.startswith(SESSION),
        )

    def _aged(self, key: Change, until: datetime) -> None:
        if self.counts(until) and not key.is_session:
            self.longest_s = max(self.longest_s or 0.0, (until - key.born_at).total_seconds())

    def _old_key(self, key_id: str) -> OldKey:
        if key_id not in self.old_keys:
            self.old_keys[key_id] = OldKey(key_id)
            if len(self.old_keys) > MOST:
                oldest = next(iter(self.old_keys))
                del self.old_keys[oldest]
                self.refused_in.pop(oldest, None)
        return self.old_keys[key_id]

    def _old_key_ends(self, record: Record, at: datetime, event: str) -> None:
        key_id, outcome = text_of(record, "access_key_id"), text_of(record, "outcome")
        old, ending = (
            self._old_key(key_id),
            Ending(record["seq"], actor(record), text_of(record, "reason"), text_of(record, "host")),
        )
        if event == Event.OLD_KEY_DELETED:
            old.deleted_at, old.deleted = old.deleted_at or at, old.deleted or ending
        elif outcome.startswith("refused"):
            old.refused_at, old.refusal = old.refused_at or at, old.refusal or outcome
            self.refused_in.setdefault(key_id, record["seq"])
        else:
            old.disabled_at = old.disabled_at or at
        if event != Event.OLD_KEY_DELETED:
            old.ended = old.ended or ending
        asked = self._under_way(record)
        if asked is not None:
            asked.old_key = asked.old_key or key_id
            _add(asked.request_ids, _request_ids(record))

    # -- who is told, and emergencies ---------------------------------------------------------------

    def _dependent(self, record: Record, what: str) -> None:
        who = text_of(record, "notified")
        if not who or self.key is None or number_of(record, "generation") != self.key.generation:
            return
        if what == "gave up" and text_of(record, "error").startswith("the config no longer names"):
            self.key.told.pop(who, None)
            self.expected.discard(who)
        elif who in self.key.told or len(self.key.told) < MOST_NAMES:
            self.key.told[who] = what

    def _emergency(self, record: Record, at: datetime, event: str) -> None:
        if event == Event.ROTATION_REQUESTED:
            self._asked(record, at)
            return
        asked = self._under_way(record)
        if asked is None:
            return
        old_key = text_of(record, "previous_access_key_id") or asked.old_key
        if event == Event.ROTATION_STARTED:
            asked.old_key, asked.version_id = old_key, text_of(record, "version_id")
            _add(asked.request_ids, _request_ids(record))
            return
        asked.ended_at, asked.outcome = at, text_of(record, "outcome")
        # Nothing began, and the key that was named is not the one in use: a slip, or another's key.
        asked.turned_away = asked.outcome == IN_USE and not asked.version_id and asked.leaked not in ("", old_key)
        asked.old_key = asked.leaked if asked.turned_away else old_key
        asked.new_key = text_of(record, "access_key_id") or asked.new_key
        asked.error = text_of(record, "error") or asked.error
        asked.left_behind = _left_behind(record)
        if self.refused_in.get(asked.old_key, 0) > asked.seq:
            asked.exposure_s = _proved_after_s(record)
        self._open.pop(asker_of(record), None)

    def _under_way(self, record: Record) -> Emergency | None:
        """Return the emergency that a record belongs to: that of who asked, else the newest without an end."""
        return self._open.get(asker_of(record)) or next(reversed(self._open.values()), None)

    def _asked(self, record: Record, at: datetime) -> None:
        failed = text_of(record, "outcome") == "failed"
        if failed and (asked := self._open.get(asker_of(record))) is not None:
            asked.outcome, asked.error, asked.ended_at = "failed", text_of(record, "error"), at
            return
        leaked = text_of(record, "access_key_id")
        made = Emergency(record["seq"], at, actor(record), text_of(record, "reason"), leaked, leaked)
        made.old_key = made.old_key or (self.key.access_key_id if self.key else "")
        made.host, made.agent_version = text_of(record, "host"), text_of(record, "agent_version")
        if failed:
            made.outcome, made.error, made.ended_at, made.turned_away = "failed", text_of(record, "error"), at, True
        if self.counts(at):
            self.emergencies.append(made)
        if not failed:
            self._open.pop(asker_of(record), None)
            self._open[asker_of(record)] = made
            if len(self._open) > MOST_OPEN:
                del self._open[next(iter(self._open))]


# -- what several fields say together --------------------------------------------------------------------


def actor(record: Record) -> str:
    """Return who asked, as `root (uid 0)`; "" where nobody did."""
    found = record.get("actor")
    return f"{found.get('user', '?')} (uid {found.get('uid', '?')})" if isinstance(found, dict) else ""


def _of(record: Record) -> dict[str, str]:
    return {"access_key_id": text_of(record, "access_key_id"), "version_id": text_of(record, "version_id")}


def _same_key(one: Change, other: Change) -> bool:
    if one.access_key_id or other.access_key_id:
        return one.access_key_id == other.access_key_id
    return bool(one.version_id) and one.version_id == other.version_id


def _request_ids(record: Record) -> list[str]:
    found = text_of(record, "request_id")
    return [found] if found else list(texts_of(record, "request_id")[:MOST_NAMES])


def _add(to: list[str], more: list[str]) -> list[str]:
    to.extend(one for one in more if one not in to and len(to) < MOST_NAMES)
    return to


def _proved_after_s(record: Record) -> float | None:
    """Return when the step that proves the refusal was done, in seconds since the command, which no clock's setting changes."""
    steps = steps_of(record.get("steps")) or ()
    done = (one.at_ms for one in steps if (one.name, one.outcome) == ("prove_refused", "done"))
    at_ms = next(done, None)
    return None if at_ms is None else at_ms / 1000


def _left_behind(record: Record) -> list[str]:
    named, more = left_behind_of(record.get("left_behind"))
    left = [one.dependent or f"credentials.{one.credential or '?'}" for one in named[:MOST_NAMES]]
    return [*left, f"{more} more"] if more else left
