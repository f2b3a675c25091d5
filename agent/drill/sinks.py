"""The sinks of a drill: those of the config, with every file below the scratch directory."""

from __future__ import annotations

import dataclasses
from typing import Any

from agent.core.errors import KeyturnError
from agent.core.settings import FilePath, FileSinkSettings, SinkSettings
from agent.sinks.transaction.target import wanted_attributes
from agent.system.files import write_atomic
from agent.system.reading import read_trusted
from agent.system.scratch_directory import ScratchDirectory

SOURCE_BYTES = 1024 * 1024


class Redirection:
    """The way of each sink's file into the scratch directory.

    Attributes:
        root: what stands before each file's own path.
        remarks: where a sink differs from the config.
    """

    def __init__(self, scratch: ScratchDirectory) -> None:
        self._scratch, self.root = scratch, scratch.path / "files"
        self.remarks: list[str] = []

    def redirected(self, sinks: tuple[SinkSettings, ...]) -> tuple[SinkSettings, ...]:
        """Return the sinks with their files below the scratch directory, whose directories are made.

        No present content comes along: it may be a secret.
        """
        return tuple(self._redirected(sink) for sink in sinks)

    def _redirected(self, sink: SinkSettings) -> SinkSettings:
        if not isinstance(sink, FileSinkSettings):
            raise KeyturnError(f"a drill cannot play a sink of type {sink.type}", "take it out of a copy of the config")
        place = self.root / str(sink.path).lstrip("/")
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sink.write == "in_place":
            write_atomic(place, b"", flush=False)  # an inode to write through, as behind a bind mount
        changes: dict[str, Any] = {"path": FilePath(place), **self._readable(sink), **self._owner(sink)}
        members = getattr(sink, "files", ())
        if members:
            changes["files"] = tuple(dataclasses.replace(one, **self._readable(one)) for one in members)
        return dataclasses.replace(sink, **changes)

    def _owner(self, sink: FileSinkSettings) -> dict[str, None]:
        wanted = wanted_attributes(sink)
        if self._scratch.can_give(wanted.uid, wanted.gid):
            return {}
        whose = ":".join(filter(None, (sink.owner, sink.group)))
        self.remarks.append(f"{sink.path}: this user cannot give a file to {whose}; played as its own")
        return {"owner": None, "group": None}

    def _readable(self, sink: SinkSettings) -> dict[str, FilePath]:
        """Return another template in the place of one that this user may not read: it is no secret, but may be closed."""
        source = getattr(sink, "source", None)
        if source is None or not _is_closed(source):
            return {}
        self.remarks.append(f"{source}: this user may not read the template; one of a single line stands in for it")
        path = self._scratch.path / "template"
        write_atomic(path, b"{{ access_key_id or bearer_token }}\n", flush=False)
        return {"source": FilePath(path)}


def _is_closed(source: str) -> bool:
    try:
        read_trusted(source, SOURCE_BYTES)
    except PermissionError:
        return True
    except (KeyturnError, OSError, ValueError):
        return False  # so it is in an emergency as well, and the drill shows it
    return False
