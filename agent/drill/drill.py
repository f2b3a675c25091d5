"""A drill: the whole emergency with this host's config, in a world that ends with it.

What is real: the config, the code of the emergency, the formats and the transaction of the sinks, TLS and signatures. What is
not: the cloud is the emulator in this process, on loopback, with a CA and keys of its own; every file lies below one scratch
directory, and so do state, lock and audit log; dependents are named and not told.

Decisions:
* It runs beside a live daemon: it has a state directory of its own, so there is no lock to share, and it asks no daemon.
* It reads the config, templates that sinks name, and (without its lock) the state, for who else published the same key. No
  secret is in any of these. No file that holds one, no variable, no metadata service, no command of a source is touched.
* The emulator is in this process: whatever ends the process ends all of it, and leaves a directory at most.
* The files begin empty, also where others have lines in the real ones, for those may be secrets.
* Nothing of the drill's audit log goes to the journal, where a unit of systemd runs it: it would contradict the real one.
* A proxy that the environment names is not used: it could be asked for the emulator's addresses.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agent.app import wiring
from agent.app.commands import Commands
from agent.app.without_daemon import run_here
from agent.core.errors import UsageError
from agent.core.names import known_names
from agent.core.settings import (
    AgentSettings,
    AuditSettings,
    CloudSettings,
    CredentialSettings,
    Duration,
    FilePath,
    ProviderSettings,
    Settings,
)
from agent.drill.dependents import NamedOnly
from agent.drill.extent import extent_of
from agent.drill.sinks import Redirection
from agent.drill.sources import Sources, unplayable
from agent.emergency.report import Result, Show
from agent.emergency.request import Request
from agent.system.scratch_directory import ScratchDirectory, scratch_directory
from providers.emulator import Cloud, EmulatorServer, MetadataServer
from providers.ram_user import RamUserSettings

PREFIX = "keyturn-drill-"
OF_THE_SERVICE = frozenset({"JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_USEC"})
"""What systemd tells a service that runs drills: no head of a drill's audit log belongs into the journal."""
CANNOT_SHOW = (
    "the real network: the emulator answers at once, KMS, RAM and STS take longer, and a new key takes a while to work everywhere",
    "permissions: in the emulated account everybody may do everything; `keyturn check` signs in as the authority",
    "whether dependents can be told, and pick the new key up: none was told",
    "the real files: rights, full disks and other hands in them; `keyturn check` looks at those",
    "other hosts, and those who fetch the key by `keyturn credential` or the endpoint",
)
"""What a drill that ended well does not prove."""


@dataclass(frozen=True, slots=True)
class WouldTell:
    """A dependent that the emergency would tell, and how."""

    credential: str
    dependent: str
    how: str

    def as_json(self) -> dict[str, str]:
        """Return it as `would_tell` of the result has it."""
        return {"credential": self.credential, "dependent": self.dependent, "how": self.how}


