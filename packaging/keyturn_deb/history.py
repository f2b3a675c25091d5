"""CHANGELOG.md as Debian's changelog: there is one history, not two."""

from __future__ import annotations

import re
import textwrap
import time
from datetime import UTC, datetime

from keyturn_deb.errors import BuildError
from keyturn_deb.source import Source

_HEADING = re.compile(r"^## (?P<version>[0-9][^ ]*) \((?P<when>[^)]*)\)$", re.M)
_ENTRY = "keyturn ({version}) stable; urgency=medium\n\n{points}\n\n -- {maintainer}  {date}\n"


def changelog(source: Source) -> str:
    """Every version of CHANGELOG.md, newest first; one that is "unreleased" bears the date of the build.

    Raises:
        BuildError: the newest version is not the one that is built.
    """
    _before, *parts = _HEADING.split(source.text("CHANGELOG.md"))
    releases = list(zip(parts[0::3], parts[1::3], parts[2::3], strict=True))
    if not releases or releases[0][0] != source.version:
        raise BuildError(
            f"CHANGELOG.md does not begin with version {source.version}; add `## {source.version} (unreleased)`"
        )
    return "\n".join(_entry(source, *release) for release in releases)


def _entry(source: Source, version: str, when: str, body: str) -> str:
    points = "\n".join(_points(body)) or "  * No notes."
    return _ENTRY.format(version=version, points=points, maintainer=source.maintainer, date=_date(source, when))


def _points(body: str) -> list[str]:
    """The bullets; what stands around them, such as an introduction, is left to CHANGELOG.md."""
    points: list[str] = []
    for line in body.splitlines():
        if line.startswith("* "):
            points.append(line[2:])
        elif line.startswith("  ") and points:
            points[-1] += f" {line.strip()}"
    return [textwrap.fill(point, 79, initial_indent="  * ", subsequent_indent="    ") for point in points]


def _date(source: Source, when: str) -> str:
    """RFC 5322, in English whatever the locale."""
    instant = datetime.fromtimestamp(source.epoch, UTC) if when == "unreleased" else datetime.fromisoformat(when)
    days, months = "Mon Tue Wed Thu Fri Sat Sun", "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"
    day, month = days.split()[instant.weekday()], months.split()[instant.month - 1]
    return f"{day}, {instant.day:02} {month} {time.strftime('%Y %H:%M:%S', instant.timetuple())} +0000"
