"""What is to be done next with the keys of a RAM user: one pure function, which the tests walk through every history.

The rules, each with its test: docs/ram_user.md. Above all of them:

* Only a key that stands in our record is disabled or deleted.
* None is as long as the key in use is not in RAM's list, active and at hand, so the last one that works is never touched;
  nor while a sink holds it.
* A doubt ends in `Rest`, with one sentence for the operator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from agent.core.text import first_few
from agent.core.timestamps import rfc3339
from agent.ram_rotation import journal
from agent.ram_rotation.view import (
    Action,
    AskLastUse,
    Create,
    Delete,
    Disable,
    Forsake,
    Listed,
    Note,
    Publish,
    Rest,
    View,
    Wanted,
)
from agent.state.ram_record import ADOPTED, GUESSED, RamIntent, RamKey

MOST_KEYS = 2
"""RAM: AccessKeys of one user (LimitExceeded.User.AccessKey)."""
GUESS_RESTS = timedelta(hours=1)
"""For so long a guessed key is let be, and has to stay unused, before it is disabled."""
TELL_AGAIN = timedelta(minutes=10)
ANOTHER_HOST = (
    "if keyturn on another host rotates this user as well, that host made it and its application uses it: delete nothing, "
    "and set owner = true on one of them alone"
)
"""RAM gives keys no mark, so this host cannot know another's."""


def decide(view: View) -> Action:
    """Return the next thing to do. After everything but `Rest` it is asked again, with a fresh view."""
    intent = view.record.intent
    if (
        view.unowned is not None
        and intent is not None
        and intent.access_key_id
        and intent.access_key_id == view.in_use.made_id
    ):
        return Publish(intent.access_key_id)  # changes nothing at RAM, and nobody else has its secret
    if (first := before_all(view)) is not None:
        return first
    if view.record.intent is not None:
        return _made(view.record.intent, view)
    ends = list(_ends(view))
    for end in ends:
        if not isinstance(end, Rest):
            return end
    rests = [end for end in ends if isinstance(end, Rest)]
    if view.wanted is not Wanted.NO:
        return _new_key(view, rests)
    return _all([*rests, *_lost(view), *_second_key(view)])


def _made(intent: RamIntent, view: View) -> Action:
    """Return what becomes of a key that this process made: it is published, unless somebody has ended it before."""
    row = view.row(intent.access_key_id)
    is_gone = row is None and view.now - intent.begun_at > journal.LIST_LAG
    is_ended = is_gone or (row is not None and not row.is_active)
    return Forsake(intent.access_key_id) if is_ended else Publish(intent.access_key_id)


def before_all(view: View) -> Note | Rest | None:
    """Return what comes before anything is done: what is to be written down, or why nothing may be touched; None for neither."""
    if (stop := _not_ours_to_rotate(view)) is not None:
        return stop
    caught_up = journal.caught_up(view)
    return Note(caught_up) if caught_up != view.record else _in_doubt(view)


def _not_ours_to_rotate(view: View) -> Rest | None:
    record, plan = view.record, view.plan
    if view.unowned is not None:
        return view.unowned
    if record.host and record.host != view.host:
        return _stop(
            "the state directory is of another machine, or this one was renamed, so its keys are left alone",
            f"on the one host that is to rotate RAM user {plan.user}: keyturn adopt {view.name}; elsewhere owner = false",
        )
    if record.user and record.user != plan.user:
        return _stop(
            f"the keys that keyturn made belong to RAM user {record.user}, and the config names {plan.user}; none is touched",
            f"name {record.user} again, or: keyturn adopt {view.name}",
        )
    return None


def _in_doubt(view: View) -> Rest | None:
    """Return why nothing may be touched, because the key in use is not what it should be."""
    current, plan = view.in_use.access_key_id, view.plan
    if not current:
        return None
    mine, row = view.record.key(current), view.row(current)
    if mine is None:
        return _stop(
            f"the key in use {current} is not one that keyturn made, as far as its state says; none of RAM user {plan.user}'s "
            "keys is touched",
            f"keyturn adopt {view.name}",
        )
    if row is None:
        listed_by = mine.known_at + journal.LIST_LAG
        if view.now <= listed_by:
            text = f"RAM to list the key in use {current}, which is new here: a list may lag behind"
            is_asked = view.wanted is Wanted.EMERGENCY
            remedy = f"if it was deleted, run the same command again after {rfc3339(listed_by)}" if is_asked else ""
            return Rest(text, remedy, _soon(mine.known_at, view))
        if view.wanted is Wanted.EMERGENCY:
            return None
        return _stop(
            f"RAM user {plan.user} has no key {current}, which is the one in use; none of that user's keys is touched",
            f"restore it from RAM's recycle bin if it was deleted by mistake, or replace it: keyturn rotate {view.name} "
            "--reason TEXT",
        )
    if not row.is_active and view.wanted is not Wanted.EMERGENCY:
        return _stop(
            f"the key in use {current} is inactive in RAM, and keyturn did not do that; none of RAM user {plan.user}'s keys is "
            "touched",
            f"enable it in the RAM console, or replace it: keyturn rotate {view.name} --reason TEXT",
        )
    return None


