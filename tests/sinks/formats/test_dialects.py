"""The four dialects of an env file, each read by the program that it is for.

sh is the machine's own; python-dotenv is the package; systemd's parser (`src/basic/env-file.c`, the one behind
EnvironmentFile=) runs in its environment.d generator, which needs no service manager; docker's runs in its own command
line, against a daemon on loopback that only writes down what it was sent.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from dotenv import dotenv_values

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.secret import Secret
from tests.support.sinks import env, key, publish, session

GENERATOR = Path("/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator")
SECONDS = 60
VARIABLES = {"KEY_ID": "access_key_id", "KEY_SECRET": "access_key_secret", "TOKEN": "security_token"}
EVERY_CHARACTER = ":=AZaz09+/=._-:=~"[:-1]
"""All that is let through, with `=` and `:` where a reader could stumble."""

Seen = dict[str, str]


def by_sh(path: Path) -> Seen:
    """`set -a; . file`, as the contract's users write it."""
    script = 'set -eua; . "$0"; exec env -0'
    return _environment(["/bin/sh", "-c", script, str(path)], {})


def by_dotenv(path: Path) -> Seen:
    """python-dotenv with its defaults, which expand `${NAME}`."""
    return {name: value for name, value in dotenv_values(path).items() if value is not None}


def by_systemd(path: Path) -> Seen:
    """systemd's own parser. The generator also expands `$NAME`, which no value of ours holds, and quotes what it prints."""
    if not GENERATOR.exists():
        pytest.skip("systemd is not installed here")
    directory = path.parent / "config" / "environment.d"
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, directory / "50-app.conf")
    environment = {"XDG_CONFIG_HOME": str(path.parent / "config"), "HOME": str(path.parent)}
    done = subprocess.run([GENERATOR], capture_output=True, check=True, env=environment, timeout=SECONDS)
    pairs = (line.split("=", 1) for line in done.stdout.decode().splitlines())
    return {name: _unescaped(value) for name, value in pairs}


def _unescaped(value: str) -> str:
    """As systemd prints a value that a shell would change: in double quotes, with C's escapes."""
    return value[1:-1].encode().decode("unicode_escape") if value[:1] == '"' else value


def by_docker(path: Path) -> Seen:
    """`docker create --env-file`: what the command line tells the daemon."""
    if not shutil.which("docker"):
        pytest.skip("docker's command line is not installed here")
    with _docker_daemon() as (address, told):
        environment = {
            **os.environ,
            "DOCKER_HOST": address,
            "DOCKER_CONFIG": str(path.parent),
            "HOME": str(path.parent),
        }
        command = ["docker", "create", "--env-file", str(path), "image"]
        subprocess.run(command, capture_output=True, env=environment, timeout=SECONDS, check=False)
    (body,) = told
    return dict(entry.split("=", 1) for entry in json.loads(body)["Env"])


READERS: dict[str, Callable[[Path], Seen]] = {
    "shell": by_sh, "dotenv": by_dotenv, "systemd": by_systemd, "docker": by_docker,
}  # fmt: skip

FOREIGN: dict[str, tuple[str, Seen]] = {
    "shell": ("# it's\nexport A='x\nKEY_ID=no'\nB=\"q\\\"\nKEY_ID=no\"\nC=a\\\nb\n", {"A": "x\nKEY_ID=no", "C": "ab"}),
    "dotenv": (
        "# it's\nexport A='x\nKEY_ID=no'\nB=\"q\"  # note\nC=it's\n",
        {"A": "x\nKEY_ID=no", "B": "q", "C": "it's"},
    ),
    "systemd": ("# it's\n; x\nA='x\nKEY_ID=no'\nC=a\\\nb\n", {"A": "x\nKEY_ID=no", "C": "ab"}),
    "docker": ("# it's\nA='x\nC=it's \\\nB=\"q\"\n", {"A": "'x", "B": '"q"', "C": "it's \\"}),
}
"""What a file of each dialect may hold besides, and what its reader makes of that."""


def _environment(command: list[str], environment: dict[str, str]) -> Seen:
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=SECONDS)
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)


