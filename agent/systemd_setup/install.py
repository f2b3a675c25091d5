"""The places of the files, their present content, and the writing of what differs: whole files, and only our own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from agent.core.errors import KeyturnError, NotPermittedError, StateError
from agent.system import files
from agent.system.process import CommandError, find_program, run_command
from agent.systemd_setup import render
from agent.systemd_setup.needs import Needs
from agent.systemd_setup.unit import refusal, standing_at

UNITS = ("keyturn.service", "keyturn-once.service")
DROP_IN = "50-keyturn.conf"
RULE = "etc/polkit-1/rules.d/50-keyturn.rules"
SYSTEMD_S = 60.0
"""Seconds for a daemon-reload, which starts every generator again, and for a query."""


class Outcome(StrEnum):
    """The result for one file."""

    UNCHANGED = "unchanged"
    WRITTEN = "written"
    REMOVED = "removed"
    NOT_NEEDED = "not needed"


@dataclass(frozen=True)
class Plan:
    """The files and their wanted content; None for a file that should not be there."""

    root: Path
    drop_ins: Mapping[Path, str | None]
    rule: tuple[Path, str | None]

    @property
    def files(self) -> dict[Path, str | None]:
        """Every file with its wanted content."""
        return {**self.drop_ins, self.rule[0]: self.rule[1]}

    def install(self) -> Iterator[tuple[Path, Outcome]]:
        """Write and remove what differs, and yield the result for each file.

        Raises:
            NotPermittedError: this user may not.
            StateError: a file is not ours, or cannot be written.
        """
        standing = {path: standing_at(path) for path in self.files}
        for path, text in standing.items():
            _refuse_foreign(path, text)
        for path, wanted in self.files.items():
            yield path, _put(path, standing[path], wanted)

    def differing(self) -> Iterator[tuple[Path, str]]:
        """Yield each file that is not as wanted, with "missing", "out of date" or "not needed any more".

        A file that this user may not read is left out; `unseen` has it.
        """
        for path, wanted in self.files.items():
            try:
                found = standing_at(path)
            except NotPermittedError:
                continue
            if found != wanted:
                yield path, _difference(found, wanted)

    def unseen(self) -> list[Path]:
        """Return each wanted file that this user may not read."""
        return [path for path, wanted in self.files.items() if wanted is not None and not _is_seen(path)]


def planned(needs: Needs, config: str, root: Path, names: dict[str, str]) -> Plan:
    """Plan the files.

    Args:
        needs: those of the config.
        config: its path.
        root: `/`, or the root of another tree, such as an image's.
        names: unit -> its canonical name, where it is an alias.
    """
    text = render.drop_in(needs, config) if needs else None
    drop_ins = {root / f"etc/systemd/system/{unit}.d/{DROP_IN}": text for unit in UNITS}
    return Plan(root, drop_ins, (root / RULE, render.polkit_rule(needs, names) if needs.units else None))


def canonical_names(units: Mapping[str, object]) -> dict[str, str]:
    """Return unit -> its canonical name in systemd, for aliases too. Empty where systemd does not run."""
    program = find_program("systemctl")
    if not units or program is None or not systemd_runs():
        return {}
    found = {}
    for unit in units:
        argv = [program, "show", "--property=Id", "--value", "--", unit]
        try:
            done = run_command(argv, timeout_s=SYSTEMD_S, cancel=threading.Event())
        except CommandError:
            continue
        name = done.stdout.decode("utf-8", "replace").strip()
        if done.ok and name:
            found[unit] = name
    return found


def systemd_runs() -> bool:
    """Return whether systemd is the init of this machine: sd_booted(3)."""
    return Path("/run/systemd/system").is_dir()


def reload_systemd() -> None:
    """Run `systemctl daemon-reload`.

    Raises:
        KeyturnError: it failed.
    """
    program = find_program("systemctl")
    if program is None:
        raise KeyturnError("there is no systemctl on this machine", "run `systemctl daemon-reload` where it is")
    done = run_command([program, "daemon-reload"], timeout_s=SYSTEMD_S, cancel=threading.Event())
    if not done.ok:
        raise KeyturnError(f"systemctl daemon-reload {done.outcome}: {done.text(500)}", "run it by hand")


def _is_seen(path: Path) -> bool:
    try:
        standing_at(path)
    except NotPermittedError:
        return False
    return True


def _refuse_foreign(path: Path, text: str | None) -> None:
    if text is not None and render.MARK not in text.partition("\n")[0]:
        raise StateError(
            f"{path}: this file was not written by keyturn, so it is neither replaced nor removed",
            f"move it away under another name than {path.name}, and run this again",
        )


def _put(path: Path, found: str | None, wanted: str | None) -> Outcome:
    if found == wanted:
        return Outcome.UNCHANGED if wanted is not None else Outcome.NOT_NEEDED
    try:
        if wanted is None:
            path.unlink()
            return Outcome.REMOVED
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        files.write_atomic(path, wanted.encode(), 0o644)
    except OSError as error:
        raise refusal(error, path, "write") from error
    return Outcome.WRITTEN


def _difference(found: str | None, wanted: str | None) -> str:
    if wanted is None:
        return "not needed any more"
    return "missing" if found is None else "out of date"
