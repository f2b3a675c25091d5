"""What must hold in the world of the crashes, written down a second time, by hand and without a line of the product's code.

What each sink holds for each value, byte for byte, who owns it, and who is told.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field

OWNER = 23001 if os.geteuid() == 0 else os.geteuid()
GROUP = 23001 if os.geteuid() == 0 else os.getegid()
LINK = "set/current"
"""Where the `directory` sink of `gamma` is, below the root."""
KEEP = 2
ENDS = ("published", "drift_repaired", "publish_recovered")
IDS = re.compile(rb"LTAI[abg][0-9]{6}")
CREDENTIALS = ("alpha", "beta", "gamma")


def access_key_id(credential: str, number: int) -> str:
    """The key of the nth value that a credential's source gives out."""
    return f"LTAI{credential[0]}{number:06}"


def number_of(identifier: str) -> int:
    """Which value a key is of; 0 for no key, which is what stood there before keyturn."""
    return int(identifier[5:] or 0)


def secret_of(identifier: str) -> str:
    """The secret that belongs to an id: a mixed pair is seen without knowing what was published.

    Each is shorter or longer than the one before: the second is shorter than the first, the third longer than both.
    """
    digest = hashlib.sha256(identifier.encode()).hexdigest()
    return digest[: 24 + int(identifier[-1]) * 4 % 7 * 3]


@dataclass(frozen=True)
class Sink:
    """A file of a credential, and who may have it."""

    credential: str
    type: str
    path: str  # below the root
    mode: int
    extra: str = ""

    @property
    def in_place(self) -> bool:
        return "in_place" in self.extra

    def holds(self, identifier: str) -> bytes:
        """The whole content of the file for a key, with the lines that are not ours."""
        secret = secret_of(identifier)
        foreign = "" if self in MEMBERS else "KEPT=1\n"
        if self.type == "credentials_ini":
            ours = f"enable = true\ntype = access_key\naccess_key_id = {identifier}\naccess_key_secret = {secret}\n"
            return f"# kept\n[default]\n{ours}".encode()
        if self.type == "env_file":
            names = ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET")
            return f"{foreign}{names[0]}={identifier}\n{names[1]}={secret}\n".encode()
        answer = {"Code": "Success", "AccessKeyId": identifier, "AccessKeySecret": secret, "SecurityToken": ""}
        return json.dumps({**answer, "Expiration": "2099-12-31T23:59:59Z"}, indent=2).encode() + b"\n"

    def before(self) -> bytes | None:
        """What stands there before keyturn comes."""
        return {"credentials_ini": b"# kept\n[default]\n", "env_file": b"KEPT=1\n", "json": None}[self.type]


SINKS = (
    Sink("alpha", "credentials_ini", "etc/alpha.ini", 0o600),
    Sink("alpha", "env_file", "env/alpha.env", 0o640),
    Sink("alpha", "json", "place/alpha.json", 0o600, 'write = "in_place"\n'),
    Sink("beta", "env_file", "env/beta.env", 0o600),
    Sink("beta", "credentials_ini", "etc/beta.ini", 0o640),
)
MEMBERS = (Sink("gamma", "env_file", "app.env", 0o640), Sink("gamma", "json", "app.json", 0o640))
"""The files of the `directory` sink, which belong to keyturn whole: no foreign line."""
NOTIFIERS = (("alpha", "near", 0), ("alpha", "far", 1), ("beta", "other", 0), ("gamma", "third", 0))


@dataclass
class Findings:
    """What an inspection found; every list is to be empty."""

    torn: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)
    readable: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def add(self, found: Findings) -> None:
        for name, entries in vars(found).items():
            getattr(self, name).extend(entries)

    def figures(self) -> dict[str, int]:
        return {name: len(entries) for name, entries in vars(self).items()}

    @property
    def clean(self) -> bool:
        return not any(vars(self).values())
