"""CHANGELOG.md as Debian's changelog: there is one history, not two."""

from __future__ import annotations

import re
import textwrap
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from keyturn_deb.errors import BuildError
from keyturn_deb.source import Source

_HEADING = re.compile(r"^## \[(?P<version>[0-9][^]]*)\] - (?P<date>\d{4}-\d\d-\d\d)$", re.M)
_ENTRY = "keyturn ({version}) stable; urgency=medium\n\n{points}\n\n -- {maintainer}  {date}\n"


def changelog(source: Source) -> str:
    """Return every release of CHANGELOG.md, newest first; what stands under "Unreleased" is not in a package yet.

    Raises:
        BuildError: the newest release is not the version that is built.
    """
    _before, *parts = _HEADING.split(source.text("CHANGELOG.md"))
    releases = list(zip(parts[0::3], parts[1::3], parts[2::3], strict=True))
    if not releases or releases[0][0] != source.version:
        raise BuildError(
            f"CHANGELOG.md has no release {source.version} on top; "
            f"give what stands under `## [Unreleased]` the heading `## [{source.version}] - YYYY-MM-DD`"
        )
    days = [date for _version, date, _body in releases]
    return "\n".join(_entry(source, *one, days[at + 1 :].count(one[1])) for at, one in enumerate(releases))


def _entry(source: Source, version: str, date: str, body: str, earlier: int) -> str:
    points = "\n".join(_points(body)) or "  * No notes."
    return _ENTRY.format(version=version, points=points, maintainer=source.maintainer, date=_rfc5322(date, earlier))


def _points(body: str) -> list[str]:
    """The bullets; what stands around them, such as an introduction, is left to CHANGELOG.md."""
    points: list[str] = []
    for line in body.splitlines():
        if line.startswith("* "):
            points.append(line[2:])
        elif line.startswith("  ") and points:
            points[-1] += f" {line.strip()}"
    return [textwrap.fill(point, 79, initial_indent="  * ", subsequent_indent="    ") for point in points]


def _rfc5322(date: str, minute: int) -> str:
    """Return midnight as Debian writes it, in any locale; a minute later for each release before on the same day."""
    return format_datetime(datetime.fromisoformat(date).replace(tzinfo=UTC) + timedelta(minutes=minute))
