"""Every command in groups, the emergency first: what `keyturn`, `keyturn help` and `keyturn --help` print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import wrap

from agent.cli.parsers import DEFAULT_CONFIG
from agent.core.docs import address
from agent.system.terminal import paint, terminal_size

GROUPS = {
    "A key has leaked": ("rotate", "plan"),
    "The first ten minutes": ("init", "check", "policy", "systemd-setup", "demo", "emulator"),
    "Every day": ("status", "refresh", "run", "once", "adopt", "fleet"),
    "For applications": ("credential", "endpoint"),
    "Evidence": ("audit",),
    "About keyturn": ("help", "completion", "man", "report-bug"),
}
"""Title: the commands below it. One that is in none comes at the end."""
NAMES = 13
"""Columns for a name; a longer one has its meaning below it."""
NARROWEST = 24
"""The fewest columns beside the names in which a meaning can be read."""


def overview_text(commands: Mapping[str, str]) -> str:
    """Return every command in its group, as wide as the terminal, and where to read on.

    Args:
        commands: what each does, by its name.
    """
    columns = terminal_size().columns
    lines = [
        *_filled(
            "keyturn keeps the AccessKeys and STS sessions of applications on Alibaba Cloud VMs fresh, proven and audited.",
            columns,
        ),
        "",
        "usage: keyturn [--config PATH] COMMAND",
    ]
    for title, names in groups(commands):
        lines += ["", paint(title, "strong"), *rows(((name, commands[name]) for name in names), columns)]
    lines += [
        "",
        *rows(
            [
                ("--config PATH", f"default: $KEYTURN_CONFIG, then {DEFAULT_CONFIG}"),
                ("--color WHEN", "auto, always or never"),
                ("-V, --version", "say which keyturn this is"),
            ],
            columns,
        ),
        "",
        *_filled(
            "`keyturn help COMMAND` says more; `keyturn help exit-codes` and `keyturn help environment`, too.", columns
        ),
        f"docs: {address('')}",
    ]
    return "\n".join(lines) + "\n"


def groups(commands: Iterable[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the title of each group that has commands, and their names."""
    grouped = {name for names in GROUPS.values() for name in names}
    known = list(commands)
    for title, names in {**GROUPS, "More": tuple(name for name in known if name not in grouped)}.items():
        if there := [name for name in names if name in known]:
            yield title, there


def rows(named: Iterable[tuple[str, str]], columns: int) -> Iterator[str]:
    """Yield names with what they mean beside them, or below them where that would be too narrow."""
    for name, meaning in named:
        beside = f"  {name:<{NAMES}}  "
        if len(name) > NAMES or columns < len(beside) + NARROWEST:
            yield f"  {name}"
            yield from wrap(meaning, max(columns - 4, 8), initial_indent="    ", subsequent_indent="    ")
        else:
            yield from wrap(meaning, columns - 1, initial_indent=beside, subsequent_indent=" " * len(beside))


def _filled(text: str, columns: int) -> list[str]:
    return wrap(text, max(columns, 12))
