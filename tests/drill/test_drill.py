"""`rotate --drill`: the whole emergency with this host's config, while nothing of this host is touched."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.app import wiring
from agent.cli.main import main
from agent.core.events import Actor
from agent.drill import drill as module
from agent.drill.drill import Drilled, drill
from agent.emergency.request import Request
from agent.system.lock import StateLock
from tests.support.drills import RealHost, events_in
from tests.support.processes import ROOT

OWNER = "nobody" if os.geteuid() == 0 else str(os.geteuid())


@pytest.fixture
def host(tmp_path: Path) -> RealHost:
    """The host, whose config can be played by this user."""
    made = RealHost(tmp_path)
    made.configure(made.usual(OWNER))
    return made


Play = Callable[..., Drilled]


@pytest.fixture
def play(host: RealHost) -> Play:
    """Plays an emergency of the host in this process."""

    def played(name: str = "uploader", environ: dict[str, str] | None = None, **asked: Any) -> Drilled:
        path = str(host.config)
        request = Request(name, "a drill", Actor(0, "root", 1), **{"disable_old": True, **asked})
        settings = wiring.load_settings(path, {})
        return drill(settings, path, environ or {}, request, lambda _step: None, lambda _directory: None)

    return played


def names(steps: Sequence[dict[str, Any]]) -> dict[str, str]:
    return {step["name"]: step["outcome"] for step in steps}


def told(drilled: Drilled) -> set[tuple[str, str]]:
    return {(one.credential, one.dependent) for one in drilled.would_tell}


def test_it_plays_everything_and_touches_nothing(host: RealHost, tmp_path_factory: pytest.TempPathFactory) -> None:
    """As a process: it opens for writing, connects to and starts nothing outside, and opens no file that holds a secret."""
    outside = tmp_path_factory.mktemp("outside")
    scratch = outside / "scratch"
    scratch.mkdir()
    host.published(uploader="LTAIreal", static="LTAIelse")
    before = host.snapshot()
    environ = {**os.environ, "TMPDIR": str(scratch), "HTTPS_PROXY": "http://203.0.113.1:3128", "PYTHONPATH": str(ROOT)}
    lock = StateLock(host.directory / "state")
    before = host.snapshot()
    try:  # a live daemon holds it
        argv = host.watched(outside / "report", "--disable-old", "--json")
        with (outside / "stderr").open("w+") as stderr:  # as in a unit of systemd
            found = os.fstat(stderr.fileno())
            environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
            done = subprocess.run(argv, env=environ, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False)
    finally:
        after = host.snapshot()
        lock.release()
    assert (done.returncode, (outside / "stderr").read_text()) == (0, "")
    result = json.loads(done.stdout)
    assert (result["drill"], result["safe"], result["all_moved"]) == (True, True, True)
    assert after == before
    assert list(scratch.iterdir()) == []
    events = events_in(outside / "report")
    allowed = (str(scratch), "/dev/null")
    wrote = {event[1] for event in events if event[0] == "writes" and event[1].startswith("/")}
    assert wrote and {path for path in wrote if not path.startswith(allowed)} == set()
    secrets = str(host.directory / "secrets")
    assert [event for event in events if any(secrets in str(part) for part in event)] == []
    kinds = {event[0] for event in events}
    assert {kind for kind in kinds if kind.startswith(("subprocess.", "os.exec", "os.fork", "os.posix_spawn"))} == set()
    assert kinds & {"os.kill", "os.killpg", "os.system"} == set()
    network = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind", "socket.getaddrinfo")
    peers = [" ".join(event[1:]) for event in events if event[0] in network]
    assert peers and [peer for peer in peers if not re.search(r"(?<![0-9.])127\.|'::1'", peer)] == []


def test_everybody_who_matters_moves_and_nobody_is_told(host: RealHost, play: Play) -> None:
    """The twin and the session move with it, a stranger is no part of it; dependents are named with how they would be told."""
    done = play()
    shown = done.emergency
    assert (done.exit_code, shown["safe"], shown["left_behind"]) == (0, True, [])
    assert set(names(shown["steps"]).values()) == {"done"}
    (others,) = [step["detail"] for step in shown["steps"] if step["name"] == "others"]
    assert "twin" in others and "session" in others and "stranger" not in others
    assert told(done) == {
        ("uploader", "systemd web.service"),
        ("uploader", f"signal {host.directory}/run/web.pid"),
        ("uploader", "exec /bin/touch"),
        ("session", "http http://127.0.0.1:9/reload"),
        ("twin", "systemd web.service"),
    }
    assert "systemctl reload-or-restart web.service" in {one.how for one in done.would_tell}
    assert any("credentials.ops.provider.base" in remark and "process" in remark for remark in done.remarks)
    assert not host.touched.exists()


def test_who_is_left_behind_is_seen_beforehand(host: RealHost, play: Play) -> None:
    """An env file with a reload, and a copy of the key that the state knows of; the exit code is the emergency's."""
    text = host.usual(OWNER)
    parts = text.split("[credentials.stranger.provider]")
    host.configure(
        parts[0]
        + """
[credentials.old.provider]
type = "ram_role_arn"
role_arn = "acs:ram::9876543210:role/app"
base = "uploader"
[[credentials.old.sinks]]
type = "env_file"
path = "HERE/app/old.env"
variables = ["alibaba_cloud"]
dialect = "systemd"
[[credentials.old.notify]]
type = "systemd"
unit = "old.service"
action = "reload"
"""
    )
    host.published(uploader="LTAIreal", static="LTAIreal")
    done = play()
    assert (done.exit_code, done.emergency["safe"], done.emergency["all_moved"]) == (1, False, False)
    left = {(one["credential"], one["dependent"], one["reason"]) for one in done.emergency["left_behind"]}
    assert left == {("old", "systemd old.service", "told without effect"), ("static", None, "holds the old key")}
    forced = play(force=True)
    assert (forced.exit_code, forced.emergency["safe"], forced.emergency["all_moved"]) == (0, True, False)


