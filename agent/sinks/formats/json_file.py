"""`json`: the credentials-URI JSON as a file, for a web server or a program that speaks that protocol.

All five keys are always there, because alibabacloud_credentials 1.0.12 (`provider/uri.py`) refuses an answer
that lacks one. For a long-term key `SecurityToken` is empty, which that library takes for none, and
`Expiration` is a date far away, because the library parses it as `YYYY-MM-DDTHH:MM:SSZ` and nothing else.
A reader may therefore keep a long-term key for good: it has to be told of a new one, as after every publish.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from agent.core.credential import Credential, part
from agent.core.settings import FileSinkSettings
from agent.sinks.formats.text import optional_part, required_part
from agent.sinks.interface import FileSink

NEVER = "2099-12-31T23:59:59Z"
"""A date far away, but before the year 2262, where a 64-bit count of nanoseconds ends (Go's `time`)."""


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
