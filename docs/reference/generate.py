"""Write the reference pages from the code's own tables: `.venv/bin/python docs/reference/generate.py`, after each change of one.

`--check` writes nothing, and fails where a page is not what would be written; tests/docs/test_reference.py does the same.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import providers
from agent.app import wiring
from agent.cli.command_line import parser
from agent.cli.help import ENVIRONMENT
from agent.cli.parsers import Parser
from agent.core import errors, settings
from agent.core.events import Event, Trigger
from agent.core.scalars import Duration, FileMode, FilePath
from agent.metrics import exposition
from agent.metrics.counters import BOUNDS_S, NOTIFICATIONS, REFRESHES
from agent.metrics.snapshot import FleetFigures, Row, Snapshot

HERE = Path(__file__).parent
NOTE = "<!-- Written by docs/reference/generate.py: change the code instead, and run that again. -->"
CONFIG = {
    part.partition("\n")[0].strip("`"): part
    for part in re.split(r"^## ", (HERE.parent / "config.md").read_text(encoding="utf-8"), flags=re.M)
}
"""The sections of docs/config.md by their headings."""
WORDS = {str: "string", bool: "boolean", int: "integer", Duration: "duration", FileMode: "mode", FilePath: "path"}


def main() -> int:
    """Write or compare the pages; return the exit code."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="write nothing; fail where a page is out of date")
    is_check = options.parse_args().check
    stale = [name for name, text in pages().items() if _read(name) != text]
    if is_check and stale:
        print(f"out of date: {', '.join(stale)}; run .venv/bin/python docs/reference/generate.py", file=sys.stderr)
        return 1
    for name in stale:
        (HERE / name).write_text(pages()[name], encoding="utf-8")
        print(f"docs/reference/{name}")
    return 0


def pages() -> dict[str, str]:
    """Return the text of each page by its file's name."""
    made = {
        "commands.md": commands(),
        "config_keys.md": config_keys(),
        "events.md": events(),
        "exit_codes.md": exit_codes(),
        "metrics.md": metrics(),
    }
    return {
        name: f"{text.partition(chr(10))[0]}\n\n{NOTE}\n{text.partition(chr(10))[2]}" for name, text in made.items()
    }


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8") if (HERE / name).exists() else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


# -- commands ----------------------------------------------------------------------------------------------------------
def commands() -> str:
    """Every command and action, with its options."""
    shown = list(_walk(parser(), "keyturn"))
    rows = [[f"[`{name}`](#{name.replace(' ', '-')})", _paragraphs(one)[0]] for name, one in shown]
    parts = [
        "# Commands",
        "`keyturn [--config PATH] COMMAND`. `--help` of each says the same.",
        _table(["command", "does"], rows),
        "## Of every command",
        _options(one for one in parser()._actions),
        "## Environment",
        _table(["variable", "does"], [[_coded(names), said] for names, said in ENVIRONMENT.items()]),
    ]
    for name, one in shown:
        first, *more = _paragraphs(one)
        parts += [f"## {name}", _sentence(first), f"```text\n{_usage(name, one)}\n```", _options(_own(one))]
        parts += [f"```text\n{text}\n```" for text in more]
        parts += ["```sh\n" + "\n".join(one.examples) + "\n```"] if one.examples else []
        codes = ", ".join(map(str, one.exit_codes))
        about = f"More: [{one.docs.removesuffix('.md')}](../{one.docs})." if one.docs else ""
        parts.append(f"[Exit codes](exit_codes.md): {codes}. {about}".strip() if codes else about)
    return "\n\n".join(part for part in parts if part) + "\n"


def _walk(one: Parser, name: str) -> Iterator[tuple[str, Parser]]:
    """Yield each command that does something, in the order of the help."""
    if (below := one.below()) is None:
        yield name, one
        return
    for action in one._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {each.dest: each.help for each in action._choices_actions}
            for word, sub in below.items():
                sub.description = sub.description or summaries.get(word)
                yield from _walk(sub, f"{name} {word}")


def _paragraphs(one: Parser) -> list[str]:
    return (one.description or "").split("\n\n", 1)


def _coded(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split(", "))


def _own(one: Parser) -> list[argparse.Action]:
    """Return what a command takes that not every one takes."""
    return [each for each in one._actions if each.default is not argparse.SUPPRESS]


def _usage(name: str, one: Parser) -> str:
    words = [_word(each) for each in _own(one) if _is_shown(each)]
    return "\n".join(textwrap.wrap(" ".join([name, *words]), 78, subsequent_indent="    ", break_on_hyphens=False))