# -- the end of a key ---------------------------------------------------------------------------------


def _ends(view: View) -> Iterator[Action]:
    """Yield, for each key of ours that is not in use, what brings it nearer to its end, or what that waits for."""
    for key in view.others:
        row = view.row(key.access_key_id)
        assert row is not None
        if (stop := _needed(key, view)) is not None:
            yield stop
        elif key.origin == GUESSED:
            yield _end_of_guess(key, row, view)
        elif not key.is_published:
            why = "it was made and never published, and its secret is lost"
            yield Disable(key.access_key_id, why) if row.is_active else Delete(key.access_key_id, why)
        elif row.is_active:
            yield _disabled(key, view)
        else:
            yield _deleted(key, view)


def _needed(key: RamKey, view: View) -> Rest | None:
    """Return why a key is not touched although it is ours: it may be the only one that works."""
    current = view.in_use.access_key_id
    if key.access_key_id in view.in_use.in_sinks:
        return _stop(
            f"{key.access_key_id} was replaced, and a sink still holds it",
            f"keyturn refresh {view.name}; if that does not put it right, see `keyturn status`",
        )
    if not current:
        return None if not key.is_published else Rest(f"{key.access_key_id} is let be: nothing newer is published")
    row = view.row(current)
    if row is None or not row.is_active:
        return Rest(f"{key.access_key_id} is let be: the key in use {current} is not active")
    if not view.in_use.is_known:
        return _stop(
            f"{key.access_key_id} is let be: the secret of the key in use {current} stands in no sink that can be read",
            f"put it back into the files and: keyturn refresh {view.name}",
        )
    if not view.in_use.is_proved:
        return Rest(f"{key.access_key_id} is let be until STS has proved the key in use", until=view.now + TELL_AGAIN)
    return None


def _end_of_guess(key: RamKey, row: Listed, view: View) -> Action:
    name = key.access_key_id
    about = f"{name} of RAM user {view.plan.user} was most likely made by a call of keyturn's whose reply was lost"
    if name not in view.used:
        return AskLastUse(name)
    if view.used[name].at is not None:  # whoever has its secret made it
        return Note(journal.without(view.record, name))
    if row.is_active:
        begins = key.known_at + GUESS_RESTS
        if key.disabled_at is not None:
            return Rest(f"RAM to show {name} as inactive", until=_soon(key.disabled_at, view))
        if view.now < begins:
            return Rest(
                f"{about}; it is disabled unless it is used", f"if it is yours, use it before {rfc3339(begins)}", begins
            )
        return Disable(name, "nobody used it since a call of keyturn's whose reply was lost")
    ends = (key.disabled_at or view.now) + view.plan.rest
    if view.now < ends:
        return Rest(
            f"{about}; it is inactive and will be deleted", "if it is yours, enable it in the RAM console", ends
        )
    return Delete(name, "nobody used it since a call of keyturn's whose reply was lost")


def _disabled(key: RamKey, view: View) -> Action:
    name = key.access_key_id
    if key.disabled_at is not None:
        return Rest(f"RAM to show {name} as inactive", until=_soon(key.disabled_at, view))
    begins = (key.replaced_at or key.known_at) + view.plan.rest
    if view.now < begins:
        return Rest(f"the key before, {name}, to have been replaced for disable_after", until=begins)
    if view.in_use.owed:
        whom = ", ".join(first_few(view.in_use.owed))
        return Rest(
            f"the key before, {name}, is not disabled before these are on the new one: {whom}",
            until=view.now + TELL_AGAIN,
        )
    if name not in view.used:
        return AskLastUse(name)
    use = view.used[name]
    if use.at is not None and view.now < use.at + view.plan.rest:
        service = f" for {use.service}" if use.service else ""
        return Rest(
            f"somebody still uses the key before, {name}: last at {rfc3339(use.at)}{service}",
            "find out who has a copy of it, and let them read the file; it is disabled once it has rested for disable_after",
            use.at + view.plan.rest,
        )
    return Disable(name, "it was replaced and rests")


def _deleted(key: RamKey, view: View) -> Action:
    ends = (key.disabled_at or view.now) + view.plan.kept
    if view.now < ends:
        return Rest(f"the key before, {key.access_key_id}, to have been inactive for delete_after", until=ends)
    return Delete(key.access_key_id, "it was inactive for delete_after")


# -- a new key ----------------------------------------------------------------------------------------


