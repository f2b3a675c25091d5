"""Secrets that stand where something else belongs, told by their shape: never repeated, wherever text enters.

What this process knows to be a secret is masked by value (agent/logs/redaction.py). A password in the place of its
file's path, or a secret pasted into `--reason`, is known to nobody; there only its shape can be judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from agent.core.secret import SHOWN

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*|[a-z]+(?:_[a-z]+)+")
"""Names as environments have them (POSIX, Base Definitions 8.1: upper case, digits, underscores), and those of Alibaba's
clients, such as `client_key_password`."""

_WORD = re.compile(r"[A-Za-z0-9+/=_-](?:[A-Za-z0-9+/=_.-]*[A-Za-z0-9+/=_-])?")
_RUN = re.compile(r"[A-Za-z0-9]+")
_ID = re.compile(r"(?:LTAI|STS\.|TMP\.|KAAP\.)[A-Za-z0-9-]+\.?")
"""How ids of AccessKeys, sessions and ClientKeys begin (Alibaba Cloud, RAM)."""
_SECRET_LENGTH = 30
"""Letters and digits of an AccessKey secret."""
_LETTERS_OF_A_CASE = 7
"""Where it has no digit, as one of two hundred: fewer capitals are those of a name in camel case."""
_TOKEN_LENGTH = 64
"""Characters from which a word of this alphabet is taken for a token: a security token has some hundreds."""


def variable_name(written: str) -> str | None:
    """Return what is written where a variable's name belongs, if it looks like one; None for what may be a secret."""
    return written if _VARIABLE.fullmatch(written) and len(written) < _TOKEN_LENGTH else None


def looks_secret(word: str) -> bool:
    """Return whether a word looks like an AccessKey secret or a token rather than an id or a word of a language."""
    if _ID.fullmatch(word):
        return False
    if len(word) >= _TOKEN_LENGTH:
        return bool(_WORD.fullmatch(word)) and not word.startswith("/")
    if len(word) != _SECRET_LENGTH or not (word.isascii() and word.isalnum()):
        return False
    upper, lower, digits = (sum(map(kind, word)) for kind in (str.isupper, str.islower, str.isdigit))
    return min(upper, lower) >= (1 if digits else _LETTERS_OF_A_CASE)


def suspects(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each word, and each run of letters and digits, that looks like a secret."""
    for kind in (_WORD, _RUN):
        yield from (found.span() for found in kind.finditer(text) if looks_secret(found[0]))


def without_suspects(text: str) -> str:
    """Return a text of an operator's with a mark in the place of each word that looks like a secret."""
    marked = _WORD.sub(lambda found: SHOWN if looks_secret(found[0]) else found[0], text)
    return _RUN.sub(lambda found: SHOWN if looks_secret(found[0]) else found[0], marked)
