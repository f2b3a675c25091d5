"""What the state remembers of the audit log: its newest record, what may stand behind it, and each break that was found.

A record is announced before it is written and acknowledged after its flush. So whatever stands in the log behind the
acknowledged record was announced, or keyturn did not write it. Only a power cut can lose announcements (they are not
flushed, the records are): after one, records that follow are taken for ours, and `audit verify` notes that nothing proves it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agent.core.errors import NotPermittedError
from agent.system.two_slot_file import read_slots

GENESIS = "0" * 64
MAX_HEAD_BYTES = 256 * 1024
MAX_BREAKS = 32
"""The first ones are kept: who forges again and again cannot push them out."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Head:
    """The number and the hash of the newest record."""

    seq: int = 0
    hash: str = GENESIS


@dataclass(frozen=True, slots=True)
class Break:
    """A place where the log is not what keyturn wrote.

    Attributes:
        seq: the record at which it was noticed.
        expected: the hash that the state remembered; empty where no record was due any more.
        found: the hash that stood there.
        time: when it was noticed.
    """

    seq: int
    expected: str
    found: str
    time: str = ""

    def __str__(self) -> str:
        if self.expected:
            return f"seq {self.seq} has the hash {self.found}, and keyturn wrote {self.expected}: the log was rewritten"
        return (
            f"seq {self.seq} with the hash {self.found} was not written by keyturn "
            "(or the state directory could not be written, or was restored from an older copy)"
        )


@dataclass(frozen=True, slots=True)
class Remembered:
    """The content of the state's file `audit-head`. 0.1.0 wrote `seq` and `hash` alone.

    Attributes:
        seq: the number of the newest acknowledged record.
        hash: its hash.
        announced: the hashes of the records that may stand behind it.
        boot: the boot of the machine in which that was said; empty where it is not known.
        stopped: whether keyturn stopped after it, so that nothing may stand behind it.
        breaks: the breaks that were found, oldest first.
    """

    seq: int = 0
    hash: str = GENESIS
    announced: tuple[str, ...] = ()
    boot: str = ""
    stopped: bool = False
    breaks: tuple[Break, ...] = ()

    @property
    def head(self) -> Head:
        """The newest acknowledged record."""
        return Head(self.seq, self.hash)

    def knows_what_follows(self) -> bool:
        """Return whether every record behind the head must have been announced in it."""
        return self.stopped or (bool(self.boot) and self.boot == this_boot())

    def as_bytes(self) -> bytes:
        """Return it as the state keeps it; what is empty is left out."""
        known = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return msgspec.json.encode({name: value for name, value in known.items() if value or name == "seq"})


def this_boot() -> str:
    """Return the kernel's name for this boot; empty where it cannot be had."""
    try:
        return BOOT_ID.read_bytes().decode().strip()
    except (OSError, ValueError):
        return ""


def read_head(path: Path) -> Remembered | None:
    """Return what the state remembers; None where it has nothing, or nothing that can be understood.

    Raises:
        NotPermittedError: this user may not look.
    """
    try:
        content = read_slots(path, MAX_HEAD_BYTES)
        return None if content is None else _remembered(json.loads(content))
    except PermissionError as err:
        raise NotPermittedError(f"{path}: this user may not read the state", "run as root") from err
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _remembered(known: dict[str, Any]) -> Remembered:
    return Remembered(
        int(known["seq"]),
        str(known["hash"]),
        tuple(str(each) for each in known.get("announced", ())),
        str(known.get("boot", "")),
        known.get("stopped") is True,
        tuple(
            Break(int(b["seq"]), str(b["expected"]), str(b["found"]), str(b["time"])) for b in known.get("breaks", ())
        ),
    )
