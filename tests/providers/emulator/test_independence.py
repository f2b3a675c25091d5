"""The emulator and keyturn's own clients share no code, so that one side's mistakes do not hide the other's."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

FILES = sorted(Path(__file__).parents[3].joinpath("providers", "emulator").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_imports_the_standard_library_cryptography_and_itself(file: Path) -> None:
    """No `agent`, no SDK, no other provider, also inside functions. Copy a fact with its source instead."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, f"{file.name}:{node.lineno}: imports from outside the emulator"
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            root = name.partition(".")[0]
            assert root == "cryptography" or root in sys.stdlib_module_names, f"{file.name}:{node.lineno}: {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_is_one_idea(file: Path) -> None:
    """Less than 350 lines; a longer one wants to be two."""
    assert len(file.read_text().splitlines()) < 350