def test_a_key_that_leaked_is_played_as_the_one_in_use(play: Play) -> None:
    """The keys of a drill are made up, so it says so."""
    done = play(leaked="LTAI5tLeakedLeakedLeaked")
    assert (done.emergency["old_access_key_id"], done.emergency["safe"]) == ("LTAI5tLeakedLeakedLeaked", True)
    assert any("LTAI5tLeakedLeakedLeaked" in remark for remark in done.remarks)


def test_a_secret_that_kms_does_not_manage_cannot_be_rotated_in_a_drill_either(host: RealHost, play: Play) -> None:
    """One whose JSON has names of its own; the emergency fails the same way."""
    named = 'fields = { access_key_id = "ak", access_key_secret = "sk" }\nsecret_name = "acs:kms:cn-beijing'
    host.configure(host.usual(OWNER).replace('secret_name = "acs:kms:cn-beijing', named, 1))
    done = play()
    assert done.exit_code == 1 and "nothing was rotated" in done.emergency["error"]


def test_without_an_authority_it_ends_as_the_emergency_would(host: RealHost, play: Play) -> None:
    """With exit code 2 and the table that is missing."""
    done = play("twin")
    assert done.exit_code == 2 and "credentials.twin.emergency" in done.emergency["error"]


def test_who_a_file_cannot_be_given_to_is_said(host: RealHost, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a template that this user may not read: both are played otherwise, and the drill goes on."""
    monkeypatch.setattr(module.ScratchDirectory, "can_give", lambda *_who: False)

    def closed(path: str, limit: int) -> bytes:
        raise PermissionError(path)

    monkeypatch.setattr("agent.drill.sinks.read_trusted", closed)
    done = play()
    assert done.exit_code == 0
    said = " ".join(done.remarks)
    assert f"{host.directory}/app/credentials.ini" in said and f"{host.directory}/etc/x.j2" in said


def test_what_cannot_be_played_is_refused_before_anything_is_made(
    host: RealHost, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A source that would have to be run, a stage of one's own, a credential that is not there; as JSON too."""
    host.configure(
        host.usual(OWNER)
        .replace("[credentials.stranger.provider]\n", "[credentials.stranger.provider]\n#", 1)  # its type is the next
        .replace('bearer_token_from_file_path = "HERE/secrets/token"', 'type = "process"\ncommand = ["/bin/true"]')
        .replace('secret_name = "uploader-ak"', 'secret_name = "uploader-ak"\nversion_stage = "Mine"')
    )
    for name, place in (("stranger", "credentials.stranger.provider"), ("twin", "Mine"), ("nobody", "nobody")):
        assert main(host.arguments(name=name)) == 2
        assert place in capsys.readouterr().err
    assert main(host.arguments("--json", name="stranger")) == 2
    result = json.loads(capsys.readouterr().out)
    assert (result["drill"], result["safe"]) == (True, False) and "stranger" in result["error"]


def test_it_ends_with_the_times_and_what_it_cannot_show(host: RealHost, capsys: pytest.CaptureFixture[str]) -> None:
    """The last line cannot be taken for that of an emergency."""
    assert main(host.arguments("--disable-old")) == 0
    told = capsys.readouterr().out
    lines = told.splitlines()
    assert lines[-1].startswith("in the drill: safe:")
    assert [line for line in lines if line.endswith("prove_refused") or line.endswith("from the command to safe")]
    unshown = " ".join(line for line in lines if line.startswith("a drill cannot show"))
    assert all(word in unshown for word in ("network", "permissions", "pick"))
    assert str(host.directory / "run" / "web.pid") in told


def test_the_keys_of_a_ram_user_are_made_in_the_play(host: RealHost, play: Play) -> None:
    """The first key and its successor are the emulator's; `--leaked` is the one in use; nothing of the authority is read."""
    key = f'access_key_id_from_file_path = "{host.directory}/secrets/ak_id", access_key_secret_from_file_path = "/none"'
    host.configure(
        f"""
[credentials.batch.provider]
type = "ram_user"
ram_user_name = "batch"
owner = true
between = "02:00-05:00"
time_zone = "Asia/Shanghai"
authority = {{ type = "access_key", {key} }}
[[credentials.batch.sinks]]
type = "env_file"
path = "{host.directory}/app/app.env"
"""
    )
    before = (host.directory / "app/app.env").read_bytes()
    drilled = play("batch", delete_old=True, leaked="LTAI5tLeakedLongAgo")
    assert (drilled.exit_code, drilled.emergency["old_key"], drilled.emergency["safe"]) == (0, "deleted", True)
    assert set(names(drilled.emergency["steps"])) >= {"rotate", "publish", "disable_old", "prove_refused", "delete_old"}
    assert any("LTAI5tLeakedLongAgo" in remark for remark in drilled.remarks)
    assert (host.directory / "app/app.env").read_bytes() == before
