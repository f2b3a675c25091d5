"""At three in the morning somebody has left half a config on disk, and the daemon runs."""

from __future__ import annotations

import json

from agent.control import client
from tests.support.vm import Vm


def test_the_daemon_is_reached_although_the_config_on_disk_is_broken(vm: Vm) -> None:
    """status, refresh and rotate work through the daemon, and say what is wrong with the file."""
    vm.configure(vm.credential())
    daemon = vm.daemon().ready()
    vm.config.write_text(vm.config.read_text().replace('type = "kms_secret"', 'type = "kms_secert"'))
    for words, code in (
        (["status", "--json"], 0),
        (["refresh", "--json"], 0),
        (["rotate", "uploader", "--reason", "leak", "--json"], 2),
    ):
        done = vm.keyturn(*words)
        assert done.returncode == code, done.stderr
        assert "the config on disk cannot be used" in done.stderr and "kms_secert" in done.stderr
        assert json.loads(done.stdout)
    assert "emergency is not configured" in json.loads(done.stdout)["error"]
    daemon.stop()
    assert vm.keyturn("status").returncode == 78


def test_a_rotation_that_cannot_begin_prints_its_object(vm: Vm) -> None:
    """`rotate --json` prints one object on every failure, its error and exit code those of the sentence."""
    vm.configure(vm.credential())
    for daemon_runs in (False, True):
        if daemon_runs:
            vm.daemon().ready()
        done = vm.keyturn("rotate", "uplaoder", "--reason", "leak", "--json")
        assert done.returncode == 2
        result = json.loads(done.stdout)
        assert "did you mean uploader" in result["error"]
        assert (result["credential"], result["safe"], result["steps"]) == ("uplaoder", False, [])


def test_each_answer_says_when_the_config_was_read(vm: Vm) -> None:
    """Where the file is older, a command need not judge it, for which it would import the engine: an emergency is waited for."""
    vm.configure(vm.credential())
    vm.daemon().ready()
    for request in ({"command": "refresh"}, {"command": "rotate", "credential": "uploader", "reason": "leak"}):
        assert client.ask(vm.run_directory, request)[0]["config_loaded_at"]
