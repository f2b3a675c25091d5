"""The needs of a config beyond the bare unit: options of systemd with the reason for each, and units with their verbs.

The rules, each with what fails without it (measured with systemd 252; docs/systemd.md):

* A sink's directory is written: ReadWritePaths=, under ProtectSystem=strict. One in a home: ProtectHome=tmpfs shows
  nothing of the homes but what BindPaths= names. One in /tmp: PrivateTmp=no, or nobody else could read it.
* A sink that belongs to another user: CAP_CHOWN gives it away, CAP_FOWNER changes its mode afterwards, CAP_DAC_OVERRIDE
  writes into the directory of its owner and reads what it holds.
* A sink of keyturn's own with another group: no capability. A process may give its files to a group that it is in.
* A signal to another user's process: CAP_KILL; CAP_SYS_PTRACE where `exe` says which one; without that, the process
  must be visible (ProtectProc=default).
* The credentials endpoint: AF_NETLINK, through which the kernel says whose connection it is.
* Who asks for a credential (`serve`): the process, its program and its service are to be seen (ProtectProc=default). Who may
  have it is judged without.
* A file that systemd hands over: LoadCredential=, and SetCredential= as in the unit, where the reason stands.
* A command that runs as somebody else: CAP_SETUID and CAP_SETGID, and CAP_KILL to end it at its limit.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from agent.core.errors import StateError
from agent.core.problem import Problem
from agent.core.settings import AgentSettings, FilePath, FileSinkSettings, NotifierSettings, Settings
from agent.notifiers.exec_command import ExecSettings
from agent.notifiers.signal_process import SignalSettings
from agent.notifiers.systemd import SystemdSettings, full_name
from agent.system import files
from agent.system.accounts import find_account, find_group
from agent.system.systemd_credentials import OF_THE_SERVICE
from agent.system.systemd_unit import USER
from agent.systemd_setup import forbidden_paths

DEFAULT_CONFIG = "/etc/keyturn/keyturn.toml"
CREDENTIALS = OF_THE_SERVICE
SOURCE = "/etc/keyturn"
"""The directory of the files that systemd hands over."""
SHIPPED = frozenset({"client_key.json", "client_key_password"})
"""The credentials that keyturn.service itself loads."""

CAPABILITY = "capability"
"""The key for a capability, which makes two lines: CapabilityBoundingSet= allows it, AmbientCapabilities= gives it."""

_ORDER = (
    "Environment",
    "LoadCredential",
    "SetCredential",
    "ReadWritePaths",
    "ProtectHome",
    "BindPaths",
    "BindReadOnlyPaths",
    "PrivateTmp",
    "ProtectProc",
    "SupplementaryGroups",
    "RestrictAddressFamilies",
    CAPABILITY,
    "SystemCallFilter",
)
_HOMES = ("/home", "/root", "/run/user")  # what ProtectHome= is about, systemd.exec(5)
_TEMPORARY = ("/tmp", "/var/tmp")
_OWN = ("/var/lib/keyturn", "/run/keyturn", "/var/log/keyturn")
_ENVIRONMENT = {
    "STATE_DIRECTORY": "/var/lib/keyturn",
    "RUNTIME_DIRECTORY": "/run/keyturn",
    "LOGS_DIRECTORY": "/var/log/keyturn",
    "CONFIGURATION_DIRECTORY": "/etc/keyturn",
    "CREDENTIALS_DIRECTORY": CREDENTIALS,
}
_IN_CREDENTIALS = re.compile(re.escape(CREDENTIALS) + r"/([A-Za-z0-9_.-]+)")
_MAX_PROPERTIES = 64 * 1024


class TooMuchError(StateError):
    """The config would need a right that is as good as root's."""


@dataclass(frozen=True, order=True)
class Option:
    """An assignment in the drop-in, with its value before quoting."""

    key: str
    value: str


@dataclass(frozen=True)
class Needs:
    """The needs of a config on its host.

    Attributes:
        options: each with the places of the config that need it, in their order.
        units: the units to be called, each with polkit's verbs.
        warnings: what is unwise about it.
    """

    options: Mapping[Option, tuple[str, ...]]
    units: Mapping[str, tuple[str, ...]]
    warnings: tuple[Problem, ...] = ()

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The capabilities that are among the options."""
        return tuple(option.value for option in self.options if option.key == CAPABILITY)

    def __bool__(self) -> bool:
        """Return whether anything at all is needed."""
        return bool(self.options or self.units)


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which the service reads its config: the caller's, with what the unit sets."""
    return {**environ, **_ENVIRONMENT}


