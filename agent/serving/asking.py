"""One question and its answer: may this peer have the credential, and what is it told? For the socket and the endpoint.

What a peer that may not have a credential is told is the same whether there is one of that name or not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta

from agent.core.errors import NotPermittedError, SourceUnavailableError, UsageError
from agent.core.text import nearest
from agent.core.timestamps import rfc3339
from agent.serving.document import Format, document, named_expiry
from agent.serving.fetches import FetchRecord
from agent.serving.offers import Offer, Offers
from agent.serving.peer import Peer

__all__ = ["CredentialService", "Format", "Peer"]


class CredentialService:
    """Answers questions for credentials, and takes note of who got which generation. Used by several threads."""

    def __init__(
        self,
        offers: Offers,
        fetches: FetchRecord,
        now: Callable[[], datetime],
        moved: Callable[[str], None] = lambda _credential: None,
    ) -> None:
        """Keep what is needed.

        Args:
            offers: what may be handed out.
            fetches: where each answer is noted.
            now: the wall clock, UTC-aware.
            moved: called with a credential's name when a process fetched a newer generation than it held; must not wait.
        """
        self._offers, self._fetches, self._now, self._moved = offers, fetches, now, moved

    def answer(
        self, credential: str, form: Format, window_s: float, peer: Peer | None, *, let_in: bool = False
    ) -> bytes:
        """Return the document of the value in use, whole.

        Args:
            credential: the name.
            form: of the document.
            window_s: how long before the expiry that it is told this client asks again.
            peer: who asks; None where the kernel does not say, and then nothing is noted.
            let_in: the caller has judged already, by a token; else `[credentials.NAME.serve]` decides.

        Raises:
            NotPermittedError: the peer may not have it, or there is no such credential.
            UsageError: there is no such credential, and the peer may have all.
            SourceUnavailableError: there is no value that lives, now.
            SourceRefusedError: no format can hold the value.
        """
        offer = self._offers.find(credential)
        if not let_in and not (offer is not None and may_have(offer, peer)):
            raise self._refusal(credential, peer)
        if offer is None:
            raise self._unknown(credential)
        now = self._now()
        if offer.value is None:
            raise SourceUnavailableError(
                f"credentials.{credential}: its value is not known: the source has not answered since keyturn was started, "
                "and no published file could be read back",
                "see `keyturn status`; it is served as soon as the source answers",
            )
        if offer.expiration is not None and offer.expiration <= now:
            raise SourceUnavailableError(
                f"credentials.{credential}: the value in use expired at {rfc3339(offer.expiration)}",
                "see `keyturn status`; the next one is served as soon as the source answers",
            )
        until = named_expiry(offer.expiration, now, window_s, offer.hold_s)
        answer = document(offer.value, form, until)
        if peer is not None:
            due = min(until, now + timedelta(seconds=offer.hold_s))
            if self._fetches.note(credential, offer.generation, peer, now, due, until):
                self._moved(credential)
        return answer

    def _refusal(self, credential: str, peer: Peer | None) -> NotPermittedError | UsageError:
        if peer is not None and _may_all(peer):
            return self._unknown(credential)
        who = f"uid {peer.uid}" if peer is not None else "whoever asks"  # without a look-up, which may take long
        named = credential if _is_name(credential) else "NAME"
        return NotPermittedError(
            f"{who} may not have a credential named {named}, if there is one",
            f"name that user in `users`, or a group of theirs in `groups`, of [credentials.{named}.serve], and reload keyturn",
        )

    def _unknown(self, credential: str) -> UsageError:
        near = nearest(credential, self._offers.names())
        named = repr(credential) if _is_name(credential) else "of that name"
        return UsageError(
            f"there is no credential {named} in the config", f"did you mean {near}?" if near else "see `keyturn status`"
        )


def may_have(offer: Offer, peer: Peer | None) -> bool:
    """Return whether a peer may have a credential: root, the agent's own user, and whom `serve` names."""
    if peer is None:
        return False
    return _may_all(peer) or peer.uid in offer.users or bool(offer.groups & peer.gids)


def _may_all(peer: Peer) -> bool:
    return peer.uid in (0, os.geteuid())


def _is_name(text: str) -> bool:
    return len(text) <= 64 and text.isascii() and text.replace("-", "").replace("_", "").replace(".", "").isalnum()
