"""The endpoints that are served: the status page, /metrics, /livez, /readyz, /readyz/NAME.

Whether a credential is ready is whether a value is in use that lives, however its refreshes fare: a load balancer that asks
must not take every host out at once because KMS is away. The state stands in the answer for who looks for more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus

from agent.http.message import RefusedError, Reply, Request, sentence_reply
from agent.metrics.snapshot import Snapshot, SnapshotReader
from agent.system.clock import Clock

SCRAPE_S = 2.0
"""Seconds for a fresh snapshot, before an older one is shown; Prometheus waits for 10 s by default."""
ALIVE_S = 5.0
"""Seconds within which the scheduler has to move; a disk that flushes slowly may hold it up for a second or two."""
RECENT_S = 1.0
"""Seconds for which the page shows one snapshot: a page is written faster than the engine tells what it knows."""
SHOWN_NAMES = 5
READY_ONE = "/readyz/"


class Endpoints:
    """The one that answers requests, on whatever thread they come."""

    def __init__(self, glass: SnapshotReader) -> None:
        from agent.metrics import exposition, page  # not before the config asks for it

        self._text, self._page = exposition.text, page.page
        self._glass, self._clock = glass, Clock()
        self._pen = threading.Lock()
        """One text at a time: whoever asks again and again takes one thread's share of the processor, not many."""
        self._pages: dict[str, Callable[[Request], Reply]] = {
            "/": self._status,
            "/metrics": self._metrics,
            "/livez": self._livez,
            "/readyz": self._readyz,
        }

    def answer(self, request: Request) -> Reply:
        """Answer one request.

        Raises:
            RefusedError: there is no such page.
        """
        if request.path.startswith(READY_ONE):
            return self._is_ready(request.path.removeprefix(READY_ONE))
        page = self._pages.get(request.path)
        if page is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, f"there is no such page; ask for {', '.join(self._pages)}")
        return page(request)

    def _status(self, request: Request) -> Reply:
        newest = self._recent() or self._glass.look(SCRAPE_S)
        shown, is_paused = newest or self._glass.last, request.query == "paused"
        with self._pen:
            return self._page(shown, self._clock.now(), is_stuck=newest is None, is_paused=is_paused)

    def _recent(self) -> Snapshot | None:
        last = self._glass.last
        if last is not None and 0 <= self._clock.now().timestamp() - last.taken_at < RECENT_S:
            return last
        return None

    def _metrics(self, request: Request) -> Reply:
        shown = self._glass.look(SCRAPE_S) or self._glass.last
        if shown is None:
            return sentence_reply(HTTPStatus.SERVICE_UNAVAILABLE, "the agent has nothing to show yet")
        with self._pen:
            body, content_type = self._text(shown, request.headers.get("accept", ""))
        return Reply(HTTPStatus.OK, body, content_type)

    def _livez(self, _request: Request) -> Reply:
        if self._glass.look(ALIVE_S) is None:
            return sentence_reply(
                HTTPStatus.SERVICE_UNAVAILABLE, f"the scheduler has not moved for {ALIVE_S:g} s; see keyturn's log"
            )
        return sentence_reply(HTTPStatus.OK, "the scheduler moves")

    def _readyz(self, _request: Request) -> Reply:
        shown = self._glass.look(SCRAPE_S) or self._glass.last
        if shown is not None and shown.passed:
            return sentence_reply(HTTPStatus.OK, "the first pass over all credentials has ended")
        return sentence_reply(
            HTTPStatus.SERVICE_UNAVAILABLE, f"not ready: {_why(shown.awaited) if shown else 'the agent is starting'}"
        )

    def _is_ready(self, name: str) -> Reply:
        shown = self._glass.look(SCRAPE_S) or self._glass.last
        if shown is None:
            return sentence_reply(HTTPStatus.SERVICE_UNAVAILABLE, "not ready: the agent is starting")
        row = next((row for row in shown.rows if row.name == name), None)
        if row is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "the config has no credential of that name")
        if not row.generation:
            return sentence_reply(HTTPStatus.SERVICE_UNAVAILABLE, f"not ready: {row.state}, no value was published yet")
        if row.expires_at is not None and row.expires_at <= self._clock.now().timestamp():
            return sentence_reply(HTTPStatus.SERVICE_UNAVAILABLE, "not ready: the value in use has expired")
        return sentence_reply(HTTPStatus.OK, f"{row.state}, generation {row.generation} is in use")


def _why(awaited: tuple[str, ...]) -> str:
    names = ", ".join(awaited[:SHOWN_NAMES])
    more = f" and {len(awaited) - SHOWN_NAMES} more" if len(awaited) > SHOWN_NAMES else ""
    return f"the first pass waits for {names}{more}"
