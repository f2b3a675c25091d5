"""The config as frozen values: what `agent.config` produces and everything else receives.

Plain dataclasses, made from the TOML tree by `agent.config`. Three families are polymorphic: a table whose
field is annotated `ProviderSettings`, `SinkSettings` or `NotifierSettings` names its concrete class by its
`type` key, through the registry that `agent.app.wiring` hands to the loader. A third party's provider brings
its own `Settings` dataclass and is converted in the same way.

A class reports what its types cannot express in `problems()`: it yields (key, sentence) for each impossible value,
and the loader puts the place before it. The loader calls the `problems` of every class in the hierarchy, so
a subclass adds its own without calling `super()`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal

from agent.core.scalars import Duration as Duration
from agent.core.scalars import FileMode as FileMode
from agent.core.scalars import FilePath as FilePath

Problems = Iterator[tuple[str, str]]
"""(key, sentence) pairs; an empty key means the table as a whole."""

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])"
_ADDRESS = re.compile(rf"(?P<host>{_HOST})(?::(?P<port>[0-9]{{1,5}}))?")


def endpoint_fault(text: str) -> str | None:
    """Return why `text` is no endpoint ("host" or "host:port", always https); None when it is one."""
    if "://" in text:
        return 'want "host" or "host:port" without a scheme: it is always https'
    match = _ADDRESS.fullmatch(text)
    if match is None or len(match["host"]) > 253 or not _port_exists(match["port"] or "443"):
        return 'want "host" or "host:port", such as "sts-vpc.cn-hangzhou.aliyuncs.com"'
    return None


def listen_fault(text: str, example: str = "127.0.0.1:9464") -> str | None:
    """Return why nothing can listen on `text` ("host:port"); None when it can be used."""
    match = _ADDRESS.fullmatch(text)
    if match is None or match["port"] is None or not _port_exists(match["port"]):
        return f'want "host:port", such as "{example}"'
    return None


def loopback_fault(text: str) -> str | None:
    """Return why `text` is no address that only this machine reaches ("127.0.0.1:8911"); None when it is one."""
    if (fault := listen_fault(text, "127.0.0.1:8911")) is not None:
        return fault
    host = text.rpartition(":")[0].strip("[]")
    if re.fullmatch(r"127(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}", host) or host == "::1":
        return None
    return 'is not a loopback address, and keys are served to this machine only; want "127.0.0.1:PORT" or "[::1]:PORT"'


_REDIS = re.compile(r"(?P<scheme>rediss?)://(?P<user>[^@/]*@)?(?P<address>[^@/?#]*)(?:/(?P<db>[0-9]{1,4})?)?")


def redis_fault(text: str) -> str | None:
    """Return why `text` is no address of a Redis ("rediss://host:6379/0"); None when it is one.

    In clear only to this machine: what is on the board is no secret, but the password is.
    """
    match = _REDIS.fullmatch(text)
    found = _ADDRESS.fullmatch(match["address"]) if match else None
    if match is not None and match["user"]:
        return "holds a user or a password; give them by `username` and `password_from_file_path`"
    if match is None or found is None or not _port_exists(found["port"] or "6379"):
        return 'want "rediss://host:port/database", such as "rediss://r-bp1.redis.rds.aliyuncs.com:6379/0"'
    if (
        match["scheme"] == "redis"
        and loopback_fault(f"{found['host']}:{found['port'] or 6379}")
        and found["host"] != "localhost"
    ):
        return 'would carry the password over the network in clear; want "rediss://", which is TLS'
    return None


def _port_exists(port: str) -> bool:
    return 1 <= int(port) <= 65535


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """`[agent.audit]`.

    Attributes:
        hmac_key_file: of the key by which records are authenticated; None for not at all.
    """

    path: FilePath | None = None  # None: $LOGS_DIRECTORY/audit.jsonl, else /var/log/keyturn/audit.jsonl
    hmac_key_file: FilePath | None = None


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """`[agent.endpoint]`: where the `credentials_uri` sinks send their readers."""

    listen: str

    def problems(self) -> Problems:
        """Yield an address that others than this machine's processes could reach."""
        if fault := loopback_fault(self.listen):
            yield "listen", fault


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """`[agent]`. After loading, the two directories and the path of the audit log are never None."""

    state_directory: FilePath | None = None  # None: $STATE_DIRECTORY, else /var/lib/keyturn
    runtime_directory: FilePath | None = None  # None: $RUNTIME_DIRECTORY, else /run/keyturn
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "plain"] = "auto"
    control_group: str = "keyturn"
    settle: Duration = Duration(2)
    metrics_listen: str | None = None
    metrics_textfile: FilePath | None = None
    audit: AuditSettings = AuditSettings()
    endpoint: EndpointSettings | None = None

    def problems(self) -> Problems:
        """Yield an address at which metrics cannot be served."""
        if self.metrics_listen is not None and (fault := listen_fault(self.metrics_listen)):
            yield "metrics_listen", fault


