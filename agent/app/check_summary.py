"""What all findings of a check come to: causes instead of symptoms, and what to mend first. Pure functions of the findings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.core.errors import reason
from agent.core.finding import Finding
from agent.core.settings import CredentialSettings, ProviderSettings, Settings
from agent.core.text import counted
from agent.systemd_setup.as_service import DAEMON
from agent.systemd_setup.check import PLACE as SYSTEMD

_OF_A_CREDENTIAL = re.compile(
    r"credentials\.(.+?)(?:\.(provider|verify|sinks|notify|emergency|serve|canary|max_age).*)?"
)
_OWN_NAME = re.compile(r"^(credentials\.[A-Za-z0-9._-]+: )+")
_SHORTEST = 20
"""Characters of a text from which on one that contains it is taken for an echo of it."""
_BEFORE = {
    SYSTEMD: 0,
    "agent": 1,
    "cloud": 1,
    "provider": 2,
    "fleet": 3,
    "verify": 4,
    "sinks": 5,
    "notify": 6,
    "emergency": 7,
}
"""What is mended first; whatever else there is comes after that, and what the daemon says last, since it follows from the rest."""
_LAST = 9


@dataclass(frozen=True)
class Cause:
    """Something that is wrong, once, however many places suffer from it.

    Attributes:
        finding: the first of its findings.
        also: the places of the others.
    """

    finding: Finding
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """What a check came to.

    Attributes:
        causes: what is wrong: warnings, then errors, each in the order in which they were found.
        in_order: how many looks found nothing wrong.
        first: the error to mend first; None where there is none.
    """

    causes: tuple[Cause, ...]
    in_order: int
    first: Cause | None

    def of_level(self, level: str) -> list[Cause]:
        """Return the causes of a level."""
        return [cause for cause in self.causes if cause.finding.level == level]

    def counts(self) -> str:
        """Return in words how many errors and warnings there are."""
        errors, warnings = (self.of_level(level) for level in ("error", "warning"))
        if not self.causes:
            return f"all is well: {counted(self.in_order, 'look')}, no errors, no warnings"
        many = f"{counted(len(errors), 'error')}" if errors else "no errors"
        return f"{many}, {counted(len(warnings), 'warning')}" if warnings else f"{many}, no warnings"

    def remedy(self) -> str:
        """Return what to do first, and where; "" where nothing has to be done."""
        if self.first is None:
            return ""
        finding = self.first.finding
        return f"do first: {finding.remedy or finding.text} ({finding.place})"


def summary(findings: Iterable[Finding], settings: Settings) -> Summary:
    """Return what all findings of a config come to."""
    found = list(findings)
    causes = [*_causes(found, "warning"), *_causes(found, "error")]
    errors = [cause for cause in causes if cause.finding.level == "error"]
    first = min(errors, key=lambda cause: _rank(cause, errors, settings.credentials), default=None)
    return Summary(tuple(causes), sum(one.level == "ok" for one in found), first)


def _causes(found: Sequence[Finding], level: str) -> list[Cause]:
    """Return the findings of a level, those of one cause as one; what the daemon says last, so that it is the echo."""
    causes: list[Cause] = []
    for one in sorted((one for one in found if one.level == level), key=lambda one: one.place == DAEMON):
        number = next((number for number, cause in enumerate(causes) if _is_same(cause.finding, one)), None)
        if number is None:
            causes.append(Cause(one))
        elif one.place not in (causes[number].finding.place, *causes[number].also):
            causes[number] = replace(causes[number], also=(*causes[number].also, one.place))
    return causes


def _is_same(cause: Finding, other: Finding) -> bool:
    mine, theirs = _told(cause), _told(other)
    if other.place == DAEMON:
        return len(mine) >= _SHORTEST and mine in theirs
    return (mine, cause.remedy) == (theirs, other.remedy)


def _told(finding: Finding) -> str:
    """Return a finding's text without the name of the credential that it begins with, and without request ids and counts."""
    text = _OWN_NAME.sub("", finding.text)
    return reason(re.sub(r"credentials\.[A-Za-z0-9._-]+: ", "", text) if finding.place == DAEMON else text)


def _rank(cause: Cause, errors: Sequence[Cause], credentials: Mapping[str, CredentialSettings]) -> tuple[int, int]:
    """Return what sorts the cause before those that it has to be mended before; less is earlier."""
    places = (cause.finding.place, *cause.also)
    kinds = [_kind(place) for place in places]
    own = set(filter(None, map(_credential, places)))
    suffer = own.union(*(_built_on(name, credentials) for name in own))
    others = sum(1 for error in errors if error is not cause and _credential(error.finding.place) in suffer)
    return min(_BEFORE.get(kind, _LAST) for kind in kinds), -(others + len(cause.also))


def _kind(place: str) -> str:
    match = _OF_A_CREDENTIAL.fullmatch(place)
    return (match[2] or "") if match else re.split(r"[.\[]", place)[0]


def _credential(place: str) -> str:
    match = _OF_A_CREDENTIAL.fullmatch(place)
    return match[1] if match else ""


def _built_on(name: str, credentials: Mapping[str, CredentialSettings]) -> set[str]:
    """Return the credentials that are made of one, or rotated by it."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        base = waiting.pop()
        for other, one in credentials.items():
            authority = one.emergency.authority if one.emergency else None
            uses = {*one.provider.builds_on(), *([authority] if isinstance(authority, str) else [])}
            if isinstance(authority, ProviderSettings):
                uses.update(authority.builds_on())
            if base in uses and other not in found and other != name:
                found.add(other)
                waiting.append(other)
    return found
