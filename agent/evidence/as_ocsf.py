"""The report's events in OCSF 1.8.0, class 3004 Entity Management: one JSON object a line, in the order in which they happened.

The entity is the AccessKey (type 99 "Other", since the schema has no type for a credential); `entity_result` is the key that
took its place. A new key is Create where it is the credential's first one, else Update; Disable, Delete; a rotation that was
asked for is Other. What the class has no attribute for is in `unmapped`, by its name in the audit log, and so is whether the
log verified: a consumer that looks at one line alone still sees it. Credentials without an event have no line here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from agent import __version__
from agent.core.timestamps import rfc3339
from agent.evidence.model import Change, CredentialReport, Emergency, Ending, OldKey, Report

SCHEMA = "1.8.0"
CLASS, CATEGORY = 3004, 3
CREATE, UPDATE, DELETE, DISABLE, OTHER = 1, 3, 4, 9, 99
NAMES = {CREATE: "Create", UPDATE: "Update", DELETE: "Delete", DISABLE: "Disable", OTHER: "Rotation requested"}
UNKNOWN, SUCCESS, FAILURE = 0, 1, 2
STATUS = {UNKNOWN: "Unknown", SUCCESS: "Success", FAILURE: "Failure"}
INFORMATIONAL, HIGH = 1, 4
SEVERITY = {INFORMATIONAL: "Informational", HIGH: "High"}


def lines(report: Report) -> Iterator[str]:
    """Yield the events, each as a line of JSON without its end."""
    found = [event for one in report.credentials for event in _events(one)]
    log = report.log
    basis = {
        "log_verdict": log.verdict,
        "log_first_seq": log.first_seq,
        "log_last_seq": log.last_seq,
        "log_head_hash": log.head_hash,
    }
    for event in sorted(found, key=lambda event: event["time"]):
        event["unmapped"] |= basis
        yield json.dumps(event, ensure_ascii=False)


def _events(one: CredentialReport) -> Iterator[dict[str, Any]]:
    for change in one.changes:
        yield _published(one, change)
    for emergency in one.emergencies:
        yield _asked(one, emergency)
    for old in one.old_keys:
        yield from _ended(one, old)


def _published(one: CredentialReport, change: Change) -> dict[str, Any]:
    new = _key(one, change.access_key_id, change.version_id)
    first = not change.previous_access_key_id
    event = _event(CREATE if first else UPDATE, change.at, new if first else _key(one, change.previous_access_key_id))
    event |= _who(change.actor, change.host) | ({} if first else {"entity_result": new})
    if change.reason:
        event["comment"] = change.reason
    event["metadata"]["sequence"] = change.seq
    event["unmapped"] |= _said(
        event="published", trigger=change.trigger, generation=change.generation, sinks=change.files, identity=change.identity,
        created_at=change.created_at, expiration=change.expires_at, notified=change.told, request_id=change.request_ids,
        config=change.config, agent_version=change.agent_version,
    )  # fmt: skip
    return event


def _asked(one: CredentialReport, asked: Emergency) -> dict[str, Any]:
    status = FAILURE if asked.error else SUCCESS if asked.new_key else UNKNOWN
    event = _event(OTHER, asked.asked_at, _key(one, asked.old_key), status, HIGH)
    event |= _who(asked.actor, asked.host)
    if asked.reason:
        event["comment"] = asked.reason
    if asked.new_key:
        event["entity_result"] = _key(one, asked.new_key, asked.version_id)
    if asked.error:
        event["status_detail"] = asked.error
    event["metadata"]["sequence"] = asked.seq
    event["unmapped"] |= _said(
        event="rotation_requested", trigger="emergency", outcome=asked.outcome, exposure_s=asked.exposure_s,
        ended_at=asked.ended_at, refused_at=asked.refused_at, left_behind=asked.left_behind, request_id=asked.request_ids,
        agent_version=asked.agent_version,
    )  # fmt: skip
    return event


def _ended(one: CredentialReport, old: OldKey) -> Iterator[dict[str, Any]]:
    if old.disabled_at or old.refused_at:
        event = _event(DISABLE, old.disabled_at or old.refused_at, _key(one, old.access_key_id))
        event["unmapped"] |= _said(event="old_key_disabled", outcome=old.refusal, refused_at=old.refused_at)
        yield event | _by(old.ended, event)
    if old.deleted_at:
        event = _event(DELETE, old.deleted_at, _key(one, old.access_key_id))
        event["unmapped"] |= _said(event="old_key_deleted")
        yield event | _by(old.deleted, event)


def _by(ending: Ending | None, event: dict[str, Any]) -> dict[str, Any]:
    """Return who brought an end about, as its record says."""
    if ending is None:
        return {}
    comment = {"comment": ending.reason} if ending.reason else {}
    return _who(ending.actor, ending.host) | comment | {"metadata": event["metadata"] | {"sequence": ending.seq}}


def _event(
    activity: int, at: datetime | None, entity: dict[str, Any], status: int = SUCCESS, severity: int = INFORMATIONAL
) -> dict[str, Any]:
    assert at is not None
    name = NAMES[activity]
    caption = "Other" if activity == OTHER else name
    return {
        "activity_id": activity,
        "activity_name": name,
        "category_uid": CATEGORY,
        "category_name": "Identity & Access Management",
        "class_uid": CLASS,
        "class_name": "Entity Management",
        "type_uid": CLASS * 100 + activity,
        "type_name": f"Entity Management: {caption}",
        "severity_id": severity,
        "severity": SEVERITY[severity],
        "status_id": status,
        "status": STATUS[status],
        "time": round(at.timestamp() * 1000),
        "timezone_offset": 0,
        "message": f"{name}: AccessKey {entity.get('uid') or 'not known'} of {entity['name']}",
        "metadata": {
            "version": SCHEMA,
            "product": {"name": "keyturn", "vendor_name": "keyturn", "version": __version__},
            "log_name": "audit.jsonl",
            "original_time": rfc3339(at),
        },
        "entity": entity,
        "unmapped": {},
    }


def _key(one: CredentialReport, key_id: str, version_id: str = "") -> dict[str, Any]:
    data = _said(owner=one.owner, identity=one.identity, secret=one.secret, provider=one.provider)
    known = {"uid": key_id, "version": version_id, "data": data}
    return {"name": one.name, "type_id": 99, "type": "AccessKey"} | {name: it for name, it in known.items() if it}


def _who(actor: str, host: str) -> dict[str, Any]:
    """Return who asked, where somebody did, and on which host; the agent itself is the actor of what nobody asked for."""
    user, _uid, uid = actor.rpartition(" (uid ")
    who = {"user": {"name": user, "uid": uid.rstrip(")")}} if user else {"app_name": "keyturn"}
    return {"actor": who} | ({"src_endpoint": {"hostname": host}} if host else {})


def _said(**fields: Any) -> dict[str, Any]:
    """Return what is known of these, times as texts."""
    return {
        name: rfc3339(it) if isinstance(it, datetime) else it
        for name, it in fields.items()
        if it not in (None, "", [], {})
    }