@contextmanager
def _docker_daemon() -> Iterator[tuple[str, list[bytes]]]:
    told: list[bytes] = []

    class Daemon(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(200)

        do_GET = do_HEAD

        def do_POST(self) -> None:
            told.append(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(409)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Api-Version", "1.44")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Daemon) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.server_address[1]}", told
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("dialect", READERS)
def test_its_reader_reads_what_was_published(tmp_path: Path, dialect: str) -> None:
    """Key, session, key again: the real reader of the dialect sees each value, and no stale token."""
    path = tmp_path / "app.env"
    sink = env(path, variables=VARIABLES, dialect=dialect)
    for generation, value in enumerate((key(1), session(2), key(3)), 1):
        publish([sink], value, generation)
        seen = READERS[dialect](path)
        want = {"KEY_ID": value.access_key_id, "KEY_SECRET": f"secretOf{generation:06}"}
        want |= {"TOKEN": f"CAISt0ken/of+{generation:06}=="} if value.security_token else {}
        assert {name: seen[name] for name in VARIABLES if name in seen} == want


@pytest.mark.parametrize("dialect", READERS)
def test_its_reader_takes_every_character_that_is_let_through(tmp_path: Path, dialect: str) -> None:
    """No character of a value that is published means anything to the reader."""
    path = tmp_path / "app.env"
    publish([env(path, variables=VARIABLES, dialect=dialect)], Credential("I", Secret(EVERY_CHARACTER)))
    assert READERS[dialect](path)["KEY_SECRET"] == EVERY_CHARACTER


@pytest.mark.parametrize("dialect", READERS)
def test_its_reader_sees_the_foreign_lines_unchanged(tmp_path: Path, dialect: str) -> None:
    """A `KEY_ID=` inside somebody's quotes stays theirs, and ours is set, wherever the file held one before."""
    path = tmp_path / "app.env"
    foreign, want = FOREIGN[dialect]
    path.write_text(foreign + "KEY_ID=old\nD=end\n")
    path.chmod(0o600)
    before = READERS[dialect](path)
    publish([env(path, variables={"KEY_ID": "access_key_id"}, dialect=dialect)], key(5))
    after = READERS[dialect](path)
    assert after == {**before, "KEY_ID": "LTAI5tKey000005"} and want.items() <= after.items() and after["D"] == "end"


@pytest.mark.parametrize("dialect", ["systemd", "docker"])
def test_readers_that_do_not_know_export_find_none(tmp_path: Path, dialect: str) -> None:
    """`export NAME=` of ours would be a variable of another name, or refused; it is put right."""
    path = tmp_path / "app.env"
    path.write_text("export KEY_ID=old\n")
    path.chmod(0o600)
    publish([env(path, variables=VARIABLES, dialect=dialect)], key(5))
    assert READERS[dialect](path)["KEY_ID"] == "LTAI5tKey000005"


LONGER_VALUES = ["'' '", "'x' 'open", '"x" "open', "'x'\t'y'  z", "'x' y'", ' "x" \\\'']
VALUES = [
    "".join(parts) for length in range(4) for parts in itertools.product("' \"x\\", repeat=length)
] + LONGER_VALUES
"""Every value of up to three quotes, blanks, letters and backslashes, and some longer ones."""


def test_systemd_never_takes_our_line_for_a_part_of_the_line_before(tmp_path: Path) -> None:
    """Whatever stands there: our variable is read behind it, or the line is refused; and only what would swallow ours is.

    A quote opens behind blanks too, and behind blanks after a closed quote.
    """
    path, wrong = tmp_path / "app.env", []
    for value in VALUES:
        path.write_text(f"A={value}\n")
        path.chmod(0o600)
        try:
            publish([env(path, variables={"KEY_ID": "access_key_id"}, dialect="systemd")], key(5))
            refused = False
        except SinkError:
            refused = True
            path.write_text(f"A={value}\nKEY_ID=LTAI5tKey000005\n")
        swallowed = by_systemd(path).get("KEY_ID") != "LTAI5tKey000005"
        if swallowed is not refused:
            wrong.append((value, "refused" if refused else "published"))
    assert not wrong
