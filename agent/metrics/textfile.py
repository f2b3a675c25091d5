"""`agent.metrics_textfile`: the metrics as a file for node_exporter's textfile collector.

Written by a thread of its own, so that a directory on a file system that hangs holds up no refresh: whole or not at
all, readable for everyone (there is no secret in it, and node_exporter runs as somebody else), not flushed, since a power
cut makes it old anyway. At each change, once a second at most; and each minute without one, so that the time in it says
whether the agent lives. It stays when the agent stops; it is removed when the config no longer asks for it.
"""

from __future__ import annotations

import threading

from agent.logs.log import log
from agent.metrics.snapshot import Snapshot, SnapshotReader
from agent.system.files import write_atomic_in
from agent.system.oserrors import explain
from agent.system.trusted_directory import PathRefusedError, open_directory, split

PAUSE_S = 1.0
BEAT_S = 60.0
LOOK_S = 20.0
MODE = 0o644
LAST_WORD_S = 1.0
_MAKE = "install -d -m 0755"


class Textfile:
    """The writer of one file, which keeps it up to date until it is closed."""

    def __init__(self, path: str, glass: SnapshotReader) -> None:
        self.path = path
        self._parent, self._name = split(path)
        self._glass = glass
        self._news = threading.Event()
        self._closed = threading.Event()
        self._told = ""
        self._last: Snapshot | None = None
        self._remove = False
        self._thread = threading.Thread(target=self._run, name="textfile", daemon=True)
        self._news.set()
        self._thread.start()

    def changed(self) -> None:
        """Note that there is something new to write. From any thread; never waits."""
        self._news.set()

    def close(self, last: Snapshot | None = None, *, remove: bool = False) -> None:
        """Write no more.

        Args:
            last: the snapshot to write at the end; None for none.
            remove: remove the file, since the config no longer asks for it.
        """
        self._last, self._remove = last, remove
        self._closed.set()
        self._news.set()
        self._thread.join(LAST_WORD_S)

    def _run(self) -> None:
        try:
            from agent.metrics import exposition  # not before the config asks for it
        except Exception:
            log.error("the metrics file is not written", exc_info=True)
            return
        self._text = exposition.text
        while not self._closed.is_set():
            self._news.wait(BEAT_S)
            self._news.clear()
            shown = None if self._closed.is_set() else self._glass.look(LOOK_S)
            if shown is not None:
                self._write(shown)
            self._closed.wait(PAUSE_S)
        if self._remove:
            self._take_away()
        elif self._last is not None:
            self._write(self._last)

    def _write(self, shown: Snapshot) -> None:
        try:
            # The directory is of node_exporter's user, for example: no link of theirs leads us elsewhere.
            with open_directory(self._parent, lambda: _MAKE) as directory:
                write_atomic_in(directory.fd, self._name, self._text(shown)[0], MODE, flush=False)
        except (OSError, PathRefusedError) as error:
            self._complain(error)
            return
        if self._told:
            log.info("the metrics file is written again", path=self.path)
        self._told = ""

    def _take_away(self) -> None:
        try:
            with open_directory(self._parent, lambda: _MAKE) as directory:
                directory.remove(self._name)
        except (OSError, PathRefusedError) as error:
            self._complain(error)

    def _complain(self, error: OSError | PathRefusedError) -> None:
        problem = error.as_problem() if isinstance(error, PathRefusedError) else explain(error, self.path)
        if problem.text != self._told:
            log.error("the metrics file cannot be written", path=self.path, error=str(problem))
        self._told = problem.text
