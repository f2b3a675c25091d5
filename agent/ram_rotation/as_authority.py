"""RAM's calls for one user's keys, made as the authority."""

from __future__ import annotations

from collections.abc import Callable

from agent.cloud.authority import Authority
from agent.cloud.looks import access_key_last_used, key_last_use, list_access_keys
from agent.cloud.openapi import Cloud
from agent.core.credential import Credential
from agent.core.errors import KeyturnError, SourceRefusedError
from agent.ram_rotation.view import LastUse, Listed
from agent.system.clock import Clock

GONE = "EntityNotExist.User.AccessKey"


class AsAuthority:
    """`agent.ram_rotation.rotation.Calls`. What cannot be told from a repetition is tried once, the rest for a while."""

    def __init__(self, cloud: Cloud, user: str, authority: Authority, clock: Clock) -> None:
        """Keep what the calls need.

        Args:
            cloud: the clients; that of RAM at the endpoint of this user's provider.
            user: the RAM user's name.
            authority: who signs.
            clock: for the signatures.
        """
        self._cloud, self._ram, self._user, self._authority, self._clock = cloud, cloud.ram, user, authority, clock

    def listed(self) -> tuple[Listed, ...]:
        """Return the user's keys.

        Raises:
            KeyturnError: RAM does not let the authority see them, knows no such user, or does not answer.
        """

        def ask(who: Credential) -> tuple[Listed, ...]:
            rows = list_access_keys(self._ram, self._user, who, now=self._clock.now())
            return tuple(Listed(row.access_key_id, row.status, row.created_at) for row in rows)

        return self._authority.ask("RAM ListAccessKeys", "ram:ListAccessKeys", ask)

    def last_use(self, access_key_id: str) -> LastUse:
        """Return when a key was used last.

        Raises:
            KeyturnError: as `listed`.
        """

        def ask(who: Credential) -> LastUse:
            at = access_key_last_used(self._ram, self._user, access_key_id, who, now=self._clock.now())
            return LastUse(at, self._service(access_key_id, who) if at is not None else "")

        return self._authority.ask("RAM GetAccessKeyLastUsed", "ram:GetAccessKeyLastUsed", ask)

    def _service(self, access_key_id: str, who: Credential) -> str:
        """Return which service a key was used for last, which only IMS says; "" where that is not to be had: it is for people."""
        now, cloud = self._clock.now(), self._cloud
        try:
            account_id = cloud.sts.get_caller_identity(who, now=now).account_id
            return key_last_use(cloud.ims, self._user, account_id, access_key_id, who, now=now).service
        except KeyturnError:
            return ""

    def create(self, begin: Callable[[], None]) -> Credential:
        """Make a key, with one call; `begin` is called right before it, when the authority has signed in.

        Raises:
            KeyturnError: RAM refuses; or no reply was heard, and there may be a key.
        """
        return self._authority.ask(
            "RAM CreateAccessKey",
            "ram:CreateAccessKey",
            self._created,
            once=True,
            begin=begin,
        )

    def _created(self, who: Credential) -> Credential:
        made = self._ram.create_access_key(self._user, who, now=self._clock.now())
        return Credential(
            made.access_key_id,
            made.access_key_secret,
            ram_user_name=self._user,
            created_at=made.created_at,
            request_id=made.request_id,
        )

    def disable(self, access_key_id: str) -> str:
        """Set a key inactive; return RAM's name for the call, "" where there is no such key any more.

        Raises:
            KeyturnError: as `listed`.
        """
        return self._unless_gone(
            "UpdateAccessKey",
            lambda who: self._ram.update_access_key(self._user, access_key_id, "Inactive", who, now=self._clock.now()),
        )

    def delete(self, access_key_id: str) -> str:
        """Delete a key; return RAM's name for the call, "" where there is no such key any more.

        Raises:
            KeyturnError: as `listed`.
        """
        return self._unless_gone(
            "DeleteAccessKey",
            lambda who: self._ram.delete_access_key(self._user, access_key_id, who, now=self._clock.now()),
        )

    def _unless_gone(self, action: str, call: Callable[[Credential], str]) -> str:
        try:
            return self._authority.ask(f"RAM {action}", f"ram:{action}", call)
        except SourceRefusedError as error:
            if not error.code.startswith(GONE):
                raise
            return ""
