"""`keyturn demo --keep`: the demo's world without its story, to play with until Ctrl-C.

Decisions. It stays in the foreground: what happens is seen as it happens, Ctrl-C is known to everybody, and nothing has to be
stopped later. The commands are for a second terminal, whole, so that they can be pasted. Somebody who plays breaks things: a
refused request is told and not the end, and a daemon that dies is started again, as systemd would.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from agent.demo.children import ChildEndedError, Children, Said, clock
from agent.demo.world import ACT_S, DAEMON, World
from agent.system.own_program import shell_name
from agent.system.terminal import paint

OLD_KEY_LIFE_S = 30.0
"""Seconds that a replaced key lives on, in which KMS takes no further rotation: not long to wait for."""
FOREVER_S = 1e9
RESTART_S = 2.0


class Play:
    """One world to play with."""

    def __init__(self, directory: Path, children: Children, application: str) -> None:
        self._children, self._application = children, application
        self._world = World(directory, children, self._listen, (application,))
        self._began = clock()
        self._is_shown = False

    def run(self) -> None:
        """Set it up, say what to try, and go on until the demo is told to end.

        Raises:
            DemoError: it does not come up, or the cloud or the application dies.
            KeyboardInterrupt: it was told to end.
        """
        world = self._world
        print(
            "A cloud, an agent and an application on this machine, for you to play with; it takes a few seconds",
            flush=True,
        )
        world.start_cloud(OLD_KEY_LIFE_S)
        world.start_applications()
        world.start_daemon()
        world.wait_event("the application to use the first key", DAEMON, "notified", ACT_S, pickup="confirmed")
        print(guide(world.directory), flush=True)
        self._is_shown = True
        while True:
            try:
                world.listen_until(clock() + FOREVER_S)
            except ChildEndedError as ended:
                if ended.name != DAEMON:
                    raise
                fate = ended.problem.partition(";")[0].removeprefix(DAEMON).strip()
                self._say(DAEMON, paint(f"{fate}; it is started again, as systemd would", "so-so"))
                world.listen_until(clock() + RESTART_S)
                world.restart_daemon()

    def end(self) -> dict[str, Any]:
        """End the application, and return what came of its requests: `sent`, `refused`, `unanswered`."""
        return self._world.end_applications()[self._application]

    def _listen(self, said: Said) -> None:
        if self._is_shown:
            for line in _lines(said.who, self._application, said.words or {}):
                self._say(said.who, line, said.at)

    def _say(self, who: str, line: str, at: float | None = None) -> None:
        passed = f"{(at or clock()) - self._began:6.1f} s"
        print(f"{paint(passed, 'dim')}  {who:<9} {line}", flush=True)


def _lines(who: str, application: str, words: dict[str, Any]) -> list[str]:
    """Return what a child reports, as lines for people: what changed, and what is wrong."""
    event, key = str(words.get("event")), words.get("access_key_id")
    if who == application:
        told = {
            "told": "is told by SIGHUP, and reads credentials.ini again",
            "signing": paint(f"signs with {key}", "good"),
            "refused": paint(f"is refused with {key}: {words.get('code')}", "bad"),
        }
        return [told[event]] if event in told else []
    if who == DAEMON and event == "published":
        return [f"fetched {key}, proved it, and changed the files: generation {words.get('generation')}"]
    if who == DAEMON and event == "drift_repaired":
        return [f"put right what somebody else had changed: {words.get('sinks') or words.get('path') or 'a file'}"]
    if who == DAEMON and words.get("level") in ("warning", "error"):
        return [paint(f"{event} {words.get('error', '')}".rstrip(), "bad" if words["level"] == "error" else "so-so")]
    return []


def guide(directory: Path) -> str:
    """Return what to try next, as commands that can be pasted into a second terminal as they stand."""
    place, call = shlex.quote(str(directory)), shell_name()
    first = [f"export KEYTURN_CONFIG={place}/keyturn.toml"]
    if call != "keyturn":
        first.append(f"export PATH={shlex.quote(os.path.join(sys.prefix, 'bin'))}:$PATH")
    order = f"keyturn emulator --directory {place} --order"
    groups = {
        "Look:": ("keyturn status", "keyturn plan uploader", "keyturn check", f"cat {place}/app/credentials.ini"),
        "Have KMS rotate, as on its schedule, and watch this terminal:": (f"{order} rotate",),
        f"The key has leaked (KMS takes a rotation once the last one is {OLD_KEY_LIFE_S:.0f} s old):": (
            'keyturn rotate uploader --reason "trying it" --disable-old',
        ),
        "What is on record:": ("keyturn audit show", "keyturn audit verify", "keyturn audit incident"),
        "Break something: a file, the network to KMS, the daemon. It mends itself:": (
            f"rm {place}/app/credentials.ini",
            f"""{order} fault --body '{{"status": 503, "times": 3, "action": "GetSecretValue"}}'""",
            f"kill -9 $(cat {place}/run/{DAEMON}.pid)",
        ),
    }
    lines = ["", "It runs until Ctrl-C. In a second terminal:", "", *(f"  {line}" for line in first)]
    for title, commands in groups.items():
        lines += ["", title, *(f"  {command}" for command in commands)]
    return "\n".join([*lines, "", f"Files, logs and the admin token of the cloud: {directory} (docs/emulator.md)", ""])
