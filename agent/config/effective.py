"""The config as it takes effect: every key with its value, whether it is a default, and no secret.

`effective` puts settings and the tree that they were read from side by side; `as_toml` writes what loads to the same settings
(but for what is hidden), `as_tree` what `--json` prints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from agent.config.masking import masked
from agent.config.messages import quoted
from agent.core.problem import Place
from agent.core.scalars import Duration, FileMode, FilePath
from agent.core.settings import Settings
from agent.core.spans import whole_span
from agent.core.toml_text import toml, toml_key

_FROM_SYSTEMD: Mapping[Place, str] = {
    ("agent", "state_directory"): "STATE_DIRECTORY",
    ("agent", "runtime_directory"): "RUNTIME_DIRECTORY",
    ("agent", "audit", "path"): "LOGS_DIRECTORY",
}
_UNSET = {
    "max_staleness": "24h, for a session its expiry",
    "owner": "the user that keyturn runs as",
    "group": "the owner's primary group",
    "retries": "as many as fit into retry_for",
    "role_session_name": "keyturn-HOST-NAME",
    "host": "the host's name",
}
"""What counts where a key is not set and its default is no value of the config."""


class Row(NamedTuple):
    """One key.

    Attributes:
        place: where it is.
        value: as TOML has it; None for a key that is not set.
        note: what a comment says of it, such as "default"; "" for a value as it was written.
        is_default: whether the config does not name it.
        is_hidden: whether something of the value is not shown.
    """

    place: Place
    value: Any
    note: str = ""
    is_default: bool = False
    is_hidden: bool = False


class Table(NamedTuple):
    """One table: its keys, and the tables inside of it. `is_item` for one of several."""

    place: Place
    rows: list[Row]
    tables: list[Table]
    is_item: bool = False


def effective(settings: Settings, tree: Mapping[str, Any], environ: Mapping[str, str]) -> Table:
    """Return everything that counts.

    Args:
        settings: of a config.
        tree: as tomllib read it.
        environ: the environment in which it was loaded.
    """
    return _Reader(environ, settings).table(settings, tree, ())


class _Reader:
    def __init__(self, environ: Mapping[str, str], settings: Settings) -> None:
        self._environ = environ
        self._endpoints: dict[Place, str] = {
            ("cloud", "sts_endpoint"): settings.cloud.sts,
            ("cloud", "kms_endpoint"): settings.cloud.kms,
        }

    def table(self, settings: Any, raw: Any, place: Place, *, is_item: bool = False) -> Table:
        rows, tables = [], []
        for field in dataclasses.fields(settings):
            if not field.init:
                continue
            value, inner = getattr(settings, field.name), (*place, field.name)
            written = raw.get(field.name) if isinstance(raw, Mapping) else None
            if dataclasses.is_dataclass(value):
                tables.append(self.table(value, written, inner))
            elif _holds_tables(value):
                tables += self._several(value, written, inner)
            else:
                rows.append(self._row(value, written, inner))
        if not place:
            tables.sort(key=lambda one: one.place[0] == "credentials")
        return Table(place, rows, tables, is_item)

    def _several(self, value: Any, written: Any, place: Place) -> Iterator[Table]:
        if isinstance(value, Mapping):
            yield from (self.table(each, written[name], (*place, name)) for name, each in value.items())
            return
        for number, each in enumerate(value):
            yield self.table(each, written[number], (*place, number), is_item=True)

    def _row(self, value: Any, written: Any, place: Place) -> Row:
        key = place[-1]
        if value is None:
            instead = self._endpoints.get(place) or _UNSET.get(str(key), "") if len(place) > 1 else ""
            if key == "owner" and "sinks" not in place:
                instead = ""
            return Row(place, None, f"not set{f': {instead}' if instead else ''}", is_default=True)
        plain = _plain(value, written)
        shown = _shown(plain, place)
        if written is None:
            variable = _FROM_SYSTEMD.get(place, "")
            return Row(place, shown, f"from ${variable}" if self._environ.get(variable) else "default", is_default=True)
        if shown != plain:
            return Row(place, shown, "hidden: it may hold a secret", is_hidden=True)
        was = f"written as {quoted(written)}" if isinstance(value, FilePath) and plain != written else ""
        return Row(place, shown, was)


def _holds_tables(value: Any) -> bool:
    each = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else ()
    return any(map(dataclasses.is_dataclass, each))


def _plain(value: Any, written: Any) -> Any:
    """Return a value as TOML has it: durations and modes as they were written, paths with their variables filled in."""
    if isinstance(value, FilePath):
        return written if "${" in value and isinstance(written, str) else str(value)
    if isinstance(value, Duration):
        return written if written is not None else shown_duration(value)
    if isinstance(value, FileMode):
        return written if written is not None else f"{value:04o}"
    if isinstance(value, Mapping):
        return {key: _plain(part, written[key] if written else None) for key, part in value.items()}
    if isinstance(value, tuple):
        return [_plain(part, written[number] if written else None) for number, part in enumerate(value)]
    return getattr(value, "value", value)  # of an enumeration


def shown_duration(seconds: float) -> str:
    """Return a duration as the documents write it: a minute in seconds, else in the largest unit that it is a multiple of."""
    return "60s" if seconds == 60 else whole_span(seconds)


def _shown(value: Any, place: Place, before: str = "") -> Any:
    """Return a value without what may be a secret."""
    if isinstance(value, str):
        return masked(place, value, before)
    if isinstance(value, dict):
        return {key: _shown(part, (*place, key)) for key, part in value.items()}
    if isinstance(value, list):
        befores = ["", *(each if isinstance(each, str) else "" for each in value)]
        return [_shown(part, (*place, number), befores[number]) for number, part in enumerate(value)]
    return value


def as_toml(table: Table) -> Iterator[str]:
    """Yield the lines of a table and of those inside of it."""
    if table.place:
        keys = ".".join(toml_key(part) for part in table.place if isinstance(part, str))
        yield ""
        yield f"[[{keys}]]" if table.is_item else f"[{keys}]"
    for row in table.rows:
        key = toml_key(str(row.place[-1]))
        if row.value is None:
            yield f"# {key}: {row.note}"
        else:
            yield f"{key} = {toml(row.value)}" + (f"  # {row.note}" if row.note else "")
    for inner in table.tables:
        yield from as_toml(inner)


def as_tree(table: Table) -> dict[str, Any]:
    """Return a table as JSON has it; keys that are not set are null."""
    tree: dict[str, Any] = {}
    for row in table.rows:
        tree[str(row.place[-1])] = row.value.isoformat() if hasattr(row.value, "isoformat") else row.value
    for inner in table.tables:
        *_, last = inner.place
        if inner.is_item:
            tree.setdefault(str(inner.place[-2]), []).append(as_tree(inner))
        elif len(inner.place) == len(table.place) + 2:  # one of a table of tables, such as `credentials`
            tree.setdefault(str(inner.place[-2]), {})[str(last)] = as_tree(inner)
        else:
            tree[str(last)] = as_tree(inner)
    return tree


def rows(table: Table) -> Iterator[Row]:
    """Yield the rows of a table and of those inside of it."""
    yield from table.rows
    for inner in table.tables:
        yield from rows(inner)
