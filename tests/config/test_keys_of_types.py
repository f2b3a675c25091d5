"""The table of keys that a sentence names types by."""

from __future__ import annotations

import dataclasses

from agent.app.wiring import registry
from agent.config.keys_of_types import KEYS


def test_the_table_says_what_the_types_say() -> None:
    """A key that is added to a type is added there; what all types of a family have is not in it."""
    types = registry()
    for word, family in (("provider", types.providers), ("sink", types.sinks), ("notifier", types.notifiers)):
        found: dict[str, list[str]] = {}
        built_in = [name for name in family if not family[name]().__module__.startswith("tests.")]
        for name in built_in:
            for each in dataclasses.fields(family[name]()):
                found.setdefault(each.name, []).append(name)
        own = {key: sorted(names) for key, names in found.items() if len(names) < len(built_in)}
        assert own == {key: sorted(names) for key, names in KEYS[word].items()}
