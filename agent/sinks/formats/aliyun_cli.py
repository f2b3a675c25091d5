"""`aliyun_cli`: one profile of `~/.aliyun/config.json`, for Alibaba's CLI, Terraform and the SDKs' default chain.

Facts, from aliyun-cli 3 (`config/configuration.go`, `config/profile.go`) and alibabacloud_credentials 1.0.12
(`provider/cli_profile.py`): a long-term key is mode `AK`, a session `StsToken`; the CLI indents with a tab, ends without a
line feed, needs a `region_id` in the profile, and takes the first of two profiles with one name; Go matches keys whatever
their case. The CLI reads the file at each call, a Client of the SDK once in its life.

A profile that gets its keys otherwise (`RamRoleArn`, `EcsRamRole`, `CloudSSO`, …) is refused and not converted: somebody
else may rely on its mode, and whoever wants it replaced can delete it. Our keys come first in the profile, in the CLI's
own order. A file that has the right values already is left as it is, whatever its layout, so that keyturn and `aliyun
configure` do not rewrite each other's layout for ever.

With `profile_mode = "External"` the profile holds no key: it names the command that hands one out, `keyturn credential
NAME`, which the SDKs run again 180 s before the expiry that its answer names (`provider/external.py`). They also write
what they got into the profile, wherever they may write the file (`cli_profile.py`, `_update_external_credentials`; Node
and Java even in place, so that another reader can find half a file). Such a profile is put right, and the key in it goes.
Where the application may write the file, its SDK does it again a minute later, so that is done once for each value:
`only_written_back` tells this case from other drift, agent/refresh/pipeline.py keeps count, and `check` has the
command after which it cannot happen.

Rejected: a JSON library that keeps the layout of the source. The CLI itself writes the whole file again each time.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from agent.core.credential import Credential, Kind
from agent.core.settings import FileSinkSettings
from agent.sinks.formats.text import optional_part, required_part, value_of
from agent.sinks.interface import FileSink

Table = dict[str, Any]

EXTERNAL = "External"
_OURS = ("name", "mode", "access_key_id", "access_key_secret", "sts_token")
_WRITTEN_BACK = ("access_key_id", "access_key_secret", "sts_token", "sts_expiration")
"""What the SDKs add to a profile in mode External."""
_OF_EXTERNAL = (*_OURS, "sts_expiration", "process_command")
_MODES = {Kind.ACCESS_KEY: "AK", Kind.STS: "StsToken"}
_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_INDENT = re.compile(r"\n([ \t]+)\S")


class _MalformedError(ValueError):
    """The file is no config of the CLI. The text says why, and quotes nothing of it."""


@dataclass(frozen=True, kw_only=True)
class AliyunCliSettings(FileSinkSettings):
    """The settings of `type = "aliyun_cli"`."""

    profile: str = "default"
    profile_mode: Literal["External"] | None = None  # None: the keys themselves, in mode AK or StsToken
    region_id: str | None = None  # for a profile that has none; None: cloud.region_id

    def target_keys(self) -> Iterator[str]:
        """Yield the profile, which no other sink may write."""
        yield f"{self.path} [{self.profile}]"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for what the types cannot rule out."""
        if not self.profile or not self.profile.isprintable():
            yield "profile", "want the name of a profile, without line breaks"
        if self.region_id is not None and not _REGION.fullmatch(self.region_id):
            yield "region_id", 'want the id of a region, such as "cn-hangzhou"'
        if self.profile_mode and self.mode & 0o020:
            yield "mode", 'lets the group write, and an SDK that may writes the key into this file; want "0640"'


