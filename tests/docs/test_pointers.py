"""What the documents name of the tests that hold them is there."""

from __future__ import annotations

import re

from tests.support.blocks import PAGES, ROOT

POINTER = re.compile(r"\btests/[\w/]*\w(?:\.py)?(?:::(\w+))?")


def test_each_test_that_a_page_names_is_there() -> None:
    """The file or folder, and in it the function."""
    missing, count = [], 0
    for page in PAGES:
        for found in POINTER.finditer(page.read_text()):
            path, count = ROOT / found[0].partition("::")[0], count + 1
            is_there = path.exists() and (not found[1] or f"def {found[1]}" in path.read_text())
            missing += [] if is_there else [f"{page.name}: {found[0]}"]
    assert missing == [] and count > 100
