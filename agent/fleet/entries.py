"""What stands on the board: an announcement, and the state of a host. Nothing of it is secret.

What a stranger may have written there is read as strictly as any input: an entry that is not exactly as one of these is
passed over, and none is longer than `MAX_BYTES`.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec

from agent.core.secret import Secret

MAX_BYTES = 2048
TAIL = 4
"""How many of a key id's last characters a host shows: enough to tell two keys apart, not enough to name one."""
MAX_VERSION = 128
"""Characters of a version id; KMS gives at most 64."""
_Version = Annotated[str, msgspec.Meta(max_length=MAX_VERSION)]
_Event = Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{0,40}\Z")]
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
_NONCE = re.compile(r"[0-9a-f]{32}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


class Why(StrEnum):
    """The class of reason for an announcement. The operator's own words stay in the audit log of the host that rotates."""

    ROTATION = "rotation"
    EMERGENCY = "emergency"


@dataclass(frozen=True, slots=True)
class Announcement:
    """The news that a credential has another version.

    Attributes:
        entry: its id in the stream, such as "1796048708059-0".
        version_id: the new version.
        nonce: 32 hexadecimal digits; a host's proof is about it, so an old proof is no answer.
        why: the class of reason.
        deadline: unix time after which nobody waits for it.
        by: the host that announces.
    """

    entry: str
    version_id: str
    nonce: str
    why: Why
    deadline: float
    by: str

    def fields(self) -> dict[str, str]:
        """Return the fields of its entry in the stream."""
        return {
            "version_id": self.version_id,
            "nonce": self.nonce,
            "reason_class": str(self.why),
            "deadline": f"{self.deadline:.0f}",
            "by": self.by,
        }


def announcement(entry: bytes, fields: Mapping[bytes, bytes]) -> Announcement | None:
    """Return what an entry of a stream says; None where it is no announcement."""
    try:
        if sum(len(name) + len(value) for name, value in fields.items()) > MAX_BYTES:
            return None
        text = {name.decode(): value.decode() for name, value in fields.items()}
        why, deadline = Why(text["reason_class"]), float(text["deadline"])
        found = Announcement(entry.decode(), text["version_id"], text["nonce"], why, deadline, text["by"])
    except (KeyError, ValueError):  # UnicodeDecodeError is one
        return None
    sound = 0 < len(found.version_id) <= MAX_VERSION and _NONCE.fullmatch(found.nonce) and _HOST.fullmatch(found.by)
    return found if sound and 0 <= deadline < 1e11 else None


def new_nonce() -> str:
    """Return the nonce of an announcement."""
    return secrets.token_hex(16)


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """What a host says of one credential.

    Attributes:
        version_id: the version that its files hold.
        generation: its own count of publishes.
        access_key_id_tail: the last `TAIL` characters of the key's id.
        owed: dependents and other holders of the key on this host that are not known to be on that version.
        failed: the audit's name of what failed last, such as "fetch_failed"; "" while nothing fails.
        nonce: of the newest announcement that the host heard; "" for none.
        mac: `proof`, which only who has the version's secret can make; "" while something is owed, or it is not at hand.
        machine: tells apart two machines that go by one name.
        twins: whether this host saw another machine under its name lately.
    """

    version_id: _Version
    generation: _Number
    access_key_id_tail: str
    owed: _Number
    failed: _Event = ""
    nonce: str = ""
    mac: str = ""
    machine: str = ""
    twins: bool = False

    def encoded(self) -> bytes:
        """Return it as the hash holds it."""
        return msgspec.json.encode(self)


def host_state(host: bytes, value: bytes) -> tuple[str, HostState] | None:
    """Return a host and what it says; None where that is not a host's state."""
    try:
        name = host.decode()
        if len(value) > MAX_BYTES or not _HOST.fullmatch(name):
            return None
        return name, msgspec.json.decode(value, type=HostState)
    except (ValueError, msgspec.DecodeError):
        return None


def host_name(host: bytes) -> str | None:
    """Return a host's name; None where it is none."""
    name = host.decode("utf-8", "replace")
    return name if _HOST.fullmatch(name) else None


def proof(secret: Secret, credential: str, host: str, version_id: str, nonce: str) -> str:
    """Return the HMAC-SHA256, in hexadecimal, with which a host proves that it has a version's secret and owes nothing.

    It is made for one announcement, so neither another host's nor an older one fits. It is not made before everybody on the
    host has moved: whoever can write the board, and has no key, cannot turn a host that owes into one that does not.
    """
    message = "|".join((credential, host, version_id, nonce))
    return hmac.digest(secret.reveal().encode(), message.encode(), "sha256").hex()


def proves(state: HostState, secret: Secret, credential: str, host: str, version_id: str, nonce: str) -> bool:
    """Return whether this state is the proof that was asked for."""
    expected = proof(secret, credential, host, version_id, nonce)
    return state.version_id == version_id and not state.owed and hmac.compare_digest(expected, state.mac)
