"""The shared gateway of a region, asked by a RAM identity: an AccessKey, an assumed role, or the instance's role.

The call is signed by ACS3 like all management calls. A session is kept until two thirds of its life
(`agent.core.policy.RENEW_AT`), so that a poll each minute does not assume a role each minute. When KMS refuses it, it is
thrown away and replaced at once, one time. While a session lives, a failure to renew it is only a warning.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.cloud.openapi import Kms
from agent.cloud.transport import Transport
from agent.core.credential import Credential
from agent.core.errors import KeyturnError, NotPermittedError
from agent.core.finding import Finding
from agent.core.policy import RENEW_AT
from agent.core.provider import Base
from agent.system.clock import Clock
from providers.kms.access import Region
from providers.kms.failover import NoIdentityError, Question

REFUSED_SESSION = ("InvalidSecurityToken", "InvalidAccessKeyId")
"""The beginnings of the codes by which KMS refuses the signer, whatever the call."""

_log = logging.getLogger(__name__)


@dataclass
class _Kept:
    """A session, the boottime from which on it should be renewed, and whether it was used before."""

    value: Credential
    renew_at_s: float
    reused: bool = False


class Identity:
    """The identity that signs: a base, whose session is kept while it is young.

    Several threads may use it: the kept session is replaced as a whole, and two that renew at once just get two sessions.
    """

    def __init__(self, base: Base, clock: Clock) -> None:
        """Keep the base; no I/O."""
        self._base = base
        self._clock = clock
        self._kept: _Kept | None = None

    def newest(self, timeout_s: float) -> Credential:
        """Return the kept session, or a new one.

        Raises:
            NoIdentityError: there is none.
        """
        kept = self._kept if self._kept and self._lives(self._kept.value) else None
        if kept is not None:
            kept.reused = True
            if self._clock.boottime() < kept.renew_at_s:
                return kept.value
        try:
            value = self._base.newest(timeout_s)
        except KeyturnError as error:
            if kept is None:
                raise NoIdentityError(error) from None
            _log.warning("the session that asks KMS could not be renewed and serves on: %s", error.problem)
            return kept.value
        self._keep(value)
        return value

    def after_refusal(self, value: Credential, timeout_s: float) -> Credential | None:
        """Forget a session that KMS refused, and take a new one; None where it was new itself, or is no session.

        Raises:
            NoIdentityError: there is none.
        """
        kept = self._kept
        if kept is None or kept.value != value:
            return None
        self._kept = None
        return self.newest(timeout_s) if kept.reused else None

    def inspect(self) -> Iterator[Finding]:
        """Return the findings of the base. Uses no network."""
        return self._base.inspect()

    def close(self) -> None:
        """Close the base and forget the session."""
        self._kept = None
        self._base.close()

    def _lives(self, value: Credential) -> bool:
        return value.expiration is not None and value.expiration > self._clock.now()

    def _keep(self, value: Credential) -> None:
        """Keep a session with its time of renewal, by boottime.

        A wall clock that is set must neither renew the session at each poll nor hold on to a dead one.
        """
        if value.expiration is None:
            self._kept = None
            return
        life_s = (value.expiration - self._clock.now()).total_seconds()
        self._kept = _Kept(value, self._clock.boottime() + life_s * RENEW_AT)


class RamGateway:
    """The gateway of one region."""

    def __init__(self, region: Region, identity: Identity, transport: Transport, clock: Clock) -> None:
        """Keep what every call needs; no I/O."""
        self.name = f"region {region.region_id}"
        self._kms = Kms(transport, region.host)
        self._identity = identity
        self._clock = clock

    def ask(self, question: Question, timeout_s: float) -> Mapping[str, object]:
        """Return the reply.

        Raises:
            NoIdentityError: the session that would sign cannot be had.
            KeyturnError: no answer, or a refusal.
        """
        ends = time.monotonic() + timeout_s
        signer = self._identity.newest(timeout_s)
        try:
            return self._call(question, signer, ends)
        except KeyturnError as error:
            if not _blames_the_session(error):
                raise
            refusal = error
        another = self._identity.after_refusal(signer, _left(ends))
        if another is None:
            raise refusal
        return self._call(question, another, ends)

    def _call(self, question: Question, signer: Credential, ends: float) -> Mapping[str, object]:
        return self._kms.get_secret_value(
            question.secret_name, question.version_stage, signer, now=self._clock.now(), timeout_s=_left(ends)
        )


def _blames_the_session(error: KeyturnError) -> bool:
    """Return whether another session could succeed.

    That may be so even where the call is not permitted: the old sessions of a role that was deleted and made again, or
    whose policies were detached to cut them off, are refused for good (RAM, "FAQ about RAM roles and STS tokens").
    """
    return isinstance(error, NotPermittedError) or error.code.startswith(REFUSED_SESSION)


def _left(ends: float) -> float:
    return max(0.1, ends - time.monotonic())
