"""The texts of the drop-in and of the polkit rule. The same needs give the same bytes, so that they can be compared."""

from __future__ import annotations

import json

from agent.systemd_setup.needs import CAPABILITY, Needs, Option

MARK = "Written by `keyturn systemd-setup --install`"
"""The mark in the first line of each file that we may replace and remove."""

_MISSING_IS_FINE = frozenset({"ReadWritePaths", "BindPaths", "BindReadOnlyPaths"})
_PATHS = _MISSING_IS_FINE | {"Environment"}
_MAX_REASONS = 3


def drop_in(needs: Needs, config: str) -> str:
    """Return the drop-in for keyturn.service and keyturn-once.service.

    It names the units of the polkit rule as well, so that a user who may not read polkit's directory (mode 0700 on
    Debian 12) can still see that the rule belongs to another config.
    """
    lines = [
        f"# {MARK} from {config}, and replaced by the next run.",
        "# What is yours goes into another file beside it.",
    ]
    lines += [f"# polkit: {' '.join(verbs)} {unit}" for unit, verbs in needs.units.items()]
    if needs.options:
        lines.append("[Service]")
    said = ""
    for option, why in needs.options.items():
        reasons = f"# {_reasons(why)}"
        lines += [*([] if reasons == said else [reasons]), *_assignments(option)]
        said = reasons
    return "\n".join(lines) + "\n"


def _assignments(option: Option) -> tuple[str, ...]:
    if option.key == CAPABILITY:
        return f"CapabilityBoundingSet={option.value}", f"AmbientCapabilities={option.value}"
    return (f"{option.key}={_value(option)}",)


def polkit_rule(needs: Needs, names: dict[str, str]) -> str:
    """Return the polkit rule.

    Args:
        needs: with at least one unit.
        names: unit -> its canonical name; polkit is asked about that one and never about an alias.
    """
    units: dict[str, set[str]] = {}
    for unit, verbs in needs.units.items():
        units.setdefault(names.get(unit, unit), set()).update(verbs)
    table = ",\n".join(
        f"        {json.dumps(unit)}: {json.dumps(sorted(verbs))}" for unit, verbs in sorted(units.items())
    )
    return _RULE.replace("@UNITS@", f"{{\n{table}\n    }}")


_RULE = f"""\
// {MARK}, and replaced by the next run.
// The user of keyturn.service may do exactly this to exactly these units; what it does not name, others decide.
polkit.addRule(function (action, subject) {{
    if (action.id !== "org.freedesktop.systemd1.manage-units" || subject.user !== "keyturn") {{
        return polkit.Result.NOT_HANDLED;
    }}
    var units = @UNITS@;
    var unit = action.lookup("unit");
    var verbs = Object.prototype.hasOwnProperty.call(units, unit) ? units[unit] : [];
    return verbs.indexOf(action.lookup("verb")) >= 0 ? polkit.Result.YES : polkit.Result.NOT_HANDLED;
}});
"""


def _reasons(why: tuple[str, ...]) -> str:
    more = f" and {len(why) - _MAX_REASONS} more" if len(why) > _MAX_REASONS else ""
    return ", ".join(why[:_MAX_REASONS]) + more


def _value(option: Option) -> str:
    value = option.value
    if option.key in _MISSING_IS_FINE:
        value = f"-{value}"
    return _quoted(value) if option.key in _PATHS else value.replace("%", "%%")


def _quoted(value: str) -> str:
    """Return a value as systemd.syntax(7) wants it: `%` doubled, and in quotes where blanks would end it."""
    value = value.replace("%", "%%")
    if not any(char in value for char in " :\"'\\"):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