class AliyunCli(FileSink):
    """A sink for one profile. The others, and keys that keyturn does not know, stay as they are and where they are."""

    type_name = "aliyun_cli"
    Settings = AliyunCliSettings

    @property
    def target(self) -> str:
        """The file and the profile."""
        return f"{self.path} [{self.settings.profile}]"

    @property
    def formats(self) -> tuple[str, ...]:
        """The type, and the mode where the profile holds no key."""
        return (f"{self.type_name} {EXTERNAL}",) if self.settings.profile_mode else super().formats

    @property
    def process_command(self) -> tuple[str, ...]:
        """The words of the command that the profile names; none where it holds the key itself."""
        return self._command if self.settings.profile_mode else ()

    @property
    def _command(self) -> tuple[str, ...]:
        return (*self.context.command, "credential", self.context.credential)

    @property
    def readers_write(self) -> bool:
        """Whether the SDKs write the key into this file wherever they may."""
        return bool(self.settings.profile_mode)

    def only_written_back(self, present: bytes) -> bool:
        """Return whether all that is wrong is a key that an SDK wrote into the profile; see `FileSink.only_written_back`."""
        if not self.readers_write:
            return False
        try:
            found = [one for one in _config(present.decode())["profiles"] if one.get("name") == self.settings.profile]
        except (LookupError, TypeError, ValueError, RecursionError):
            return False
        wanted = self._command_keys()
        return (
            len(found) == 1
            and {key: found[0].get(key) for key in wanted} == wanted
            and any(found[0].get(key) for key in _WRITTEN_BACK)
        )

    def render(self, present: bytes | None, credential: Credential, generation: int) -> bytes:
        """Set the profile's mode and keys; see `FileSink.render`."""
        keys = self._keys(credential)
        if not (present or b"").strip():
            profile = {**keys, "region_id": self._region, "output_format": "json", "language": "en"}
            return _written({"current": self.settings.profile, "profiles": [profile], "meta_path": ""}, "")
        assert present is not None
        try:
            text = present.decode()
            config = _config(text)
            changed = self._with_profile(config, keys)
        except (_MalformedError, ValueError, RecursionError) as error:
            what = str(error) if isinstance(error, _MalformedError) else "is not JSON"
            raise self.refuse(f"this file {what}, so the CLI and the SDKs cannot read it", self._remedy) from None
        return present if changed == config else _written(changed, text)

    def read_back(self, content: bytes) -> Credential | None:
        """Read the profile's keys; see `Sink.read_back`. A profile in another mode gets its keys elsewhere: None."""
        try:
            config = _config(content.decode())
        except (_MalformedError, ValueError, RecursionError):
            return None
        named = [one for one in config.get("profiles") or () if one.get("name") == self.settings.profile]
        if len(named) != 1 or named[0].get("mode") not in _MODES.values():
            return None
        keys = {"security_token": "sts_token"} if named[0]["mode"] == _MODES[Kind.STS] else {"security_token": ""}
        return value_of(lambda part: named[0].get(keys.get(part, part)))

    @property
    def _remedy(self) -> str:
        return "mend it, or move it away and let keyturn write a new one"

    @property
    def _region(self) -> str:
        return self.settings.region_id or self.context.region_id

    def _keys(self, credential: Credential) -> dict[str, str]:
        keys = {
            "name": self.settings.profile,
            "mode": _MODES.get(credential.kind, ""),
            "access_key_id": required_part(self, credential, "access_key_id"),
            "access_key_secret": required_part(self, credential, "access_key_secret"),
        }
        token = optional_part(self, credential, "security_token")
        if self.settings.profile_mode:  # only now: what no SDK could use is refused here too
            return self._command_keys()
        return keys if token is None else {**keys, "sts_token": token}

    def _command_keys(self) -> dict[str, str]:
        command = shlex.join(self._command)
        return {"name": self.settings.profile, "mode": EXTERNAL, "process_command": command}

    def _with_profile(self, config: Table, keys: Mapping[str, str]) -> Table:
        profiles = list(config.get("profiles") or [])
        places = [number for number, one in enumerate(profiles) if one.get("name") == self.settings.profile]
        if len(places) > 1:
            raise _MalformedError(f"has two profiles named {json.dumps(self.settings.profile)}")
        if places:
            profiles[places[0]] = self._updated(profiles[places[0]], keys)
        else:
            profiles.append({**keys, "region_id": self._region, "output_format": "json", "language": "en"})
        current = config.get("current") or self.settings.profile
        return {**config, "current": current, "profiles": profiles}

    def _updated(self, profile: Table, keys: Mapping[str, str]) -> Table:
        mode = profile.get("mode") or "AK"
        was_external = mode == EXTERNAL and (
            self.readers_write or profile.get("process_command") == self._command_keys()["process_command"]
        )
        if mode not in _MODES.values() and not was_external:
            raise self.refuse(
                f"the profile {json.dumps(self.settings.profile)} is in another mode than AK and StsToken",
                "name another `profile`, or take this one away: "
                f"`aliyun configure delete --profile {shlex.quote(self.settings.profile)}`",
            )
        ours = _OF_EXTERNAL if was_external or self.readers_write else _OURS
        _refuse_capitals(profile, ours)
        foreign = {key: value for key, value in profile.items() if key not in ours}
        region = profile.get("region_id") or self._region
        return {**keys, **foreign, "region_id": region}


def _config(text: str) -> Table:
    """Read the file as strictly as Go and Python together.

    Raises:
        _MalformedError: it is JSON, but no config of the CLI.
        ValueError: it is no JSON.
    """
    config = json.loads(text, object_pairs_hook=_table, parse_float=_number, parse_constant=_no_constant)
    if not isinstance(config, dict):
        raise _MalformedError("holds no JSON object")
    _refuse_capitals(config, ("current", "profiles"))
    profiles = config.get("profiles")
    if not isinstance(profiles, list | None) or not all(isinstance(one, dict) for one in profiles or ()):
        raise _MalformedError("has no list of profiles")
    if not isinstance(config.get("current"), str | None):
        raise _MalformedError('has a "current" that is no name')
    return config


def _refuse_capitals(table: Table, names: Collection[str]) -> None:
    """Refuse keys in other capitals: Go takes `Mode` for `mode`, and of both the later one."""
    if any(key.lower() in names and key not in names for key in table):
        raise _MalformedError("spells a key with capital letters, which the CLI reads and the SDKs do not")


def _number(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("a number that Python cannot hold")
    return number


def _table(pairs: list[tuple[str, Any]]) -> Table:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise _MalformedError("has a key twice in one object")
    return table


def _no_constant(_text: str) -> None:
    raise ValueError("NaN and Infinity are no JSON")


def _written(config: Table, before: str) -> bytes:
    """Serialise the file in its own layout, or a new one in the CLI's; Go reads UTF-8 and escapes alike."""
    found = _INDENT.search(before)
    indent = found[1] if found else "\t"
    end = "\n" if before.endswith("\n") else ""
    try:
        return (json.dumps(config, indent=indent, ensure_ascii=before.isascii()) + end).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can hold
        return (json.dumps(config, indent=indent) + end).encode()
