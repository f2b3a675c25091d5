"""The script of the demo: each act causes something, waits until all of its effects were seen, and reports them.

It fails, with the reason, at the first refused request, at a process that dies, at an act that does not come to its
end, and at an audit log that is not whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.core.errors import UsageError
from agent.demo.children import Children, DemoError, Said, clock
from agent.demo.play import Play
from agent.demo.world import ACT_S, CLOUD, DAEMON, OLD_KEY_LIFE_S, PROPAGATION_S, World
from agent.system.own_program import shell_name
from agent.system.terminal import paint

APPLICATION = "uploader"
ROTATIONS = 3
REASON = "demo: key found on a public repo"
OPERATOR = "operator"


def perform(directory: Path | None, *, keep: bool = False) -> int:
    """Run the demo in `directory` (None: a temporary one, which is removed afterwards), and return 0.

    With `keep` there is no story: its world goes on, to play with, until a signal asks it to end.

    Raises:
        UsageError: the directory exists already, or cannot be made.
        DemoError: something did not go as it should.
        KeyboardInterrupt: a signal asked it to end; all processes have ended.
    """
    children = Children()
    with ExitStack() as stack:
        stack.enter_context(children.hearing_signals())
        place = _prepared(directory) if directory else Path(stack.enter_context(_temporary()))
        stack.enter_context(children)
        try:
            if keep:
                _play(Play(place, children, APPLICATION))
            else:
                Story(place, children).play()
        except DemoError as error:
            raise DemoError(f"the demo failed: {error.problem}", error.remedy) from error
    if directory:
        print(f"\nconfig, logs and audit log stay in {directory}")
    if not keep:
        print(f"\nYour turn, with the same world: {shell_name()} demo --keep")
    return 0


def _play(play: Play) -> None:
    try:
        play.run()
    except KeyboardInterrupt:  # how one is meant to end it
        print(f"\n{_count(play.end())}; all processes have ended", flush=True)


def _prepared(directory: Path) -> Path:
    """Make the directory, which must be new: the files of an earlier demo would be in the way."""
    try:
        directory.mkdir(mode=0o700)
    except OSError as error:
        raise UsageError(
            f"{directory}: cannot be made: {error.strerror}",
            f"name one that does not exist yet: --directory {directory}/demo",
        ) from error
    return directory.absolute()


def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="keyturn-demo-")


class Story:
    """One run of the demo."""

    def __init__(self, directory: Path, children: Children) -> None:
        self._children = children
        self._world = World(directory, children, self._listen, (APPLICATION,))
        self._began = clock()
        self._signs_with = ""

    def play(self) -> None:
        """Run all acts in order."""
        self._act("A cloud, an agent and an application on this machine; no account is needed, nothing leaves it")
        self._set_the_stage()
        for number in range(1, ROTATIONS + 1):
            self._act(f"KMS rotates the AccessKey, as on its schedule ({number} of {ROTATIONS})")
            ends = self._scheduled_rotation()
        self._act("The replaced keys die (KMS takes no rotation on demand while one is under way)")
        self._world.listen_until(ends)
        self._say(CLOUD, f"all keys before the present one are gone, {OLD_KEY_LIFE_S:.0f} s after they were replaced")
        self._emergency()
        self._close()

    # -- acts ---------------------------------------------------------------------------------------

    def _set_the_stage(self) -> None:
        world = self._world
        world.start_cloud()
        self._say(
            CLOUD, f"serves KMS, STS and RAM on https://{world.endpoint}, with a CA of its own, and checks signatures"
        )
        world.start_applications()
        world.start_daemon()
        self._say(DAEMON, f"`keyturn run` is up (pid {self._children[DAEMON].pid})")
        world.wait_event("the application to use the first key", DAEMON, "notified", ACT_S, pickup="confirmed")

    def _scheduled_rotation(self) -> float:
        """Rotate once, wait until the application uses the new key, and return when the old one is gone."""
        rotated = self._world.rotate()
        old_key_ends = clock() + OLD_KEY_LIFE_S
        self._say(
            CLOUD, f"rotated: version {rotated.version_id[:8]}, {rotated.old_access_key_id} -> {rotated.access_key_id}"
        )
        self._say(CLOUD, f"the new key works in {PROPAGATION_S:.0f} s, the old one for {OLD_KEY_LIFE_S:.0f} s more")
        key = rotated.access_key_id
        self._world.wait_event("the new key to be published", DAEMON, "published", ACT_S, access_key_id=key)
        self._world.wait_event("the application to use the new key", APPLICATION, "signing", ACT_S, access_key_id=key)
        self._world.wait_event("the daemon to see it", DAEMON, "notified", ACT_S, pickup="confirmed")
        return old_key_ends

    def _emergency(self) -> None:
        self._act("Emergency: the key leaked. One command replaces it, tells the application and cuts the old key off")
        self._prompt(f'keyturn rotate {APPLICATION} --reason "{REASON}" --disable-old')
        self._world.command("rotate", APPLICATION, "--reason", REASON, "--disable-old", "--yes", name=OPERATOR)
        key = self._world.status()["access_key_id"]
        self._world.wait_until("the application to use the new key", lambda: self._signs_with == key, ACT_S)

    def _close(self) -> None:
        report = self._world.end_applications()[APPLICATION]
        self._world.stop_daemon()
        self._act("What is on record")
        self._prompt("keyturn audit show    (shortened here)")
        for record in self._world.command("audit", "show", "--json"):
            self._print(_trail(record))
        self._prompt("keyturn audit verify")
        self._world.command("audit", "verify", name=OPERATOR)
        self._act("What the application counted")
        for key, tally in report["keys"].items():
            self._print(f"{key}  {_count(tally)}")
        if report["refused"] or not report["sent"]:
            raise DemoError(f"the application's requests did not all go through: {_count(report)}")
        self._print(paint(f"{_count(report)}, while the key changed {len(report['keys']) - 1} times under it", "good"))

    # -- what is said -------------------------------------------------------------------------------

    def _listen(self, said: Said) -> None:
        words = said.words or {}
        if said.who == APPLICATION and said.says("signing"):
            self._signs_with = words["access_key_id"]
        if said.who == APPLICATION and said.says("refused"):
            raise DemoError(
                f"a request of the application was refused: signed with {words['access_key_id']}, {words['code']}; "
                f"{_count(words)}",
                "run `keyturn demo --directory DIR`, which keeps all logs",
            )
        if said.who == DAEMON and words.get("level") == "error":
            what = " ".join(str(words[name]) for name in ("event", "error", "frames") if name in words)
            raise DemoError(f"the daemon reports: {what}")
        for line in _lines(said.who, words):
            self._say(said.who, line, said.at)

    def _act(self, title: str) -> None:
        print(f"\n{title}", flush=True)

    def _prompt(self, command: str) -> None:
        self._print(paint(f"$ {command}", "dim"))

    def _print(self, line: str) -> None:
        print(f"  {line}", flush=True)

    def _say(self, who: str, line: str, at: float | None = None) -> None:
        passed = f"{(at or clock()) - self._began:6.1f} s"
        print(f"{paint(passed, 'dim')}  {who:<9} {line}", flush=True)


def _count(tally: dict[str, Any]) -> str:
    unanswered = f", {tally['unanswered']} unanswered" if tally["unanswered"] else ""
    return f"requests sent {tally['sent']}, refused {tally['refused']}{unanswered}"


def _lines(who: str, words: dict[str, Any]) -> Iterator[str]:
    """Yield a child's report as lines for people."""
    retell = _RETOLD.get((who, str(words.get("event"))))
    if retell is not None:
        yield from retell(words)
    elif who == OPERATOR:
        yield str(words.get("text", ""))
    elif who == DAEMON and words.get("level") == "warning":
        yield paint(f"warns: {words.get('event')} {words.get('error', '')}".rstrip(), "so-so")


