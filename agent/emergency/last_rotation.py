"""The rotation that ended last, as the next `rotate` meets it: the same command is often run again by whoever lost its output.

Decision (docs/adr/0022): for an hour, a `rotate` that does not name the key that leaked is taken for a repetition of the one
that ended. It does nothing, says what became of that one, and how to rotate once more.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from agent.core.errors import KeyturnError
from agent.core.timestamps import rfc3339
from agent.emergency.case import Case
from agent.emergency.report import OldKey
from agent.state.records import RotationEnd

REPEATED = timedelta(hours=1)


def is_repeated(ended: RotationEnd | None, current_id: str, leaked: str | None, now: datetime) -> bool:
    """Return whether a request is taken for a repetition of the rotation that ended last.

    Args:
        ended: that rotation.
        current_id: the key in use; another one than that rotation brought ends the doubt.
        leaked: the key that the operator says has leaked.
        now: the wall clock.
    """
    if ended is None or leaked is not None or ended.new_access_key_id != current_id:
        return False
    return abs(now - ended.ended_at) < REPEATED


def told(ended: RotationEnd) -> str:
    """Return in a clause what became of a rotation."""
    proof = " and was seen refused" if ended.safe else ""
    return (
        f"the last rotation ended {'safe ' if ended.safe else ''}at {rfc3339(ended.ended_at)}: {ended.by} ({ended.reason}) had "
        f"{ended.old_access_key_id} replaced by {ended.new_access_key_id}; {ended.old_access_key_id} is {ended.old_key}{proof}"
    )


def refuse_repetition(case: Case) -> None:
    """Stop where the request is taken for a repetition; what became of the rotation that ended then stands in the result.

    Raises:
        KeyturnError: it is; with what to run for each thing that may be meant.
    """
    ended = _repeated(case)
    if ended is None:
        return
    case.refresh_first()  # the source may have moved on, and who is left behind is judged by what it has now
    if _repeated(case) is None:
        return
    result, name, current_id = case.result, case.held.name, ended.new_access_key_id
    result.old_access_key_id, result.old_key, result.safe = ended.old_access_key_id, OldKey(ended.old_key), ended.safe
    rotate, again = f"keyturn rotate {name} --reason TEXT --leaked", "if {} leaked as well: {} {} --disable-old"
    ways = [again.format(current_id, rotate, current_id)]
    if ended.old_key == OldKey.ACTIVE:
        ways.insert(0, f"to disable {ended.old_access_key_id}: {rotate} {ended.old_access_key_id} --disable-old")
    elif ended.old_key == OldKey.DISABLED and case.request.delete_old:
        ways.insert(0, f"to delete {ended.old_access_key_id}: {rotate} {ended.old_access_key_id} --delete-old")
    raise KeyturnError(f"{case.place}: {told(ended)}; nothing was done now", "; ".join(ways))


def _repeated(case: Case) -> RotationEnd | None:
    now = case.held.look()
    current_id = now.seen.published.access_key_id
    if now.unfinished is not None or not is_repeated(now.ended, current_id, case.request.leaked, case.clock.now()):
        return None
    return now.ended
