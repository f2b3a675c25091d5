"""docs/faults.md names tests: they exist, and none of the sixteen complaints is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "faults.md").read_text()


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_the_page_names_exists() -> None:
    """A table that promises a proof keeps it, after every renaming too."""
    named = re.findall(r"((?:tests/)?[\w/]+\.py)::(\w+)", PAGE)
    assert len(named) > 50
    for file, name in named:
        path = ROOT / file if file.startswith("tests/") else ROOT / "tests" / "faults" / file
        assert name in functions_of(path), f"{file}::{name}"


def test_every_fault_of_a_sink_is_in_the_table() -> None:
    """And every fault in brackets is one that is tested."""
    source = (ROOT / "tests" / "faults" / "test_sink_faults.py").read_text()
    faults = re.findall(r'^    "([^"]+)": (?:Fault|inject)\(', source, re.MULTILINE)
    assert len(faults) == 11
    for fault in faults:
        assert f"[{fault}]" in PAGE or f"[… {fault.split(' that fails ')[-1]}]" in PAGE, fault


def test_each_complaint_has_an_answer() -> None:
    """1 to 16."""
    rows = re.findall(r"^\| (\d+) \| .*tests/", PAGE, re.MULTILINE)
    assert [int(row) for row in rows] == list(range(1, 17))
