"""Which stretches of a config's values may be a secret that stands there by mistake, wherever the config is shown as it stands.

A sentence about a key quotes less: agent/config/messages.py. Here whole lines are shown, which are of no use without their
paths and names, so a value is hidden by its key (`access_key_secret = "..."`), by its shape (a word like an AccessKey secret),
and by where secrets stand in URLs, commands and headers (`https://user:here@host/?token=here`, `--password here`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from agent.core.problem import Place
from agent.core.suspects import looks_secret, suspects, variable_name

HIDDEN = "***"

# Patterns are compiled when they are first used, and that is when something is wrong: the daemon's memory is counted.
_FOR_SECRETS = (
    r"(?i)secret|passw|passphrase|^pass$|pwd|^[as]k$|^auth$|token|private|credentials?$|(access|api)_?key|bearer"
)
_FOR_NAMES = r"(?i)(path|file|variable|env|name|id|arn|endpoint|ur[il]|type|stage|period|timeout)$"
_NAMED_FREELY = frozenset({"fields", "keys", "variables"})
"""Tables whose keys are names of an operator's or an application's choice, and whose values are names of parts."""
_NAME_OF_A_PART = r"[A-Za-z_][A-Za-z0-9_.-]{0,39}"
_FOR_PATHS = r"(?i)(path|file)$"
_FOR_VARIABLES = r"(?i)(variable|env)$"
_USER = r"://([^\s\"']*)@"
_QUERY = r"[?&#;][^=&\s\"']*=([^&\s\"'#;]+)"
_STEP = r"(?<![:/])/([A-Za-z0-9_-]{16,})(?=[/?#\"']|$)"
_SECRET_WORD = r"(?:secret|passw|passphrase|token|api_?-?key|access_?-?key|bearer|authorization|credential)"
_GIVEN = (
    rf"(?i){_SECRET_WORD}[\w-]*[\"']?\s*[=:]\s*(?:(?:basic|bearer)\s+)?(\S+)"
    rf"|(?:\bbearer|\bbasic|--[\w-]*{_SECRET_WORD}[\w-]*)\s+(\S+)"
)
_OPTION_FOR_SECRET = rf"(?i)-{{1,2}}(?:[\w-]*{_SECRET_WORD}[\w-]*|u|p|a|user|pass|auth|key)(?<!file)(?<!path)"


def is_for_secrets(place: Place) -> bool:
    """Return whether a key of the place, other than the credential's name, looks as if a secret could stand there."""
    return any(re.search(_FOR_SECRETS, part) for part in _own_keys(place))


def holds_secret(key: str) -> bool:
    """Return whether a key asks for a secret itself, rather than for the name of what holds it."""
    return bool(re.search(_FOR_SECRETS, key)) and not re.search(_FOR_NAMES, key)


def _own_keys(place: Place) -> list[str]:
    """Return the keys of a place that are keyturn's and not the operator's."""
    return [part for part in (place[2:] if place[:1] == ("credentials",) else place) if isinstance(part, str)]


def secret_stretches(place: Place, text: str, before: str = "") -> Iterator[tuple[int, int]]:
    """Yield start and end of what may not be shown of a string at a place.

    Args:
        place: where it stands.
        text: the string, as written or as meant.
        before: the item before it in the same array, "" for none: in a command, an option that takes a secret.
    """
    if _is_hidden(place, text) or (text and re.fullmatch(_OPTION_FOR_SECRET, before)):
        yield 0, len(text)
        return
    yield from suspects(text)
    yield from (found.span(found.lastindex or 0) for found in re.finditer(_GIVEN, text))
    if "://" in text:
        yield from (found.span(1) for pattern in (_USER, _QUERY) for found in re.finditer(pattern, text))
        yield from (found.span(1) for found in re.finditer(_STEP, text) if any(map(str.isdigit, found[1])))


def masked(place: Place, text: str, before: str = "") -> str:
    """Return a string as it may be shown."""
    for start, end in sorted(set(secret_stretches(place, text, before)), reverse=True):
        text = text[:start] + HIDDEN + text[end:]
    return text


def _is_hidden(place: Place, text: str) -> bool:
    """Return whether a key says that the string is a secret itself, or should not be what it looks like."""
    names = _own_keys(place)
    if (
        len(place) > 1
        and place[-2] in _NAMED_FREELY
        and isinstance(place[-1], str)
        and re.fullmatch(_NAME_OF_A_PART, text)
    ):
        return looks_secret(text)
    if any(map(holds_secret, names)):
        return True
    if not is_for_secrets(place):
        return False
    if re.search(_FOR_PATHS, names[-1]):
        return not text.startswith(("/", "${"))
    return bool(re.search(_FOR_VARIABLES, names[-1])) and variable_name(text) is None
