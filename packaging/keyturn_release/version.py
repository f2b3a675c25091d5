"""A new version, written everywhere that names it; tests/test_documents.py compares these places."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from keyturn_deb.errors import BuildError
from keyturn_deb.source import Source

SECTIONS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
_NUMBER = re.compile(r"\d+\.\d+\.\d+")
_FILE_NAMES = ("docs/**/*.md", "README.md", "packaging/container/*.yaml", "packaging/container/Containerfile")
"""Where file names of a release stand, as keyturn_0.2.0_amd64.deb."""


def write(root: Path, version: str, day: date) -> Iterator[str]:
    """Write the version and its date, and yield a line for each file and for what comes next.

    In CHANGELOG.md what stands under `## [Unreleased]` gets the heading of the release, below the text of
    packaging/notes/VERSION.md where there is one; sections of one name become one.

    Raises:
        BuildError: it is no version, or no newer one; nothing is unreleased; a file is not as expected. Nothing is written.
    """
    old = Source(root).version
    if not _NUMBER.fullmatch(version) or _order(version) <= _order(old):
        raise BuildError(f"{version} is no version after {old}; give X.Y.Z, a greater one (semver.org)")
    new = {
        "agent/__init__.py": _replaced(
            root, "agent/__init__.py", f'__version__ = "{old}"', f'__version__ = "{version}"'
        ),
        "CHANGELOG.md": _released(root, version, day),
        "SECURITY.md": _supported(root, old, version),
        "pyproject.toml": _status(root, version),
    }
    for pattern in _FILE_NAMES:
        for path in sorted(root.glob(pattern)):
            text = path.read_text(encoding="utf-8")
            changed = re.sub(rf"(keyturn(?:[-_:]|==)){re.escape(old)}(?![\d.]*\d)", rf"\g<1>{version}", text)
            if changed != text:
                new[str(path.relative_to(root))] = changed
    for name, text in new.items():
        (root / name).write_text(text, encoding="utf-8")
        yield f"{name}: {version}"
    yield f'next: git diff, then the tests, then git commit -am "release {version}" (docs/releasing.md)'


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _replaced(root: Path, name: str, old: str, new: str) -> str:
    text = Source(root).text(name)
    if text.count(old) != 1:
        raise BuildError(f"{name} has {old!r} {text.count(old)} times, not once; put it right by hand")
    return text.replace(old, new)


def _released(root: Path, version: str, day: date) -> str:
    """CHANGELOG.md with the release below an empty `## [Unreleased]`."""
    before, _heading, rest = Source(root).text("CHANGELOG.md").partition("## [Unreleased]\n")
    body, next_release, after = rest.partition("\n## [")
    sections = _sections(body)
    if not sections:
        raise BuildError("CHANGELOG.md has nothing under `## [Unreleased]`; there is nothing to release")
    notes = root / "packaging" / "notes" / f"{version}.md"
    text = f"{notes.read_text(encoding='utf-8').strip()}\n\n" if notes.exists() else ""
    return f"{before}## [Unreleased]\n\n## [{version}] - {day}\n\n{text}{sections}{next_release}{after}"


def _sections(body: str) -> str:
    """The entries, each kind once and in the usual order.

    Raises:
        BuildError: a heading is of no kind that Keep a Changelog knows, or an entry stands under none.
    """
    stray, *parts = re.split(r"^### (.+)\n", body, flags=re.M)
    kinds: dict[str, list[str]] = {}
    for kind, text in zip(parts[0::2], parts[1::2], strict=True):
        kinds.setdefault(kind, []).append(text.strip())
    if stray.strip() or set(kinds) - set(SECTIONS):
        raise BuildError(
            f"CHANGELOG.md: under `## [Unreleased]` stand entries below one of {', '.join(SECTIONS)}, and nothing else"
        )
    return "\n".join(
        f"### {kind}\n\n" + "\n".join(filter(None, kinds[kind])) + "\n" for kind in SECTIONS if kind in kinds
    )


def _supported(root: Path, old: str, version: str) -> str:
    """SECURITY.md: the new minor version is mended, the one before no longer."""
    text, was, now = Source(root).text("SECURITY.md"), old.rpartition(".")[0], version.rpartition(".")[0]
    if was == now:
        return text
    row = f"| {was}.x | yes |\n"
    if text.count(row) != 1:
        raise BuildError(f"SECURITY.md has no row {row.strip()!r}; put it right by hand")
    return text.replace(row, f"| {now}.x | yes |\n| {was}.x | no: upgrade |\n")


def _status(root: Path, version: str) -> str:
    """pyproject.toml: from 1.0.0 on it is stable."""
    text = Source(root).text("pyproject.toml")
    return (
        text.replace("Development Status :: 4 - Beta", "Development Status :: 5 - Production/Stable")
        if version[0] != "0"
        else text
    )