@dataclass(frozen=True, kw_only=True)
class CloudSettings:
    """`[cloud]`: endpoints are "host" or "host:port", always https."""

    region_id: str = "cn-hangzhou"
    sts_endpoint: str | None = None
    kms_endpoint: str | None = None
    ram_endpoint: str = "ram.aliyuncs.com"
    ims_endpoint: str = "ims.aliyuncs.com"
    ca_file: FilePath | None = None

    def problems(self) -> Problems:
        """Yield what is no host name, and a region from which none can be made."""
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.region_id):
            yield "region_id", 'want the id of a region, such as "cn-hangzhou"'
        for key in ("sts_endpoint", "kms_endpoint", "ram_endpoint", "ims_endpoint"):
            value = getattr(self, key)
            if value is not None and (fault := endpoint_fault(value)):
                yield key, fault

    @property
    def sts(self) -> str:
        """The STS endpoint of the region unless one is named (Alibaba: `sts.REGION.aliyuncs.com`)."""
        return self.sts_endpoint or f"sts.{self.region_id}.aliyuncs.com"

    @property
    def kms(self) -> str:
        """The KMS endpoint of the region unless one is named (Alibaba: `kms.REGION.aliyuncs.com`)."""
        return self.kms_endpoint or f"kms.{self.region_id}.aliyuncs.com"


@dataclass(frozen=True, kw_only=True)
class ProviderSettings:
    """The root of every provider's settings. A subclass adds its own keys.

    A key annotated `ProviderSettings | str` takes an inline provider or, as a string, the name of another
    credential; the loader refuses a name that is not defined, a reference to itself, and a circle.
    """

    type: str

    def builds_on(self) -> Iterator[str]:
        """Yield the names of the other credentials whose values this one is made of, inline providers' included."""
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, ProviderSettings):
                yield from value.builds_on()
            elif isinstance(value, str) and "ProviderSettings" in str(each.type):
                yield value

    def inline(self) -> Iterator[ProviderSettings]:
        """Yield the providers that stand inside of this one's table."""
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, ProviderSettings):
                yield value

    def own_secrets(self) -> Iterator[str]:
        """Yield the name of the secret whose value this one hands out, where it is one that can be shared."""
        return iter(())

    def problems(self) -> Problems:
        """Yield a poll interval below a second: the same limit for every provider that polls."""
        interval = getattr(self, "poll_interval", None)
        if isinstance(interval, Duration) and interval < 1:
            yield "poll_interval", 'want at least "1s"'


@dataclass(frozen=True, kw_only=True)
class SinkSettings:
    """The root of every sink's settings."""

    type: str


@dataclass(frozen=True, kw_only=True)
class FileSinkSettings(SinkSettings):
    """The keys that every sink has whose target is a file.

    Attributes:
        needs_endpoint: whether the sink is of no use without `[agent.endpoint]`.
    """

    needs_endpoint: ClassVar[bool] = False
    path: FilePath
    owner: str | None = None  # None: the user that keyturn runs as
    group: str | None = None  # None: the owner's primary group
    mode: FileMode = FileMode(0o600)
    write: Literal["replace", "in_place"] = "replace"

    def target_keys(self) -> Iterator[str]:
        """Yield what in the file belongs to this sink alone, as strings that begin with `path`.

        The path alone means the whole file, which then nobody else may write. A sink that owns a part yields
        one string for each part, such as "/etc/x/credentials.ini [default]" or "/run/x/env OSS_ACCESS_KEY_ID";
        two sinks of the config that yield the same string are an error.
        """
        yield self.path

    def problems(self) -> Problems:
        """Yield a mode that lets everybody in, or shuts the owner out."""
        if self.mode & 0o007:
            yield "mode", 'lets everyone in; give the owner and at most the group access, such as "0600" or "0640"'
        elif not self.mode & 0o400:
            yield "mode", 'does not let the owner read; want "0600" or "0640"'


@dataclass(frozen=True, kw_only=True)
class PickupSettings:
    """The probe for evidence of pickup: exit status 0 of `command` means that the new value is in use."""

    command: tuple[str, ...]
    timeout: Duration = Duration(30)

    def problems(self) -> Problems:
        """Yield a probe that cannot run."""
        if not self.command:
            yield "command", "is empty; give the program and its arguments"
        if self.timeout <= 0:
            yield "timeout", 'want more than "0s"'


