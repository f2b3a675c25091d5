"""The alarm about the end of a ClientKey: at 180, 90, 30 and 7 days before, and at the end, each once, over restarts too.

One ClientKey signs for any number of credentials, and is one alarm. Its end is known once a fetch has opened it
(providers/kms/client_key.py), so a file that is replaced is seen at the next fetch. The alarm ends, with `recovered`
in the audit, when no credential signs with that ClientKey any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from agent.core.alarms import SEVERE_DAYS, days_before, ends, next_alarm_at
from agent.core.client_keys import ClientKeyEnd, HoldsClientKeys
from agent.core.events import Cause, Event, Trigger
from agent.core.text import first_few
from agent.core.timestamps import rfc3339
from agent.engine.notes import Notes
from agent.logs.log import log
from agent.refresh.managed_credential import ManagedCredential
from agent.runtime.deadlines import Deadlines
from agent.runtime.scheduler import Job, JobKind
from agent.state.client_key_book import ClientKeyBook, ClientKeyEntry
from agent.system.clock import Clock

_CAUSE = Cause(Trigger.SCHEDULE)
ERROR_DAYS = 30
"""From here on the log has an error, before that a warning, and from `SEVERE_DAYS` on a line of priority crit."""


@dataclass(frozen=True, slots=True)
class ClientKeySnapshot:
    """A ClientKey that credentials sign with.

    Attributes:
        said: the last alarm about it, in days before its end; None for none.
        users: the credentials, in the order in which they were seen.
    """

    key_id: str
    path: str
    expires_at: datetime
    said: int | None
    users: tuple[str, ...]


class ClientKeyAlarms:
    """The ClientKeys of all credentials. Belongs to the loop's thread."""

    def __init__(
        self, deadlines: Deadlines, clock: Clock, notes: Notes, book: ClientKeyBook, changed: Callable[[], None]
    ) -> None:
        """Keep what it works with.

        Args:
            deadlines: for the day of the next alarm.
            clock: the wall clock.
            notes: where alarms are recorded.
            book: what was said before.
            changed: called when there is something new to show.
        """
        self._deadlines, self._clock, self._notes, self._book = deadlines, clock, notes, book
        self._changed = changed
        self._keys_of: dict[str, tuple[ClientKeyEnd, ...]] = {}
        self._users: dict[str, dict[str, None]] = {}  # of a key id; a dict for its order

    def snapshot(self) -> tuple[ClientKeySnapshot, ...]:
        """Return the ClientKeys that are in use."""
        entries = self._book.entries if self._users else {}
        return tuple(
            ClientKeySnapshot(key_id, entries[key_id].path, entries[key_id].expires_at, entries[key_id].said, (*users,))
            for key_id, users in self._users.items()
        )

    def watch(self, managed: ManagedCredential) -> None:
        """Take note of the ClientKeys of a credential, after a refresh. Costs nothing where they are as before."""
        provider = managed.provider
        keys = provider.client_keys if isinstance(provider, HoldsClientKeys) else ()
        if keys is not None and keys != self._keys_of.get(managed.name, ()):
            self._follow(managed.name, keys)

    def forget(self, managed: ManagedCredential) -> None:
        """Take note that a credential left the config."""
        if managed.name in self._keys_of:
            self._follow(managed.name, ())

    def stepped(self) -> None:
        """Judge each anew after the wall clock was set."""
        for key_id in tuple(self._users):
            self._judge(key_id)

    def _follow(self, name: str, keys: tuple[ClientKeyEnd, ...]) -> None:
        before = self._keys_of.pop(name, ())
        if keys:
            self._keys_of[name] = keys
        for key in keys:
            self._users.setdefault(key.key_id, {})[name] = None
            self._know(key)
        kept = {key.key_id for key in keys}
        for key in before:
            if key.key_id not in kept:
                self._users.get(key.key_id, {}).pop(name, None)
        for key_id in self._unused(keys):
            self._end(key_id)

    def _know(self, key: ClientKeyEnd) -> None:
        entry = self._book.entries.get(key.key_id)
        if entry is None:
            self._book.entries[key.key_id] = ClientKeyEntry(key.path, key.expires_at)
            self._save()
        elif (entry.path, entry.expires_at) != key[1:]:
            entry.found(key.path, key.expires_at)
            self._save()
        elif len(self._users[key.key_id]) > 1:
            return  # judged with its first user
        self._judge(key.key_id)

    def _unused(self, keys: tuple[ClientKeyEnd, ...]) -> list[str]:
        """Return the ClientKeys that nobody signs with any more: let go of, or replaced while no agent ran."""
        paths = {key.path for key in keys}
        return [
            key_id
            for key_id, entry in self._book.entries.items()
            if not self._users.get(key_id) and (key_id in self._users or entry.path in paths)
        ]

    def _judge(self, key_id: str) -> None:
        entry, job, now = self._book.entries[key_id], Job(JobKind.CLIENT_KEY, key_id), self._clock.now()
        days = days_before(entry.expires_at, now)
        if days is not None and (entry.said is None or days < entry.said):
            self._raise(key_id, entry, days, now)
        elif entry.said is not None and (days is None or days > entry.said):  # a wrong clock was set right
            entry.alarmed(days)
            log.info("an alarm about a ClientKey is taken back: its time lies ahead again", client_key=key_id)
            if days is None:
                self._recovered(key_id)
            self._save()
        next_at = next_alarm_at(entry.expires_at, now)
        if next_at is None:
            self._deadlines.clear(job)
        else:
            self._deadlines.set(job, next_at, partial(self._judge, key_id))

    def _raise(self, key_id: str, entry: ClientKeyEntry, days: int, now: datetime) -> None:
        entry.alarmed(days)
        say = log.critical if days <= SEVERE_DAYS else log.error if days <= ERROR_DAYS else log.warning
        users = ", ".join(first_few(list(self._users[key_id])))
        text = f"{entry.path}: ClientKey {key_id} {ends(entry.expires_at, now)}; it signs for {users}"
        say("a ClientKey expires", client_key=key_id, path=entry.path, expires_at=rfc3339(entry.expires_at), error=text)
        self._notes.record(
            Event.CLIENT_KEY_EXPIRES,
            _CAUSE,
            access_key_id=key_id,
            expiration=entry.expires_at,
            outcome=f"{days} days before" if days else "expired",
            error=text,
        )
        self._save()
        self._changed()

    def _end(self, key_id: str) -> None:
        """Forget a ClientKey that nobody signs with."""
        self._users.pop(key_id, None)
        self._deadlines.clear(Job(JobKind.CLIENT_KEY, key_id))
        if self._book.entries.pop(key_id).said is not None:
            log.info("an alarm has ended: the ClientKey is not used any more", client_key=key_id)
            self._recovered(key_id)
        self._save()

    def _recovered(self, key_id: str) -> None:
        self._notes.record(Event.RECOVERED, _CAUSE, access_key_id=key_id, outcome=f"from {Event.CLIENT_KEY_EXPIRES}")
        self._changed()

    def _save(self) -> None:
        try:
            self._book.save()
        except OSError as error:
            log.error("what was said of ClientKeys cannot be written", error=str(error))
