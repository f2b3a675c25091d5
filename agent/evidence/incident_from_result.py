"""An incident as `rotate` itself can tell it: where the audit log cannot be read, or has nothing of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from agent.evidence.fields import hosts_of, left_behind_of, number_of, steps_of, text_of, texts_of
from agent.evidence.incident import Attempt, Basis, Dependent, How, Incident, LeftBehind, OldKey, Step
from agent.evidence.incident_from_log import NOT_TOLD, Frame


def incident_from_result(result: Mapping[str, Any], attempt: Attempt, frame: Frame, why_not: str) -> Incident:
    """Return what the result of a `rotate` says.

    Args:
        result: the object that `rotate --json` prints.
        attempt: who asked, when and why; its end and its steps are taken from the result.
        frame: of the document.
        why_not: why the audit log was not read, in a clause.
    """
    steps = steps_of(result.get("steps")) or attempt.steps or ()
    left, more = left_behind_of(result.get("left_behind"))
    hosts, hosts_more = hosts_of(result.get("fleet"), attempt.began_at)
    safe_ms = number_of(result, "time_to_safe_ms") if result.get("safe") else None
    return Incident(
        text_of(result, "credential"),
        OldKey(
            text_of(result, "old_access_key_id") or attempt.leaked,
            replaced_at=_ended(attempt.began_at, steps, "publish"),
            disabled_at=_ended(attempt.began_at, steps, "disable_old") if result.get("old_key") != "active" else None,
            refused_at=None if safe_ms is None else attempt.began_at + timedelta(milliseconds=safe_ms),
            deleted_at=_ended(attempt.began_at, steps, "delete_old"),
            refusal=next((one.detail for one in steps if one.name == "prove_refused"), ""),
        ),
        (
            Attempt(
                attempt.began_at,
                attempt.ended_at,
                attempt.actor,
                attempt.host,
                attempt.reason,
                attempt.leaked,
                error=text_of(result, "error"),
                steps=steps,
            ),
        ),
        frame.made_at,
        frame.made_by,
        frame.owner,
        text_of(result, "new_access_key_id"),
        text_of(result, "version_id"),
        number_of(result, "generation"),
        dependents=(*_assumed(result.get("assumed")), *_left_behind(left)),
        left_behind=left,
        left_behind_more=more,
        hosts=hosts,
        hosts_more=hosts_more,
        notes=texts_of(result, "notes"),
        region=frame.region,
        basis=Basis(why_not=why_not),
    )


def _assumed(given: Any) -> Iterator[Dependent]:
    for one in given if isinstance(given, list) else ():  # an older daemon does not say
        if isinstance(one, dict):
            yield Dependent(text_of(one, "credential"), text_of(one, "dependent"), How.ASSUMED)


def _left_behind(left: Iterable[LeftBehind]) -> Iterator[Dependent]:
    for one in left:
        if one.dependent:
            yield Dependent(one.credential, one.dependent, How.NOT_TOLD if one.reason == NOT_TOLD else How.LEFT_BEHIND)


def _ended(began_at: datetime, steps: tuple[Step, ...], name: str) -> datetime | None:
    """Return when a step was done; None where it was not."""
    done = next((one for one in steps if one.name == name and one.outcome == "done"), None)
    return None if done is None else began_at + timedelta(milliseconds=done.at_ms)
