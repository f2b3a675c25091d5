"""tests/golden/messages.txt: what an operator reads for each mistake, word for word, in one file that a reviewer can read.

Other tests ask for the class of an error, its exit code and the place that it names. Renew the file, and read the diff::

    .venv/bin/python -m pytest -m golden --renew
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.vm import Vm

FILE = Path(__file__).parents[1] / "golden" / "messages.txt"
HEAD = "# What is said of each mistake. Renewed by: .venv/bin/python -m pytest -m golden --renew\n"


Golden = Callable[[str, Mapping[str, str]], None]
"""What the fixture `golden` gives: holds sentences, by mistake, against a part of the file."""


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


def anywhere(text: str, vm: Vm) -> str:
    """A sentence as it would be on any machine: places, ports, times, ids of requests and the user differ."""
    text = text.replace(str(vm.directory), "/vm")
    text = re.sub(r"127\.0\.0\.1:\d{2,}", "127.0.0.1:PORT", text)
    text = re.sub(r"request [0-9A-F-]{36}", "request ID", text)
    text = re.sub(r"install -d -o \S+", "install -d -o USER", text)
    return re.sub(r"\b\d+(\.\d+)? s\b", "N s", text)


def compare(part: str, said: Mapping[str, str], renew: bool) -> None:
    """Hold what is said against the file's part of that name, or write that part anew."""
    now = {f"{part}: {mistake}": text.strip("\n") for mistake, text in said.items()}
    known = read()
    if renew:
        others = {title: text for title, text in known.items() if not title.startswith(f"{part}: ")}
        FILE.write_text(HEAD + "".join(_entry(title, text) for title, text in sorted({**others, **now}.items())))
        return
    then = {title: text for title, text in known.items() if title.startswith(f"{part}: ")}
    changed = [
        f"{title}\n  was: {then.get(title)}\n  is:  {now.get(title)}"
        for title in {**then, **now}
        if then.get(title) != now.get(title)
    ]
    assert not changed, "\n".join(
        [*changed, f"where the new sentences are better, renew {FILE.name}; its first line says how"]
    )


def _entry(title: str, text: str) -> str:
    return f"\n{title}\n" + "".join(f"    {line}\n" for line in text.splitlines())
