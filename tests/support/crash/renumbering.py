"""A credential's state on a disk made anew: its journal knows files by their inode numbers, and these are others now."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

NOWHERE = 1
"""The inode number of what is not on the disk."""


def renumber(root: Path, numbers: Mapping[str, int], born: Collection[str]) -> None:
    """Give the journals of all credentials the inode numbers of this disk.

    Args:
        root: of the world.
        numbers: those on this disk, by "start PATH" for what was there at the start, "made PATH" for what was made since.
        born: all that ever was, in the same words.
    """
    for record in root.glob("state/credentials/*.state"):
        content = record.read_bytes()
        half = len(content) // 2
        slots = [_slot(content[n * half : (n + 1) * half], root, numbers, born) for n in (0, 1)]
        record.write_bytes(b"".join(slots))


def renumber_copy(root: Path) -> None:
    """The same for a copy of all that there was."""
    numbers = {f"start {path.relative_to(root)}": path.lstat().st_ino for path in root.rglob("*")}
    renumber(root, numbers, numbers)


def _slot(slot: bytes, root: Path, numbers: Mapping[str, int], born: Collection[str]) -> bytes:
    """One of the two of the file (agent/system/two_slot_file.py); left alone where it is torn."""
    header, _, rest = slot.partition(b"\n")
    words = header.split(b" ")
    if len(words) < 4 or not words[2].isdigit():
        return slot
    payload = rest[: int(words[2])]
    if _digest(words[1], payload) != words[3]:
        return slot
    state = json.loads(payload)
    if not state.get("journal"):
        return slot
    for entry in state["journal"]:
        place = os.path.relpath(entry["directory"], root)
        (_link if entry["write"] == "link" else _file)(entry, place, numbers, born)
    payload = json.dumps(state, separators=(",", ":"), ensure_ascii=False).encode()
    words[2:4] = str(len(payload)).encode(), _digest(words[1], payload)
    return (b" ".join(words) + b"\n" + payload).ljust(len(slot) - 1) + b"\n"


def _digest(sequence: bytes, payload: bytes) -> bytes:
    return hashlib.sha256(sequence + b"\n" + payload).hexdigest().encode()


def _file(entry: dict[str, Any], place: str, numbers: Mapping[str, int], born: Collection[str]) -> None:
    """A staged file is the target if it is switched at the start."""
    temp, target = f"{place}/{entry['temp']}", f"start {place}/{entry['target']}"
    own = next((name for name in (f"made {temp}", f"start {temp}") if name in born), target)
    entry["inode"] = numbers.get(own, NOWHERE)
    if entry["before"] is not None:
        entry["before"][0] = numbers.get(target, NOWHERE)


def _link(entry: dict[str, Any], place: str, numbers: Mapping[str, int], born: Collection[str]) -> None:
    """A generation, by name one of its own; what it was before is a name too."""
    generation = f"{place}/.{entry['target']}.keyturn/{entry['generation']}"
    when = "made" if f"made {generation}" in born else "start"
    entry["inode"] = numbers.get(f"{when} {generation}", NOWHERE)
    for name, (_inode, size) in entry["files"].items():
        entry["files"][name] = [numbers.get(f"{when} {generation}/{name}", NOWHERE), size]
