"""What `plan` prints for people, in sections that fit 80 columns; the same in short is asked before an emergency."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from agent.cli.output import one_line, spoken
from agent.core.spans import span
from agent.core.text import first_few
from agent.system.terminal import paint, terminal_size

WIDEST = 100
MOST_ROWS = 12
OTHER_HOSTS = (
    "not known to keyturn: the config has no [fleet]. Where they share the secret: rotate without --disable-old, "
    "`keyturn refresh` on each of them, then `keyturn rotate NAME --leaked OLD --disable-old`"
)
_BEFORE_THE_SWITCH = ("preflight", "rotate", "fetch")
"""The steps after which the key is still the old one."""
_MOODS = {
    "ok": "good", "not permitted": "so-so", "unknown": "so-so", "refused": "bad", "not proved": "dim", "live": "good",
    "absent": "so-so",
}  # fmt: skip


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the whole plan."""
    yield from _wrapped(_headline(found), "")
    sections = {
        "files": _files(found),
        "other credentials": _others(found),
        "processes": _processes(found),
        "would be told": _told(found),
        "fetched it from keyturn": _fetched(found),
        "other hosts": _other_hosts(found),
        "the authority": _authority(found),
        "KMS and RAM": _cloud(found),
        "in the way": _in_the_way(found),
    }
    for title, body in sections.items():
        rows = list(body)
        if rows:
            yield ""
            yield paint(title, "strong")
            yield from rows


def verdict(found: dict[str, Any]) -> str:
    """Return the last line of `rotate --dry-run`."""
    if found["possible"]:
        return paint("it could be done, as far as can be seen; nothing was changed", "good")
    step = found["in_the_way"][0]["step"]
    before = (
        "" if step in _BEFORE_THE_SWITCH or found["would"] == "disable" else "the new key would be published, then "
    )
    return paint(one_line(f"{before}it would end at {step}, see above; nothing was changed"), "bad")


