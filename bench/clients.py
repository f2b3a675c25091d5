"""Long-lived clients of Alibaba's SDKs through many rotations: how many of their calls are refused, and how long any waits.

    python bench/clients.py [--processes 20] [--clients 10] [--rotations 20] [--dies-after 60s] [--hold 30s] [--pace 10s]
                            [--kill-daemon] [--node DIR] [--directory DIR]

Each process holds that many clients, made once: `Client()` of the default chain, which finds a profile in mode External that
keyturn wrote, and an STS client that signs GetCallerIdentity, each at its own pace. With `--node`, a directory in which
`npm install @alicloud/credentials @alicloud/sts20150401 @alicloud/openapi-client` was run, every second process is one of
the SDK for Node. KMS (the emulator) rotates as soon as every client has moved and the key before is dead; a key dies
`--dies-after` its rotation. No client is told anything, restarted or signalled, and keyturn's config has no notifier. As root the
clients run without capabilities, so that no SDK can write into the profile, as it should be; else each tries, and some may.

`--hold` has to be shorter than `--dies-after`, by what a poll (a second), a proof and a late call may take. Prints one JSON
object; exit status 1 where a call was refused or raised, or a wait for a credential was longer than `--hold`. With
`--kill-daemon` the daemon is killed after each rotation, and started five seconds later, for which clients have to wait.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

WORDS = ("InvalidAccessKeyId", "Signature", "Forbidden", "SecurityToken")
"""What the codes have in them by which a key is refused."""
ACT_S = 60.0
MAX_SHOWN = 20
RESTART_S = 5.0
"""RestartSec= of keyturn.service."""


# -- the clients' processes ---------------------------------------------------------------------------


class Player:
    """The clients of one process, by the SDK for Python."""

    def __init__(self, endpoint: str, ca: str, pace_s: float) -> None:
        self._endpoint, self._ca, self._pace_s = endpoint, ca, pace_s
        self._ending, self._lock = threading.Event(), threading.Lock()
        self._total = {"sent": 0, "refused": 0, "unanswered": 0, "longest_wait_s": 0.0, "longest_call_s": 0.0}

    def play(self, clients: int) -> None:
        """Call until SIGTERM, then say what came of it."""
        signal.signal(signal.SIGTERM, lambda *_: self._ending.set())
        threads = [threading.Thread(target=self._client, args=(number,)) for number in range(clients)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        self._say("ended", **self._total)

    def _client(self, number: int) -> None:
        from alibabacloud_credentials.client import Client as Credential
        from alibabacloud_sts20150401.client import Client
        from alibabacloud_tea_openapi.models import Config

        credential = Credential()
        patience = {"read_timeout": 60000, "connect_timeout": 60000}
        sts = Client(Config(credential=credential, endpoint=self._endpoint, ca=self._ca, **patience))
        signing = ""
        while not self._ending.wait(self._pace_s * random.uniform(0.5, 1.5)):
            began, key_id = time.monotonic(), ""
            self._count("sent")
            try:
                key_id = credential.get_credential().access_key_id
                self._longest("longest_wait_s", time.monotonic() - began)
                sts.get_caller_identity()
                self._longest("longest_call_s", time.monotonic() - began)
            except Exception as error:
                code = str(getattr(error, "code", "") or type(error).__name__)
                kind = "refused" if any(word in code for word in WORDS) else "unanswered"
                self._count(kind)
                self._say(kind, client=number, access_key_id=key_id, error=code, text=str(error)[:200])
                continue
            if key_id != signing:
                signing = key_id
                self._say("signing", client=number, access_key_id=key_id)

    def _count(self, what: str) -> None:
        with self._lock:
            self._total[what] += 1

    def _longest(self, what: str, seconds: float) -> None:
        with self._lock:
            self._total[what] = max(self._total[what], round(seconds, 3))

    def _say(self, event: str, **more: object) -> None:
        with self._lock:
            print(json.dumps({"event": event, **more}), flush=True)


def player(endpoint: str, home: Path, clients: int, pace_s: float, node: Path | None = None) -> list[str]:
    """Return the command line of a process of clients, whose profile and `ca.pem` lie in `home`; as root, without capabilities."""
    environ = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "NO_PROXY": "*",
        "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
        "NODE_EXTRA_CA_CERTS": str(home / "ca.pem"),
    }
    here = Path(__file__).resolve()
    if node is not None:
        program = ["node", str(here.with_suffix(".js")), str(node.resolve()), endpoint, str(clients), str(pace_s)]
    else:
        program = [sys.executable, str(here), "play", endpoint, str(home / "ca.pem"), str(clients), str(pace_s)]
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    return ["env", "-i", *(f"{name}={value}" for name, value in environ.items()), *bare, *program]


def external(home: Path, hold: str) -> str:
    """Return the tables by which the clients of `home` are served: who may ask, and their profile."""
    return f"""
[credentials.uploader.serve]
users = ["{os.geteuid()}"]
hold = "{hold}"

[[credentials.uploader.sinks]]
type = "aliyun_cli"
profile_mode = "External"
path = {json.dumps(str(home / ".aliyun/config.json"))}
mode = "0440"
"""


# -- the run ------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What was heard of the clients."""

    in_use: dict[tuple[str, int], str] = field(default_factory=dict)
    moved_at: float = 0.0
    published_at: float = 0.0
    troubles: int = 0


