"""docs/audit.md against what records really have."""

from __future__ import annotations

import re
from pathlib import Path

from agent.audit.journal_heads import MESSAGE_ID
from agent.audit.lines import FIELDS
from agent.core.events import Event, Trigger

PAGE = (Path(__file__).parents[2] / "docs/audit.md").read_text()


def test_the_table_has_each_field_of_a_record_once() -> None:
    """In the first column: what every record has, and FIELDS."""
    cells = re.findall(r"^\| (.+?) \|", PAGE.partition("| field |")[2].partition("\n\n")[0], re.M)
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted([*FIELDS, "seq", "time", "event", "prev", "hash", "hmac"])


def test_every_event_and_trigger_is_named() -> None:
    """Those that are, and no others."""
    events = re.findall(r"`(\w+)`", PAGE.partition("\nEvents: ")[2].partition("\n\n")[0])
    assert sorted(events) == sorted(map(str, Event))
    (triggers,) = re.findall(r"^\| `trigger` \| (.+) \|$", PAGE, re.M)
    assert re.findall(r"`(\w+)`", triggers) == list(map(str, Trigger))


def test_the_command_for_the_journal_is_right() -> None:
    """Its message id is the one by which heads are found."""
    assert f"MESSAGE_ID={MESSAGE_ID} " in PAGE