def needs_of(settings: Settings, config: str, environ: Mapping[str, str]) -> Needs:
    """Return what the service of a config needs.

    Args:
        settings: the config, valid.
        config: its path.
        environ: the one in which it was read; `$CREDENTIALS_DIRECTORY` tells which files systemd hands over.

    Raises:
        TooMuchError: it would need a right that is as good as root's.
    """
    found = _Collector()
    if config != DEFAULT_CONFIG:
        found.want("Environment", f"KEYTURN_CONFIG={config}", "--config")
    _agent(found, settings.agent)
    for name, credential in settings.credentials.items():
        place = f"credentials.{name}"
        for number, sink in enumerate(credential.sinks):
            if isinstance(sink, FileSinkSettings):
                _sink(found, sink, f"{place}.sinks[{number}]")
        if credential.serve is not None:
            found.want("ProtectProc", "default", f"{place}.serve")
        for number, notifier in enumerate(credential.notify):
            _notifier(found, notifier, f"{place}.notify[{number}]")
    _seen(found, settings, config)
    _handed_over(found, settings, environ.get("CREDENTIALS_DIRECTORY") or CREDENTIALS)
    return found.needs()


class _Collector:
    def __init__(self) -> None:
        self._options: dict[Option, list[str]] = {}
        self._units: dict[str, set[str]] = {}
        self._warnings: list[Problem] = []

    def want(self, key: str, value: str, why: str) -> None:
        reasons = self._options.setdefault(Option(key, value), [])
        if why not in reasons:
            reasons.append(why)

    def capability(self, why: str, *names: str) -> None:
        for name in names:
            self.want(CAPABILITY, name, why)

    def group(self, name: str, why: str) -> None:
        self.want("SupplementaryGroups", name, why)
        self.want("SystemCallFilter", "@chown", why)

    def call(self, unit: str, verb: str) -> None:
        self._units.setdefault(unit, set()).add(verb)

    def write(self, directory: str, why: str) -> None:
        """Allow the service to write in a directory. systemd ignores a missing one, so that the unit still starts."""
        if _below(directory, _OWN):
            return
        self._judge(directory, why)
        if _below(directory, _HOMES):
            self.want("ProtectHome", "tmpfs", why)
            self.want("BindPaths", directory, why)
            return
        if _below(directory, _TEMPORARY):
            self.want("PrivateTmp", "no", why)
        self.want("ReadWritePaths", directory, why)

    def _judge(self, directory: str, why: str) -> None:
        problem = forbidden_paths.write_problem(directory, _name_in(why))
        if problem is not None:
            raise TooMuchError.of(problem.at(why))
        risk = forbidden_paths.write_risk(directory)
        if risk is not None:
            self._warnings.append(risk.at(why))

    def see(self, path: str, why: str) -> None:
        """Allow the service to read a file that the sandbox would hide."""
        if _below(path, _TEMPORARY):
            self.want("PrivateTmp", "no", why)
        if _below(path, _HOMES) and not any(
            option.key == "BindPaths" and _below(path, (option.value,)) for option in self._options
        ):
            self.want("ProtectHome", "tmpfs", why)
            self.want("BindReadOnlyPaths", path, why)

    def needs(self) -> Needs:
        options = {option: tuple(self._options[option]) for option in sorted(self._options, key=_rank)}
        units = {unit: tuple(sorted(verbs)) for unit, verbs in sorted(self._units.items())}
        return Needs(options, units, tuple(self._warnings))


def _name_in(place: str) -> str:
    """Return the name of a place's credential, or keyturn's own."""
    first, _dot, rest = place.partition(".")
    return rest.rpartition(".")[0] if first == "credentials" else f"{USER}-{rest.rpartition('.')[2]}"


def _rank(option: Option) -> tuple[int, Option]:
    return _ORDER.index(option.key), option


def _agent(found: _Collector, agent: AgentSettings) -> None:
    found.write(_plain(str(agent.state_directory)), "agent.state_directory")
    found.write(_plain(str(agent.runtime_directory)), "agent.runtime_directory")
    found.write(_parent(str(agent.audit.path)), "agent.audit.path")
    if agent.metrics_textfile:
        found.write(_parent(agent.metrics_textfile), "agent.metrics_textfile")
    if agent.metrics_listen and int(agent.metrics_listen.rpartition(":")[2]) < 1024:
        found.capability("agent.metrics_listen", "CAP_NET_BIND_SERVICE")
    if agent.endpoint is not None:
        found.want("RestrictAddressFamilies", "AF_NETLINK", "agent.endpoint")
        if int(agent.endpoint.listen.rpartition(":")[2]) < 1024:
            found.capability("agent.endpoint.listen", "CAP_NET_BIND_SERVICE")
    group = agent.control_group
    if not _is_own_group(group) and find_group(group) is not None:  # an absent one lets nobody in (the contract)
        found.group(group, "agent.control_group")


