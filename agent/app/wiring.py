"""What makes providers, sinks and notifiers of settings: the only module that names their concrete classes."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import partial
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import providers
from agent import __version__
from agent.audit.hmac_key import HmacKey, read_key
from agent.audit.journal_heads import JournalHeads
from agent.audit.log import AuditLog
from agent.audit.origin import Origin
from agent.cloud.openapi import Cloud, Ims, Kms, Ram, Sts
from agent.cloud.transport import Transport
from agent.cloud.verify import Verifier
from agent.config.load import load
from agent.config.registry import Family, Registry
from agent.core.config_in_force import ConfigInForce
from agent.core.credential import Credential
from agent.core.errors import KeyturnError, StateError
from agent.core.provider import Base, Provider, ProviderContext
from agent.core.ram_user import HasRamUser, RamUserPlan
from agent.core.settings import CredentialSettings, NotifierSettings, ProviderSettings, Settings
from agent.endpoint.tokens import TokenBook
from agent.engine.base_credentials import BaseCredentials, InlineBase, NamedBase
from agent.engine.engine import Engine
from agent.notifiers.interface import Notifier
from agent.refresh.managed_credential import ManagedCredential
from agent.sinks.formats.directory import MemberSettings, member_of
from agent.sinks.interface import Sink, SinkContext
from agent.sinks.offered import first_offered
from agent.state.store import StateStore
from agent.system.accounts import SystemAccounts
from agent.system.clock import Clock
from agent.system.journal_stream import is_stream
from agent.system.journald import Journal
from agent.system.lock import StateLock
from agent.system.oserrors import explain
from agent.systemd_setup.needs import DEFAULT_CONFIG
from agent.systemd_setup.unit import with_credentials

SINKS = {
    "credentials_ini": "agent.sinks.formats.credentials_ini:CredentialsIni",
    "env_file": "agent.sinks.formats.env_file:EnvFile",
    "ini": "agent.sinks.formats.ini:Ini",
    "aliyun_cli": "agent.sinks.formats.aliyun_cli:AliyunCli",
    "json": "agent.sinks.formats.json_file:JsonFile",
    "credentials_uri": "agent.sinks.formats.credentials_uri:CredentialsUri",
    "template": "agent.sinks.formats.template:Template",
    "directory": "agent.sinks.formats.directory:DirectorySink",
}
NO_MEMBERS = frozenset({"directory", "credentials_uri"})
"""The types that cannot be a file of a `directory` sink: itself, and one whose file stays as it is from key to key."""
NOTIFIERS = {
    "signal": "agent.notifiers.signal_process:SignalNotifier",
    "systemd": "agent.notifiers.systemd:SystemdNotifier",
    "exec": "agent.notifiers.exec_command:ExecNotifier",
    "http": "agent.notifiers.http_post:HttpNotifier",
}
AUDIT_HEAD = "audit-head"


def named(place: str) -> Any:
    """Return the class that `module:Class` names, imported."""
    module, _colon, name = place.partition(":")
    return getattr(import_module(module), name)


def registry() -> Registry:
    """Return the types that a config may use; nothing is imported before a config uses it."""
    files = {name: partial(_member_of, place) for name, place in SINKS.items() if name not in NO_MEMBERS}
    return Registry(
        providers=_ProviderTypes(),
        sinks={name: partial(_settings_of, place) for name, place in SINKS.items()},
        notifiers={name: partial(_settings_of, place) for name, place in NOTIFIERS.items()},
        inner=(Family("file", MemberSettings, files),),
    )


class _ProviderTypes(Mapping[str, Callable[[], type]]):
    """The types of providers; what other packages bring is looked for only where a name is not built in."""

    def __getitem__(self, name: str) -> Callable[[], type]:
        if not providers.known(name):
            raise KeyError(name)
        return partial(_provider_settings, name)

    def __iter__(self) -> Iterator[str]:
        return iter(providers.names())

    def __len__(self) -> int:
        return len(providers.names())


def _provider_settings(name: str) -> type:
    return providers.load(name).Settings


def _member_of(place: str) -> type:
    return member_of(named(place))


def _settings_of(place: str) -> type:
    settings: type = named(place).Settings
    return settings


def notifier_of(settings: NotifierSettings) -> Notifier:
    """Return the notifier that a table of the config means."""
    made: Notifier = named(NOTIFIERS[settings.type])(settings)
    return made


NotifierOf = Callable[[NotifierSettings], Notifier]


def load_settings(path: str, environ: Mapping[str, str]) -> Settings:
    """Return the settings of a config; also in an operator's shell, which lacks the unit's `$CREDENTIALS_DIRECTORY`.

    Raises:
        ConfigError, NotPermittedError: with every problem of the file.
    """
    return load(path, registry(), environ=with_credentials(environ), users=SystemAccounts())


class Factory:
    """The maker of the parts of one config, which shares what credentials can share."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        bases: BaseCredentials | None = None,
        *,
        config_path: str = DEFAULT_CONFIG,
        notifier_of: NotifierOf = notifier_of,
    ) -> None:
        self._notifier_of = notifier_of
        self._settings, self._environ, self._bases = settings, environ, bases or BaseCredentials()
        self._command = keyturn_command(config_path)
        ca_file = settings.cloud.ca_file
        self._ca_file = str(ca_file) if ca_file else None
        self._to_verify = Transport(self._ca_file, shares=True)
        self.hostname = socket.gethostname().partition(".")[0]

    def credentials(self) -> list[ManagedCredential]:
        """Return every credential of the config, without I/O."""
        return [self._managed(name, entry) for name, entry in self._settings.credentials.items()]

    def provider(self, name: str, settings: ProviderSettings) -> Provider:
        """Return the provider of one credential, or of its emergency's authority."""
        base_of = partial(self._base, name)
        context = ProviderContext(
            name, self._settings.cloud, self.hostname, dict(self._environ), base_of, partial(self._in_use, name)
        )
        return providers.load(settings.type).made(settings, context)

    def _in_use(self, name: str) -> Credential | None:
        """Return the value of a credential that this host made or published last; None where it is not to be had."""
        if name not in self._settings.credentials:
            return None  # an inline provider
        if (known := self._bases.newest(name)) is not None:
            return known
        state = StateStore(paths(self._settings)[0]).peek(name)
        journal = state.journal
        done = [journal.published, *([journal.before] if journal.is_half_switched and journal.before else [])]
        ours = state.ram.record.keys[-1:]  # an adopted key, which is not published yet
        wanted = [one.access_key_id for one in done if one.generation] + [one.access_key_id for one in ours]
        found = (first_offered(self.sinks(name), partial(_has_id, access_key_id)) for access_key_id in wanted)
        value = next(filter(None, found), None)
        mine = state.ram.record.key(value.access_key_id) if value is not None else None
        return replace(value, created_at=mine.created_at) if value is not None and mine is not None else value

    def _base(self, owner: str, base: ProviderSettings | str) -> Base:
        """Return what the provider of `owner` builds on."""
        if isinstance(base, str):
            make = partial(self.provider, base, self._settings.credentials[base].provider)
            return NamedBase(owner, base, self._bases, make, Clock().now)
        return InlineBase(self.provider(f"{owner}.provider.base", base), Clock().now)

    def _source(self, settings: ProviderSettings) -> str:
        """Return a fingerprint of how a source is asked; no secret is in it, since none is in a config."""
        known = self._settings.credentials
        bases = [self._source(known[name].provider) for name in settings.builds_on()]
        return sha256(repr((_said(settings), self._settings.cloud, bases)).encode()).hexdigest()[:16]

    def authority(self, name: str) -> Provider | None:
        """Return the provider of who may rotate and disable for a credential: an inline one, or that of another credential."""
        emergency = self._settings.credentials[name].emergency
        if emergency is None:
            return self.rotator(name)
        return self._who(emergency.authority, f"{name}.emergency.authority")

    def rotator(self, name: str) -> Provider | None:
        """Return the provider of who makes the keys of a RAM user, which its provider names; None where there is none."""
        settings = self._settings.credentials[name].provider
        return self._who(settings.authority, f"{name}.provider.authority") if isinstance(settings, HasRamUser) else None

    def _who(self, authority: ProviderSettings | str, place: str) -> Provider:
        if isinstance(authority, str):
            return self.provider(authority, self._settings.credentials[authority].provider)
        return self.provider(place, authority)

    def ram_users(self) -> dict[str, RamUserPlan]:
        """Return the RAM users whose keys keyturn itself makes, by the names of their credentials."""
        found = {name: entry.provider for name, entry in self._settings.credentials.items()}
        return {name: settings.ram_user for name, settings in found.items() if isinstance(settings, HasRamUser)}

    def cloud_of(self, name: str) -> Cloud:
        """Return the clients for the keys of one credential, whose provider may name its own endpoint of RAM."""
        cloud, settings = self.cloud(), self._settings.credentials[name].provider
        if not isinstance(settings, HasRamUser) or not settings.ram_user.endpoint:
            return cloud
        return replace(cloud, ram=Ram(Transport(self._ca_file), settings.ram_user.endpoint))

    def cloud(self, *, shares: bool = False) -> Cloud:
        """Return the clients of KMS, RAM and STS, for the management calls.

        Args:
            shares: whether calls keep connections for each other (docs/adr/0018).
        """
        cloud, transport = self._settings.cloud, self._to_verify if shares else Transport(self._ca_file)
        return Cloud(
            kms=Kms(transport, cloud.kms),
            ram=Ram(transport, cloud.ram_endpoint),
            sts=Sts(transport, cloud.sts),
            ims=Ims(transport, cloud.ims_endpoint),
        )

    def sinks(self, name: str) -> tuple[Sink, ...]:
        """Return the sinks of one credential, without I/O."""
        endpoint = self._settings.agent.endpoint
        context = SinkContext(
            name, self._settings.cloud.region_id, self._command, endpoint=endpoint.listen if endpoint else ""
        )
        return tuple(named(SINKS[sink.type])(sink, context) for sink in self._settings.credentials[name].sinks)

    def _managed(self, name: str, entry: CredentialSettings) -> ManagedCredential:
        proves = entry.verify == "caller_identity"
        return ManagedCredential(
            name=name,
            settings=entry,
            provider=self.provider(name, entry.provider),
            verifier=Verifier(self._to_verify, self._settings.cloud.sts) if proves else None,
            sinks=self.sinks(name),
            notifiers=tuple(map(self._notifier_of, entry.notify)),
            source=self._source(entry.provider),
        )


