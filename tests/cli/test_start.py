"""A command starts fast because it imports no more than it needs, and what it leaves out changes nothing that it says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.app import wiring
from agent.cli.command_line import COMMANDS, parser
from agent.cli.parsers import Mistake
from agent.config.load import load
from agent.config.outline import outline
from agent.control.runtime_directory import RuntimeDirectory
from agent.control.server import ControlServer, Send
from agent.core.events import Actor
from agent.system.accounts import SystemAccounts
from tests.support.processes import ROOT

HEAVY = {
    "requests", "urllib3", "http", "email", "ssl", "asyncio", "cryptography", "structlog", "logging", "msgspec", "jinja2",
    "schedule", "prometheus_client", "aliyunsdkcore", "dataclasses", "inspect", "shutil", "subprocess", "random",
    "concurrent", "agent.app.wiring", "agent.config.load", "agent.config.converter", "agent.core.settings", "agent.engine",
    "agent.logs", "agent.systemd_setup", "providers",
}  # fmt: skip
"""What no command imports that only asks the daemon, reads the log, or prints its help."""
OF_A_REQUEST = HEAVY | {"pathlib", "gzip"}
OF_AN_EMERGENCY = HEAVY - {"dataclasses", "inspect", "agent.logs"} | {
    "agent.logs.log",
    "agent.engine",
    "agent.notifiers",
}
"""Besides, the command judges what the operator asks for: with the masks of the log, but without the log."""
MODULES = 84
"""The most modules that one of these commands imports behind argparse; under 82 are."""
DRIVER = """
import argparse, sys
before = set(sys.modules)
from agent.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as error:
    code = error.code
sys.stdout.flush()
print(*sorted(set(sys.modules) - before), sep=",", file=sys.stderr)
sys.exit(code)
"""
"""Runs a command, and says which modules it imported behind argparse."""
STATUS = {
    "agent": {
        "version": "9", "pid": 1, "started_at": "2026-11-30T00:00:00Z", "config": "x", "config_loaded_at": "2199-01-01T00:00:00Z",
    },
    "credentials": {},
}  # fmt: skip
ROTATED = {
    "credential": "uploader", "old_access_key_id": "", "new_access_key_id": "", "notes": [], "safe": False, "all_moved": False,
    "config_loaded_at": "2199-01-01T00:00:00Z",
}  # fmt: skip
REFRESHED = {"credentials": [], "exit_code": 0, "config_loaded_at": "2199-01-01T00:00:00Z"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config with a log, whose broken credential is none of these commands' business."""
    path, log = tmp_path / "keyturn.toml", tmp_path / "audit.jsonl"
    log.write_text(
        json.dumps({"seq": 1, "hash": "0" * 64, "event": "published", "time": "2026-11-30T00:00:00Z"}) + "\n"
    )
    path.write_text(
        f'[agent]\nstate_directory = "{tmp_path}"\nruntime_directory = "{tmp_path}/run"\n'
        f'[agent.audit]\npath = "{log}"\n[credentials.a]\nbroken = true\n'
    )
    return path


@pytest.fixture
def daemon(config: Path) -> Iterator[ControlServer]:
    """Its control socket, which answers at once."""

    def answer(request: dict[str, Any], _actor: Actor, _send: Send) -> tuple[dict[str, Any], int]:
        return {"status": STATUS, "refresh": REFRESHED, "rotate": ROTATED}[request["command"]], 0

    served = ControlServer(RuntimeDirectory(config.parent / "run"), "no-such-group", answer)
    yield served
    served.close()


