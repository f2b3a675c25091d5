"""The ClientKeys that were seen, and which alarm about the end of each was raised last: one small file for all credentials.

One ClientKey signs for many credentials, so what was said of it is no credential's. A file that cannot be read counts as
empty: an alarm is raised once more.
"""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path

import msgspec

from agent.system import files
from agent.system.two_slot_file import SlotFile, read_slots

FILE = "client-keys"
MAX_BYTES = 1024 * 1024


class ClientKeyEntry(msgspec.Struct, omit_defaults=True):
    """What is remembered of a ClientKey.

    Attributes:
        path: of the file that held it.
        expires_at: when its certificate ends.
        said: the last alarm, in days before its end; None for none.
    """

    path: str
    expires_at: datetime
    said: int | None = None

    def found(self, path: str, expires_at: datetime) -> None:
        """Note where it stands, and until when it holds."""
        self.path, self.expires_at = path, expires_at

    def alarmed(self, days: int | None) -> None:
        """Note the last alarm, or that none stands."""
        self.said = days


class ClientKeyBook:
    """The file. Belongs to the loop's thread."""

    def __init__(self, directory: Path) -> None:
        """Keep the path; the file is read when it is first asked for."""
        self._file = SlotFile(directory / FILE)
        self._entries: dict[str, ClientKeyEntry] | None = None

    @property
    def entries(self) -> dict[str, ClientKeyEntry]:
        """Every ClientKey by its id."""
        if self._entries is None:
            self._entries = self._read()
        return self._entries

    def _read(self) -> dict[str, ClientKeyEntry]:
        try:
            content = read_slots(self._file.path, MAX_BYTES)
            return msgspec.json.decode(content or b"{}", type=dict[str, ClientKeyEntry])
        except (OSError, msgspec.DecodeError, RecursionError, files.TooLargeError, files.NotRegularError):
            return {}

    def save(self) -> None:
        """Write it down; a power cut may take the newest alarm away, which is then raised once more.

        Raises:
            OSError: it could not be written.
        """
        with closing(self._file):
            self._file.write(msgspec.json.encode(self.entries), flush=False)
