"""The benchmarks still run, and print rows for the table of `make bench`. What they measure is not judged here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.all import PROGRAMS, run
from bench.row import Row

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_benchmark_prints_its_rows(name):
    """With few of everything each one ends well, and has at least one figure."""
    rows, status = run(name, ("--quick",))
    assert status == 0
    assert rows and all(row.figure >= 0 for row in rows)


def test_a_missed_aim_is_marked():
    """The aim is the ratio's where there is a yardstick, else the figure's, or where the row says so."""
    assert Row("a", 1.2, "s", 1.0, 1.3).met and not Row("a", 1.4, "s", 1.0, 1.3).met
    assert Row("a", 1.2, "s", aim=2).met and not Row("a", 2.1, "s", aim=2).met
    assert not Row("a", 44.0, "MiB", 100.0, 40, aim_of_figure=True).met
    assert "missed" in str(Row("a", 2.1, "s", aim=2))


def test_make_bench_is_one_table():
    """One command prints the head, the rows and how many aims were missed."""
    said = subprocess.run(
        [sys.executable, "-m", "bench.all", "--quick", "--only", "fleet"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    assert said[0].split() == ["what", "figure", "yardstick", "ratio", "aim"]
    assert len(said) > 3 and "aims missed; failed: none" in said[-1]