def run(options: argparse.Namespace, directory: Path, children: Any) -> dict[str, Any]:
    """Rotate under the clients; return the figures."""
    from agent.demo.children import Said, clock
    from agent.demo.world import DAEMON, START_S, World, keyturn

    seen = Seen()

    def listen(said: Said) -> None:
        words = said.words or {}
        if said.says("published"):
            seen.published_at = said.at
        elif said.says("signing"):
            seen.in_use[said.who, words["client"]], seen.moved_at = words["access_key_id"], said.at
        elif words.get("level") in ("warning", "error") or words.get("event") in ("refused", "unanswered"):
            seen.troubles += 1
            if seen.troubles <= MAX_SHOWN:  # the others are in the logs
                print(said.who, json.dumps(words), file=sys.stderr, flush=True)

    names = [f"clients-{number}" for number in range(options.processes)]
    world = World(directory, children, listen, [])
    home = directory / "home"
    (home / ".aliyun").mkdir(parents=True)
    if os.geteuid() == 0:
        (home / ".aliyun").chmod(0o555)  # keyturn's capabilities pass it by, the clients have none
    world.start_cloud(options.dies_after)
    shutil.copy(directory / "ca.pem", home / "ca.pem")
    before, _, after = (directory / "keyturn.toml").read_text().partition("[[credentials.uploader.sinks]]")
    emergency = after[after.index("[credentials.uploader.emergency]") :]
    (directory / "keyturn.toml").write_text(before + external(home, f"{options.hold:g}s") + emergency)
    world.start_daemon()
    for number, name in enumerate(names):
        node = options.node if number % 2 else None
        argv = player(world.endpoint, home, options.clients, options.pace, node)
        children.start(name, argv, directory / "log" / f"{name}.log")
    everybody = options.processes * options.clients

    def moved(key_id: str) -> bool:
        return len(seen.in_use) == everybody and set(seen.in_use.values()) == {key_id}

    world.wait_until("everybody to have a key", lambda: len(seen.in_use) == everybody, START_S + 4 * options.pace)
    began, moves, publishes = clock(), [], []
    for _number in range(options.rotations):
        rotated_at = clock()
        newest = world.rotate().access_key_id
        patience_s = options.dies_after + 2 * options.pace + ACT_S
        world.wait_until("everybody to move", lambda key_id=newest: moved(key_id), patience_s)
        publishes.append(seen.published_at - rotated_at)
        moves.append(seen.moved_at - seen.published_at)
        if options.kill_daemon:
            os.kill(children[DAEMON].pid, signal.SIGKILL)
            children.stop(DAEMON)
            world.listen_until(clock() + RESTART_S)
            children.start(DAEMON, keyturn("--config", str(world.config), "run"), directory / "log" / "keyturn.log")
        # Until the key before is dead, and everybody has called once more behind that.
        world.listen_until(rotated_at + options.dies_after + 1.6 * options.pace)
    lasted_s, world.applications = clock() - began, tuple(names)
    reports = [*world.end_applications().values()]
    world.stop_daemon()
    return summary(options, reports, lasted_s, publishes, moves, seen)


def summary(
    options: argparse.Namespace,
    reports: list[dict[str, Any]],
    lasted_s: float,
    publishes: list[float],
    moves: list[float],
    seen: Seen,
) -> dict[str, Any]:
    """Put the figures together."""
    return {
        "clients": options.processes * options.clients,
        "processes": options.processes,
        "of_node": options.processes // 2 if options.node else 0,
        "rotations": options.rotations,
        "dies_after_s": options.dies_after,
        "hold_s": options.hold,
        "seconds": round(lasted_s),
        "calls": sum(one["sent"] for one in reports),
        "refused": sum(one["refused"] for one in reports),
        "unanswered": sum(one["unanswered"] for one in reports),
        "longest_wait_s": round(max(one["longest_wait_s"] for one in reports), 1),
        "longest_call_s": round(max(one["longest_call_s"] for one in reports), 1),
        "rotation_to_publish_s": round(max(publishes), 1),
        "publish_to_last_client_s": [round(one, 1) for one in moves],
        "troubles": seen.troubles,
    }


def main() -> int:
    """Run the program."""
    if sys.argv[1:2] == ["play"]:
        endpoint, ca, clients, pace_s = sys.argv[2:]
        Player(endpoint, ca, float(pace_s)).play(int(clients))
        return 0
    from agent.cli.option_types import seconds
    from agent.core.errors import KeyturnError
    from agent.demo.children import Children

    parser = argparse.ArgumentParser(description="rotate under long-lived clients of Alibaba's SDKs")
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--clients", type=int, default=10, help="in each process")
    parser.add_argument("--rotations", type=int, default=20)
    parser.add_argument("--dies-after", metavar="60s", default="60s", help="of its rotation, the key before dies")
    parser.add_argument("--hold", metavar="30s", default="30s", help="how long a client keeps an answer")
    parser.add_argument("--pace", metavar="10s", default="10s", help="between two calls of one client, on average")
    parser.add_argument("--kill-daemon", action="store_true", help="after each rotation, and start it as systemd does")
    parser.add_argument("--node", metavar="DIR", type=Path, help="where node_modules is; default: Python only")
    parser.add_argument("--directory", metavar="DIR", type=Path, help="a new one, kept; default: a temporary one")
    options = parser.parse_args()
    children = Children()
    with ExitStack() as stack:
        stack.enter_context(children.hearing_signals())
        if options.directory:
            options.directory.mkdir(mode=0o700)
            place = options.directory.absolute()
        else:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyturn-clients-")))
        stack.enter_context(children)
        try:
            for name in ("dies_after", "hold", "pace"):
                setattr(options, name, seconds(getattr(options, name), f"--{name.replace('_', '-')}"))
            figures = run(options, place, children)
        except KeyturnError as error:
            print(f"clients: {error}", file=sys.stderr)
            return 1
    print(json.dumps(figures))
    late = figures["longest_wait_s"] > options.hold and not options.kill_daemon
    bad = figures["refused"] or figures["unanswered"] or late
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