@dataclass(frozen=True, slots=True)
class Drilled:
    """What came of a drill.

    Attributes:
        emergency: the object that `rotate --json` prints, of the emergency that was played.
        exit_code: its own.
        would_tell: the dependents, each once for each credential.
        remarks: where the play differed from the config.
    """

    emergency: dict[str, Any]
    exit_code: int
    would_tell: tuple[WouldTell, ...]
    remarks: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the object of `rotate --json`, marked as a drill."""
        notes = [*self.emergency["notes"], *self.remarks, *(f"a drill cannot show {what}" for what in CANNOT_SHOW)]
        return {
            **self.emergency,
            "notes": notes,
            "drill": True,
            "would_tell": [one.as_json() for one in self.would_tell],
        }


def drill(
    settings: Settings,
    config_path: str,
    environ: Mapping[str, str],
    request: Request,
    show: Show,
    begin: Callable[[str], None],
) -> Drilled:
    """Play the emergency.

    Args:
        settings: the real config.
        config_path: its file, as sinks name it to their readers.
        environ: of the command.
        request: what the operator asked for. A key that leaked is played as the key in use.
        show: called with each step as it ends.
        begin: called with the scratch directory before the first step.

    Raises:
        UsageError: there is no such credential, or its source cannot be played.
        KeyturnError: the scratch directory cannot be made.
        KeyboardInterrupt: a signal asked for the end; everything was removed.
    """
    known_names(list(settings.credentials), [request.credential])
    own = settings.credentials[request.credential].provider
    if not isinstance(own, RamUserSettings) and (without := unplayable(own)):
        raise UsageError(
            f"credentials.{request.credential}.provider: a drill cannot play {without}",
            "name a credential with another source; what an emergency of this one would do says `keyturn plan`",
        )
    with scratch_directory(PREFIX) as scratch, _without_proxies():
        begin(str(scratch.path))
        return _Play(settings, config_path, environ, request, scratch).run(show)


class _Play:
    """One drill in its scratch directory."""

    def __init__(
        self,
        settings: Settings,
        config_path: str,
        environ: Mapping[str, str],
        request: Request,
        scratch: ScratchDirectory,
    ) -> None:
        self._real, self._config_path, self._environ = settings, config_path, environ
        self._request, self._scratch = request, scratch
        state = wiring.paths(settings)[0]
        self._extent = extent_of(settings.credentials, request.credential, state)
        self._redirection = Redirection(scratch)
        self._remarks = [self._extent.note] if self._extent.note else []

    def run(self, show: Show) -> Drilled:
        cloud = Cloud(region_id=self._real.cloud.region_id)
        directory = self._scratch.path / "cloud"
        with EmulatorServer(cloud, directory) as server, MetadataServer(cloud) as metadata:
            sources = Sources(cloud, server, metadata, directory)
            played = self._settings(sources, server)
            environ = {name: text for name, text in self._environ.items() if name not in OF_THE_SERVICE}
            environ |= sources.variables
            work = self._work(lambda step: show(self._named_really(step)))
            result = run_here(played, self._config_path, environ, work, lambda _remark: None, NamedOnly)
        emergency = self._named_really(result.as_json())
        return Drilled(emergency, result.exit_code, tuple(self._would_tell()), tuple(dict.fromkeys(self._remarks)))

    def _named_really(self, said: Any) -> Any:
        """Return what was said with the files called as the config calls them."""
        if isinstance(said, str):
            return said.replace(str(self._redirection.root), "")
        if isinstance(said, list):
            return [self._named_really(one) for one in said]
        return {key: self._named_really(one) for key, one in said.items()} if isinstance(said, dict) else said

    def _work(self, show: Show) -> Callable[[Commands], Result]:
        def work(commands: Commands) -> Result:
            # A host on which all is well, before the key leaks: a RAM user of the play gets its first key here.
            commands.once((), lambda _step: None, lambda _remark: None)
            return commands.rotate(self._asked(), show)

        return work

    def _asked(self) -> Request:
        """Return the request; the key that leaked is the one in use, whose id a RAM user of the play has from the emulator."""
        if self._request.leaked and self._makes_its_keys:
            return dataclasses.replace(self._request, leaked=None)
        return self._request

    @property
    def _makes_its_keys(self) -> bool:
        return isinstance(self._real.credentials[self._request.credential].provider, RamUserSettings)

    # -- the settings -------------------------------------------------------------------------------

    def _settings(self, sources: Sources, server: EmulatorServer) -> Settings:
        """Return the config of the play: made anew, so that nothing of the real one is taken over unseen."""
        entries = self._real.credentials
        own = entries[self._request.credential]
        key = sources.prepare_secret(
            own.provider, own.emergency.ram_user_name if own.emergency else None, self._request.leaked
        )
        if self._request.leaked and (key is not None or self._makes_its_keys):
            self._remarks.append(f"{self._request.leaked} was played as the key in use")
        credentials = {}
        for name, entry in entries.items():
            if name not in self._extent.holders | self._extent.needed:
                continue
            is_copy = key is not None and name in self._extent.copies
            place = f"credentials.{name}.provider"
            if key and is_copy:
                provider = sources.copy_of(key)
            elif entry is own and isinstance(own.provider, RamUserSettings):
                provider = sources.ram_user(own.provider)
            else:
                provider = sources.likeness(place, entry.provider)
            credentials[name] = self._credential(name, entry, sources, provider)
        self._remarks += [*sources.remarks, *self._redirection.remarks]
        base = self._scratch.path
        (base / "log").mkdir(mode=0o700)
        return Settings(
            credentials=credentials,
            agent=AgentSettings(
                state_directory=FilePath(base / "state"),
                runtime_directory=FilePath(base / "run"),
                settle=Duration(0),
                audit=AuditSettings(path=FilePath(base / "log" / "audit.jsonl")),
                endpoint=self._real.agent.endpoint,  # its address stands in files; nothing listens there for a drill
            ),
            cloud=CloudSettings(
                region_id=self._real.cloud.region_id,
                sts_endpoint=server.endpoint_of("sts"),
                kms_endpoint=server.endpoint_of("kms"),
                ram_endpoint=server.endpoint_of("ram"),
                ims_endpoint=server.endpoint_of("ims"),
                ca_file=FilePath(server.ca_file),
            ),
        )

    def _credential(
        self, name: str, entry: CredentialSettings, sources: Sources, provider: ProviderSettings
    ) -> CredentialSettings:
        emergency = entry.emergency if name == self._request.credential else None
        if emergency is not None and not isinstance(emergency.authority, str):
            place = f"credentials.{name}.emergency.authority"
            emergency = dataclasses.replace(emergency, authority=sources.likeness(place, emergency.authority))
        return CredentialSettings(
            provider=provider,
            verify=entry.verify,
            verify_timeout=entry.verify_timeout,
            sinks=self._redirection.redirected(entry.sinks),
            notify=tuple(dataclasses.replace(one, splay=Duration(0), pickup=None) for one in entry.notify),
            emergency=emergency,
        )

    def _would_tell(self) -> Iterator[WouldTell]:
        for name, entry in self._real.credentials.items():
            if name in self._extent.holders - self._extent.copies:
                for one in map(NamedOnly, entry.notify):
                    yield WouldTell(name, f"{one.type_name} {one.target}", one.act)


@contextmanager
def _without_proxies() -> Iterator[None]:
    """Take the variables that name a proxy out of this process's environment; libraries look there."""
    names = [name for name in os.environ if name.lower().endswith("_proxy")]
    before = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(before)
