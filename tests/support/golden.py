"""tests/golden/messages.txt: what an operator reads for each mistake, word for word, in one file that a reviewer can read.

Other tests ask for the class of an error, its exit code and the place that it names. Renew the file, and read the diff::

    .venv/bin/python -m pytest tests/golden --renew
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).parents[1] / "golden" / "messages.txt"
HEAD = "# What is said of each mistake. Renewed by: .venv/bin/python -m pytest tests/golden --renew\n"


def read() -> dict[str, str]:
    """What the file says, by `part: mistake`."""
    found: dict[str, str] = {}
    title = ""
    for line in FILE.read_text().splitlines() if FILE.exists() else []:
        if line.startswith("    "):
            found[title] += line[4:] + "\n"
        elif line and not line.startswith("#"):
            title = line
            found[title] = ""
    return {title: text.rstrip("\n") for title, text in found.items()}


def compare(part: str, said: Mapping[str, str], renew: bool) -> None:
    """Hold what is said against the file's part of that name, or write that part anew."""
    now = {f"{part}: {mistake}": text for mistake, text in said.items()}
    known = read()
    if renew:
        others = {title: text for title, text in known.items() if not title.startswith(f"{part}: ")}
        FILE.write_text(HEAD + "".join(_entry(title, text) for title, text in sorted({**others, **now}.items())))
        return
    assert now == {title: text for title, text in known.items() if title.startswith(f"{part}: ")}, (
        f"sentences have changed; where they are better now, renew {FILE.name} (its first line says how)"
    )


def _entry(title: str, text: str) -> str:
    return f"\n{title}\n" + "".join(f"    {line}\n" for line in text.splitlines())
