"""`keyturn adopt` as an operator runs it: the look, the question on a terminal, and what the daemon does with the answer."""

from __future__ import annotations

import json
import os
import pty
import subprocess

import pytest

from tests.support.processes import KEYTURN
from tests.support.vm import Vm, eventually, quoted

ACTIONS = ("ListAccessKeys", "GetAccessKeyLastUsed", "CreateAccessKey", "UpdateAccessKey", "DeleteAccessKey")


@pytest.fixture
def key_id(vm: Vm) -> str:
    """A VM whose file has a key of RAM user `reporter` that somebody copied there."""
    vm.cloud.add_user("ops", *(f"ram:{action}" for action in ACTIONS))
    vm.cloud.add_user("reporter")
    ops, key = vm.cloud.add_access_key("ops"), vm.cloud.add_access_key("reporter")
    lines = f"access_key_id = {key.access_key_id}\naccess_key_secret = {key.access_key_secret}\n"
    files = {
        vm.ini_path("reporter"): f"[default]\ntype = access_key\n{lines}",
        vm.directory / "id": ops.access_key_id,
        vm.directory / "secret": ops.access_key_secret,
    }
    for path, text in files.items():
        path.touch(mode=0o600)
        path.write_text(text)
    provider = f"""\
type = "ram_user"
ram_user_name = "reporter"
owner = true
[credentials.reporter.provider.authority]
type = "access_key"
access_key_id_from_file_path = {quoted(vm.directory / "id")}
access_key_secret_from_file_path = {quoted(vm.directory / "secret")}
"""
    vm.configure(vm.credential("reporter", provider=provider, sinks=vm.ini("reporter")))
    return key.access_key_id


def asked(vm: Vm, answer: bytes) -> subprocess.CompletedProcess[str]:
    """The command on a terminal, where somebody types this."""
    ours, theirs = pty.openpty()
    os.write(ours, answer)
    command = [*KEYTURN, "--config", str(vm.config), "adopt", "reporter"]
    done = subprocess.run(command, stdin=theirs, capture_output=True, text=True, env=vm.environ, cwd="/", check=False)
    os.close(ours)
    os.close(theirs)
    return done


def test_the_daemon_takes_the_key_after_a_yes(vm: Vm, key_id: str) -> None:
    """No does nothing; yes has the daemon publish it at once, and wait for its calendar instead of for an operator."""
    vm.daemon().ready()
    assert vm.status()["credentials"]["reporter"]["generation"] == 0
    no = asked(vm, b"n\n")
    assert no.returncode != 0 and "nothing was done" in no.stderr
    assert key_id in no.stdout and "what will be done" in no.stdout
    assert "ram:CreateAccessKey" in no.stdout and "keyturn policy --credential reporter" in no.stdout
    assert vm.audit("key_adopted") == []
    yes = asked(vm, b"y\n")
    assert yes.returncode == 0, yes.stderr
    assert f"Take {key_id} of RAM user reporter under rotation?" in yes.stderr
    assert vm.status()["credentials"]["reporter"]["access_key_id"] == key_id

    def rests() -> bool:
        seen = vm.status()["credentials"]["reporter"]["rotation"]
        return bool(seen["next_at"] and not seen["stopped"] and not seen["waits_for"])

    eventually(rests, "the rotation to wait for nothing but its time")
    assert [one["access_key_id"] for one in vm.audit("key_adopted")] == [key_id]
    again = json.loads(vm.keyturn("adopt", "reporter", "--yes", "--json").stdout)
    assert (again["already"], again["adopted"], again["exit_code"]) == (True, False, 0)


def test_without_a_daemon_the_command_does_it_itself(vm: Vm, key_id: str) -> None:
    """With --json one object and nothing else; a refusal is in it, with the exit code."""
    look = vm.keyturn("adopt", "reporter", "--dry-run", "--json")
    assert (look.returncode, json.loads(look.stdout)["access_key_id"], vm.state.exists()) == (0, key_id, False)
    stranger = vm.cloud.add_access_key("reporter")
    refused = vm.keyturn("adopt", "reporter", "--yes", "--json")
    said = json.loads(refused.stdout)
    assert (refused.returncode, said["adopted"], stranger.access_key_id in said["error"]) == (1, False, True)
    assert vm.keyturn("adopt", "reporter", "--yes").returncode == 1
    vm.cloud.delete_access_key(stranger.access_key_id)
    taken = vm.keyturn("adopt", "reporter", "--yes", "--json")
    assert (taken.returncode, json.loads(taken.stdout)["generation"]) == (0, 1)
    unknown = vm.keyturn("adopt", "nobody", "--json")
    assert (unknown.returncode, json.loads(unknown.stdout)["exit_code"]) == (2, 2)