def run(config: Path, *words: str) -> tuple[int, str, set[str]]:
    """Return the exit code, the output, and the modules that the command imported."""
    command = [sys.executable, "-c", DRIVER, "--config", str(config), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    *said, modules = done.stderr.splitlines()
    assert not said, done.stderr
    return done.returncode, done.stdout, set(modules.split(","))


def kept_out(modules: set[str], forbidden: set[str]) -> set[str]:
    return {name for name in modules if any(f"{name}.".startswith(f"{one}.") for one in forbidden)}


@pytest.mark.parametrize(
    ("words", "shows", "forbidden"),
    [
        (["status"], "no credentials", OF_A_REQUEST),
        (["status", "--json"], '"version": "9"', OF_A_REQUEST),
        (["refresh"], "", OF_A_REQUEST),
        (["rotate", "uploader", "--reason", "x", "--yes"], "did nothing", OF_AN_EMERGENCY),
        (["audit", "show", "--since", "1000d"], "published", HEAVY),
        (["rotate", "--help"], "--disable-old", OF_A_REQUEST),
        (["run", "--help"], "usage: keyturn run", OF_A_REQUEST),
        (["--help"], "systemd-setup", OF_A_REQUEST),
        ([], "systemd-setup", OF_A_REQUEST),
        (["help", "rotate"], "--disable-old", OF_A_REQUEST),
        (["fleet"], "leave", OF_A_REQUEST),
    ],
)
def test_a_command_imports_what_it_needs(
    config: Path, daemon: ControlServer, words: list[str], shows: str, forbidden: set[str]
) -> None:
    """No library and no engine for what only asks, reads or explains itself."""
    code, output, modules = run(config, *words)
    assert (code, shows in output) == (0, True)
    assert kept_out(modules, forbidden) == set()
    assert len(modules) <= (104 if forbidden is OF_AN_EMERGENCY else MODULES), sorted(modules)


def test_no_table_lists_a_command_that_cannot_be_run() -> None:
    """Each place in the table is a function of a module that can be imported."""
    assert [name for name, one in COMMANDS.items() if not callable(wiring.named(one.place))] == []


LINES = [
    *([name] for name in COMMANDS),
    *([name, "--help"] for name in COMMANDS),
    *([name, "--bogus"] for name in COMMANDS),
    [], ["-h"], ["--version"], ["statsu"], ["statsu", "refresh"], ["--config"], ["--config", "status"], ["--config", "x"],
    ["--config", "x", "status", "extra"], ["--config=x", "status", "--version"], ["--config=x"], ["--bogus", "status"],
    ["--", "status"], ["--config", "--", "status"], ["--config", "x", "-h", "status"], ["--config", "x", "--config", "y", "status"],
    ["audit", "shwo"], ["audit", "show", "-h"], ["audit", "verify", "--from-seq", "x"], ["rotate", "a"], ["emulator", "--port"],
    ["status", "status"], ["status", "--help", "refresh"], ["refresh", "status", "--json"], ["status", "--watch=1"],
    ["systemd-setup", "--print", "--install"], ["--conf", "x", "status"], ["once", "--retry-for"], ["status", "--config", "x"],
]  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_the_parser_of_one_command_says_what_the_whole_one_does(line: list[str], capsys: Any) -> None:
    """Word for word, its help and its errors too."""

    def outcome(made: Any) -> tuple[object, str, str]:
        try:
            found: object = vars(made.parse_args(line))
        except SystemExit as error:
            found = error.code
        except Mistake as mistake:
            found = (mistake.parser.prog, mistake.message)
        return (found, *capsys.readouterr())

    assert outcome(parser(line)) == outcome(parser())


@pytest.mark.parametrize(
    "text",
    ["", '[agent]\nstate_directory = "/s"\n', '[agent]\nruntime_directory = "/r"\naudit = { path = "/l/a.jsonl" }\n'],
)
@pytest.mark.parametrize(
    "environ", [{}, {"STATE_DIRECTORY": "/e/a:/e/b", "RUNTIME_DIRECTORY": "/e/r", "LOGS_DIRECTORY": "/e/l"}]
)
def test_an_outline_is_what_the_settings_say(tmp_path: Path, text: str, environ: dict[str, str]) -> None:
    """A command that reads no more of a config finds the daemon and the log where the daemon has them."""
    path = tmp_path / "keyturn.toml"
    path.write_text(
        f'{text}[credentials.a.provider]\ntype = "access_key"\n'
        'access_key_id_from_file_path = "/i"\naccess_key_secret_from_file_path = "/s"\n'
        '[[credentials.a.sinks]]\ntype = "json"\npath = "/srv/a.json"\n'
    )
    settings = load(str(path), wiring.registry(), environ=environ, users=SystemAccounts())
    state, runtime, audit = map(str, wiring.paths(settings))
    assert outline(str(path), environ) == (state, runtime, audit, tuple(settings.credentials))


@pytest.mark.parametrize(
    "text",
    [
        "[agent", "agent = 1", '[agent]\nstate_directory = "x"', '[agent]\nruntime_directory = "${HOME}/r"', "credentials = []",
        '[agent]\naudit = { path = "/l/../a" }', "[agent]\nstate_directory = 7", '[agent]\nruntime_directory = "/r/"', None,
        '[agent]\nstate_directory = "/a\\nb"', '[agent]\nstate_directory = "//a"',
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_the_loader(tmp_path: Path, text: str | None) -> None:
    """It has the sentence for it, and knows the variables."""
    path = tmp_path / "keyturn.toml"
    if text is not None:
        path.write_text(text)
    assert outline(str(path), {}) is None


def test_a_config_that_others_can_write_has_no_outline(tmp_path: Path) -> None:
    """Nobody else may say whose word a command believes."""
    path = tmp_path / "keyturn.toml"
    path.write_text("")
    assert outline(str(path), {}) is not None
    path.chmod(0o666)
    assert outline(str(path), {}) is None
