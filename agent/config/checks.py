"""The rules that need more than one key: names, references, accounts; `file_conflicts` holds those on files.

Each looks at what the converter could build; a part that failed already is not judged again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from agent.config.converter import Built, Reference
from agent.config.messages import MAX_QUOTED, Report, quoted, shown_name, shown_place
from agent.core.problem import Place
from agent.core.settings import CredentialSettings, FileSinkSettings, NotifierSettings, ServeSettings, Settings
from agent.core.text import nearest
from agent.system.accounts import AccountKind, Accounts, nearest_account

_TABLES = frozenset(each.name for each in fields(Settings))
_OF_A_CREDENTIAL = frozenset(each.name for each in fields(CredentialSettings))
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def names(tree: Mapping[str, Any], report: Report) -> None:
    """Report names that cannot stand in a file name, a label and a log line, and a config without any credential."""
    for name in (found := _credentials(tree)):
        if not _NAME.fullmatch(name):
            from agent.config.hints import credential_name  # once something is wrong: the daemon's memory is counted

            wanted = "want a name of up to 64 letters, digits, dots, dashes and underscores"
            report.add(("credentials", name), f"{wanted}{credential_name(name)}", of_key=True)
    misspelt = any(nearest(key, ["credentials"]) for key in tree if key not in _TABLES)  # and that is said already
    if not found and not misspelt and isinstance(tree.get("credentials", {}), Mapping):
        report.add(
            ("credentials",),
            "there is none; add a table [credentials.NAME], or take one from `keyturn init --output -`",
        )


def references(tree: Mapping[str, Any], uses: Iterable[Reference], report: Report) -> None:
    """Report names that are not defined, credentials that build on themselves, and values that nobody gets."""
    known, used = _credentials(tree), set()
    builds_on: dict[str, dict[str, Place]] = {}
    for place, name in uses:
        owner = str(place[1])
        if name == owner:
            report.add(place, "is this credential itself; name another one")
        elif name not in known:
            near = nearest(name, known)
            hint = f"did you mean {quoted(near)}?" if near else "name a table [credentials.NAME] of this file"
            shown = shown_name(name) if near or len(name) <= MAX_QUOTED else "so"  # a longer one may be a pasted secret
            report.add(place, f"no credential is named {shown}; {hint}")
        else:
            used.add(name)
            # An authority may well live on the credential that it rotates: only values that are made of
            # one another make a circle.
            if place[2:3] != ("emergency",) and place[2:4] != ("provider", "authority"):
                builds_on.setdefault(owner, {})[name] = place
    _circles(builds_on, report)
    _idle(known, used, report)


def _circles(builds_on: Mapping[str, Mapping[str, Place]], report: Report) -> None:
    """Report each circle once, at its first credential."""
    seen: set[str] = set()
    for start in builds_on:
        trail = _circle(builds_on, start)
        if trail and seen.isdisjoint(trail):
            seen.update(trail)
            report.add(builds_on[start][trail[1]], f"builds on itself ({' -> '.join(trail)}); break the circle")


def _circle(builds_on: Mapping[str, Mapping[str, Place]], start: str) -> list[str]:
    """Return the way from `start` back to itself, empty when there is none."""
    ways, visited = [[start]], set[str]()
    while ways:
        way = ways.pop()
        for name in builds_on.get(way[-1], ()):
            if name == start:
                return [*way, start]
            if name not in visited:
                visited.add(name)
                ways.append([*way, name])
    return []


def _idle(known: Mapping[str, Any], used: set[str], report: Report) -> None:
    for name, table in known.items():
        if isinstance(table, Mapping) and not (table.get("sinks") or table.get("serve")) and name not in used:
            if any(nearest(key, ["sinks"]) for key in table if key not in _OF_A_CREDENTIAL):  # that is said already
                continue
            place = ("credentials", name)
            shown = shown_place(place)
            way = f"add [[{shown}.sinks]], or [{shown}.serve]"
            report.add(place, f"has no sink, and no other credential uses it; {way}")


def _credentials(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    found = tree.get("credentials")
    return found if isinstance(found, Mapping) else {}


def endpoints(tree: Mapping[str, Any], built: Iterable[Built], report: Report) -> None:
    """Report sinks that send their readers to an endpoint which this agent does not have."""
    agent = tree.get("agent")
    if isinstance(agent, Mapping) and "endpoint" in agent:
        return
    for place, settings, _ in built:
        if isinstance(settings, FileSinkSettings) and settings.needs_endpoint:
            wanted = 'add [agent.endpoint] with listen = "127.0.0.1:8911"'
            report.add(place, f"sends its readers to this agent's endpoint, and there is none; {wanted}")


def accounts(built: Iterable[Built], users: Accounts, report: Report) -> None:
    """Report owners, groups and users that do not exist."""
    for place, settings, _ in built:
        if isinstance(settings, FileSinkSettings | NotifierSettings):
            for key in ("owner", "user", "group"):
                name = getattr(settings, key, None)
                if isinstance(name, str):
                    _account((*place, key), "group" if key == "group" else "user", name, users, report)
        elif isinstance(settings, ServeSettings):
            for number, name in enumerate(settings.users):
                _account((*place, "users", number), "user", name, users, report)
            for number, name in enumerate(settings.groups):
                _account((*place, "groups", number), "group", name, users, report)


def _account(place: Place, kind: AccountKind, name: str, users: Accounts, report: Report) -> None:
    find = users.gid_of if kind == "group" else users.uid_of
    if find(name) is None and not report.knows(place):
        near = nearest_account(name, users.names(kind))
        from agent.config.hints import account  # as above

        hint = f"did you mean {quoted(near)}?" if near else f"create it{account(kind, name)}, or name another"
        report.add(place, f"there is no {kind} {shown_name(name)}; {hint}")
