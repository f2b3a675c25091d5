"""A source whose next AccessKey keyturn itself makes: what the rotation has to know of it, and by what it is recognised."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, runtime_checkable

from agent.core.scalars import Duration
from agent.core.settings import ProviderSettings


@dataclass(frozen=True, slots=True)
class RamUserPlan:
    """What the config says of the keys of one RAM user.

    Attributes:
        user: the RAM user's name.
        is_owner: this host makes, disables and deletes its keys; another one changes nothing.
        may_lease: the config does not say who does: in a fleet, the host that has its lease.
        every: the age at which a key is replaced.
        disable_after: how long a replaced key must rest before it is disabled.
        delete_after: how long a disabled key is kept before it is deleted.
        between: the hours in which a rotation may begin, such as "02:00-05:00"; "" for any.
        time_zone: the zone of these hours, such as "Asia/Shanghai".
        endpoint: of RAM; "" for that of `[cloud]`.
    """

    user: str
    is_owner: bool
    every: Duration
    disable_after: Duration
    delete_after: Duration
    between: str = ""
    time_zone: str = ""
    endpoint: str = ""
    may_lease: bool = False

    @property
    def rest(self) -> timedelta:
        """`disable_after` as a time."""
        return timedelta(seconds=float(self.disable_after))

    @property
    def kept(self) -> timedelta:
        """`delete_after` as a time."""
        return timedelta(seconds=float(self.delete_after))


@runtime_checkable
class HasRamUser(Protocol):
    """The settings of a provider whose RAM user's AccessKeys keyturn itself makes."""

    @property
    def authority(self) -> ProviderSettings | str:
        """Who makes, disables and deletes the keys: an inline provider, or the name of another credential."""

    @property
    def ram_user(self) -> RamUserPlan:
        """What the config says."""
