"""What no bug report may show, whoever wrote it down: three nets, one behind the other.

1. Secrets that this user can read: what the config names as a secret's place, and what the sinks hold, is read and looked for.
2. What says that it is a secret: `password=...`, `Bearer ...`, the user part and the query of an address.
3. What looks like one: a long word of small and capital letters and digits. It hides harmless words as well, rather than one
   secret that nobody could know of (a value of last week, a hook's token in the journal).

AccessKey ids are no secrets, but whoever reads a report need not know them: they are shortened to their ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agent.core.secret import SHOWN
from agent.logs.redaction import MASKED_FROM, Redactor
from agent.system.reading import read_regular

MASK = SHOWN
LEAST = MASKED_FROM
"""Letters of the shortest value that is looked for by itself: a shorter one would make holes into harmless words."""
LEAST_WORD = 20
LEAST_IN_SINK = 16
LONGEST_NAME = 64
READ_LIMIT = 64 * 1024

_TELLING = re.compile(
    r"""(?ix)
    (?P<name> (?: [\w.-]* (?: passw(?:or)?d | passphrase | pwd | secret | token | signature | authorization | cookie
        | private[_ -]?key | (?:api|access)[_ -]?key | hmac | 密码 | 密钥 ) | (?<![\w-]) (?: pass | auth | [as]k ) )
        (?: [_-] (?: value | key ) )? )
    (?P<equals> \\*["']? \s* (?: => | [=:\uff1a] | %3[AaDd] ) \s* )
    (?P<value> \\+"[^\n]*?\\+" | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*'
        | (?: (?:digest|basic|bearer|appcode)\s+ )? (?:,?[^\s,;&"'}\])\\]+)+ )"""
)
_OPTION = re.compile(
    r"""(?i)(?<![\w-])(--[\w-]*(?:passw|passphrase|pwd|secret|token|api-?key|access-?key)[\w-]*\s+|(?:-u|--user)\s+[\w.@-]+:)"""
    r"""("[^"\n]*"|'[^'\n]*'|[^\s"']+)"""
)
"""An option of a command, and its value as the next word; curl's user and password."""
_BEARER = re.compile(r"(?i)\b(bearer|basic)(\s+)[\w.~+/=-]{6,}")
_USER_PART = re.compile(r"://[^\s\"'<>]+@")
"""Up to the last @ of the word: a password may hold / and @."""
_QUERY = re.compile(r"([?&][\w.%-]+=)[^&\s\"'#]+")
_ID = re.compile(r"\b(?:LTAI|STS\.|TMP\.)[A-Za-z0-9]{8,}")
_WORD = re.compile(rf"[A-Za-z0-9+/=_.-]{{{LEAST_WORD},}}")
_IN_SINK = re.compile(rf"[A-Za-z0-9+/=_-]{{{LEAST_IN_SINK},}}")
_PRIVATE = re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.S)
_SECRET_NAME = re.compile(r"(?i)passw|^pass$|pwd|secret|token|private|hmac|signature|^[as]k$|^auth$")
_HOLDER = re.compile(
    r"(_from_file_path|password_file|hmac_key_file|private_key_file|private_key_path|token_file_path|properties_file)$"
)
_VARIABLE = re.compile(r"\$\{(\w+)\}")


class Masks:
    """Hides what a report may not show."""

    def __init__(self, secrets: Iterable[str] = (), names: Mapping[str, str] | None = None) -> None:
        """Keep what is looked for.

        Args:
            secrets: that are known.
            names: name -> what stands for it, where names are hidden too.
        """
        self._secrets = Redactor()
        self._secrets.put(secrets, "the report")
        self._names = names or {}
        self._name = _any_of(self._names, r"(?<![\w-])", r"(?![\w-])")

    def hide(self, text: str) -> str:
        """Return a text of one line or many without what may not be shown."""
        text = "\n".join(map(self._secrets.hide, text.split("\n")))
        text = _PRIVATE.sub(MASK, text)
        text = _USER_PART.sub(f"://{MASK}@", text)
        text = _QUERY.sub(rf"\g<1>{MASK}", text)
        text = _BEARER.sub(rf"\1\2{MASK}", text)
        text = _OPTION.sub(rf"\1{MASK}", text)
        text = _TELLING.sub(_without_value, text)
        text = _ID.sub(lambda found: shortened(found[0]), text)
        text = _WORD.sub(lambda found: MASK if _looks_random(found[0]) else found[0], text)
        return self._name.sub(lambda found: self._names[found[0]], text) if self._name else text


def shortened(key_id: str) -> str:
    """Return the two ends of an AccessKey id, by which its owner knows it."""
    return f"{key_id[:6]}...{key_id[-4:]}"


def known_secrets(tree: Any, environ: Mapping[str, str]) -> set[str]:
    """Return the secrets that a config leads to and this user can read. Never raises.

    Args:
        tree: the config as parsed; also one that is refused.
        environ: for `${VAR}`, and for the variables that it names.
    """
    found = {value for name, value in environ.items() if _SECRET_NAME.search(name) and "/" not in value[:1]}
    for key, value in strings_of(tree):
        if key.endswith("_env_variable") or key.endswith("_from_variable"):
            found.add(environ.get(value, ""))
        elif _HOLDER.search(key):
            found |= set(_of_file(_read(value, environ)))
        elif key in ("path", "links"):
            found |= {
                word for word in _IN_SINK.findall(_read(value, environ)) if not _ID.match(word) and _is_mixed(word)
            }
        elif key == "command":
            argument = value.rpartition("=")[2]
            found |= {argument} if any(map(str.isdigit, argument)) and "/" not in argument else set()
        elif "://" in value:
            found |= set(_of_address(value))
        elif _SECRET_NAME.search(key) and not key.endswith(("_name", "_id", "_stage", "_session_expiration")):
            found.add(value)  # which a config must not have, and this one has
    return {one for one in found if len(one) >= LEAST}


def secrets_in(broken: str) -> set[str]:
    """Return what a config that is no TOML says to be a secret: the values of keys with such a name."""
    pairs = (line.partition("=") for line in broken.splitlines())
    values = {value.strip().strip("\"'") for key, _equals, value in pairs if _SECRET_NAME.search(key)}
    return {one for one in values if len(one) >= LEAST}


def _of_address(address: str) -> Iterator[str]:
    user_part = address.partition("://")[2].partition("/")[0].rpartition("@")[0]
    yield user_part.partition(":")[2]
    yield from (pair.partition("=")[2] for pair in address.partition("?")[2].split("&"))


def _of_file(text: str) -> Iterator[str]:
    """Yield what may be a secret in a file that holds one: JSON, properties, or the secret itself."""
    try:
        for key, value in strings_of(json.loads(text)):
            if _SECRET_NAME.search(key) or len(value) > LONGEST_NAME:
                yield value
        return
    except ValueError:
        pass
    pairs = [line.partition("=") for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if pairs and all(
        key.strip().replace("_", "").replace(".", "").isalnum() and equals and value for key, equals, value in pairs
    ):
        yield from (
            value.strip()
            for key, _equals, value in pairs
            if _SECRET_NAME.search(key) and not value.strip().startswith("/")
        )
        return
    yield text.strip()
    yield from (line.strip() for line in text.splitlines())


def _read(path: str, environ: Mapping[str, str]) -> str:
    try:
        found = read_regular(_VARIABLE.sub(lambda name: environ[name[1]], path), READ_LIMIT)
    except (OSError, KeyError, ValueError):
        return ""
    return (found or b"").decode("utf-8", "replace")


def strings_of(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each string of a tree, with the name of the innermost key above it."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from strings_of(value, str(name))
    elif isinstance(tree, list):
        for value in tree:
            yield from strings_of(value, key)
    elif isinstance(tree, str):
        yield key, tree


def _without_value(found: re.Match[str]) -> str:
    value = found["value"].strip("\"'")
    if value in ("", "true", "false", "null", "None", "-", MASK) or value.startswith(("{", "[")):
        return found[0]
    return f"{found['name']}{found['equals']}{MASK}"


def _looks_random(word: str) -> bool:
    """Return whether a long word is no path, no version, no name and no hash in hexadecimal."""
    parts = [word] if not word.startswith("/") else word.split("/")
    return any(len(part) >= LEAST_WORD and _is_mixed(part) for part in parts)


def _is_mixed(word: str) -> bool:
    return any(map(str.isdigit, word)) and any(map(str.islower, word)) and any(map(str.isupper, word))


def _any_of(texts: Iterable[str], before: str = "", behind: str = "") -> re.Pattern[str] | None:
    longest_first = sorted(filter(None, texts), key=len, reverse=True)
    return re.compile(f"{before}(?:{'|'.join(map(re.escape, longest_first))}){behind}") if longest_first else None
