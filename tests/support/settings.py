"""A small world of settings classes: shaped like the built-in ones, and a third party's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agent.config.load import parse
from agent.config.registry import Registry
from agent.core.errors import ConfigError
from agent.core.settings import (
    Duration,
    FilePath,
    FileSinkSettings,
    NotifierSettings,
    ProviderSettings,
    Settings,
)

PRESETS = {"alibaba_cloud": ("ALIBABA_CLOUD_ACCESS_KEY_ID",), "oss": ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET")}


@dataclass(frozen=True, kw_only=True)
class Region:
    """One entry of `regions`."""

    region_id: str
    endpoint: str | None = None
    vpc: bool = False


@dataclass(frozen=True, kw_only=True)
class KmsSecret(ProviderSettings):
    """A provider with a poll, paths and nested tables."""

    secret_name: str
    properties_file: FilePath | None = None
    poll_interval: Duration = Duration(60)
    version_stage: str = "ACSCurrent"
    client_key_password_from_file_path: FilePath | None = None
    client_key_password_from_env_variable: str | None = None
    regions: tuple[Region, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)

    def problems(self) -> Iterator[tuple[str, str]]:
        """What types cannot say."""
        if self.properties_file and self.regions:
            yield "regions", "stands in properties_file already; give one of both"


@dataclass(frozen=True, kw_only=True)
class AccessKey(ProviderSettings):
    """A provider whose parts are named, never written."""

    access_key_id_from_file_path: FilePath | None = None
    access_key_secret_from_file_path: FilePath | None = None
    access_key_secret_from_env_variable: str | None = None


@dataclass(frozen=True, kw_only=True)
class RamRole(ProviderSettings):
    """A provider on another one."""

    role_arn: str
    base: ProviderSettings | str


@dataclass(frozen=True, kw_only=True)
class CredentialsIni(FileSinkSettings):
    """A sink that owns one section."""

    profile: str = "default"

    def target_keys(self) -> Iterator[str]:
        """One profile."""
        yield f"{self.path} [{self.profile}]"


@dataclass(frozen=True, kw_only=True)
class EnvFile(FileSinkSettings):
    """A sink that owns lines."""

    variables: tuple[Literal["alibaba_cloud", "oss"], ...] | Mapping[str, Literal["access_key_id", "security_token"]]
    dialect: Literal["systemd", "docker", "shell", "dotenv"] = "systemd"

    def target_keys(self) -> Iterator[str]:
        """One key for each variable."""
        presets = not isinstance(self.variables, Mapping)
        names = [name for preset in self.variables for name in PRESETS[preset]] if presets else self.variables
        yield from (f"{self.path} {name}" for name in names)


@dataclass(frozen=True, kw_only=True)
class Json(FileSinkSettings):
    """A sink that owns its file."""


@dataclass(frozen=True, kw_only=True)
class Systemd(NotifierSettings):
    """A notifier of units."""

    unit: str
    action: Literal["reload", "restart", "try-restart", "reload-or-restart", "kill"] = "reload"


@dataclass(frozen=True, kw_only=True)
class Exec(NotifierSettings):
    """A notifier with a command."""

    command: tuple[str, ...]
    user: str | None = None


@dataclass(frozen=True, kw_only=True)
class Http(NotifierSettings):
    """A notifier with a number or several."""

    url: str
    expect_status: int | tuple[int, ...] | None = None


class Users:
    """A machine with two users and two groups."""

    def uid_of(self, name: str) -> int | None:
        """Look up a user."""
        return {"root": 0, "uploader": 1001}.get(name)

    def gid_of(self, name: str) -> int | None:
        """Look up a group."""
        return {"root": 0, "uploader": 1001}.get(name)

    def names(self, kind: str) -> list[str]:
        """List the users or the groups."""
        return ["root", "uploader"]


def broken() -> type:
    """Stand for a third party's package that cannot be imported."""
    raise ImportError("no module named canary")


REGISTRY = Registry(
    providers={
        "kms_secret": lambda: KmsSecret,
        "access_key": lambda: AccessKey,
        "ram_role_arn": lambda: RamRole,
        "broken": broken,
        "odd": lambda: int,
    },
    sinks={"credentials_ini": lambda: CredentialsIni, "env_file": lambda: EnvFile, "json": lambda: Json},
    notifiers={"systemd": lambda: Systemd, "exec": lambda: Exec, "http": lambda: Http},
)

ENVIRON = {"CREDENTIALS_DIRECTORY": "/run/credentials/keyturn.service", "EMPTY": "", "RELATIVE": "etc"}

SINK = """
[[credentials.a.sinks]]
type = "json"
path = "/etc/a.json"
"""

PROVIDER = """
[credentials.a.provider]
type = "kms_secret"
secret_name = "a-ak"
"""

GOOD = PROVIDER + SINK


def read(text: str | bytes, registry: Registry = REGISTRY, environ: Mapping[str, str] = ENVIRON) -> Settings:
    """Parse a text in this world."""
    raw = text if isinstance(text, bytes) else text.encode()
    return parse(raw, "keyturn.toml", registry, environ=environ, users=Users())


def problems(text: str, **others: Any) -> list[str]:
    """Return the problems of a text without the file's name, line and column; a sound one has none."""
    try:
        read(text, **others)
    except ConfigError as error:
        prefix = re.compile(r"keyturn\.toml(:[0-9]+:[0-9]+)?: ")
        assert all(prefix.match(line) for line in error.problems)
        return [prefix.sub("", line, count=1) for line in error.problems]
    return []
