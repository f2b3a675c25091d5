"""The end of the key that was replaced: disable it, and see that a call signed with it is refused.

Only STS's word about the key itself counts as a refusal (`InvalidAccessKeyId.*`): docs/adr/0012.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from agent.cloud.openapi import Ram, Sts
from agent.core.credential import Credential
from agent.core.errors import KeyturnError, SourceRefusedError
from agent.core.retry import Retry
from agent.engine.held_credential import HeldCredential
from agent.system.clock import Clock
from agent.system.waiting import Activity

REFUSED = "InvalidAccessKeyId"
GONE = "EntityNotExist.User.AccessKey"


class NoSecretError(KeyturnError):
    """The error that the old key's secret is not to be had any more, so nothing can be signed with it."""


def refuse_key_in_use(held: HeldCredential, old_id: str) -> None:
    """Raise for a key that is in use; `--force` does not help here.

    Raises:
        KeyturnError: it is.
    """
    if not old_id or held.look().seen.published.access_key_id == old_id:
        raise KeyturnError(
            f"credentials.{held.name}: {old_id or 'the old key'} is the key in use and is not disabled",
            "look at `keyturn status`, and run the same command again",
        )


def disable(
    ram: Ram, user: str, access_key_id: str, ask: Callable[[str, Callable[[Credential], object]], None], clock: Clock
) -> bool:
    """Set a user's key inactive; return False where RAM knows no such key of that user.

    Args:
        ram: the client.
        user: whose key it is.
        access_key_id: of the key.
        ask: makes the call as the authority, again and again while RAM cannot answer.
        clock: for the signature.

    Raises:
        KeyturnError: RAM does not let the authority do it, or could not be asked.
    """
    try:
        ask(
            "RAM UpdateAccessKey",
            lambda who: ram.update_access_key(user, access_key_id, "Inactive", who, now=clock.now()),
        )
    except SourceRefusedError as error:
        if not error.code.startswith(GONE):
            raise
        return False
    return True


def see_refused(
    sts: Sts, old: Credential, clock: Clock, patience_s: float, pause: Callable[[float], None], activity: Activity
) -> str:
    """Sign calls with the old key until STS refuses it; return the code of the refusal.

    Args:
        sts: the client.
        old: the key, with its secret.
        clock: for the signatures.
        patience_s: for how long it is asked again.
        pause: sleeps that many seconds; raises when the agent is stopping.
        activity: told what is waited for.

    Raises:
        KeyturnError: it was not refused in `patience_s` seconds.
    """
    activity.begin(f"STS to refuse the old key {old.access_key_id}")
    paused = activity.pausing(pause)
    retry = Retry(0.5, 1.0, patience_s, chance=random.random, pause=paused, monotonic=clock.boottime)
    while True:
        code, answer = _ask(sts, old, clock)
        if code.startswith(REFUSED):
            return code
        activity.failed(answer)
        if not retry.again():
            raise KeyturnError(
                f"no refusal of the old key {old.access_key_id} was seen in {patience_s:g} s: {answer}",
                "run the same command again to look once more (it does not rotate again); check `ram_user_name`, and "
                "look in the RAM console that the key is inactive",
            )


def _ask(sts: Sts, old: Credential, clock: Clock) -> tuple[str, str]:
    """Return the code of the error, "" for none, and what is to be said of the answer."""
    try:
        sts.get_caller_identity(old, now=clock.now())
    except KeyturnError as error:
        return error.code, error.problem
    return "", "STS still accepts it"
