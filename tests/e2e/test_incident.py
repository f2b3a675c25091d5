"""`audit incident` and `rotate --report`: a real emergency, and what its document says, compared with the audit log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from agent.core.errors import EXIT_DONE, EXIT_FAILED, EXIT_NOT_PERMITTED, EXIT_USAGE
from agent.core.timestamps import rfc3339_micros
from tests.support.processes import KEYTURN
from tests.support.vm import PATIENCE_S, Vm, eventually

REASON = "on a <b>public</b> repo | *really* `sure` @alice"


class Ops:
    """Who may rotate, as a config has it, and a dependent that can be broken."""

    def __init__(self, vm: Vm) -> None:
        self.vm, self.broken = vm, vm.directory / "broken"
        vm.cloud.old_key_life_s = 48 * 3600.0
        vm.cloud.add_user("ops", "kms:RotateSecret", "ram:UpdateAccessKey")
        key = vm.cloud.add_access_key("ops")
        for part, text in (("id", key.access_key_id), ("secret", key.access_key_secret)):
            path = vm.directory / f"authority_{part}"
            path.touch(mode=0o600)
            path.write_text(text)
        self.secrets = [key.access_key_secret]

    def configure(self, extra: str = "", agent: str = "") -> None:
        files = "\n".join(
            f'access_key_{part}_from_file_path = "{self.vm.directory}/authority_{part}"' for part in ("id", "secret")
        )
        table = f'[credentials.uploader.emergency.authority]\ntype = "access_key"\n{files}\n'
        sure = self.vm.hook(["/bin/true"], extra='pickup = { command = ["/bin/true"] }')
        fragile = self.vm.hook(["/usr/bin/test", "!", "-e", self.broken], extra="retries = 0")
        told = self.vm.credential(notify=sure + fragile, settings='owner = "team oss"')
        self.vm.configure(self.vm.agent(agent), told, self.vm.credential("copy"), table, extra)

    def key(self) -> Any:
        key = self.vm.cloud.current_key("uploader-ak")
        self.secrets.append(key.access_key_secret)
        return key


@pytest.fixture
def ops(vm: Vm) -> Ops:
    """A VM on which emergencies can be had."""
    return Ops(vm)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_the_document_of_an_emergency_says_what_the_audit_says(ops: Ops) -> None:
    """One that stopped over somebody left behind, and was taken up: each fact of it, in each format, and no secret."""
    vm, out = ops.vm, ops.vm.directory / "out"
    out.mkdir()
    ops.configure()
    vm.daemon().ready()
    eventually(lambda: vm.events("uploader").count("notified") == 2)
    old = ops.key()
    ops.broken.touch()
    rotate = ("rotate", "uploader", "--reason", REASON, "--disable-old")
    assert vm.keyturn(*rotate, "--report", str(out / "first.md")).returncode == EXIT_FAILED
    first = (out / "first.md").read_text()
    ops.broken.unlink()
    assert vm.keyturn(*rotate, "--report", str(out / "second.html")).returncode == EXIT_DONE
    new = ops.key()
    done = vm.keyturn("audit", "incident", "--format", "json")
    told = json.loads(done.stdout)

    asked, _failed, again = vm.audit("rotation_requested")
    ends = vm.audit("rotation_ended")
    inactive, refused = vm.audit("old_key_disabled")
    published = {record["access_key_id"]: record for record in vm.audit("published", credential="uploader")}
    assert told["credential"] == "uploader"
    assert told["owner"] == "team oss"
    assert told["old"] == {
        "access_key_id": old.access_key_id,
        "version_id": published[old.access_key_id]["version_id"],
        "created_at": rfc3339_micros(at(published[old.access_key_id]["created_at"])),
        "published_at": published[old.access_key_id]["time"],
        "generation": 1,
        "trigger": "start",
        "sinks": published[old.access_key_id]["sinks"],
        "identity": vm.audit("verified")[0]["identity"],
        "expires_at": None,
        "replaced_at": published[new.access_key_id]["time"],
        "disabled_at": inactive["time"],
        "refused_at": refused["time"],
        "refusal": refused["outcome"],
        "deleted_at": None,
        "is_anothers": False,
    }
    assert (told["new_access_key_id"], told["version_id"]) == (new.access_key_id, ends[1]["version_id"])
    assert [one["began_at"] for one in told["attempts"]] == [asked["time"], again["time"]]
    assert [one["ended_at"] for one in told["attempts"]] == [end["time"] for end in ends]
    assert [one["actor"] for one in told["attempts"]] == [asked["actor"], again["actor"]]
    assert [one["host"] for one in told["attempts"]] == [asked["host"], again["host"]]
    assert [one["error"] for one in told["attempts"]] == [ends[0]["error"], ""]
    assert [one["duration_ms"] for one in told["attempts"]] == [end["duration_ms"] for end in ends]
    for one, end in zip(told["attempts"], ends, strict=True):
        assert one["steps"] == [{"detail": "", **step} for step in end["steps"]]
    exposed = at(refused["time"]) - at(asked["time"])
    assert told["exposure_ms"]["to_refused"] == round(exposed / timedelta(milliseconds=1))
    assert told["old_key_is"] == "seen refused"
    assert sorted(told["moved"]) == [["copy", 2], ["uploader", 2]]
    heard = {one["name"]: one for one in told["dependents"]}
    assert {name: one["how"] for name, one in heard.items()} == {
        "exec /bin/true": "confirmed",
        "exec /usr/bin/test": "assumed",
    }
    records = {record["notified"]: record for record in vm.audit("notified") if record["generation"] == 2}
    assert {name: one["told_at"] for name, one in heard.items()} == {name: one["time"] for name, one in records.items()}
    assert told["left_behind"] == []
    last = vm.audit()[-1]
    assert told["basis"] | {"problems": []} == {
        "log": str(vm.log_directory / "audit.jsonl"),
        "why_not": "",
        "first_seq": asked["seq"],
        "last_seq": ends[1]["seq"],
        "head_seq": last["seq"],
        "head_hash": last["hash"],
        "whole": True,
        "verified_from": 1,
        "is_copy": False,
        "end_proved": True,
        "problems": [],
    }
    commands = " ".join(one["command"] for one in told["how_to_look"])
    assert f"--LookupAttribute.1.Key EventAccessKeyId --LookupAttribute.1.Value {old.access_key_id}" in commands

    assert "exec /usr/bin/test: not told. What moves it:" in first
    assert "The old key was replaced and not disabled" in first
    assert "Attempt 2" not in first
    page = (out / "second.html").read_text()
    text = vm.keyturn("audit", "incident", "--key", old.access_key_id).stdout
    for document in (page, text):
        assert refused["time"][:23] in document
        assert last["hash"] in document
        assert "Attempt 2 of 2" in document
    assert "<b>public" not in page
    assert [line for line in text.splitlines() if "public" in line] == [f"* Reason: ``{REASON}``"] * 2
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o600}
    for secret in ops.secrets:
        assert not any(secret in document for document in (page, text, first, done.stdout))


def test_which_one_is_chosen(ops: Ops) -> None:
    """The newest by default; --list has them all, --key and --credential choose; what is not there is said."""
    vm = ops.vm
    ops.configure()
    vm.daemon().ready()
    nothing = vm.keyturn("audit", "incident")
    assert nothing.returncode == EXIT_FAILED
    keys = []
    for reason in ("first", "second"):
        vm.cloud.old_key_life_s = 0.0
        keys.append(ops.key().access_key_id)
        rotate = ("rotate", "uploader", "--reason", reason, "--disable-old")
        assert vm.keyturn(*rotate, "--leaked", keys[-1]).returncode == EXIT_DONE
    assert vm.keyturn(*rotate).returncode == EXIT_FAILED  # turned away: it was done already, and is no emergency
    listed = json.loads(vm.keyturn("audit", "incident", "--list", "--format", "json").stdout)
    assert [(one["key"], one["reason"], one["old_key"]) for one in listed] == [
        (keys[0], "first", "refused"),
        (keys[1], "second", "refused"),
    ]
    assert len(vm.keyturn("audit", "incident", "--list").stdout.splitlines()) == 3
    newest = json.loads(vm.keyturn("audit", "incident", "--credential", "uploader", "--format", "json").stdout)
    assert newest["attempts"][0]["reason"] == "second"
    older = json.loads(vm.keyturn("audit", "incident", "--key", keys[0], "--format", "json").stdout)
    assert older["attempts"][0]["reason"] == "first"
    assert vm.keyturn("audit", "incident", "--credential", "copy").returncode == EXIT_FAILED
    assert vm.keyturn("audit", "incident", "--credential", "uplaoder").returncode == EXIT_USAGE


def test_a_report_that_cannot_be_written_is_said_before_anything_is_rotated(ops: Ops) -> None:
    """A directory that is not there, a link, a name without a format: one sentence, and the cloud was not asked."""
    vm = ops.vm
    ops.configure()
    vm.daemon().ready()
    link = vm.directory / "link.md"
    link.symlink_to(vm.directory / "keyturn.toml")
    before = vm.config.read_text()
    for file, code in (("/nowhere/a.md", EXIT_FAILED), (str(link), EXIT_FAILED), ("report.txt", EXIT_USAGE)):
        done = vm.keyturn("rotate", "uploader", "--reason", "x", "--report", file)
        assert done.returncode == code
        assert len(done.stderr.splitlines()) == 1
        assert file in done.stderr
    for other in ("--drill", "--dry-run"):
        assert vm.keyturn("rotate", "uploader", "--reason", "x", "--report", "a.md", other).returncode == EXIT_USAGE
    assert vm.config.read_text() == before
    assert vm.events("uploader").count("rotation_requested") == 0
    assert sum(call.action == "RotateSecret" for call in vm.cloud.calls) == 0


def test_a_disk_that_is_full_at_the_end_changes_nothing_of_the_outcome(ops: Ops) -> None:
    """The directory goes away while the emergency runs: it ends as it would, and what is missing is said."""
    vm, out = ops.vm, ops.vm.directory / "out"
    out.mkdir()
    ops.configure(vm.hook(["/bin/rm", "-rf", out]))
    done = vm.keyturn("rotate", "uploader", "--reason", "x", "--disable-old", "--report", str(out / "a.json"))
    assert done.returncode == EXIT_DONE
    assert done.stdout.splitlines()[-1].startswith("safe: ")
    assert "the report is missing" in done.stderr
    assert json.loads(vm.keyturn("audit", "incident", "--format", "json").stdout)["old_key_is"] == "seen refused"


def test_without_a_daemon_and_with_a_bad_authority_it_is_written_too(ops: Ops) -> None:
    """What failed is in it, with the error, and nothing was replaced."""
    vm, file = ops.vm, ops.vm.directory / "a.json"
    ops.configure()
    assert vm.keyturn("once").returncode == EXIT_DONE
    vm.cloud.forbid("ops", "kms:RotateSecret")
    done = vm.keyturn("rotate", "uploader", "--reason", "x", "--leaked", ops.key().access_key_id, "--report", str(file))
    assert done.returncode == EXIT_NOT_PERMITTED
    told = json.loads(file.read_text())
    assert told["old_key_is"] == "still in use"
    assert told["new_access_key_id"] == ""
    (attempt,) = told["attempts"]
    assert attempt["leaked"] == told["old"]["access_key_id"] == ops.key().access_key_id
    assert attempt["error"] == vm.audit("rotation_ended")[0]["error"]
    assert (attempt["steps"][-1]["name"], attempt["steps"][-1]["outcome"]) == ("rotate", "failed")


def interrupted(
    vm: Vm, number: signal.Signals, ready: Callable[[], object], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a command and send it a signal once something is so."""
    command = [*KEYTURN, "--config", str(vm.config), *arguments]
    process = subprocess.Popen(command, env=vm.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        eventually(ready)
        process.send_signal(number)
        if number == signal.SIGHUP:
            process.send_signal(number)  # as the kernel does, and the shell
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@pytest.mark.parametrize(
    ("with_daemon", "number"),
    [(True, signal.SIGINT), (False, signal.SIGINT), (True, signal.SIGHUP), (True, signal.SIGTERM)],
)
def test_an_interruption_leaves_a_document_of_what_was_done_so_far(
    ops: Ops, with_daemon: bool, number: signal.Signals
) -> None:
    """With a daemon it goes on, and the document says that it has no end yet; without one it was stopped."""
    vm, file = ops.vm, ops.vm.directory / "a.json"
    ops.configure()
    if with_daemon:
        vm.daemon().ready()
    else:
        assert vm.keyturn("once").returncode == EXIT_DONE
    vm.cloud.fail_next(503, times=1000, action="RotateSecret")
    done = interrupted(
        vm,
        number,
        lambda: any(call.action == "RotateSecret" for call in vm.cloud.calls),
        *("rotate", "uploader", "--reason", "x", "--disable-old", "--report", str(file)),
    )
    assert done.returncode == 130
    told = json.loads(file.read_text())
    (attempt,) = told["attempts"]
    assert attempt["steps"][0]["name"] == "preflight"
    assert told["old"]["refused_at"] is None
    assert (attempt["ended_at"] is None) is with_daemon
    assert told["basis"]["log"]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, so it wants root")
def test_who_may_rotate_but_not_read_the_log_gets_what_the_command_was_told(public_vm: Vm) -> None:
    """A member of the control group: the document is made of the result, and says that the log was not read."""
    ops = Ops(public_vm)
    vm, out = ops.vm, ops.vm.directory / "out"
    out.mkdir()
    out.chmod(0o777)
    vm.config.touch()
    vm.config.chmod(0o644)
    ops.configure(agent='control_group = "nogroup"')
    vm.daemon().ready()
    for place in (vm.state, vm.log_directory):
        place.chmod(0o700)
    old = ops.key().access_key_id
    file = out / "a.json"
    leaked = ops.key().access_key_secret
    rotate = ("rotate", "uploader", "--reason", f"posted {leaked}", "--disable-old", "--report", str(file))
    done = vm.keyturn_as(4242, *rotate, groups=[65534])
    assert done.returncode == EXIT_DONE, done.stderr
    told = json.loads(file.read_text())
    assert file.stat().st_uid == 4242
    assert (told["basis"]["log"], told["basis"]["whole"]) == ("", None)
    assert "may not read" in told["basis"]["why_not"]
    assert (told["old"]["access_key_id"], told["old_key_is"]) == (old, "seen refused")
    (attempt,) = told["attempts"]
    assert (attempt["actor"]["uid"], attempt["reason"]) == (4242, vm.audit("rotation_requested")[0]["reason"])
    assert leaked not in file.read_text()
    assert attempt["steps"][-1]["name"] == "prove_refused"
    refused_ms = vm.audit("rotation_ended")[0]["steps"][-1]["at_ms"]
    assert abs(told["exposure_ms"]["to_refused"] - refused_ms) < 5000


def test_a_session_and_what_is_built_on_a_key(ops: Ops) -> None:
    """The emergency of a session has honest words; that of its base names the session that moved with the key."""
    vm = ops.vm
    vm.cloud.allow("uploader", "sts:AssumeRole")
    vm.cloud.add_role("app", trusted=["uploader"])
    role = f'type = "ram_role_arn"\nrole_arn = "{vm.cloud.role_arn("app")}"\nbase = "uploader"\n'
    ops.configure(vm.credential("app", provider=role, sinks=vm.env("app")))
    daemon = vm.daemon().ready()
    old = vm.status()["credentials"]["app"]
    vm.keyturn("rotate", "app", "--reason", "token in a log")
    told = json.loads(vm.keyturn("audit", "incident", "--credential", "app", "--format", "json").stdout)
    assert told["old"]["access_key_id"] == old["access_key_id"]
    assert at(told["old"]["expires_at"]) == at(old["expires_at"])
    assert (told["old_key_is"], told["exposure_ms"]["to_refused"]) == ("replaced, not disabled", None)
    text = vm.keyturn("audit", "incident", "--credential", "app").stdout
    assert "A session cannot be ended" in text
    assert "GetAccessKeyLastUsed" not in text
    assert vm.keyturn("rotate", "uploader", "--reason", "x", "--disable-old").returncode == EXIT_DONE
    told = json.loads(vm.keyturn("audit", "incident", "--format", "json").stdout)
    assert "app" in [name for name, _generation in told["moved"]]
    assert daemon.stop() == 0


def test_an_emergency_that_the_daemon_stops_amid_leaves_its_end(ops: Ops) -> None:
    """SIGTERM while KMS is asked again and again: `rotation_ended` is in the log before `agent_stopped`."""
    vm = ops.vm
    ops.configure()
    daemon = vm.daemon().ready()
    vm.cloud.fail_next(503, times=1000, action="RotateSecret")
    command = [*KEYTURN, "--config", str(vm.config), "rotate", "uploader", "--reason", "x"]
    with subprocess.Popen(command, env=vm.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as rotate:
        eventually(lambda: any(call.action == "RotateSecret" for call in vm.cloud.calls))
        assert daemon.stop() == 0
        rotate.wait(PATIENCE_S)
    assert [record["event"] for record in vm.audit()][-2:] == ["rotation_ended", "agent_stopped"]
