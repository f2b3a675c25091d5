"""The demo as a story: each act causes something, waits until all of it was seen, and says what it saw.

It fails, with the reason, at the first request that is refused, at a process that dies, at an act that does
not come to its end, and at an audit log that is not whole.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.cli.show import paint
from agent.core.errors import UsageError
from agent.demo.children import Children, DemoError, Said, environment
from agent.demo.world import CLOUD, DAEMON, OLD_KEY_LIFE_S, PROPAGATION_S, Rotated, World, keyturn

APPLICATION = "uploader"
ROTATIONS = 3
ACT_S = 60.0
"""How long one act may take; five seconds on an idle machine."""
REASON = "demo: key found on a public repo"
_UNWANTED = frozenset({"prev", "hash", "seq", "time", "event", "sinks", "expiration", "duration_ms", "trigger", "actor"})


def perform(directory: Path | None) -> int:
    """Perform the demo in `directory` (None: a temporary one, gone afterwards); returns 0.

    Raises:
        UsageError: the directory exists already, or cannot be made.
        DemoError: something did not go as it should.
        KeyboardInterrupt: it was told to end; all processes have ended.
    """
    with ExitStack() as stack:
        place = _prepared(directory) if directory else Path(stack.enter_context(_temporary()))
        (place / "log").mkdir(mode=0o700)
        children = Children(place / "log")
        stack.enter_context(children.hearing_signals())
        stack.enter_context(children)
        Story(place, children).play()
    if directory:
        print(f"config, logs and audit log stay in {directory}")
    return 0


def _prepared(directory: Path) -> Path:
    """Only a new directory: what an earlier demo left would be in the way of this one's story."""
    try:
        directory.mkdir(mode=0o700)
    except OSError as error:
        raise UsageError(f"{directory}: cannot be made: {error.strerror}", "name a directory that does not exist yet") from error
    return directory.absolute()


def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="keyturn-demo-")


class Story:
    """One performance."""

    def __init__(self, directory: Path, children: Children) -> None:
        self._children = children
        self._world = World(directory, children, self._listen, (APPLICATION,))
        self._began = children.clock()

    def play(self) -> None:
        """All acts, in order."""
        self._act("A cloud, an agent and an application on this machine; no account is needed, nothing leaves it")
        self._set_the_stage()
        for number in range(1, ROTATIONS + 1):
            self._act(f"KMS rotates the AccessKey, as on its schedule ({number} of {ROTATIONS})")
            ends = self._scheduled_rotation()
        self._act("The replaced keys die; nobody signs with them any more")
        self._world.listen_until(ends)
        self._say(CLOUD, f"all keys before the present one are gone, {OLD_KEY_LIFE_S:.0f} s after they were replaced")
        self._emergency()
        self._close()

    # -- acts ---------------------------------------------------------------------------------------

    def _set_the_stage(self) -> None:
        world = self._world
        world.start_cloud()
        self._say(CLOUD, f"serves KMS, STS and RAM on https://{world.endpoint}, with a CA of its own, and checks signatures")
        world.start_applications()
        world.start_daemon()
        self._say(DAEMON, f"`keyturn run` is up (pid {self._children[DAEMON].pid})")
        world.wait_event("the application to use the first key", DAEMON, "notified", ACT_S, pickup="confirmed")

    def _scheduled_rotation(self) -> float:
        """One rotation, until the application was seen to use the new key; returns when the old one is gone."""
        rotated = self._world.rotate()
        old_key_ends = self._children.clock() + OLD_KEY_LIFE_S
        self._say(CLOUD, f"rotated: version {rotated.version_id[:8]}, {rotated.old_access_key_id} -> {rotated.access_key_id}")
        self._say(CLOUD, f"the new key works in {PROPAGATION_S:.0f} s, the old one for {OLD_KEY_LIFE_S:.0f} s more")
        self._see_it_through(rotated)
        return old_key_ends

    def _see_it_through(self, rotated: Rotated) -> None:
        key = rotated.access_key_id
        self._world.wait_event("the new key to be published", DAEMON, "published", ACT_S, access_key_id=key)
        self._world.wait_event("the application to use the new key", APPLICATION, "signing", ACT_S, access_key_id=key)
        self._world.wait_event("the daemon to see it", DAEMON, "notified", ACT_S, pickup="confirmed")

    def _emergency(self) -> None:
        self._act("Emergency: the key leaked. One command replaces it, tells the application and cuts the old key off")
        arguments = ("rotate", APPLICATION, "--reason", REASON, "--disable-old", "--yes")
        print(paint(f"  $ keyturn rotate {APPLICATION} --reason {json.dumps(REASON)} --disable-old", "dim"), flush=True)
        self._command(*arguments)
        key = self._status()["access_key_id"]
        self._world.wait_event("the application to use the new key", APPLICATION, "signing", ACT_S, access_key_id=key)

    def _close(self) -> None:
        self._act("What is on record")
        self._print_trail()
        print(paint("  $ keyturn audit verify", "dim"), flush=True)
        self._command("audit", "verify")
        self._act("The count")
        present = self._status()
        report = self._world.end_applications()[APPLICATION]
        _check_count(report, str(present["access_key_id"]))
        for key, tally in report["keys"].items():
            print(f"  {key}  {_count(tally)}")
        print(paint(f"  {_count(report)}, over {len(report['keys']) - 1} changes of the key", "good"), flush=True)

    # -- what is said -------------------------------------------------------------------------------

    def _listen(self, said: Said) -> None:
        words = said.words or {}
        if said.who == APPLICATION and words.get("event") == "refused":
            key, code = words.get("access_key_id"), words.get("code")
            raise DemoError(
                f"a request of the application was refused: signed with {key}, {code}; {_count(words)}",
                "run `keyturn demo --directory DIR` and look at the logs that it leaves there",
            )
        for line in _lines(said.who, words):
            self._say(said.who, line)

    def _act(self, title: str) -> None:
        print(f"\n{title}", flush=True)

    def _say(self, who: str, line: str) -> None:
        at = f"{self._children.clock() - self._began:6.1f} s"
        print(f"{paint(at, 'dim')}  {who:<9} {line}", flush=True)

    # -- commands -----------------------------------------------------------------------------------

    def _command(self, *arguments: str, captured: bool = False) -> str:
        argv = keyturn("--config", str(self._world.config), *arguments)
        out = subprocess.PIPE if captured else None
        sys.stdout.flush()
        ended = subprocess.run(argv, env=environment(), stdout=out, text=True, timeout=5 * ACT_S, check=False)  # noqa: S603
        if ended.returncode:
            self._world.listen_until(self._children.clock())  # an interrupt or a dead child says more than a status
            raise DemoError(f"`keyturn {arguments[0]}` ended with status {ended.returncode}")
        return ended.stdout or ""

    def _status(self) -> dict[str, Any]:
        whole = json.loads(self._command("status", "--json", captured=True))
        found: dict[str, Any] = whole["credentials"][APPLICATION]
        return found

    def _print_trail(self) -> None:
        print(paint("  $ keyturn audit show    (shortened here)", "dim"))
        for line in self._command("audit", "show", "--json", captured=True).splitlines():
            print(f"  {_trail(json.loads(line))}")


