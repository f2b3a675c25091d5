"""The key by which records are authenticated, `[agent.audit] hmac_key_file` (docs/adr/0023).

A record's `hmac` is HMAC-SHA256 over its canonical form without `hash` and `hmac`; `hash` then covers it like any other field.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from pathlib import Path

from agent.core.errors import CredentialFileError
from agent.system.files import read_private

MAX_BYTES = 4096
MIN_BYTES = 32
"""As many as SHA-256 gives: RFC 2104, section 3, discourages shorter keys."""
MIN_DISTINCT = 8
"""Different bytes: 32 random ones have about 30, their hexadecimal digits 16; a word written again and again has fewer."""
HEX_DIGITS = 64


class HmacKey:
    """A key. It prints without its value."""

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes) -> None:
        self._keyed = hmac.new(key, digestmod="sha256")

    def sign(self, content: bytes) -> str:
        """Return the HMAC of a record's canonical form, in hexadecimal digits."""
        keyed = self._keyed.copy()
        keyed.update(content)
        return keyed.hexdigest()

    def fits(self, content: bytes, found: object) -> bool:
        """Return whether that is the HMAC of the record's canonical form."""
        return isinstance(found, str) and found.isascii() and hmac.compare_digest(self.sign(content), found)

    def __repr__(self) -> str:
        return "HmacKey(...)"


def read_key(path: Path | str, environ: Mapping[str, str] = os.environ, *, also: int | None = None) -> HmacKey:
    """Return the key in a file: its bytes, without a line end behind them.

    Args:
        path: the file, which may be one of systemd's credentials.
        environ: as for a private file, `agent.system.files.read_private`.
        also: likewise.

    Raises:
        CredentialFileError: it is missing, others can read or write it, or it holds no key.
        NotPermittedError: this user may not read it.
    """
    key = read_private(path, MAX_BYTES, environ, also=also).rstrip(b"\r\n")
    remedy = f"make one: (umask 077; openssl rand -hex 32 > {path})"
    if len(key) < MIN_BYTES:
        raise CredentialFileError(
            f"{path}: holds {len(key)} bytes, and a key for the audit has at least {MIN_BYTES}", remedy
        )
    if len(set(key)) < MIN_DISTINCT:
        raise CredentialFileError(f"{path}: holds the same few characters again and again, which is no key", remedy)
    return HmacKey(key)