def agreed(name: str, found: dict[str, Any], *, disable_old: bool, delete_old: bool) -> bool:
    """Ask before an emergency, with the plan in short; return whether the answer was yes.

    Args:
        name: of the credential.
        found: the plan, or {"unknown": why there is none}.
        disable_old: whether the old key is to be disabled.
        delete_old: and deleted then.
    """
    then = f" and disable {'and delete ' if delete_old else ''}the key before it" if disable_old else ""
    said = (
        [f"who else holds the key is not known: {found['unknown']}"]
        if "unknown" in found
        else _short(found, disable_old)
    )
    for line in said:
        print(spoken(f"  {line}"), file=sys.stderr)
    print(one_line(f"Rotate {name} at its source now{then}?") + " [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


# -- in short -----------------------------------------------------------------------------------------


def _short(found: dict[str, Any], disable_old: bool) -> Iterator[str]:
    files = [one["target"] for one in found["files"] if one["offers"] == "value"]
    if files:
        yield f"the key is in {', '.join(first_few(files))}"
    others = [one["credential"] for one in found["credentials"] if one["relation"] != "itself"]
    if others:
        yield f"the same key is held by {', '.join(others)}: refreshed and told as well"
    holding = [_called(one) for one in found["processes"]["found"]]
    if holding:
        yield f"processes that hold it or are to be told: {', '.join(first_few(holding))}"
    told = list(dict.fromkeys(one["how"] for one in found["dependents"]))
    if told:
        yield f"it tells: {', '.join(first_few(told))}"
    for one in found["left_behind"]:
        whom = f"{one['dependent']} of " if one["dependent"] else ""
        yield f"it will leave behind {whom}credentials.{one['credential']}: {one['why']}; to move it: {one['move']}"
    if found["fetched"] and disable_old:
        yield _waits(found["fetched"])
    for one in found["in_the_way"]:
        yield f"in the way ({one['step']}): {_said(one)}"
    yield f"{_hosts_in_short(found.get('other_hosts'))}; more: keyturn plan {found['credential']}"


def _hosts_in_short(others: dict[str, Any] | None) -> str:
    if others is None:
        return "other hosts are not known to it"
    if others["hosts"] is None:
        return f"the fleet is not known: {others['problem']}"
    live, absent = (_with_ages(others["hosts"], state) for state in ("live", "absent"))
    said = f"other live hosts: {len(live)}" + (f" ({', '.join(first_few(live))})" if live else "")
    return said + (f"; absent: {len(absent)} ({', '.join(first_few(absent))})" if absent else "")


def _with_ages(hosts: Sequence[dict[str, Any]], state: str) -> list[str]:
    return [f"{one['host']}, seen {span(one['age_s'])} ago" for one in hosts if one["state"] == state]


def _waits(fetched: Sequence[dict[str, Any]]) -> str:
    latest, hold_s = max(one["until"] for one in fetched), max(one["hold_s"] for one in fetched)
    named = ", ".join(first_few(list(dict.fromkeys(one["who"] for one in fetched))))
    return f"it waits for those who fetched the key, usually within {hold_s:g} s, until {latest} at the latest: {named}"


# -- sections -----------------------------------------------------------------------------------------


def _replaces(found: dict[str, Any], key: str) -> str:
    if found["secret"]:
        return f"KMS would replace {key} of secret {found['secret']}"
    return f"keyturn would have RAM make a key that replaces {key} of RAM user {(found['ram'] or {}).get('user')}"


def _headline(found: dict[str, Any]) -> str:
    name = found["credential"]
    key = found["access_key_id"] or ("its value" if found["generation"] else "a key that is not known yet")
    does = {
        "rotate": _replaces(found, key),
        "disable": f"nothing needs rotating, {key} stays; the key before it would be disabled",
        "renew": f"a new session would take the place of {key}; sessions already issued live on until they expire",
        "nothing": f"{key} cannot be rotated by keyturn: its source is {found['provider']}",
        "unknown": f"nothing was published yet; what its source ({found['provider']}) hands out would be published first",
    }[found["would"]]
    when = (
        f"generation {found['generation']}, published {found['published_at']}"
        if found["generation"]
        else "not published yet"
    )
    held = next((one["access_key_id"] for one in found["credentials"] if one["relation"] == "itself"), None)
    if held and found["access_key_id"] and held != found["access_key_id"]:  # its source has gone on meanwhile
        when = f"which is not published here yet: the files hold {held}, {when}"
    until = f", expires {found['expires_at']}" if found["expires_at"] else ""
    return f"plan for {name}: {does} ({when}{until})"


def _files(found: dict[str, Any]) -> Iterator[str]:
    whose = {
        "value": "",
        "command": "no key in it: its readers run `keyturn credential`",
        "address": "no key in it: its readers ask keyturn's endpoint",
    }
    rows = []
    for one in found["files"]:
        remark = whose[one["offers"]] or ("differs from what was published" if one["in_sync"] is False else "")
        rows.append((one["credential"], [f"{one['target']}  ({one['type']})", *filter(None, [remark])]))
    yield from _table(rows)


def _others(found: dict[str, Any]) -> Iterator[str]:
    does = {
        "same secret": "gets its value from the same secret: refreshed and told as well",
        "same key": "publishes the same key from another source: replace it there",
        "built on it": "is built on it: renewed and told as well",
    }
    rows = [(one["credential"], [does[one["relation"]]]) for one in found["credentials"] if one["relation"] in does]
    yield from _table(rows)


def _processes(found: dict[str, Any]) -> Iterator[str]:
    seen = found["processes"]
    rows = []
    for one in seen["found"][:MOST_ROWS]:
        evidence = [f"has {path} open" for path in one["opened"]]
        evidence += [f"has {key_id} in its environment" for key_id in one["in_environment"]]
        evidence += [] if evidence else ["is of a unit that is to be told"]
        started = f"started {one['started_at']}" + (f", {one['started']}" if one["started"] else "")
        rows.append(f"{_called(one)}, user {one['user']}: {', '.join(evidence)}; {started}")
    if len(seen["found"]) > MOST_ROWS:
        rows.append(f"and {len(seen['found']) - MOST_ROWS} more (--json has all)")
    if not seen["found"]:
        rows.append("none is seen to hold it (a file that was read and closed leaves no trace)")
    if seen["hidden"]:
        rows.append("/proc hides the processes of other users from this one: not to be seen, root sees them")
    elif seen["unseen"]:
        rows.append(f"{seen['unseen']} more may not be looked into: not to be seen, unless by root with CAP_SYS_PTRACE")
    if not seen["complete"]:
        rows.append("not all processes could be looked at in time")
    yield from _bullets(rows)


def _called(one: dict[str, Any]) -> str:
    name = f"pid {one['pid']} {one['executable']}"
    return f"{name} ({one['unit']})" if one["unit"] else name


def _told(found: dict[str, Any]) -> Iterator[str]:
    left = {(one["credential"], one["dependent"]): one for one in found["left_behind"]}
    rows = []
    for one in found["dependents"]:
        behind = left.get((one["credential"], f"{one['type']} {one['target']}"))
        said = [one["how"]]
        said += [text if one["level"] == "ok" else f"{one['level']}: {text}" for text in one["seen"]]
        said += ["it is still owed the news of the present key"] if one["owed"] else []
        said += [f"will not move it: {behind['why']}", f"to move it: {behind['move']}"] if behind else []
        doubt = one["doubt"]
        said += [f"may not move it: {doubt['why']}", f"to move it: {doubt['move']}"] if doubt else []
        rows.append((one["credential"], said))
    yield from _table(rows) if rows else _bullets(["nobody: no notifier is configured"])


def _fetched(found: dict[str, Any]) -> Iterator[str]:
    fetched = found["fetched"]
    if fetched is None:
        yield from _bullets(["not known: no daemon runs"])
    elif fetched:
        named = [f"{one['who']}, good until {one['until']}" for one in fetched]
        yield from _bullets(first_few(named, MOST_ROWS))


def _other_hosts(found: dict[str, Any]) -> Iterator[str]:
    others = found.get("other_hosts")
    if others is None:
        yield from _bullets([OTHER_HOSTS.replace("NAME", found["credential"])])
    elif others["hosts"] is None:
        yield from _bullets([f"the fleet is not known: {others['problem']}"])
    elif not others["hosts"]:
        yield from _bullets(["none is on the fleet's board"])
    else:
        rows = sorted(others["hosts"], key=lambda one: (one["state"] != "absent", one["host"]))
        for one in rows[:MOST_ROWS]:
            yield from _labelled(one["state"], _host(one))
        if len(rows) > MOST_ROWS:
            yield from _bullets([f"and {len(rows) - MOST_ROWS} more (`keyturn fleet status`, or --json, has all)"])


def _host(one: dict[str, Any]) -> str:
    said = [f"{one['host']}, seen {span(one['age_s'])} ago"]
    said.append(f"version {one['version_id']}" if one["version_id"] else "says nothing that can be understood")
    said += [f"{one['owed']} of its dependents are not known to be on it"] if one["owed"] else []
    said += [f"failing: {one['failed']}"] if one["failed"] else []
    said += ["two machines go by this name"] if one["twins"] else []
    return ", ".join(said)


def _authority(found: dict[str, Any]) -> Iterator[str]:
    authority = found["authority"]
    if authority is None:
        return
    if authority["problem"]:
        yield from _bullets([authority["problem"]])
    for one in authority["checks"]:
        action = f" ({one['action']})" if one["action"] else ""
        yield from _labelled(one["outcome"], f"{one['call']}{action}: {one['text']}")
    for one in authority["unproved"] if authority["access_key_id"] else ():
        yield from _labelled("not proved", f"{one['action']}: {one['why']}")


def _cloud(found: dict[str, Any]) -> Iterator[str]:
    kms, ram = found["kms"], found["ram"]
    if ram is None:
        return
    rows = list(_kms(kms)) if kms is not None else []
    for one in ram["keys"] or ():
        created = f", created {one['created_at']}" if one["created_at"] else ""
        rows.append(f"RAM user {ram['user']}: {one['access_key_id']}, {one['whose']}, {one['status']}{created}")
    if ram["last_used_at"]:
        rows.append(f"the current key was used last {ram['last_used_at']}")
    yield from _bullets(rows)


def _kms(kms: dict[str, Any]) -> Iterator[str]:
    yield f"{kms['rotations_spent']} of {kms['rotations_per_hour']} rotations spent this hour, as far as is known here"
    if kms["last_rotated_at"]:
        yield f"last rotated {kms['last_rotated_at']}"
    if kms["taken_up"]:
        yield f"a rotation begun {kms['taken_up']['begun_at']} would be taken up: {kms['taken_up']['reason']}"


def _in_the_way(found: dict[str, Any]) -> Iterator[str]:
    if not found["in_the_way"]:
        yield from _bullets(["nothing that can be seen"])
    for one in found["in_the_way"]:
        yield from _labelled(one["step"], _said(one))


def _said(one: dict[str, Any]) -> str:
    return f"{one['problem']}; {one['remedy']}" if one["remedy"] else str(one["problem"])


# -- form ---------------------------------------------------------------------------------------------


def _table(rows: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """Yield rows with the name on the left, once, and what is said of it on the right."""
    column = min(20, max((len(name) for name, _said in rows), default=0)) + 2
    before = None
    for name, said in rows:
        for number, text in enumerate(said):
            left = name if number == 0 and name != before else ""
            first, *rest = _wrapped(text if number == 0 else f"- {text}", " " * (column + 2))
            yield f"  {one_line(left):<{column}}{first.lstrip()}"
            yield from rest
        before = name


def _labelled(label: str, text: str) -> Iterator[str]:
    first, *rest = _wrapped(text, " " * 17)
    yield f"  {paint(f'{one_line(label):<13}', _MOODS.get(label))}  {first.lstrip()}"
    yield from rest


def _bullets(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        first, *rest = _wrapped(text, "    ")
        yield f"  {first.lstrip()}"
        yield from rest


def _wrapped(text: str, indent: str) -> list[str]:
    """Return the text in lines that fit the terminal; a long path stays in one piece, so that it can be copied."""
    width = min(terminal_size().columns, WIDEST)
    return textwrap.wrap(
        spoken(text),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [indent]