def _new_key(view: View, rests: Sequence[Rest]) -> Action:
    is_emergency = view.wanted is Wanted.EMERGENCY
    current, user = view.in_use.access_key_id, view.plan.user
    strangers = [one.access_key_id for one in view.strangers]
    if not current and not is_emergency and (waiting := _adopted(view)):
        return Rest(f"the adopted key {waiting} to be published", until=view.now + TELL_AGAIN)
    if not current and strangers:
        is_held = any(one in view.in_use.in_sinks for one in strangers)
        first = (
            "take the one that the files hold" if is_held else "put the one that is in use into the files, and take it"
        )
        return _stop(
            f"RAM user {user} has keys that keyturn on this host did not make: {_said(view.strangers)}; none is touched, and no "
            "other is made",
            f"{first}: keyturn adopt {view.name}; {ANOTHER_HOST}",
        )
    if not current and (stop := _foreign_in_files(view)) is not None:
        return stop
    if len(view.present) < MOST_KEYS:
        if not is_emergency and (lost := _lost(view)):
            return _all(lost)
        return Create(tuple(one.access_key_id for one in view.listed))
    if strangers:
        second = _second_key(view)[0]
        return _stop(second.text, second.remedy)
    if not is_emergency:
        return _all(rests)
    for key in view.others:
        row = view.row(key.access_key_id)
        if row is not None and not row.is_active and key.origin != GUESSED and _needed(key, view) is None:
            return Delete(key.access_key_id, "a rotation that cannot wait needs its place")
    waits = next((one for one in rests if one.text), Rest(f"RAM user {user} has two keys"))
    others = ", ".join(one.access_key_id for one in view.others)
    return _stop(
        f"RAM user {user} has two keys already, and RAM allows no third: {waits.text}",
        f"delete {others} in the RAM console if nobody needs it, or keyturn rotate {view.name} --leaked {others} "
        "--disable-old --delete-old --reason TEXT, and run the same command again",
    )


def _second_key(view: View) -> list[Rest]:
    """Return what a key of somebody else's, beside ours, means for the next rotation; nothing where there is room."""
    if not view.strangers or len(view.present) < MOST_KEYS:
        return []
    user = view.plan.user
    return [
        Rest(
            f"RAM user {user} has a second key that keyturn on this host did not make, {_said(view.strangers)}, and RAM allows "
            "two; it is not touched, so no new one can be made",
            f"{ANOTHER_HOST}; otherwise see by its last use in the RAM console who has it, let them read the file, and disable "
            "it there; delete it once it rests",
        )
    ]


def _said(rows: Sequence[Listed]) -> str:
    """Return keys in words: id, state, and when RAM made them."""
    return ", ".join(
        f"{one.access_key_id} ({one.status.lower()}{f', made {rfc3339(one.created_at)}' if one.created_at else ''})"
        for one in rows
    )


def _foreign_in_files(view: View) -> Rest | None:
    """Return why not even a first key is made: a file holds another key already, whose secret would be overwritten."""
    user, ours = view.plan.user, {one.access_key_id for one in view.record.keys}
    foreign = sorted(view.in_use.in_sinks - ours)
    if foreign:
        return _stop(
            f"the files hold {', '.join(foreign)}, which is no key of RAM user {user}; none is made, for it would overwrite "
            "that one",
            f"correct ram_user_name, or put a key of {user} into the files and: keyturn adopt {view.name}; or empty the files, "
            "and the first key is made",
        )
    if view.in_use.unreadable:
        return _stop(
            f"{', '.join(view.in_use.unreadable)} cannot be read, and may hold a key; none is made, for it would overwrite that "
            "one",
            "let keyturn read it: keyturn check says how",
        )
    return None


def _adopted(view: View) -> str:
    """Return the key that was adopted, and that the files hold, before anything was published; "" for none."""
    held = (one for one in view.others if one.origin == ADOPTED and one.access_key_id in view.in_use.in_sinks)
    return next((one.access_key_id for one in held), "")


def _lost(view: View) -> list[Rest]:
    text = "RAM to show whether the call whose reply was lost made a key"
    return [Rest(text, until=_soon(one.begun_at, view)) for one in view.record.lost]


def _soon(since: datetime, view: View) -> datetime:
    """Return when to look again at a list that lags behind what was done at `since`: after twice the time that passed."""
    passed = max(view.now - since, timedelta(seconds=1))
    return min(view.now + passed, max(since + journal.LIST_LAG, view.now) + timedelta(seconds=1))


def _all(rests: Sequence[Rest]) -> Rest:
    """Return one rest for several: what is wrong first, until the earliest."""
    if not rests:
        return Rest()
    worst = sorted(rests, key=lambda one: (not one.is_wrong, not one.remedy, one.until is None))[0]
    moments: list[datetime] = [one.until for one in rests if one.until is not None]
    return Rest(worst.text, worst.remedy, min(moments, default=None), worst.is_wrong)


def _stop(text: str, remedy: str) -> Rest:
    return Rest(text, remedy, is_wrong=True)