def _check_count(report: dict[str, Any], present: str) -> None:
    """Refuse a happy end that is none."""
    last = list(report["keys"])[-1:]
    if report["refused"] or not report["sent"]:
        raise DemoError(f"the application's requests did not all go through: {_count(report)}")
    if last != [present]:
        raise DemoError(f"the application signs with {last}, and not with the present key {present}")


def _count(tally: dict[str, Any]) -> str:
    unanswered = f", {tally['unanswered']} unanswered" if tally["unanswered"] else ""
    return f"requests sent {tally['sent']}, refused {tally['refused']}{unanswered}"


def _lines(who: str, words: dict[str, Any]) -> Iterator[str]:
    """A child's own words, retold for people."""
    match who, words.get("event"):
        case (_, "waiting"):
            yield f"the application starts (pid {words['pid']}), finds no credentials and waits to be told of some"
        case ("keyturn", "published"):
            yield f"fetched and proved {words['access_key_id']}"
            yield f"files changed: credentials.ini and aliyun.env, generation {words['generation']}"
        case ("keyturn", "notified"):
            yield f"sent {words['detail']}; pickup {words['pickup']}"
        case ("keyturn", _) if words.get("level") in ("warning", "error"):
            yield f"{words['level']}: {words.get('event')} {words.get('error', '')}".rstrip()
        case (_, "told"):
            yield f"told: {words['signal']} to pid {words['pid']}; reads credentials.ini again"
        case (_, "signing"):
            yield paint(f"signs with {words['access_key_id']}", "good") + f" ({_count(words)})"
        case (_, "unanswered"):
            yield paint(f"got no answer: {words['error']}", "so-so")


def _trail(record: dict[str, Any]) -> str:
    at = datetime.fromisoformat(record["time"]).strftime("%H:%M:%S.%f")[:-3]
    actor = record.get("actor", {}).get("user")
    by = f"{record.get('trigger', '')}{f' by {actor}' if actor else ''}"
    rest = [f"{name}={value}" for name, value in record.items() if name not in _UNWANTED | {"credential", "reason"}]
    return f"{at}  {record['event']:<18}  {by:<20}  {' '.join(rest)}".rstrip()
