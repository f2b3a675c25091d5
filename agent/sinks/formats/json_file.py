"""`json`: the credentials-URI JSON as a file, for a web server or a program that speaks that protocol.

All five keys are always there, because alibabacloud_credentials 1.0.12 (`provider/uri.py`) refuses an answer
that lacks one. For a long-term key `SecurityToken` is empty, which that library takes for none, and
`Expiration` is a date far away, because the library parses it as `YYYY-MM-DDTHH:MM:SSZ` and nothing else.
A reader may therefore keep a long-term key for good: it has to be told of a new one, as after every publish.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from agent.core.credential import Credential, part
from agent.core.settings import FileSinkSettings
from agent.core.timestamps import moment_of
from agent.sinks.formats.text import optional_part, required_part, value_of
from agent.sinks.interface import FileSink

NEVER = "2099-12-31T23:59:59Z"
"""A date far away, but before the year 2262, where a 64-bit count of nanoseconds ends (Go's `time`)."""


_NAMES = {"access_key_id": "AccessKeyId", "access_key_secret": "AccessKeySecret", "security_token": "SecurityToken"}


@dataclass(frozen=True, kw_only=True)
class JsonSettings(FileSinkSettings):
    """The settings of `type = "json"`."""


class JsonFile(FileSink):
    """A sink that owns its whole file."""

    type_name = "json"
    Settings = JsonSettings

    def render(self, present: bytes | None, credential: Credential, generation: int) -> bytes:
        """Write the whole answer; see `FileSink.render`."""
        answer = {
            "Code": "Success",
            "AccessKeyId": required_part(self, credential, "access_key_id"),
            "AccessKeySecret": required_part(self, credential, "access_key_secret"),
            "SecurityToken": optional_part(self, credential, "security_token") or "",
            "Expiration": part(credential, "expiration") or NEVER,
        }
        return json.dumps(answer, indent=2).encode() + b"\n"

    def read_back(self, content: bytes) -> Credential | None:
        """Read the answer, its expiration included; see `Sink.read_back`."""
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            return None
        if not isinstance(answer, dict):
            return None
        value = value_of(lambda part: answer.get(_NAMES.get(part, "")))
        until = answer.get("Expiration")
        if value is None or not isinstance(until, str) or until == NEVER:
            return value
        return replace(value, expiration=moment_of(until))
