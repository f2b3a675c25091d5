"""The identity that may rotate, disable and delete: in an emergency, and for a RAM user's keys also by the schedule.

It signs in anew for each call, and is patient with a KMS or RAM that is down.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from agent.core.client_keys import CLIENT_KEY
from agent.core.credential import Credential
from agent.core.errors import KeyturnError, LeakedKeyError, NotPermittedError, UsageError
from agent.core.provider import Provider
from agent.core.retry import Retry
from agent.system.clock import Clock
from agent.system.waiting import Activity

T = TypeVar("T")
CHANGES_KEYS = frozenset({"ram:CreateAccessKey", "ram:UpdateAccessKey", "ram:DeleteAccessKey"})
Permit = Callable[[], Callable[[], None]]
"""Asks whether a call may be made; returns what looks, right before it, whether that still holds."""
AGAIN = "then run the same command again"


def always() -> Callable[[], None]:
    """Permit every call."""
    return lambda: None


class Authority:
    """The identity of `[credentials.NAME.emergency]`, or of a provider's own `authority`."""

    def __init__(
        self,
        name: str,
        provider: Provider | None,
        clock: Clock,
        patience_s: float,
        pause: Callable[[float], None],
        activity: Activity,
        *,
        place: str = "",
        needs: str = "kms:RotateSecret",
        again: str = "run the same command again: it takes up what is left, and never rotates twice",
        permit: Permit = always,
    ) -> None:
        """Keep what every call needs.

        Args:
            name: of the credential.
            provider: None where the config names no authority.
            clock: for the signatures, and for how long is waited.
            patience_s: for how long a temporary failure is tried again.
            pause: sleeps that many seconds; raises when the agent is stopping.
            activity: told what is waited for.
            place: the table of the config that names it; "" for `[credentials.NAME.emergency]`.
            needs: the action that it must be allowed before all others, for the texts.
            again: the remedy for a failure that may pass.
            permit: asked before each call that changes the keys of a RAM user, when the authority has signed in; raises a
                `KeyturnError` where the call must not be made.
        """
        self._activity, self._needs, self._again, self._permit = activity, needs, again, permit
        self._place, self._provider = place or f"credentials.{name}.emergency", provider
        self._clock, self._patience_s, self._pause = clock, patience_s, pause

    def sign_in(self) -> Credential:
        """Return the identity's present value.

        Raises:
            KeyturnError: there is none, it cannot be had, or it may not rotate.
        """
        if self._provider is None:
            raise UsageError(
                f"{self._place} is not configured, so nothing was rotated: a ClientKey may not rotate",
                f"name an authority there, an AccessKey or a role that may call {self._needs}; until then, "
                "rotate in the console",
            )
        try:
            who = self._provider.fetch(self._clock.now())
        except NotPermittedError as error:
            if self._provider.type_name != "ram_role_arn" or isinstance(error, LeakedKeyError):
                raise
            raise error.because(
                "the authority may not sts:AssumeRole",
                f"let {self._place}.authority assume its role: allow its base sts:AssumeRole on the role in RAM, and name "
                "that base in the role's trust policy; then run the same command again",
            ) from None
        if who.access_key_id.startswith(CLIENT_KEY):
            raise UsageError(
                f"{self._place}.authority: {who.access_key_id} is a ClientKey, which may not rotate",
                f"name an AccessKey or a role that may call {self._needs}",
            )
        return who

    def ask(
        self,
        what: str,
        permission: str,
        call: Callable[[Credential], T],
        *,
        once: bool = False,
        begin: Callable[[], None] = lambda: None,
    ) -> T:
        """Make a call as this identity, and return what it returns; a temporary failure is tried again.

        What comes between the sign-in, which may take long, and the call raises its own errors, and is not tried again.

        Args:
            what: the call, for whoever waits.
            permission: the RAM action that it needs, such as "kms:RotateSecret".
            call: makes it.
            once: do not repeat it, since the service cannot tell a repetition from another call.
            begin: called before the call, when it is permitted.

        Raises:
            KeyturnError: the call's error, with the key that made it.
        """
        self._activity.begin(what)
        pause = self._activity.pausing(self._pause)
        retry = Retry(1.0, 4.0, self._patience_s, chance=random.random, pause=pause, monotonic=self._clock.boottime)
        while True:
            who = self.sign_in()
            if permission in CHANGES_KEYS:
                lasts = self._permit()
                begin()
                lasts()
            try:
                return call(who)
            except KeyturnError as error:
                self._activity.failed(error.problem)
                if once or not error.retryable or not retry.again():
                    raise self._explained(error, permission, once=once).at(
                        f"{self._place}.authority {who.access_key_id}"
                    ) from None

    def _explained(self, error: KeyturnError, permission: str, *, once: bool) -> KeyturnError:
        if error.retryable and once:
            return error
        if error.retryable:
            return error.because(
                f"it was tried again for {self._patience_s:g} s",
                self._again,
            )
        if not isinstance(error, NotPermittedError) or isinstance(error, LeakedKeyError):
            return error
        return error.because(f"it may not {permission}", f"{error.remedy}, {AGAIN}")
