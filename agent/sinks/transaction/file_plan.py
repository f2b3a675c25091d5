"""The survey of one file and the sinks that write it.

Several sinks may share a file (two profiles, two sets of variables). Each renders into the output of the one before, so
that the file is staged and switched once, and a sink is in sync when its own step changed nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.sinks.interface import FileSink
from agent.sinks.transaction.change import Difference, Plan, SinkReport, Target
from agent.sinks.transaction.in_place import InPlacePlan
from agent.sinks.transaction.recognise import is_of
from agent.sinks.transaction.replace import FilePlan
from agent.sinks.transaction.target import Attributes, Present, lets_in, not_opened, read_present, wanted_attributes
from agent.system import files
from agent.system.trusted_directory import Directory


class FileTarget(Target):
    """A file that one or several sinks write."""

    __slots__ = ("settings", "sinks")

    def __init__(self, sinks: Sequence[FileSink]) -> None:
        self.sinks = sinks
        self.settings: Any = sinks[0].settings

    @property
    def _in_place(self) -> bool:
        return bool(self.settings.write == "in_place")

    def plan(self, directory: Directory, credential: Credential, generation: int) -> tuple[Plan, list[SinkReport]]:
        """Render all sinks, one into the output of the other, and compare; see `Target.plan`."""
        wanted = wanted_attributes(self.settings)
        self._refuse_disagreement(wanted)
        present = self._read(directory)
        reports, content = [], present.content
        for sink in self.sinks:
            rendered = sink.render(content, credential, generation)
            reports.append(
                SinkReport(sink.type_name, sink.target, _difference(sink, present, wanted, content, rendered))
            )
            content = rendered
        if lets_in(present, wanted) and (self._in_place or content != self._alone(credential, generation)):
            raise not_opened(self.settings.path, wanted)
        kind = InPlacePlan if self._in_place and present.identity is not None else FilePlan
        return kind(self.settings, directory.identity, present, content or b"", wanted), reports

    def _alone(self, credential: Credential, generation: int) -> bytes | None:
        """Return what the sinks would write into a missing file, without any line of others."""
        content: bytes | None = None
        for sink in self.sinks:
            content = sink.render(content, credential, generation)
        return content

    def stands(self, directory: Directory, access_key_id: str) -> bool:
        """Compare owner, mode and the AccessKey id; see `Target.stands`."""
        present = self._read(directory)
        return present.attributes == wanted_attributes(self.settings) and is_of(
            present.content or b"", access_key_id, self._render
        )

    def examine(self, directory: Directory) -> None:
        """Read it; see `Target.examine`."""
        self._read(directory)

    def sweep(self, directory: Directory, needed: Collection[str]) -> list[str]:
        """Remove staged files; see `Target.sweep`."""
        owners = (wanted_attributes(self.settings).uid, directory.uid)
        return [directory.join(name) for name in files.sweep(directory, owners, needed)]

    def _render(self, value: Credential) -> bytes:
        content: bytes | None = None
        for sink in self.sinks:
            content = sink.render(content, value, 1)
        return content or b""

    def _read(self, directory: Directory) -> Present:
        return read_present(directory, self.name, in_place=self._in_place)

    def _refuse_disagreement(self, wanted: Attributes) -> None:
        """Refuse sinks of one file that want different owners, modes or ways of writing."""
        for sink in self.sinks[1:]:
            if wanted_attributes(sink.settings) != wanted or sink.settings.write != self.settings.write:
                raise SinkError(
                    f"{sink.path}: two sinks share this file and differ in owner, group, mode or write",
                    "give both the same values",
                )


def _difference(sink: FileSink, present: Present, wanted: Attributes, before: bytes | None, after: bytes) -> Difference:
    if present.content is None:
        return "missing"
    if before != after:
        return "written back" if sink.only_written_back(before or b"") else "content"
    return "" if present.attributes == wanted else "attributes"
