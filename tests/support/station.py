"""keyturn's engine on a thread of this process, in front of an emulated cloud: real files, real HTTPS."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.app import wiring
from agent.core.errors import KeyturnError
from agent.core.events import Actor, Cause, Trigger
from agent.core.outcome import Report
from agent.emergency.fleet_clearance import OpenFleet, no_fleet
from agent.emergency.procedure import Emergency, Patience, Request, Result
from agent.engine.engine import Engine
from agent.ram_rotation.tenure import Tenure
from agent.refresh.managed_credential import ManagedCredential
from tests.support.fakes import PATIENCE_S, FakeDependent

ME = Actor(1000, "alice", 4242)
OPS = ("kms:RotateSecret", "ram:UpdateAccessKey")
SHORT = Patience(follow_s=60.0, ask_s=60.0, refusal_s=60.0, told_s=60.0)


class Crash(BaseException):
    """The process dies here."""


class Station:
    """A VM, its cloud, and one keyturn after the other."""

    def __init__(self, vm: Any) -> None:
        self.vm, self.cloud = vm, vm.cloud
        self.cloud.old_key_life_s = 48 * 3600.0
        self.cloud.add_user("ops", *OPS)
        self.authority = self.cloud.add_access_key("ops")
        for part, text in (("id", self.authority.access_key_id), ("secret", self.authority.access_key_secret)):
            self.write_authority(part, text)
        self.dependents = [FakeDependent("web"), FakeDependent("worker", order=1)]
        self.table = self.emergency()
        self.application: wiring.Application | None = None
        self._thread: threading.Thread | None = None

    def write_authority(self, part: str, text: str) -> None:
        path = self.vm.directory / f"authority_{part}"
        path.touch(mode=0o600)
        path.write_text(text)

    def emergency(self, extra: str = "") -> str:
        """The config's table."""
        files = "\n".join(
            f'access_key_{part}_from_file_path = "{self.vm.directory}/authority_{part}"' for part in ("id", "secret")
        )
        table = "[credentials.uploader.emergency"
        return f'{table}]\n{extra}\n{table}.authority]\ntype = "access_key"\n{files}\n'

    def credential(self) -> str:
        """The tables of the credential that is rotated."""
        return str(self.vm.credential())

    # -- keyturn ------------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        assert self.application is not None
        return self.application.engine

    @property
    def managed(self) -> ManagedCredential:
        return self.engine._slots["uploader"].managed

    def start(self, *, publish: bool = True) -> Station:
        """Start a keyturn over the VM's state directory, and publish the present key."""
        self.vm.configure(self.credential(), self.table)
        path = str(self.vm.config)
        self.application = wiring.open_application(wiring.load_settings(path, {}), path, {})
        self.managed.notifiers = tuple(self.dependents)
        self.engine.recover()
        self._thread = threading.Thread(target=self.engine.run, daemon=True)
        self._thread.start()
        if publish:
            report = self.refresh()
            assert report.error is None, report.error
        return self

    def stop(self) -> None:
        """End it as SIGTERM would."""
        if self.application is None or self._thread is None:
            return
        self.engine.post(self.engine.stop)
        self._thread.join(PATIENCE_S)
        self.application.close()
        self.application = self._thread = None

    def restart(self) -> Station:
        """A new process over the same state: nothing in memory survives, and nothing is refreshed yet."""
        self.stop()
        self.dependents = [self.reborn(one) for one in self.dependents]
        return self.start(publish=False)

    @staticmethod
    def reborn(old: FakeDependent) -> FakeDependent:
        new = FakeDependent(old.name, order=old.settings.order)
        new.events, new.broken = old.events, old.broken
        return new

    def refresh(self, trigger: Trigger = Trigger.POLL) -> Report:
        asked = self.engine.submit(lambda: self.engine.refresh("uploader", Cause(trigger))).result(PATIENCE_S)
        return asked.result(PATIENCE_S)

    def rotate(
        self,
        *,
        show: Callable[[dict[str, Any]], None] = lambda _step: None,
        patience: Patience = SHORT,
        cloud: Callable[[Any], Any] = lambda real: real,
        open_fleet: OpenFleet = no_fleet,
        tenure: Tenure | None = None,
        **asked: Any,
    ) -> Result:
        """What `keyturn rotate uploader` does in the daemon."""
        assert self.application is not None
        factory, audit = self.application.factory, self.application.audit
        request = Request("uploader", asked.pop("reason", "key on a pastebin"), ME, **asked)
        authority = factory.authority("uploader")
        clients = cloud(factory.cloud())
        emergency = Emergency(
            self.engine, audit, authority, clients, request, patience, open_fleet=open_fleet, tenure=tenure
        )
        return emergency.run(show)

    def end_of(self, name: str) -> Callable[[dict[str, Any]], None]:
        """A `show` during which the process dies, when the step of this name ends."""

        def show(step: dict[str, Any]) -> None:
            if step["name"] == name:
                raise Crash(name)

        return show

    # -- looking ------------------------------------------------------------------------------------

    @property
    def current(self) -> str:
        return str(self.cloud.current_key("uploader-ak").access_key_id)

    @property
    def rotations(self) -> int:
        """How often KMS really rotated."""
        return len(self.cloud.secret("uploader-ak").versions) - 1

    def status_of(self, access_key_id: str) -> str:
        return str(self.cloud.access_key(access_key_id).status)

    def asked(self, action: str) -> int:
        return sum(call.action == action for call in self.cloud.calls)


def steps(result: Result) -> dict[str, str]:
    """Name of each step -> its outcome."""
    return {step["name"]: step["outcome"] for step in result.steps}


class LosesTrack:
    """KMS that rotates, while we die before we hear of it."""

    def __init__(self, kms: Any, when: str) -> None:
        self._kms, self._when = kms, when

    def rotate_secret(self, *args: Any, **options: Any) -> str:
        if self._when == "before":
            raise Crash("before the call")
        self._kms.rotate_secret(*args, **options)
        raise Crash("after the call")


def dying(when: str) -> Callable[[Any], Any]:
    return lambda cloud: replace(cloud, kms=LosesTrack(cloud.kms, when))


__all__ = ["ME", "SHORT", "Crash", "KeyturnError", "Station", "dying", "steps"]