def _is_shown(action: argparse.Action) -> bool:
    ours = not isinstance(action, argparse._SubParsersAction | argparse._HelpAction)
    return ours and action.help != argparse.SUPPRESS


def _word(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return {"*": f"[{value}...]", "+": f"{value}...", "?": f"[{value}]"}.get(str(action.nargs), value)
    word = f"{action.option_strings[-1]} {value}".strip()
    return word if action.required else f"[{word}]"


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    named = action.metavar if isinstance(action.metavar, str) else None
    return named or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())


def _options(actions: Iterable[argparse.Action]) -> str:
    rows = []
    for each in actions:
        if _is_shown(each) and (each.help or each.option_strings):
            name = f"{', '.join(each.option_strings)} {_value(each)}".strip()
            rows.append([f"`{name}`", _sentence((each.help or "").replace("%%", "%"))])
    return _table(["option", "does"], rows) if rows else ""


def _sentence(text: str) -> str:
    """Return a help text, which is lower case without a full stop, as a sentence; one that begins with a word to type as it is."""
    return f"{text[:1].upper() + text[1:] if not text.startswith(('keyturn', '-')) else text}." if text else ""


# -- config keys -------------------------------------------------------------------------------------------------------
def config_keys() -> str:
    """Every key of the config, with its type and default."""
    parts = [
        "# Config keys",
        "Every key of every table, for looking up; \\* is required. How a duration, a path, a mode or an endpoint is written, "
        "and what belongs together: [the config](../config.md).",
    ]
    tables = [
        ("[agent]", settings.AgentSettings),
        ("[agent.audit]", settings.AuditSettings),
        ("[agent.endpoint]", settings.EndpointSettings),
        ("[cloud]", settings.CloudSettings),
        ("[fleet]", settings.FleetSettings),
        ("[credentials.NAME]", settings.CredentialSettings),
        ("[credentials.NAME.emergency]", settings.EmergencySettings),
        ("[credentials.NAME.serve]", settings.ServeSettings),
    ]
    parts += [f"## `{name}`\n\n{_keys(cls, _meanings(name))}" for name, cls in tables]
    families = [
        ("[credentials.NAME.provider]", {name: providers.load(name).Settings for name in providers.BUILT_IN}),
        ("[[credentials.NAME.sinks]]", {name: wiring.named(place).Settings for name, place in wiring.SINKS.items()}),
        (
            "[[credentials.NAME.notify]]",
            {name: wiring.named(place).Settings for name, place in wiring.NOTIFIERS.items()},
        ),
    ]
    for name, types in families:
        parts.append(f"## `{name}`")
        parts += [
            f'### `type = "{kind}"`\n\n{_keys(cls, _meanings(name, kind)) or "No keys of its own."}'
            for kind, cls in types.items()
        ]
    return "\n\n".join(parts) + "\n"


def _keys(cls: type, meanings: Mapping[str, str]) -> str:
    hints, unset = get_type_hints(cls), _unset(cls)
    rows = []
    for each in fields(cls):
        if each.name == "type" or not each.init:
            continue
        is_required = each.default is MISSING and each.default_factory is MISSING
        value = each.default_factory() if each.default_factory is not MISSING else each.default
        default = "" if is_required else unset.get(each.name) or _default(value)
        name = f"`{each.name}`" + (r" \*" if is_required else "")
        rows.append([name, _type(hints[each.name]), default, meanings.get(each.name, "")])
    return _table(["key", "type", "default", "meaning"], rows) if rows else ""


def _unset(cls: type) -> dict[str, str]:
    """Return what the comments of a class say that None stands for."""
    source = "".join(inspect.getsource(each) for each in reversed(cls.__mro__) if each.__module__ != "builtins")
    return {key: f"({said})" for key, said in re.findall(r"^    (\w+): .* = None  # None: (.+)$", source, re.M)}


def _meanings(table: str, kind: str = "") -> dict[str, str]:
    """Return what docs/config.md says of the keys of a table, by key; of a type's own, where it has one."""
    owner, _dot, below = table.strip("[]").rpartition(".")
    section, prefix = (f"[{owner}]", f"{below}.") if owner == "agent" else (table, "")
    said: dict[str, str] = {}
    row_type = ""
    for line in CONFIG.get(section, "").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 5:
            row_type = cells[0].strip("`") or row_type
            if row_type != kind:
                continue
            cells = cells[1:]
        if len(cells) == 4 and cells[0].startswith("`") and cells[3] != "as above":
            for key in re.findall(r"`([\w.]+)`", cells[0]):
                said[key.removeprefix(prefix)] = re.sub(r"\]\((?!https?:|#)", "](../", cells[3])
    return said


