"""`keyturn check`: what is in order as it is seen, then warnings, then errors, and at the end what to do first."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from agent.app import check as checks
from agent.app import wiring
from agent.app.check_summary import Cause, Summary, summary
from agent.cli import output
from agent.cli.check_live import Live
from agent.config.load import digest
from agent.config.outline import MAX_BYTES
from agent.config.positions import Positions
from agent.core.errors import EXIT_DONE, EXIT_FAILED, ConfigError, KeyturnError
from agent.core.finding import BEGINS, Finding
from agent.core.problem import Mistake
from agent.core.settings import Settings
from agent.core.text import counted, first_few
from agent.logs.setup import set_up
from agent.system import reading
from agent.system.columns import columns, wrapped
from agent.system.signals import end_like_an_interrupt
from agent.system.terminal import paint
from agent.systemd_setup.unit import with_credentials

INDENT = " " * 8
"""Below the level of a finding."""


def check(options: argparse.Namespace) -> int:
    """Print the findings; return 1 where one is an error.

    Raises:
        ConfigError: the config is invalid; with a summary.
    """
    end_like_an_interrupt()
    set_up("critical", "plain", os.environ)
    environ = with_credentials(os.environ)
    try:
        settings = wiring.load_settings(options.config, environ)
    except ConfigError as error:
        _summarize(error, options)
        raise
    if options.show_config:
        from agent.cli.show_config import show_config

        return show_config(settings, options)
    if options.json:
        found = checks.findings(settings, options.config, environ, offline=options.offline)
        return _document(settings, list(found), options)
    return _printed(settings, checks.looks(settings, options.config, environ, offline=options.offline), options.config)


def _summarize(error: ConfigError, options: argparse.Namespace) -> None:
    """Give the error a summary, or print it as JSON."""
    mistakes = error.mistakes or tuple(Mistake(options.config, 0, 0, "", problem) for problem in error.problems)
    first = min(mistakes, key=_hides_others)
    where = f"{first.file}:{first.line}" if first.line else first.place or first.file
    if options.json:
        rows = [_row_of(mistake) for mistake in mistakes]
        document = {"ok": False, "findings": rows, "errors": len(rows), "warnings": 0, "do_first": _row_of(first)}
        print(json.dumps(document), file=options.out)
    elif len(mistakes) > 1:
        error.summary = f"{counted(len(mistakes), 'error')} in the config; do first: {where}"


def _hides_others(mistake: Mistake) -> int:
    """Return what sorts a mistake before those that may only follow from it: an unknown table, then a type."""
    if mistake.place and "." not in mistake.place:
        return 0
    return 1 if mistake.place.endswith((".type", ".provider")) else 2


def _row_of(mistake: Mistake) -> dict[str, Any]:
    spot = {"file": mistake.file, "line": mistake.line, "column": mistake.column} if mistake.line else {}
    return {"level": "error", "place": mistake.place, "text": mistake.text, **spot}


class _Spot(NamedTuple):
    """Where a key of the config stands."""

    line: int
    column: int


class _Config:
    """The text of the config that is checked, for the lines of what the findings are about."""

    def __init__(self, path: str, settings: Settings) -> None:
        """Read it again; one that was changed meanwhile has no lines."""
        try:
            text = reading.read_trusted(path, MAX_BYTES)
        except (KeyturnError, OSError, ValueError):
            text = b""
        same = settings.digest == digest(text)
        self._positions = Positions(text.decode("utf-8-sig")) if same else None

    def spot(self, place: str) -> _Spot | None:
        """Return where a place, or else the table that it would stand in, is; None where it is no key of the config."""
        entry = self._positions.find_written(place) if self._positions else None
        mark = (entry.key or entry.value) if entry else None
        return _Spot(*self._positions.line_and_column(mark.start)) if self._positions and mark else None


def _document(settings: Settings, found: list[Finding], options: argparse.Namespace) -> int:
    whole, config = summary(found, settings), _Config(options.config, settings)

    def row(finding: Finding) -> dict[str, Any]:
        said = {"level": finding.level, "place": finding.place, "text": finding.text}
        remedy = {"remedy": finding.remedy} if finding.remedy else {}
        spot = config.spot(finding.place)
        return {**said, **remedy, **(spot._asdict() if spot else {})}

    errors, warnings = (len(whole.of_level(level)) for level in ("error", "warning"))
    first = {"do_first": row(whole.first.finding)} if whole.first else {}
    document = {"ok": not errors, "findings": [*map(row, found)], "errors": errors, "warnings": warnings, **first}
    print(json.dumps(document), file=options.out)
    return EXIT_FAILED if errors else EXIT_DONE


def _printed(settings: Settings, found: Iterator[Finding], path: str) -> int:
    """Print what is in order at once, and the rest at the end, where it is seen; also of a check that is broken off."""
    live, seen = Live(), []
    is_whole = False
    try:
        for one in found:
            if one.level == BEGINS:
                live.begins(output.one_line(f"{one.place}: {one.text}"))
                continue
            seen.append(one)
            if one.level == "ok":
                live.line(_line(one))
        is_whole = True
    finally:
        live.clear()
        whole = summary(seen, settings)
        _print_causes(whole, _Config(path, settings) if whole.causes else None, path)
        if not is_whole:
            print("the check was broken off: there may be more", flush=True)
    _print_summary(whole)
    return EXIT_FAILED if whole.first else EXIT_DONE


def _line(finding: Finding) -> str:
    """Return it in one line; or wrapped, where the terminal is narrower, the remedy below in one piece, to be copied."""
    named, _colon, text = finding.text.partition(": ")
    if not text or not finding.place.startswith(named):  # an error that begins with the credential, as the place does
        text = finding.text
    level = paint(f"{finding.level:<7}", output.MOODS.get(finding.level))
    said, remedy = output.spoken(f"{finding.place}: {text}"), output.spoken(finding.remedy)
    whole, width = f"{said}; {remedy}" if remedy else said, output.width()
    if width is None or columns(whole) + len(INDENT) <= width:
        return f"{level} {whole}"
    lines = wrapped(said, width, INDENT)
    return "\n".join([f"{level} {lines[0].lstrip()}", *lines[1:], *([INDENT + remedy] if remedy else [])])


def _print_causes(whole: Summary, config: _Config | None, path: str) -> None:
    for cause in whole.causes:
        print(_line(cause.finding))
        where = _where(cause, config, path) if config else ""
        if where:
            for line in wrapped(output.one_line(where), output.width(), INDENT):
                print(paint(line, "dim"))


def _where(cause: Cause, config: _Config, path: str) -> str:
    """Return in which line of the config a cause is, and where else it is found."""
    spot = config.spot(cause.finding.place)
    others = []
    for place in cause.also:
        other = config.spot(place)
        others.append(f"{place} (line {other.line})" if other else place)
    return "; ".join(
        filter(
            None, [f"in {path}:{spot.line}" if spot else "", f"also {', '.join(first_few(others))}" if others else ""]
        )
    )


def _print_summary(whole: Summary) -> None:
    level = "error" if whole.first else "warning" if whole.causes else "ok"
    counts, remedy, width = whole.counts(), output.spoken(whole.remedy()), output.width()
    fits = width is None or columns(f"{counts}; {remedy}") <= width
    print(
        paint(counts, output.MOODS[level]) + ((f"; {remedy}" if fits else f"\n{INDENT}{remedy}") if remedy else ""),
        flush=True,
    )
