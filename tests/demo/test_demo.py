"""`keyturn demo` and `keyturn emulator`, started as a newcomer starts them, seen from the outside only."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from agent.cli.main import main
from tests.support.processes import eventually

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KEYTURN = [sys.executable, "-m", "agent"]
PATIENCE_S = 120


@dataclass
class Running:
    """A command under way, in a temporary directory of its own."""

    process: subprocess.Popen[str]
    temporary: Path
    lines: list[str] = field(default_factory=list)

    @property
    def place(self) -> Path:
        """The directory that the demo has made for itself."""
        (found,) = self.temporary.iterdir()
        return found

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read its output up to a line that fits."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no line {pattern!r} in:\n{''.join(self.lines)}\n{self.errors()}")

    def end(self) -> int:
        """Read the rest, and return the exit status."""
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)
        return self.process.wait(PATIENCE_S)

    def errors(self) -> str:
        """What it wrote on standard error."""
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def left_behind(self) -> list[str]:
        """Processes that are still there: what the command started has inherited its TMPDIR."""
        mark = f"TMPDIR={self.temporary}\0".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue  # gone meanwhile, or somebody else's
        return found


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Starts `keyturn` commands."""
    started: list[subprocess.Popen[str]] = []

    def start_one(*arguments: str) -> Running:
        temporary = tmp_path_factory.mktemp("tmp")
        env = {**os.environ, "TMPDIR": str(temporary)}
        process = subprocess.Popen(
            [*KEYTURN, *arguments],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell without job control starts whatever is to run in the background with SIGINT ignored, and so do we.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return Running(process, temporary)

    yield start_one
    for process in started:
        process.terminate()  # not killed: it has children to end
        process.communicate(timeout=PATIENCE_S)


def secrets_of(directory: Path) -> set[str]:
    """Every secret that the demo works with just now."""
    names = ("admin-token", "clientKey_password.txt", "authority_access_key_secret.txt")
    found = {(directory / name).read_text().strip() for name in names}
    published = re.search(r"access_key_secret = (\S+)", (directory / "app" / "credentials.ini").read_text())
    assert published
    return {*found, published[1]}


@dataclass
class Performance:
    """A demo that has ended."""

    status: int
    output: str
    errors: str
    running: Running
    secrets: set[str]


@pytest.fixture(scope="module")
def performance(start: Callable[..., Running]) -> Performance:
    """One whole demo."""
    running = start("demo")
    secrets: set[str] = set()
    for _key in range(4):
        running.read_until("signs with")
        secrets |= secrets_of(running.place)
    status = running.end()
    return Performance(status, "".join(running.lines), running.errors(), running, secrets)


STORY = {
    "KMS rotates on its schedule": (r"rotated: version \w+, LTAI\w+ -> LTAI\w+", 3),
    "the files change": (r"files changed: credentials\.ini and aliyun\.env, generation \d", 5),
    "the application is told": (r"told: SIGHUP to pid \d+", 5),
    "it goes on with the new key": (r"signs with LTAI\w+", 5),
    "keyturn sees that it does": (r"pickup confirmed", 5),
    "the emergency shows its steps": (r"operator +\d+\.\d s +(rotate|disable_old) +done", 2),
    "the old key is refused": (r"safe: the old key was seen refused", 1),
    "the audit trail is shown": (r"old_key_disabled .*refused with", 1),
    "the audit log is whole": (r"whole: \d+ records", 1),
}
"""What the contract promises to show, and how often it happens."""


def test_the_demo_tells_its_story_ends_well_and_leaves_nothing(performance: Performance) -> None:
    """One performance, for it takes half a minute: exit 0 without a word on standard error, no request refused, no secret."""
    assert (performance.status, performance.errors) == (0, "")
    count = re.search(
        r"requests sent (\d+), refused 0(, \d+ unanswered)?, while the key changed 4 times", performance.output
    )
    assert count
    assert int(count[1]) > 50
    found = {what: len(re.findall(pattern, performance.output)) for what, (pattern, _times) in STORY.items()}
    assert found == {what: times for what, (_pattern, times) in STORY.items()}, performance.output
    assert performance.running.left_behind() == []
    assert list(performance.running.temporary.iterdir()) == []
    assert len(performance.secrets) == 7  # three of the directory, and one for each of four keys
    assert [secret for secret in performance.secrets if secret in performance.output] == []
    assert "\x1b" not in performance.output, "where nobody looks there are no colours"


def test_a_refused_request_fails_the_demo(start: Callable[..., Running]) -> None:
    """One refused request of the application is enough: exit 1, and the sentence says which key and why."""
    running = start("demo")
    url = running.read_until(r"(https://127\.0\.0\.1:\d+)")[1]
    running.read_until("pickup confirmed")
    order = {"status": 404, "code": "InvalidAccessKeyId.NotFound", "action": "GetCallerIdentity"}
    headers = {"X-Emulator-Token": (running.place / "admin-token").read_text()}
    ca = str(running.place / "ca.pem")
    requests.post(f"{url}/_emulator/fault", json=order, headers=headers, verify=ca, timeout=30).raise_for_status()
    assert running.end() == 1
    said = running.errors()
    assert re.fullmatch(
        r"keyturn: the demo failed: a request of the application was refused: signed with LTAI\w+, "
        r"InvalidAccessKeyId\.NotFound; requests sent \d+, refused 1; .*\n",
        said,
    ), said
    assert running.left_behind() == []
    assert list(running.temporary.iterdir()) == []


def test_a_daemon_that_dies_fails_the_demo_and_the_directory_stays(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    """A dead child is named, with how it ended; the logs of a named directory are kept."""
    directory = tmp_path / "kept"
    running = start("demo", "--directory", str(directory))
    pid = running.read_until(r"`keyturn run` is up \(pid (\d+)\)")[1]
    os.kill(int(pid), signal.SIGKILL)
    assert running.end() == 1
    assert "the demo failed: keyturn was ended by SIGKILL" in running.errors()
    assert running.left_behind() == []
    assert '"event": "ready"' in (directory / "log" / "keyturn.log").read_text()


def guided(running: Running) -> list[str]:
    """The commands that `--keep` shows."""
    running.read_until("In a second terminal")
    running.read_until("Files, logs and the admin token")
    return [line.strip() for line in running.lines if line.startswith("  ")]


def typed(commands: list[str]) -> subprocess.CompletedProcess[str]:
    """What a shell makes of them, pasted as they stand."""
    return subprocess.run(["sh", "-ec", "\n".join(commands)], cwd="/", capture_output=True, text=True, check=False)


def test_what_is_kept_can_be_played_with_and_dies_with_the_demo(start: Callable[..., Running]) -> None:
    """KMS rotates at a pasted command, and the application goes on; a demo that is killed leaves no process behind."""
    running = start("demo", "--keep")
    commands = guided(running)
    first = [line for line in commands if line.startswith("export ")]
    (rotate,) = [line for line in commands if line.endswith("--order rotate")]
    done = typed([*first, rotate, "keyturn status"])
    assert (done.returncode, done.stderr) == (0, "")
    running.read_until("signs with " + json.loads(done.stdout.partition("keyturn ")[0])["access_key_id"])
    running.process.kill()
    running.end()
    eventually(lambda: running.left_behind() == [], "every process of the demo ends")


@pytest.mark.slow
def test_every_command_that_is_shown_works(start: Callable[..., Running], tmp_path: Path) -> None:
    """Pasted in order, each does what is said; the daemon that was killed comes back; Ctrl-C is the ordinary end."""
    directory = tmp_path / "world"
    running = start("demo", "--keep", "--directory", str(directory))
    commands = guided(running)
    first = [line for line in commands if line.startswith("export ")]
    for command in (line for line in commands if line not in first):
        if command.startswith("keyturn rotate"):
            running.read_until("signs with")
            time.sleep(30)  # as it says: KMS takes no rotation while the last one is under way
            command += " --yes"
        done = typed([*first, command])
        assert done.returncode == 0, (command, done.stderr)
    running.read_until("it is started again")
    eventually(lambda: (directory / "app" / "credentials.ini").exists(), "what was removed is put back")
    running.process.send_signal(signal.SIGINT)
    assert running.end() == 0
    assert (running.errors(), running.left_behind()) == ("", [])
    assert re.search(r"requests sent \d+, refused 0", "".join(running.lines))
    assert (directory / "keyturn.toml").exists()


@pytest.mark.parametrize(
    ("order", "remedy"), [(["rotate"], "keyturn emulator --directory"), (["fault", "--body", "503"], "--body '{")]
)
def test_an_order_that_cannot_be_given_says_what_to_type(
    order: list[str], remedy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no emulator runs, or with a body that is no object: wrong usage, and what helps."""
    assert main(["emulator", "--directory", str(tmp_path), "--order", *order]) == 2
    assert remedy in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(start: Callable[..., Running], number: signal.Signals) -> None:
    """Ctrl-C ends everything that was started, and takes the files away."""
    running = start("demo")
    running.read_until("`keyturn run` is up")
    running.process.send_signal(number)
    assert running.end() == 130
    assert running.errors() == ""
    assert running.left_behind() == []
    assert list(running.temporary.iterdir()) == []


def test_a_directory_that_exists_is_refused(start: Callable[..., Running], tmp_path: Path) -> None:
    """What an earlier demo has left is not mixed with a new one."""
    running = start("demo", "--directory", str(tmp_path))
    assert running.end() == 2
    assert running.errors() == (
        f"keyturn: {tmp_path}: cannot be made: File exists; name one that does not exist yet: --directory {tmp_path}/demo\n"
    )


def test_the_emulator_command_serves_until_sigterm(start: Callable[..., Running], tmp_path: Path) -> None:
    """`keyturn emulator` says where it serves, answers over its own CA, and ends with 0 when it is told to."""
    directory = tmp_path / "cloud"
    running = start("emulator", "--directory", str(directory))
    url = running.read_until(r"emulator ready on (https://\S+), files in")[1]
    headers = {"X-Emulator-Token": (directory / "admin-token").read_text()}
    reply = requests.get(f"{url}/_emulator/summary", headers=headers, verify=str(directory / "ca.pem"), timeout=30)
    assert reply.status_code == 200
    assert json.loads(reply.text) is not None
    running.process.terminate()
    assert running.end() == 0