def _has_id(access_key_id: str, value: Credential) -> bool:
    return value.access_key_id == access_key_id


def _said(settings: ProviderSettings) -> list[tuple[str, Any]]:
    """Return every key with its value, also those that `repr` leaves out."""
    values = [(each.name, getattr(settings, each.name)) for each in fields(settings)]
    return [(name, _said(value) if isinstance(value, ProviderSettings) else value) for name, value in values]


@dataclass
class Application:
    """An engine with everything that it needs; `close` releases the log and the lock."""

    settings: Settings
    config_path: str
    environ: Mapping[str, str]
    factory: Factory
    bases: BaseCredentials
    engine: Engine
    audit: AuditLog
    lock: StateLock
    in_force: ConfigInForce
    tokens: TokenBook
    heads: JournalHeads

    def with_config(self, settings: Settings) -> Factory:
        """Return the factory of another config, which shares what this one's credentials know of each other."""
        return Factory(settings, self.environ, self.bases, config_path=self.config_path)

    def adopt(self, settings: Settings, factory: Factory, read_at: datetime) -> None:
        """Take over another config, read at that time, from now on, as the engine did already. On the loop's thread."""
        self.settings, self.factory = settings, factory
        self.tokens.follow(self.engine.sinks())
        self.audit.follow_config(settings.digest)
        self.in_force.loaded(read_at)

    def close(self) -> None:
        """Close the audit log and release the lock, so that the next keyturn can start."""
        self.audit.close()
        self.heads.say_now()
        self.lock.release()


