"""The survey of a `directory` sink: what its link leads to, and what the files there hold."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

from agent.core.credential import Credential
from agent.sinks.formats.directory import DirectorySettings, DirectorySink
from agent.sinks.transaction.change import Difference, Plan, SinkReport, Target
from agent.sinks.transaction.directory_link import Link, LinkPlan, directory_attributes, owners
from agent.sinks.transaction.directory_store import STORE_MODE, Store
from agent.sinks.transaction.recognise import is_of
from agent.sinks.transaction.target import MAX_FILE_BYTES, Attributes, Present, refusal, wanted_attributes
from agent.system import files
from agent.system.file_identity import FileIdentity
from agent.system.trusted_directory import Directory, names


@dataclass(frozen=True, slots=True)
class _Generation:
    """The generation that readers find now."""

    closed: bool  # whether the store has its own mode, so that nobody else can put names into it
    attributes: Attributes
    names: frozenset[str]
    files: Mapping[str, Present]  # by wanted name; empty for what is no regular file


class DirectoryTarget(Target):
    """A link, alone at its path."""

    __slots__ = ("_sink", "settings")
    settings: DirectorySettings

    def __init__(self, sink: DirectorySink) -> None:
        self._sink = sink
        self.settings = sink.settings

    def plan(self, directory: Directory, credential: Credential, generation: int) -> tuple[Plan, list[SinkReport]]:
        """Render every file from scratch and compare; see `Target.plan`."""
        wanted = wanted_attributes(self.settings)
        link, found = self._read(directory)
        contents = self._sink.render(credential, generation)
        differs = _difference(found, contents, wanted)
        report = SinkReport(self._sink.type_name, self._sink.target, differs)
        return LinkPlan(self.settings, directory.identity, link, generation, contents, wanted, differs), [report]

    def stands(self, directory: Directory, access_key_id: str) -> bool:
        """Compare every file's owner, mode and AccessKey id; see `Target.stands`."""
        _, found = self._read(directory)
        if found is None:
            return False
        held = {name: present.content or b"" for name, present in found.files.items()}
        if _difference(found, held, wanted_attributes(self.settings)):
            return False
        return all(is_of(held[name], access_key_id, partial(self._render, name)) for name in held)

    def _render(self, name: str, value: Credential) -> bytes:
        return self._sink.render(value, 1)[name]

    def examine(self, directory: Directory) -> None:
        """Look at the link and the store; see `Target.examine`."""
        self._read(directory)

    def sweep(self, directory: Directory, needed: Collection[str]) -> list[str]:
        """Remove staged generations, and prune what a crash kept from being pruned; see `Target.sweep`."""
        store, ours = Store(directory, self.name), owners(wanted_attributes(self.settings))
        removed = store.sweep(ours, needed)
        store.prune(self.settings.keep, ours, needed=needed)
        return removed

    def _read(self, directory: Directory) -> tuple[Link, _Generation | None]:
        """Look at the link and read what it leads to, None where that is missing."""
        store = Store(directory, self.name)
        try:
            link = Link.look(store)
            opened = store.open()
            if opened is None:
                return link, None
            with opened:
                return link, _generation(opened, link, frozenset(name for name, _ in self._sink.files))
        except OSError as error:
            raise refusal(error, directory, self.name, "cannot read", "this directory") from error


def _generation(store: Directory, link: Link, wanted: frozenset[str]) -> _Generation | None:
    if link.generation is None:
        return None
    try:
        opened = store.open_below(link.generation)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with opened:
        attributes = Attributes.of(os.fstat(opened.fd))
        held = {name: _present(opened, name) for name in wanted}
        return _Generation(store.mode == STORE_MODE, attributes, frozenset(names(opened)), held)


def _present(generation: Directory, name: str) -> Present:
    """Read one file; the result is empty where it is missing, too large, or no regular file."""
    try:
        fd = files.open_regular(name, generation.fd)
    except (FileNotFoundError, files.NotRegularError):
        return Present()
    try:
        found = os.fstat(fd)
        content = files.read_fd(fd, MAX_FILE_BYTES, name)
    except files.TooLargeError:
        content = None
    finally:
        os.close(fd)
    return Present(content, FileIdentity.of(found), Attributes.of(found))


def _difference(found: _Generation | None, contents: Mapping[str, bytes], wanted: Attributes) -> Difference:
    if found is None or contents.keys() - found.names:
        return "missing"
    if found.names != contents.keys() or any(found.files[name].content != held for name, held in contents.items()):
        return "content"
    files_differ = any(present.attributes != wanted for present in found.files.values())
    right = found.closed and found.attributes == directory_attributes(wanted) and not files_differ
    return "" if right else "attributes"
