"""The pages of docs/reference are what the code says today, and docs/config.md knows every key."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "docs/reference"


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    return runpy.run_path(str(HERE / "generate.py"))


def test_each_page_is_up_to_date(generator: dict[str, Any]) -> None:
    """Commands, config keys, events, metrics and exit codes: as the code's own tables have them."""
    stale = [name for name, text in generator["pages"]().items() if (HERE / name).read_text() != text]
    assert stale == [], "run .venv/bin/python docs/reference/generate.py, and look at the difference"


def test_each_key_of_the_config_is_explained(generator: dict[str, Any]) -> None:
    """In docs/config.md, under its own name or that of its family, such as `access_key_id_…`."""
    explained = (ROOT / "docs/config.md").read_text() + (ROOT / "docs/sinks_directory.md").read_text()
    keys = set(re.findall(r"^\| `(\w+)`", generator["config_keys"](), re.M))
    family = {key: re.sub(r"_from_(file_path|env_variable)$", "", key) for key in keys}
    assert len(keys) > 60
    assert [key for key in keys if not re.search(rf"`{key}|`{family[key]}_…`|\.{key}\b", explained)] == []


def test_each_event_and_trigger_is_explained(generator: dict[str, Any]) -> None:
    """By the comment behind it, in a table whose rows are all there."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", generator["events"](), re.M)
    assert len(rows) == len(generator["Event"]) + len(generator["Trigger"])
    assert all(len(said) > 6 for _name, said in rows)
