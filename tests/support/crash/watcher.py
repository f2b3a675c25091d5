"""An independent reader: looks at the sinks of a world as fast as it can until it is told to stop, and counts.

    python watcher.py DIRECTORY          whole files, pairs, owners and modes, with the rights of the one who starts it
    python watcher.py DIRECTORY UID      the same user that no file is meant for: whatever it can open is a leak

Prints "looking", and one JSON object at SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from collections import Counter
from pathlib import Path

from tests.support.crash.promises import GROUP, IDS, LINK, MEMBERS, OWNER, SINKS, Sink


class Watcher:
    """Counts what it sees."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.seen: Counter[str] = Counter()
        self.examples: list[str] = []

    def look_at(self, sink: Sink) -> None:
        """A whole file of one key with its own secret, and nobody else's business."""
        try:
            with (self._root / sink.path).open("rb") as stream:
                before, content, after = os.fstat(stream.fileno()), stream.read(), os.fstat(stream.fileno())
        except FileNotFoundError:
            self._count("torn", f"{sink.path} is gone")
            return
        for seen in (before, after):
            if (stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid) != (sink.mode, OWNER, GROUP):
                self._count("attributes", f"{sink.path} {seen.st_mode:o} {seen.st_uid}")
        if not content or not (sink.in_place or self._is_whole(sink, content)):
            self._count("torn", f"{sink.path} {content!r}")
        self.seen["looks"] += 1

    def _is_whole(self, sink: Sink, content: bytes) -> bool:
        key = IDS.search(content)
        return key is not None and content == sink.holds(key.group().decode())

    def look_through_link(self) -> None:
        """Open the directory once, as docs/sinks_directory.md says; then all files in it are of one key."""
        if not (self._root / LINK).is_symlink():
            return
        here = os.open(self._root / LINK, os.O_PATH | os.O_DIRECTORY)
        try:
            keys = set()
            for member in MEMBERS:
                fd = os.open(member.path, os.O_RDONLY, dir_fd=here)
                with os.fdopen(fd, "rb") as stream:
                    content = stream.read()
                keys.update(IDS.findall(content))
                if not self._is_whole(member, content):
                    self._count("torn", f"{member.path} {content!r}")
            if len(keys) != 1:
                self._count("mixed", f"{LINK}: {keys}")
        except FileNotFoundError:
            self.seen["pruned"] += 1  # slower than KEEP publishes: allowed
        finally:
            os.close(here)
        self.seen["looks"] += 1

    def look_around(self) -> None:
        """Files beside the sinks: closed to everybody else from the moment they have a name."""
        for name in ("etc", "env", "place", "set"):
            for place, _names, files in os.walk(self._root / name):  # which does not mind what goes away meanwhile
                for path in (os.path.join(place, file) for file in files):
                    try:
                        found = os.lstat(path)
                    except FileNotFoundError:
                        continue
                    if stat.S_ISREG(found.st_mode) and found.st_mode & 0o027:
                        self._count("readable", f"{path} {found.st_mode:o}")

    def pry(self) -> None:
        """Open everything there is."""
        for name in ("etc", "env", "place", "set", "state", "log"):
            for place, _names, files in os.walk(self._root / name):
                for file in files:
                    self._pry_at(os.path.join(place, file))
        for member in MEMBERS:
            self._pry_at(str(self._root / LINK / member.path))

    def _pry_at(self, path: str) -> None:
        self.seen["looks"] += 1
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError:
            return
        self._count("readable", path)

    def _count(self, what: str, example: str) -> None:
        self.seen[what] += 1
        if len(self.examples) < 10:
            self.examples.append(f"{what}: {example}")


def main() -> None:
    watcher, ends = Watcher(Path(sys.argv[1])), []
    signal.signal(signal.SIGTERM, lambda *_: ends.append(True))
    if len(sys.argv) > 2:
        os.setgroups([])
        os.setgid(int(sys.argv[2]))
        os.setuid(int(sys.argv[2]))
    print("looking", flush=True)
    while not ends:
        if len(sys.argv) > 2:
            watcher.pry()
            continue
        for sink in SINKS:
            watcher.look_at(sink)
        watcher.look_through_link()
        watcher.look_around()
    print(json.dumps({**watcher.seen, "examples": watcher.examples}))


if __name__ == "__main__":
    main()
