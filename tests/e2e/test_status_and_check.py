"""The commands that look, and who may use the daemon's socket."""

from __future__ import annotations

import grp
import json
import os
import stat
from pathlib import Path

import pytest

from tests.support.golden import Golden, anywhere
from tests.support.vm import Vm, eventually, quoted

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="plays another user, which needs root")

STRANGER = 64321
"""A number that no account has: the kernel needs none."""

AGENT = {
    "version",
    "pid",
    "started_at",
    "config",
    "config_loaded_at",
    "config_refused_at",
    "config_problems",
    "client_keys",
}
CREDENTIAL = {
    "provider",
    "state",
    "generation",
    "access_key_id",
    "version_id",
    "expires_at",
    "published_at",
    "key_made_at",
    "alarms",
    "verified",
    "last_success_at",
    "next_refresh_at",
    "consecutive_failures",
    "last_error",
    "sinks",
    "notify",
    "clients",
}


def test_status_as_json_has_exactly_the_keys_of_the_contract(vm: Vm) -> None:
    """With a daemon (0) and without (69, from the state on disk): the same keys, no more and no less, and no secret."""
    vm.configure(vm.credential(notify=vm.hook(["/bin/true"])))
    daemon = vm.daemon().ready()
    eventually(lambda: "notified" in vm.events())
    live = vm.keyturn("status", "--json")
    assert live.returncode == 0
    daemon.stop()
    dead = vm.keyturn("status", "--json")
    assert dead.returncode == 69
    key = vm.cloud.current_key("uploader-ak")
    for done in (live, dead):
        whole = json.loads(done.stdout)
        assert set(whole) == {"agent", "credentials"}
        assert set(whole["agent"]) == AGENT
        one = whole["credentials"]["uploader"]
        assert set(one) == CREDENTIAL
        assert all(set(sink) == {"type", "target", "in_sync"} for sink in one["sinks"])
        assert all(set(each) == {"type", "target", "owed", "last_outcome", "pickup"} for each in one["notify"])
        assert (one["state"], one["generation"], one["access_key_id"]) == ("fresh", 1, key.access_key_id)
        assert one["last_success_at"].endswith("Z")
        assert key.access_key_secret not in done.stdout
    assert json.loads(live.stdout)["agent"]["pid"] == daemon.pid
    assert json.loads(live.stdout)["credentials"]["uploader"]["next_refresh_at"] is not None
    assert [sink["in_sync"] for sink in json.loads(live.stdout)["credentials"]["uploader"]["sinks"]] == [True, True]
    assert json.loads(dead.stdout)["agent"]["pid"] is None


def test_status_for_people_says_when_no_daemon_runs(vm: Vm) -> None:
    """Before anything ever ran, and after a daemon was killed and left its socket behind: 69, and it says so."""
    vm.configure(vm.credential())
    never = vm.keyturn("status")
    assert never.returncode == 69
    assert "not running" in never.stdout
    vm.daemon().ready().kill()
    assert (vm.run_directory / "control.sock").exists()
    after = vm.keyturn("status")
    assert after.returncode == 69
    assert "not running" in after.stdout
    assert "fresh" in after.stdout
    vm.daemon().ready()
    assert vm.keyturn("status").returncode == 0, "a dead daemon's socket is in nobody's way"


def test_status_shows_a_sink_that_somebody_changed(vm: Vm) -> None:
    """`in_sync` is looked up when it is asked for, not remembered."""
    vm.configure(vm.credential())
    vm.daemon().ready()
    vm.ini_path().write_text("[default]\n")
    sinks = vm.status()["credentials"]["uploader"]["sinks"]
    assert {Path(sink["target"].split(" ")[0]): sink["in_sync"] for sink in sinks} == {
        vm.ini_path(): False,
        vm.env_path(): True,
    }


@as_root
def test_only_root_the_agent_and_the_control_group_may_use_the_socket(public_vm: Vm) -> None:
    """A stranger is refused with 77 and a sentence, a member of the group is let in, whoever owns the socket's mode."""
    vm = public_vm
    group = next(entry for entry in grp.getgrall() if entry.gr_gid != 0)
    vm.configure(vm.agent(f'control_group = "{group.gr_name}"') + vm.credential(sinks=vm.env()))
    vm.daemon().ready()
    path = vm.run_directory / "control.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert path.stat().st_gid == group.gr_gid
    stranger = vm.keyturn_as(STRANGER, "status", "--json")
    assert stranger.returncode == 77, stranger
    assert str(path) in stranger.stderr
    assert len(stranger.stderr.splitlines()) == 1
    member = vm.keyturn_as(STRANGER, "status", "--json", groups=[group.gr_gid])
    assert member.returncode == 0, member
    path.chmod(0o666)
    forced = vm.keyturn_as(STRANGER, "refresh")
    assert forced.returncode == 77, "the kernel's word about the peer counts, not the file's mode alone"


