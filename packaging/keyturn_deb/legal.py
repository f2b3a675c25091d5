"""The package's copyright file: ours, and every library that it carries."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from keyturn_deb.environment import HOME
from keyturn_deb.source import Source

_TEXT = """\
keyturn {version}, built from its own tree; {homepage}

Copyright (C) {year} the keyturn authors
License: Apache-2.0

On Debian systems the text of the Apache License 2.0 is in /usr/share/common-licenses/Apache-2.0.

The package carries the libraries below, as they are published on PyPI, without their tests. What they
say about themselves, and the licence texts that come with them, are in
{site}/NAME-VERSION.dist-info/

{libraries}"""


def text(source: Source, site: Path) -> str:
    """The whole file; `site` holds the installed libraries."""
    found = (each for each in site.glob("*.dist-info/METADATA") if not each.parent.name.startswith("keyturn-"))
    told = sorted((_told(HeaderParser().parsestr(each.read_text(errors="replace"))) for each in found), key=str.lower)
    installed = HOME / "lib" / site.parent.name / "site-packages"
    year = datetime.fromtimestamp(source.epoch, UTC).year
    parts = {"version": source.version, "homepage": source.homepage, "year": year, "site": installed}
    return _TEXT.format(**parts, libraries="\n".join(told))


def _told(headers: Message) -> str:
    """What a library says about itself."""
    return f"{headers['Name']} {headers['Version']}\n  Author: {_author(headers)}\n  License: {licence(headers)}\n"


def _author(headers: Message) -> str:
    named = (headers[name] for name in ("Author", "Author-email", "Maintainer", "Maintainer-email"))
    return " ".join(next((each for each in named if each), "not named").split())


def licence(headers: Message) -> str:
    """One line: the expression, else the first line of the free text, else the classifier."""
    if headers["License-Expression"]:
        return str(headers["License-Expression"])
    if (headers["License"] or "").strip():
        return str(headers["License"]).strip().splitlines()[0]
    classifiers = (each for each in headers.get_all("Classifier", []) if each.startswith("License ::"))
    return next(classifiers, "not named").rpartition(":: ")[2]