def keyturn_command(config_path: str) -> tuple[str, ...]:
    """Return the words by which a program of this machine calls this installation's keyturn with a config.

    /usr/bin/keyturn where that is the same program (the Debian package's link to it), so that the words do not depend on
    who asks: a daemon and a `keyturn once` that named it differently would rewrite a file in turns.
    """
    public, own = Path("/usr/bin/keyturn"), Path(sys.prefix, "bin", "keyturn")
    command = own if own.exists() and not (public.exists() and public.samefile(own)) else public
    config = os.path.abspath(config_path)
    return (str(command),) if config == DEFAULT_CONFIG else (str(command), "--config", config)


def paths(settings: Settings) -> tuple[Path, Path, Path]:
    """Return the state directory, the runtime directory and the audit log."""
    agent = settings.agent
    return Path(str(agent.state_directory)), Path(str(agent.runtime_directory)), Path(str(agent.audit.path))


def hmac_key(settings: Settings, environ: Mapping[str, str], *, also: int | None = None) -> HmacKey | None:
    """Return the key by which audit records are authenticated; None where the config names none.

    Args:
        settings: the config.
        environ: of the agent, for systemd's credentials.
        also: who may own the file besides root and this user.

    Raises:
        CredentialFileError, NotPermittedError: it cannot be used.
    """
    path = settings.agent.audit.hmac_key_file
    try:
        return None if path is None else read_key(str(path), environ, also=also)
    except KeyturnError as error:
        raise error.at("agent.audit.hmac_key_file") from None


def open_application(
    settings: Settings, config_path: str, environ: Mapping[str, str], *, notifier_of: NotifierOf = notifier_of
) -> Application:
    """Take the lock, open the audit log and build the engine; `notifier_of` makes the dependents.

    Raises:
        BusyError: another keyturn works on this state directory.
        KeyturnError: a directory cannot be used.
    """
    state_directory, _runtime, audit_path = paths(settings)
    clock = Clock()
    states = StateStore(state_directory)
    states.prepare()
    lock = StateLock(state_directory)
    try:
        origin = Origin(socket.gethostname(), __version__, settings.digest)
        audit = AuditLog(audit_path, state_directory / AUDIT_HEAD, clock.now, origin, hmac_key(settings, environ))
        bases = BaseCredentials()
        factory = Factory(settings, environ, bases, config_path=config_path, notifier_of=notifier_of)
        settle_s = float(settings.agent.settle)
        engine = Engine(factory.credentials(), audit=audit, states=states, settle_s=settle_s, clock=clock, bases=bases)
    except OSError as error:  # a limit of this process, most likely: what has a file of its own says so itself
        lock.release()
        why = explain(error, str(error.filename or state_directory))
        place = f"{error.filename}: " if error.filename else ""
        raise StateError(f"{place}the agent cannot start: {why.text}", why.remedy) from error
    except BaseException:
        lock.release()
        raise
    in_force, tokens = ConfigInForce(clock.now()), TokenBook()
    tokens.follow(engine.sinks())
    send = Journal().send if is_stream(environ, sys.stderr) else None
    heads = JournalHeads(lambda: audit.flushed, send, clock.boottime)
    return Application(settings, config_path, environ, factory, bases, engine, audit, lock, in_force, tokens, heads)
