"""`credentials_uri`: an env file that sends Alibaba's SDKs to the endpoint of this agent, so that no restart is needed.

    ALIBABA_CLOUD_CREDENTIALS_URI=http://127.0.0.1:8911/v1/credentials/uploader?token=…

The line stays as it is from one key to the next: what changes is the endpoint's answer (agent/endpoint). The token is the
sink's own, so that two applications have two, and one of them can be replaced alone. It is made when the file is first
written, and kept nowhere else: who may read the file knows it, and the agent reads it back from there after a restart. While
the agent runs, what it knows is the truth: a line that somebody changed or removed is put right with the same token. To end
a token there is `keyturn endpoint rotate-token`. Why so: docs/adr/0020.

Unquoted but for a shell, which would take `?` of an exported line for a pattern: docker keeps quotes, and for the others the
line means itself.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from agent.core.credential import Credential, Kind
from agent.core.settings import FileSinkSettings
from agent.logs.redaction import mask
from agent.sinks.formats.env_file import EnvFile
from agent.sinks.formats.env_lines import Dialect
from agent.sinks.formats.text import split_mark
from agent.sinks.formats.uri_tokens import TOKEN, Tokens, read_before
from agent.sinks.interface import NO_CONTEXT, SinkContext

VARIABLE = "ALIBABA_CLOUD_CREDENTIALS_URI"
BEFORE = "KEYTURN_URI_TOKENS_BEFORE"
PATH = "/v1/credentials/"


@dataclass(frozen=True, kw_only=True)
class CredentialsUriSettings(FileSinkSettings):
    """The settings of `type = "credentials_uri"`."""

    needs_endpoint: ClassVar[bool] = True
    dialect: Dialect = "systemd"

    def target_keys(self) -> Iterator[str]:
        """Yield the variables, which no other sink may write."""
        return (f"{self.path} {name}" for name in (VARIABLE, BEFORE))


class CredentialsUri(EnvFile):
    """A sink for the URI. All other lines stay byte for byte."""

    type_name = "credentials_uri"
    Settings = CredentialsUriSettings

    def __init__(self, settings: CredentialsUriSettings, context: SinkContext = NO_CONTEXT) -> None:
        """Keep the settings; the tokens are read back from the file's content when it comes along."""
        super().__init__(settings, context)
        self._lock = threading.Lock()
        self._known: Tokens | None = None
        self._fresh: Tokens | None = None

    @property
    def layout(self) -> object:
        """The settings, and the address that the file names; see `Sink.layout`."""
        return self.settings, self._address

    @property
    def tokens(self) -> Tokens | None:
        """The tokens that are known; None until the file was read, or written and read."""
        return self._known

    def learn(self, content: bytes | None) -> Tokens | None:
        """Read the tokens back from the file's content, unless they are known already; return the known ones."""
        with self._lock:
            if self._known is None and content is not None:
                self._known = self._found(content)
                self._hide(self._known)
            return self._known

    def keep(self, tokens: Tokens | None) -> None:
        """Take these for the truth from now on; None: what the file says next."""
        with self._lock:
            self._known = tokens
            self._hide(tokens)

    def render(self, present: bytes | None, credential: Credential, generation: int) -> bytes:
        """Set the URI, whatever the value is; see `FileSink.render`."""
        return self.with_tokens(present, self.learn(present) or self._new())

    def with_tokens(self, present: bytes | None, tokens: Tokens) -> bytes:
        """Return the file with these tokens.

        Raises:
            SinkError: the file's present content does not fit the format.
        """
        uri = f"{self._address}?token={tokens.current.reveal()}"
        return self._with(present, {VARIABLE: uri, BEFORE: tokens.written()})

    def read_back(self, content: bytes) -> Credential | None:
        """Return None: the file holds no value; see `Sink.read_back`."""
        return None

    def warnings_for(self, credential: Credential) -> tuple[str, ...]:
        """Say who takes no long-term key from an endpoint; see `FileSink.warnings_for`."""
        if credential.kind is not Kind.ACCESS_KEY:
            return ()
        return (
            f"{self.target}: Alibaba's SDK for Node refuses a long-term AccessKey from a credentials URI (it wants a token), and "
            "keyturn answers it with 406; for Node use a session, or `keyturn credential` as its process_command",
        )

    @property
    def _address(self) -> str:
        return f"http://{self.context.endpoint}{PATH}{self.context.credential}"

    def _new(self) -> Tokens:
        """Return the token for a file that has none; the same one until it was written."""
        with self._lock:
            self._fresh = self._fresh or Tokens.new()
            self._hide(self._fresh)
            return self._fresh

    def _hide(self, tokens: Tokens | None) -> None:
        """Have the log mask the token: a hook may print its environment."""
        if tokens is not None:
            mask([tokens.current.reveal()], of=f"{self.target} token")

    def _found(self, content: bytes) -> Tokens | None:
        """Return the tokens in a file: those of this credential, whatever address stands before them."""
        values = {one.key: _value(one.raw) for one in self._entries(split_mark(content)[1]) if one.key}
        name = re.escape(self.context.credential)
        match = re.fullmatch(rf"http://[^/?]+{PATH}{name}\?token=({TOKEN})", values.get(VARIABLE, ""))
        return Tokens.of(match[1], read_before(values.get(BEFORE, ""))) if match else None

    def _line(self, name: str, value: str, exported: bool) -> bytes:
        word = "export " if exported and self.settings.dialect in ("shell", "dotenv") else ""
        quote = "'" if self.settings.dialect == "shell" else ""
        return f"{word}{name}={quote}{value}{quote}\n".encode()


def _value(raw: bytes) -> str:
    text = raw.partition(b"=")[2].strip().decode("utf-8", "replace")
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
