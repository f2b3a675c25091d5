"""`ram_user`: the AccessKey of a RAM user that keyturn itself replaces, where there is no KMS (docs/ram_user.md).

A fetch asks nobody and changes nothing in the cloud: RAM shows a secret once, to whoever makes the key. The value is the one
that this process made last, or the one in use as the published files hold it. Making, disabling and deleting keys is an errand
of its own, agent/ram_rotation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from agent.core.credential import Credential, Kind
from agent.core.errors import KeyturnError, SourceRefusedError, SourceUnavailableError
from agent.core.finding import Finding
from agent.core.provider import Provider, ProviderContext
from agent.core.ram_user import RamUserPlan
from agent.core.settings import Duration, Problems, ProviderSettings, endpoint_fault
from agent.system.rotation_window import window_fault


@dataclass(frozen=True, kw_only=True)
class RamUserSettings(ProviderSettings):
    """The settings of `type = "ram_user"`."""

    ram_user_name: str
    authority: ProviderSettings | str  # who may make, disable and delete its keys
    owner: bool | None = None  # this host rotates; the others change nothing; None: in a fleet, who has its lease
    every: Duration = Duration(60 * 86400)
    disable_after: Duration = Duration(86400)
    delete_after: Duration = Duration(14 * 86400)
    between: str = ""
    time_zone: str = ""
    ram_endpoint: str | None = None
    poll_interval: Duration = Duration(60)

    @property
    def ram_user(self) -> RamUserPlan:
        """What the config says, for the rotation."""
        return RamUserPlan(
            user=self.ram_user_name,
            is_owner=bool(self.owner),
            may_lease=self.owner is None,
            every=self.every,
            disable_after=self.disable_after,
            delete_after=self.delete_after,
            between=self.between,
            time_zone=self.time_zone,
            endpoint=self.ram_endpoint or "",
        )

    def problems(self) -> Problems:
        """Yield (key, sentence) for what the types cannot rule out."""
        if not self.ram_user_name or not self.ram_user_name.isprintable() or len(self.ram_user_name) > 64:
            yield "ram_user_name", "want the name of a RAM user: 1 to 64 characters"
        if self.every < 1:
            yield "every", 'want at least "1s", such as "60d"'
        if self.disable_after + self.delete_after > self.every:
            yield (
                "every",
                "is shorter than disable_after and delete_after together: RAM allows two keys, and a third has no place",
            )
        if self.ram_endpoint is not None and (fault := endpoint_fault(self.ram_endpoint)):
            yield "ram_endpoint", fault
        if (wrong := window_fault(self.between, self.time_zone)) is not None:
            yield wrong

    def builds_on(self) -> Iterator[str]:
        """Yield nothing: the authority signs for the rotation, and no value is made of it."""
        return iter(())

    def inline(self) -> Iterator[ProviderSettings]:
        """Yield nothing, likewise."""
        return iter(())


class RamUser(Provider):
    """The provider of `type = "ram_user"`."""

    type_name: ClassVar[str] = "ram_user"
    Settings: ClassVar[type[ProviderSettings]] = RamUserSettings
    settings: RamUserSettings

    def __init__(self, settings: Any, context: ProviderContext) -> None:
        super().__init__(settings, context)
        self._authority = context.base_of(settings.authority)

    def _fetch(self, timeout_s: float) -> Credential:
        value = self.context.in_use()
        if value is None:
            raise self._nothing()
        if value.kind is not Kind.ACCESS_KEY:
            raise SourceRefusedError(
                f"credentials.{self.context.credential}: the files hold a {value.kind} value, and no AccessKey of a RAM user",
                "look at the sinks",
            )
        return replace(value, ram_user_name=self.settings.ram_user_name)

    def _nothing(self) -> KeyturnError:
        place, user = f"credentials.{self.context.credential}", self.settings.ram_user_name
        if self.settings.owner is False:
            return SourceRefusedError(
                f"{place}: no key of RAM user {user} is at hand, and this host is not the owner of its rotation",
                "RAM shows a secret only to whoever makes the key: set owner = true on this host alone, or use KMS for several",
            )
        adopt = f"for a key that exists already: keyturn adopt {self.context.credential}"
        if self.settings.owner is None:
            return SourceUnavailableError(
                f"{place}: no key of RAM user {user} is at hand, and this host makes one only as its owner, or while it has the "
                "lease of a fleet",
                f"set owner = true on one host, or see `keyturn fleet status`; {adopt}",
            )
        return SourceUnavailableError(
            f"{place}: no key of RAM user {user} is at hand: none was made yet, or no sink holds the one in use",
            f"`keyturn status` says what its rotation waits for; {adopt}",
        )

    def inspect(self) -> Iterator[Finding]:
        """Yield the findings of the authority."""
        yield from self._authority.inspect()

    def close(self) -> None:
        """Close the authority."""
        self._authority.close()