@dataclass(frozen=True, kw_only=True)
class NotifierSettings:
    """The keys that every notifier has."""

    type: str
    timeout: Duration = Duration(30)
    retries: int | None = None  # None: as many as fit into retry_for
    retry_for: Duration = Duration(600)
    splay: Duration = Duration(0)
    order: int = 0
    pickup: PickupSettings | None = None

    def problems(self) -> Problems:
        """Yield limits under which no dependent could ever be told."""
        if self.timeout <= 0:
            yield "timeout", 'want more than "0s"'
        if self.retries is not None and self.retries < 0:
            yield "retries", "want 0 or more"


@dataclass(frozen=True, kw_only=True)
class EmergencySettings:
    """`[credentials.NAME.emergency]`: who may rotate and disable. A ClientKey may not."""

    authority: ProviderSettings | str
    ram_user_name: str | None = None


_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
"""Of a host or a fleet: it is a part of keys and of what is signed, so nothing that separates them may be in it."""


@dataclass(frozen=True, kw_only=True)
class FleetSettings:
    """`[fleet]`: the Redis or Tair on which the hosts that share secrets meet.

    Attributes:
        name: tells fleets on the same server apart; every host of one fleet has the same.
        host: what this host is called there; None for its own name.
        announce_jitter: within how long after an announcement a host asks its source, at random.
    """

    url: str
    username: str | None = None
    password_from_file_path: FilePath | None = None
    ca_file: FilePath | None = None
    name: str = "fleet"
    host: str | None = None
    announce_jitter: Duration = Duration(2)

    def problems(self) -> Problems:
        """Yield an address that is none or would carry a password in clear, and names that cannot be used."""
        if fault := redis_fault(self.url):
            yield "url", fault
        for key, value in (("name", self.name), ("host", self.host)):
            if value is not None and not _NAME.fullmatch(value):
                yield key, 'want letters, digits, ".", "_" and "-", at most 64, such as "web-17"'
        if self.username is not None and self.password_from_file_path is None:
            yield "password_from_file_path", "missing; a user without a password proves nothing"
        if self.announce_jitter > MAX_JITTER_S:
            yield "announce_jitter", 'want at most "60s": so long would an emergency wait for it'


MAX_JITTER_S = 60
MAX_HOLD_S = 3600


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """`[credentials.NAME.serve]`: who may ask for the value, besides root and the agent's user, and for how long they keep it."""

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    hold: Duration = Duration(60)

    def problems(self) -> Problems:
        """Yield a table that lets nobody in, and a time in which no client could use its answer."""
        if not self.users and not self.groups:
            yield "", 'lets nobody in; name who may ask, such as users = ["app"] or groups = ["app"]'
        if self.hold < 1:
            yield "hold", 'want at least "1s"'
        if self.hold > MAX_HOLD_S:
            yield "hold", 'want at most "1h": an emergency waits for whoever may still hold the old key'


@dataclass(frozen=True, kw_only=True)
class CredentialSettings:
    """`[credentials.NAME]`.

    Attributes:
        owner: the team or person who answers for it, as the report shows it.
        max_age: the age of an AccessKey from which on it is an alarm; None for never.
    """

    provider: ProviderSettings
    owner: str | None = None
    max_age: Duration | None = None
    verify: Literal["caller_identity", "off"] = "caller_identity"
    verify_timeout: Duration = Duration(60)
    max_staleness: Duration | None = None  # None: 24h, for a session its expiry
    sinks: tuple[SinkSettings, ...] = ()
    notify: tuple[NotifierSettings, ...] = ()
    emergency: EmergencySettings | None = None
    serve: ServeSettings | None = None
    canary: bool = False

    def problems(self) -> Problems:
        """Yield limits under which every value would be refused, or stale at once, and a canary without a key."""
        if self.verify_timeout < 1:
            yield "verify_timeout", 'want at least "1s"'
        if self.max_age is not None and self.max_age < 1:
            yield "max_age", 'want at least "1s", such as "90d"'
        if self.max_staleness is not None and self.max_staleness < 1:
            yield "max_staleness", 'want at least "1s"'
        if self.canary and not self.sinks and self.serve is None:
            yield "canary", "has nothing to sign with: this credential has no sinks and is not served; leave it out"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A whole config file.

    Attributes:
        digest: `sha256:` and the first 16 hex digits of the SHA-256 of the file's bytes; "" where there was no file.
    """

    credentials: Mapping[str, CredentialSettings]
    agent: AgentSettings = field(default_factory=AgentSettings)
    cloud: CloudSettings = field(default_factory=CloudSettings)
    fleet: FleetSettings | None = None
    digest: str = field(default="", init=False, compare=False)