@as_root
def test_without_the_group_the_socket_is_the_agents_alone(public_vm: Vm) -> None:
    """A `control_group` that does not exist lets in root and the agent's user, and is no error."""
    vm = public_vm
    vm.configure(vm.agent('control_group = "no-such-group-here"') + vm.credential())
    vm.daemon().ready()
    assert stat.S_IMODE((vm.run_directory / "control.sock").stat().st_mode) == 0o600
    assert vm.keyturn_as(STRANGER, "status").returncode == 77
    assert vm.keyturn("status").returncode == 0


def findings(vm: Vm, *options: str) -> tuple[int, list[dict[str, str]]]:
    done = vm.keyturn("check", "--json", *options)
    return done.returncode, json.loads(done.stdout)["findings"]


def test_check_of_a_sound_config_is_all_well_and_touches_nothing(vm: Vm) -> None:
    """0, a line for each part, no file made or changed, nobody told, no audit record."""
    heard = vm.directory / "heard"
    vm.configure(vm.credential(notify=vm.hook(["/bin/sh", "-c", f"cat >> {heard}"])))
    before = sorted(path for path in vm.directory.rglob("*"))
    code, found = findings(vm)
    assert code == 0, found
    assert not [one for one in found if one["level"] == "error"]
    assert any("fetched access_key" in one["text"] for one in found)
    assert any("STS knows it as" in one["text"] for one in found)
    assert sorted(path for path in vm.directory.rglob("*")) == before
    lines = vm.keyturn("check")
    assert lines.returncode == 0
    assert len([line for line in lines.stdout.splitlines() if line.startswith("ok ")]) == len(found) - 1
    assert (
        lines.stdout.splitlines()[-3].startswith("warning ") and lines.stdout.splitlines()[-1] == "no errors, 1 warning"
    )


def test_check_offline_makes_no_connection(vm: Vm) -> None:
    """`--offline` looks at config, files, keys and dependents without one call to anybody."""
    vm.configure(vm.credential())
    code, found = findings(vm, "--offline")
    assert code == 0, found
    assert vm.cloud.calls == []
    assert not any("fetched" in one["text"] for one in found)


def test_check_finds_every_planted_defect_at_once_and_names_a_remedy(vm: Vm, golden: Golden) -> None:
    """One run shows them all, each at its place with its remedy; one that fails hides no other; status 1."""
    for name in ("shared", "missing-dir", "gone", "locked"):
        vm.cloud.add_ram_secret(f"{name}-ak", user=name)
    loose = vm.directory / "loose.json"
    loose.write_bytes((vm.directory / "clientKey.json").read_bytes())
    loose.chmod(0o644)
    world = vm.directory / "world"
    world.mkdir()
    world.chmod(0o777)
    probe = world / "probe"
    probe.write_text("#!/bin/sh\n")
    probe.chmod(0o755)
    own_key = quoted(vm.directory / "clientKey.json")
    vm.configure(
        vm.credential("loose", secret="shared-ak").replace(own_key, quoted(loose))
        + vm.credential("missing_dir", secret="missing-dir-ak", sinks=vm.ini("missing_dir", vm.app / "no" / "x.ini"))
        + vm.credential("everyone", secret="shared-ak", sinks=vm.ini("everyone", world / "x.ini"))
        + vm.credential("no_secret", secret="no-such-secret")
        + vm.credential("no_source", endpoint="127.0.0.1:1")
        + vm.credential("no_hook", notify=vm.hook(["/no/such/program"], "no_hook"))
        + vm.credential(
            "no_probe", notify=vm.hook(["/bin/true"], "no_probe") + f'pickup = {{ command = ["{probe}"] }}\n'
        )
        + vm.credential("reads_no_env", sinks=vm.env("reads_no_env"), notify=RELOAD.replace("NAME", "reads_no_env"))
    )
    code, found = findings(vm)
    assert code == 1
    troubled = {}
    for one in found:
        if one["level"] == "error":
            troubled.setdefault(one["place"].split(".")[1].split(" ")[0], one)
            assert one.get("remedy"), f"no remedy: {one}"
    assert {"loose", "missing_dir", "everyone", "no_secret", "no_source", "no_hook", "no_probe"} <= set(troubled), found
    planted = [
        troubled[name] for name in ("loose", "missing_dir", "everyone", "no_secret", "no_source", "no_hook", "no_probe")
    ]
    golden("check", {one["place"]: anywhere(f"{one['text']}; {one['remedy']}", vm) for one in planted})
    warned = [one for one in found if one["level"] == "warning" and "reads_no_env" in one["place"]]
    assert any("start" in one["text"] for one in warned), "an env file takes effect at a start only"


RELOAD = """\
[[credentials.NAME.notify]]
type = "systemd"
unit = "reader.service"
action = "reload"
"""
