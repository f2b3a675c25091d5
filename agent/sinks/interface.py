"""The contract of a sink: a pure function from (the file's present content, the value) to its new content.

A sink never touches the file system: agent/sinks/transaction/ reads, stages, flushes and switches, so that no
format can forget a mode, a flush or a symlink. That a file sink edits the file rather than owns it is part of the
contract: every foreign line stays byte for byte.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.settings import FileSinkSettings


@dataclass(frozen=True, slots=True)
class SinkContext:
    """Everything that a sink may know besides its own settings.

    Attributes:
        credential: the name of the credential that it publishes.
        region_id: `cloud.region_id`.
        command: the words by which a program of this machine calls keyturn with this config.
        endpoint: `agent.endpoint.listen`; "" where there is none.
    """

    credential: str = ""
    region_id: str = "cn-hangzhou"
    command: tuple[str, ...] = ("/usr/bin/keyturn",)
    endpoint: str = ""


NO_CONTEXT = SinkContext()


class Sink(ABC):
    """One target: a part of a file, a file (`FileSink`), or a directory of them (`directory.py`)."""

    type_name: ClassVar[str]
    Settings: ClassVar[type[FileSinkSettings]]

    def __init__(self, settings: Any, context: SinkContext = NO_CONTEXT) -> None:
        """Keep the settings; no I/O."""
        self.settings, self.context = settings, context

    @property
    def path(self) -> str:
        """The file."""
        return str(self.settings.path)

    @property
    def target(self) -> str:
        """The part that is written, unique in the whole config: the path, and the section where only one is ours."""
        return self.path

    @property
    def layout(self) -> object:
        """What decides about the form of the file, apart from the value: where it changes, the file is written anew."""
        return self.settings

    @property
    def formats(self) -> tuple[str, ...]:
        """The types of file that readers find here; whether a notification takes effect depends on them."""
        return (self.type_name,)

    @property
    def process_command(self) -> tuple[str, ...]:
        """The words of the command that readers run for the value; empty where they find it in the file."""
        return ()

    @property
    def readers_write(self) -> bool:
        """Whether known readers write the value into the file wherever they may, though it is not to hold it."""
        return False

    @property
    def files_read(self) -> tuple[Sink, ...]:
        """The targets that readers open, each one file: this one, or those of a directory."""
        return (self,)

    @property
    def watched(self) -> tuple[str, ...]:
        """The files by whose identities it is known that nothing has changed here; none where they do not tell."""
        return ()

    def inspect(self) -> tuple[str, ...]:
        """Return the warnings of `check` about the known readers of this format."""
        return ()

    def warnings_for(self, credential: Credential) -> tuple[str, ...]:
        """Return the warnings of `check` when the kind of value that will be written is known."""
        return ()

    def read_back(self, content: bytes) -> Credential | None:
        """Return the value that a reader of this target finds in its file, as far as the file says.

        Made for a restart while the source is down, and for whoever wants to see what dependents are offered. An expiry
        stands in few formats; None there says nothing of the value's life.

        Args:
            content: of the file.

        Returns:
            None where there is no whole value, or the format is none that can be read back (`template`).
        """
        return None

    def refuse(self, what: str, remedy: str) -> SinkError:
        """Return an error about this sink's file."""
        return SinkError(f"{self.path}: {what}", remedy)


class FileSink(Sink):
    """One target in one file."""

    @property
    def watched(self) -> tuple[str, ...]:
        """Its file."""
        return (self.path,)

    @abstractmethod
    def render(self, present: bytes | None, credential: Credential, generation: int) -> bytes:
        """Return the whole new content of the file.

        Args:
            present: the content of the file now, None where there is none.
            credential: the value to publish.
            generation: its number.

        Raises:
            SinkError: the file's present content or the value does not fit the format; names the file,
                never the value.
        """

    def only_written_back(self, present: bytes) -> bool:
        """Return whether a file that differs from what is rendered is right but for what a known reader wrote into it.

        That is put right once for each value, lest keyturn and the reader rewrite the file in turns.
        """
        return False