_RETOLD: dict[tuple[str, str], Callable[[dict[str, Any]], list[str]]] = {
    (APPLICATION, "waiting"): lambda words: [
        f"the application starts (pid {words['pid']}), finds no credentials and waits to be told of some"
    ],
    (DAEMON, "published"): lambda words: [
        f"fetched {words['access_key_id']} and proved that it works",
        f"files changed: credentials.ini and aliyun.env, generation {words['generation']}",
    ],
    (APPLICATION, "told"): lambda words: [
        f"told: {words['signal']} to pid {words['pid']}; reads credentials.ini again"
    ],
    (APPLICATION, "signing"): lambda words: [
        f"{paint('signs with ' + words['access_key_id'], 'good')}  ({_count(words)})"
    ],
    (APPLICATION, "unanswered"): lambda words: [paint(f"got no answer: {words['error']}", "so-so")],
    (DAEMON, "notified"): lambda words: [f"the new key is in use: pickup {words['pickup']}"],
}


def _trail(record: dict[str, Any]) -> str:
    """Return an audit record on one line of a terminal; `keyturn audit show` has all of it."""
    at = datetime.fromisoformat(record["time"]).strftime("%H:%M:%S.%f")[:-3]
    return f"{at}  {record['event']:<18}  {'  '.join(_details(record))}".rstrip()


def _details(record: dict[str, Any]) -> Iterator[str]:
    if "actor" in record:
        yield f"by {record['actor']['user']}"
    if "generation" in record:
        yield f"generation {record['generation']}"
    if "access_key_id" in record:
        yield str(record["access_key_id"])
    if "version_id" in record:
        yield f"version {record['version_id'][:8]}"
    if "notified" in record:
        yield f"{record['notified'].partition(' ')[0]} {Path(record['notified']).name}"
    for name in ("outcome", "error"):
        if name in record:
            yield f"{name}: {record[name]}"
    if record["event"] == "rotation_requested":
        yield f'"{record["reason"]}"'
