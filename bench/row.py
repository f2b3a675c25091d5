"""One line of the table of `make bench`: a figure beside its yardstick of the same run, and the aim."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

WIDTHS = (66, 13, 13, 7, 8, 7)


@dataclass(frozen=True)
class Row:
    """What was measured.

    Attributes:
        name: what was done, how often, with how many.
        figure: what keyturn needs for it, in `unit`.
        yardstick: what the least that does the same needs, measured in the same run; None where nothing compares.
        aim: the most that is wanted: of the ratio where there is a yardstick, else of the figure; None: it is only shown.
        aim_of_figure: the aim is the figure's although there is a yardstick.
    """

    name: str
    figure: float
    unit: str
    yardstick: float | None = None
    aim: float | None = None
    aim_of_figure: bool = False

    @property
    def ratio(self) -> float | None:
        """The figure in yardsticks."""
        return self.figure / self.yardstick if self.yardstick else None

    @property
    def met(self) -> bool:
        """Whether the aim is reached, or there is none."""
        return self.aim is None or self._aimed() <= self.aim

    @property
    def _aims_at_ratio(self) -> bool:
        return self.ratio is not None and not self.aim_of_figure

    def _aimed(self) -> float:
        return self.ratio if self.ratio is not None and self._aims_at_ratio else self.figure

    def cells(self) -> tuple[str, ...]:
        """What the table shows: name, figure, yardstick, ratio, aim, and whether that was missed."""
        aim = "" if self.aim is None else f"{self.aim:g}" + (" x" if self._aims_at_ratio else f" {self.unit}".rstrip())
        return (
            self.name,
            _amount(self.figure, self.unit),
            "" if self.yardstick is None else _amount(self.yardstick, self.unit),
            "" if self.ratio is None else f"{self.ratio:.2f}",
            aim,
            "" if self.met else "missed",
        )

    def __str__(self) -> str:
        """The row of the table."""
        return _line(self.cells())


def _amount(number: float, unit: str) -> str:
    digits = (
        0 if number == int(number) or abs(number) >= 100 else 1 if abs(number) >= 10 else 2 if abs(number) >= 0.1 else 4
    )
    return f"{number:,.{digits}f} {unit}".rstrip()


def _line(cells: Sequence[str]) -> str:
    first, *others = cells
    return " ".join(
        [first.ljust(WIDTHS[0]), *(text.rjust(width) for text, width in zip(others, WIDTHS[1:], strict=True))]
    ).rstrip()


HEAD = _line(("what", "figure", "yardstick", "ratio", "aim", ""))


def add_option(parser: argparse.ArgumentParser) -> None:
    """Let a program print its rows for another one."""
    parser.add_argument("--json", action="store_true", help="print each row as one JSON object, for bench/all.py")


def show(rows: Iterable[Row], as_json: bool) -> None:
    """Print each row as soon as it is there, as a table or as JSON."""
    if not as_json:
        print(HEAD, flush=True)
    for row in rows:
        print(json.dumps(asdict(row)) if as_json else row, flush=True)


def read(lines: Sequence[str]) -> list[Row]:
    """Return the rows that a program printed with `--json`; what else it said stays out."""
    return [Row(**json.loads(line)) for line in lines if line.startswith("{")]