def _type(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " ".join(f'`"{each}"`' for each in get_args(hint))
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        return ", or ".join(_type(each) for each in get_args(hint) if each is not NoneType)
    if get_origin(hint) in (tuple, list):
        return f"array of: {_type(get_args(hint)[0])}"
    if get_origin(hint) is not None and len(get_args(hint)) == 2:
        return "table"
    if isinstance(hint, type) and issubclass(hint, settings.ProviderSettings):
        return "provider"
    if is_dataclass(hint):
        return "table"
    return WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def _default(value: Any) -> str:
    if value is None or value in ((), "", {}):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, FileMode):
        return f'`"{value:04o}"`'
    if isinstance(value, Duration):
        return f'`"{_duration(value)}"`'
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{each}"' for each in value) + "]`"
    return "none" if is_dataclass(value) else f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if (seconds >= 2 * size and seconds % size == 0) or seconds == size == 3600:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


# -- events ------------------------------------------------------------------------------------------------------------
def events() -> str:
    """The events of the audit log and its triggers, with the comment behind each."""
    parts = [
        "# Events",
        "What the audit log records. The fields of a record are in [the audit log](../audit.md#the-fields).",
        _table(["event", "means"], _said_of(Event)),
        "## Triggers",
        "Why it was done: the field `trigger` of a record, and of the news that a hook gets.",
        _table(["trigger", "means"], _said_of(Trigger)),
    ]
    return "\n\n".join(parts) + "\n"


def _said_of(enum: type[StrEnum]) -> list[list[str]]:
    said = dict(re.findall(r'= "(\w+)"  # (.+)$', inspect.getsource(enum), re.M))
    return [[f"`{member}`", said.get(str(member), "")] for member in enum]


# -- metrics -----------------------------------------------------------------------------------------------------------
def metrics() -> str:
    """Every family that /metrics can have, with its help."""
    rows = []
    for family in exposition._Shown(_everything()).collect():
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        named = ", ".join(f"`{label}`" for label in labels)
        rows.append([f"`{family.name}{suffix}`", family.type, named, family.documentation])
    parts = [
        "# Metrics",
        "Of `/metrics` and of the textfile, where [the config](../config.md#agent) asks for them. Alerts, a dashboard and "
        "what the figures are good for: [monitoring](../monitoring.md).",
        _table(["name", "type", "labels", "is"], rows),
        "Outcomes of `keyturn_refresh_total`: "
        + ", ".join(f"`{each}`" for each in REFRESHES)
        + "; of `keyturn_notify_total`: "
        + ", ".join(f"`{each}`" for each in NOTIFICATIONS)
        + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _everything() -> Snapshot:
    """A host on which everything that can be shown is there."""
    row = Row(
        name="uploader", state="fresh", generation=1, expires_at=0.0, last_success_at=0.0, owed=0,
        refreshes=tuple((each, 0) for each in REFRESHES),
        notifications=tuple(("systemd", each, 0) for each in NOTIFICATIONS),
        published=(0,) * (len(BOUNDS_S) + 1), published_sum_s=0.0,
        canary={"accepted": 0}, key_made_at=0.0,
    )  # fmt: skip
    fleet = FleetFigures(is_connected=True, hosts={"uploader": {"live": 1}}, converged_s={"uploader": 0.0})
    return Snapshot(
        taken_at=0.0, passed=True, awaited=(), rows=(row,), client_keys=(("KAAP.example", 0.0),), fleet=fleet
    )


# -- exit codes --------------------------------------------------------------------------------------------------------
def exit_codes() -> str:
    """Each exit code with the errors that have it."""
    family = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.KeyturnError)]
    rows = []
    for code, means in errors.EXITS.items():
        said = [_first_line(cls) for cls in family if cls.exit_code == code and cls is not errors.KeyturnError]
        rows.append([f"`{code}`", means, " ".join(said)])
    parts = [
        "# Exit codes",
        "Of every command; one that is not here is a failure, and there may be more one day. An error is one sentence on "
        "standard error, with a remedy; `--json` has it too.",
        _table(["code", "means", "such as"], rows),
        "What `keyturn credential` means by them: [serving](../serving.md#who-may).",
    ]
    return "\n\n".join(parts) + "\n"


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0].partition(". ")[0].rstrip(".") + "."


if __name__ == "__main__":
    sys.exit(main())
