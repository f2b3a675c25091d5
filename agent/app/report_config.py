"""A config that is refused, as a bug report shows it: the keys that keyturn knows, without what could be a secret."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from agent.app import wiring
from agent.app.report_masks import MASK
from agent.core.errors import KeyturnError

UNKNOWN = f"{MASK} (no key of keyturn's, so nothing of it is shown)"
_FREE = frozenset({"credentials", "keys", "fields", "variables", "environment", "links", "files"})
"""Tables whose keys are the operator's own."""
_PLAIN_ARGUMENT = re.compile(r"-{1,2}[A-Za-z][\w-]*|/[\w./@+-]*")


def known_keys() -> frozenset[str]:
    """Return the names of all keys that any type of any family knows; of a type that cannot be loaded, none."""
    registry = wiring.registry()
    found: set[str] = set()
    for family in (registry.providers, registry.sinks, registry.notifiers):
        for name in family:
            try:
                settings = family[name]()
            except (KeyturnError, ImportError, AttributeError):
                continue
            found |= set(_fields_of(import_module(settings.__module__))) | set(_names(settings))
    return frozenset({"type", *found, *_fields_of(import_module("agent.core.settings"))})


def _fields_of(module: Any) -> Iterator[str]:
    for one in vars(module).values():
        if isinstance(one, type) and dataclasses.is_dataclass(one):
            yield from _names(one)


def _names(settings: Any) -> Iterator[str]:
    return (field.name for field in dataclasses.fields(settings))


def shown(tree: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a config, in the order of the file: dotted keys and JSON values, without secrets.

    A key that keyturn does not know may be one with a secret in it, which a config must not have: its value is never shown.
    """
    known = known_keys()
    for place, value in _leaves(tree, (), known, is_free=False):
        yield f"{'.'.join(place)} = {value if value == UNKNOWN else json.dumps(value, ensure_ascii=False)}"


def _leaves(
    tree: Any, place: tuple[str, ...], known: frozenset[str], *, is_free: bool
) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key not in known and not is_free:
                yield (*place, key), UNKNOWN
            else:
                yield from _leaves(value, (*place, key), known, is_free=key in _FREE and key in known and not is_free)
    elif isinstance(tree, list) and place[-1] == "command":
        yield place, [part if not number else _argument(str(part)) for number, part in enumerate(tree)]
    elif isinstance(tree, list) and any(isinstance(one, dict | list) for one in tree):
        for number, one in enumerate(tree):
            yield from _leaves(one, (*place[:-1], f"{place[-1]}[{number}]"), known, is_free=False)
    else:
        yield place, tree if isinstance(tree, bool | int | float | str | list) else str(tree)


def _argument(text: str) -> str:
    """Return an argument of a command: an option or a path as it is; of `--option=value` the option; else nothing of it."""
    if _PLAIN_ARGUMENT.fullmatch(text):
        return text
    name, equals, _value = text.partition("=")
    return f"{name}={MASK}" if equals and _PLAIN_ARGUMENT.fullmatch(name) else MASK
