"""Audit logs as keyturn would have written them over months: the real writer, at times of the test's choice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.audit.log import AuditLog
from agent.core.events import Event

ROOT = {"uid": 0, "user": "root", "pid": 4711}


class WrittenLog:
    """A log and the state's file about it in a directory. Time is where the test puts it, and moves by a second a record."""

    def __init__(self, directory: Path, begin: str = "2026-01-05T08:00:00Z") -> None:
        self.path, self.head = directory / "audit.jsonl", directory / "audit-head"
        self.now = datetime.fromisoformat(begin).astimezone(UTC)
        self._log = AuditLog(self.path, self.head, lambda: self.now)
        self._generations: dict[str, int] = {}
        self._keys: dict[str, str] = {}

    def at(self, when: str) -> WrittenLog:
        """Go to a time."""
        self.now = datetime.fromisoformat(when).astimezone(UTC)
        return self

    def write(self, event: Event, **fields: Any) -> dict[str, Any]:
        """Write a record; a second passes."""
        record = self._log.record(event, flush=False, **fields)
        self.now += timedelta(seconds=1)
        return record

    def publish(
        self, name: str, key_id: str, trigger: str = "poll", *, files: list[str] | None = None, **more: Any
    ) -> None:
        """Write what a refresh with a new key writes: fetched, verified, published."""
        version = f"version-of-{key_id}"
        about = {"credential": name, "access_key_id": key_id, "version_id": version, "trigger": trigger}
        about |= {name: more[name] for name in ("actor", "reason", "host", "agent_version", "config") if name in more}
        arn = f"acs:ram::1234567890123456:user/{name}"
        self.write(Event.CREDENTIAL_FETCHED, **about, request_id=f"FETCH-{key_id}")
        self.write(Event.VERIFIED, **about, outcome=arn)
        generation = self._generations[name] = self._generations.get(name, 0) + 1
        self.write(
            Event.PUBLISHED, **about, generation=generation, previous_access_key_id=self._keys.get(name),
            sinks=files or [f"/etc/{name}/credentials.ini [default]"], outcome="verified",
            created_at=more.get("created_at"), expiration=more.get("expiration"),
        )  # fmt: skip
        self._keys[name] = key_id

    def tell(self, name: str, who: str = "systemd app.service", event: Event = Event.NOTIFIED, **fields: Any) -> None:
        """Write what came of the news of the newest generation."""
        self.write(event, credential=name, generation=self._generations[name], notified=who, **fields)

    def emergency(self, name: str, key_id: str, reason: str = "key on a public repo", **more: Any) -> None:
        """Write an emergency that ends with the old key disabled, seen refused, and deleted."""
        about = {"credential": name, "trigger": "emergency", "actor": ROOT, "reason": reason}
        old = self._keys[name]
        self.write(Event.ROTATION_REQUESTED, **about)
        self.write(Event.ROTATION_STARTED, **about, previous_access_key_id=old, version_id=f"version-of-{key_id}")
        self.publish(name, key_id, "emergency", actor=ROOT, reason=reason, **more)
        self.tell(name)
        inactive = "inactive, not yet seen refused"
        self.write(Event.OLD_KEY_DISABLED, **about, access_key_id=old, outcome=inactive, host="web-1")
        self.write(
            Event.OLD_KEY_DISABLED, **about, access_key_id=old, outcome="refused with InvalidAccessKeyId.Inactive"
        )
        self.write(Event.OLD_KEY_DELETED, **about, access_key_id=old)
        self.write(
            Event.ROTATION_ENDED, **about, previous_access_key_id=old, access_key_id=key_id, outcome="old key refused",
            left_behind=[{"credential": name, "dependent": "env file of cron", "reason": "no reload", "move": "restart it"}],
        )  # fmt: skip

    def close(self) -> WrittenLog:
        """End the writing, as a stop of keyturn does."""
        self._log.close()
        return self


def two_years(directory: Path) -> WrittenLog:
    """A log with something of everything: a young key, one that is too old, sessions, a failed emergency, a name that left."""
    log = WrittenLog(directory, "2025-01-10T08:00:00Z")
    log.write(Event.AGENT_STARTED, host="web-1", agent_version="0.1.0", config="sha256:aaaa")
    log.publish("uploader", "LTAI5tUploader000000001", "start", host="web-1", agent_version="0.1.0")
    log.publish("billing", "LTAI5tBilling0000000001", "start", created_at=datetime(2024, 12, 1, tzinfo=UTC))
    for number, day in enumerate(("2025-04-02", "2025-07-03", "2025-10-01", "2026-01-02", "2026-06-28"), 2):
        log.at(f"{day}T03:00:00Z").publish("uploader", f"LTAI5tUploader00000000{number}")
        log.tell("uploader")
        log.tell("uploader", event=Event.PICKUP_CONFIRMED)
    log.at("2026-02-01T00:00:00Z").publish("gone", "LTAI5tGone00000000000001", "start")
    for hour in range(8):
        expires = datetime(2026, 3, 1, hour + 1, tzinfo=UTC)
        log.at(f"2026-03-01T{hour:02}:00:00Z").publish("session", f"STS.NSession{hour}", "schedule", expiration=expires)
    made = datetime(2026, 8, 14, 2, 58, tzinfo=UTC)
    log.at("2026-08-14T02:58:00Z").emergency("billing", "LTAI5tBilling0000000002", created_at=made)
    log.tell("billing", "exec /usr/local/bin/reload", Event.NOTIFY_GAVE_UP, error="exit status 1", outcome="7 attempts")
    log.at("2026-09-01T10:00:00Z").write(
        Event.ROTATION_REQUESTED, credential="uploader", trigger="emergency", actor=ROOT, reason="=cmd|' /C calc'!A0",
        outcome="failed", error="the authority may not rotate", host="web-1",
    )  # fmt: skip
    log.write(Event.KEY_TOO_OLD, credential="uploader")
    log.at("2026-10-20T00:00:00Z").write(Event.AGENT_STOPPED, host="web-1", agent_version="0.2.0", config="sha256:bbbb")
    return log.close()
