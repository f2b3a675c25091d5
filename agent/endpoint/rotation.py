"""A new token in an env file, while the old one goes on for a while: whoever read the URI at its start is not cut off.

One file, one atomic switch, without the credential's value and its source: a token is replaced also while the source is down.
It goes through the transaction of every sink, with the same checks of the place; a crash before the rename leaves the file as
it was and something to sweep, one after it a file that says all there is to know.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.sinks.formats.credentials_uri import CredentialsUri
from agent.sinks.formats.uri_tokens import Tokens
from agent.sinks.transaction import transaction
from agent.sinks.transaction.plan import content_of

_NO_VALUE = Credential()


class _Successor(CredentialsUri):
    """The same sink, which writes other tokens."""

    def __init__(self, sink: CredentialsUri, tokens: Tokens) -> None:
        super().__init__(sink.settings, sink.context)
        self._tokens = tokens

    def render(self, present: bytes | None, credential: Credential, generation: int) -> bytes:
        """Set the URI with the new token; see `FileSink.render`."""
        return self.with_tokens(present, self._tokens)


def rotate(sink: CredentialsUri, now: datetime, until: datetime, record: Callable[[], None]) -> Tokens:
    """Write a new token into a sink's file; the old one opens until `until`. On the thread that publishes.

    Args:
        sink: whose file it is.
        now: the time.
        until: when the old token dies; `now` for at once.
        record: called when the new file is flushed beside the old one, before it takes its place.

    Returns:
        The tokens that hold from now on.

    Raises:
        SinkError: the file is as it was.
        KeyturnError: what `record` raised; the file is as it was.
    """
    present = sink.tokens or sink.learn(content_of(sink))
    if present is None:
        raise SinkError(f"{sink.path}: holds no token of keyturn's yet", "have it published first: `keyturn refresh`")
    following = present.followed(now, until)
    with transaction.survey([_Successor(sink, following)], _NO_VALUE, 1).stage() as staged:
        record()
        try:
            staged.commit()
        except transaction.CommitInterruptedError:
            sink.keep(None)  # renamed or not: the file says it
            raise
    sink.keep(following)
    return following