def _sink(found: _Collector, sink: FileSinkSettings, place: str) -> None:
    found.write(_parent(sink.path), place)
    if not _is_own(sink.owner):
        found.capability(place, "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER")
        found.want("SystemCallFilter", "@chown", place)
    elif sink.group is not None and not _is_own_group(sink.group):
        found.group(sink.group, place)


def _notifier(found: _Collector, notifier: NotifierSettings, place: str) -> None:
    if isinstance(notifier, SystemdSettings):
        found.call(full_name(notifier.unit), notifier.action)
    elif isinstance(notifier, SignalSettings) and not _is_own(notifier.user or "root"):
        found.capability(place, "CAP_KILL")
        if notifier.exe is not None:
            found.capability(place, "CAP_SYS_PTRACE")
        else:
            found.want("ProtectProc", "default", place)
    elif isinstance(notifier, ExecSettings) and not _is_own(notifier.user):
        found.capability(place, "CAP_KILL", "CAP_SETGID", "CAP_SETUID")
        found.want("SystemCallFilter", "@setuid", place)


def _seen(found: _Collector, settings: Settings, config: str) -> None:
    found.see(config, "--config")
    for place, path in _paths(settings, ""):
        found.see(_plain(path), place)


def _paths(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield every path and every program in the config, with its place."""
    if isinstance(value, FilePath):
        yield place, value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        if not isinstance(value, FileSinkSettings):
            yield from _program(value, place)
        for each in dataclasses.fields(value):
            if not (isinstance(value, FileSinkSettings) and each.name == "path"):
                yield from _paths(getattr(value, each.name), f"{place}.{each.name}".lstrip("."))
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _paths(part, f"{place}.{name}")
    elif isinstance(value, tuple):
        for number, part in enumerate(value):
            yield from _paths(part, f"{place}[{number}]")


def _program(value: Any, place: str) -> Iterator[tuple[str, str]]:
    command = getattr(value, "command", None)
    if isinstance(command, tuple) and command and str(command[0]).startswith("/"):
        yield f"{place}.command", str(command[0])


def handed_over(settings: Settings, directory: str) -> Iterator[tuple[str, str]]:
    """Yield the name of every file that the config takes from systemd, with the place that names it."""
    for place, path in _paths(settings, ""):
        names = [path.removeprefix(f"{directory}/")] if _below(path, (directory,)) else []
        if place.endswith(".properties_file"):
            names += _named_in(path)
        yield from ((name, place) for name in sorted(set(names)))


def _handed_over(found: _Collector, settings: Settings, directory: str) -> None:
    """Add LoadCredential= for every file that the config takes from systemd and that the unit does not load itself."""
    for name, place in handed_over(settings, directory):
        if name not in SHIPPED:
            found.want("LoadCredential", f"{name}:{SOURCE}/{name}", place)
            found.want("SetCredential", f"{name}:{files.MISSING_CREDENTIAL.decode()}", place)


def _named_in(properties: str) -> list[str]:
    """Return the files that a properties file takes from systemd; `check` reports one that cannot be read."""
    try:
        text = files.read_trusted(properties, _MAX_PROPERTIES).decode("utf-8", "replace")
    except Exception:  # an error of any family: nothing is named then
        return []
    return _IN_CREDENTIALS.findall(text)


def _is_own(user: str | None) -> bool:
    if user is None or user == USER:
        return True
    account = find_account(USER)
    return account is not None and user == str(account.uid)


def _is_own_group(group: str) -> bool:
    gid = find_group(USER)
    return group == USER or (gid is not None and group == str(gid))


def _below(path: str, directories: tuple[str, ...]) -> bool:
    return any(PurePosixPath(path).is_relative_to(directory) for directory in directories)


def _parent(path: str) -> str:
    return _plain(str(PurePosixPath(path).parent))


def _plain(path: str) -> str:
    """Resolve a path with `..`, which systemd refuses, as the file system does."""
    return os.path.realpath(path) if ".." in Path(path).parts else path
