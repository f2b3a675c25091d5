"""A station whose credential is of `type = "ram_user"`: keyturn itself makes its keys, in an emulated RAM with real HTTPS."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from agent.app.commands import Commands
from agent.app.rotations import rotations_of, terms_in_force
from agent.cloud.openapi import Cloud
from agent.core.errors import KeyturnError
from agent.emergency.report import Result
from agent.emergency.request import Request
from agent.ram_rotation.rotations import RamRotations
from agent.ram_rotation.view import Rest, Wanted
from agent.state.ram_record import RamRecord
from tests.support.station import ME, Station

ROTATES = (
    "ram:CreateAccessKey",
    "ram:ListAccessKeys",
    "ram:GetAccessKeyLastUsed",
    "ram:UpdateAccessKey",
    "ram:DeleteAccessKey",
)
"""What the authority must be allowed."""


def provider(directory: Any, extra: str = "", user: str = "batch") -> str:
    """The provider's table, with an authority whose key lies in files."""
    files = ", ".join(f'access_key_{part}_from_file_path = "{directory}/authority_{part}"' for part in ("id", "secret"))
    return f"""\
type = "ram_user"
ram_user_name = "{user}"
authority = {{ type = "access_key", {files} }}
{extra}
"""


def prepare(vm: Any, extra: str, user: str = "batch") -> None:
    """Make the user, an authority whose key lies in files, and the config of a VM that has no engine in this process."""
    vm.cloud.add_user("batch")
    vm.cloud.add_user("ops", *ROTATES)
    key = vm.cloud.add_access_key("ops")
    for part, text in (("id", key.access_key_id), ("secret", key.access_key_secret)):
        path = vm.directory / f"authority_{part}"
        path.touch(mode=0o600)
        path.write_text(text)
    vm.configure(vm.credential(provider=provider(vm.directory, extra, user)))


class RamStation(Station):
    """RAM user `batch`, who has no key yet, and the one host that rotates."""

    def __init__(self, vm: Any, extra: str = "owner = true", fleet: str = "") -> None:
        super().__init__(vm)
        self.extra = extra
        self.table = f'[fleet]\nurl = "{fleet}"\nhost = "web-1"\n' if fleet else ""
        self.changed_cloud: Callable[[Cloud], Cloud] = lambda real: real
        self.cloud.add_user("batch")
        self.cloud.allow("ops", *ROTATES)
        self.ram_rotations: RamRotations | None = None

    def credential(self) -> str:
        return str(self.vm.credential(provider=provider(self.vm.directory, self.extra)))

    def start(self, *, publish: bool = True) -> RamStation:
        """Start a keyturn; unless told otherwise, have it make and publish the first key."""
        super().start(publish=False)
        assert self.application is not None
        self.ram_rotations = rotations_of(self.application, lambda real: self.changed_cloud(real))
        self.engine.submit(lambda: self.ram_rotations.know(terms_in_force(self.application))).result()
        if publish:
            rest = self.errand()
            assert isinstance(rest, Rest), rest
            assert self.published, rest
        return self

    def rotate(self, **asked: Any) -> Result:
        """What `keyturn rotate uploader` does in the daemon."""
        request = Request("uploader", "x", ME, force=asked.get("force", False), fleet=asked.get("fleet"))
        tenure = self.commands._call(partial(self.commands._tenure, request))
        assert tenure is not None
        try:
            return super().rotate(tenure=tenure, **asked)
        finally:
            tenure.close()

    @property
    def commands(self) -> Commands:
        assert self.application is not None
        return Commands(self.application, self.engine.clock.now(), keeps_leases=True)

    def errand(self, wanted: Wanted | None = None) -> Rest | KeyturnError:
        """What the schedule does when it is time; `wanted` instead of what the calendar says."""
        assert self.ram_rotations is not None
        try:
            return self.ram_rotations.run_now("uploader", wanted)
        except KeyturnError as error:
            return error

    # -- looking ------------------------------------------------------------------------------------

    @property
    def published(self) -> str:
        return self.managed.state.published.access_key_id

    @property
    def condition(self) -> str:
        """The state that `status` shows."""
        return str(self.managed.condition(self.engine.clock.now()))

    @property
    def record(self) -> RamRecord:
        return self.managed.state.ram.record

    @property
    def keys(self) -> dict[str, str]:
        """The keys of the user, with their status."""
        return {key.access_key_id: key.status for key in self.cloud.keys_of("batch")}


__all__ = ["ROTATES", "RamStation", "prepare", "provider"]
