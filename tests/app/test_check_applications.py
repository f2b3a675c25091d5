"""What keeps an application from its key though keyturn itself is well: `check` says it, and what it says to type mends it."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent.system.accounts import Account
from agent.system.passage import READ, SEARCH, allows
from tests.support.vm import Vm, quoted

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else")

USER = "nobody"
SERVE = f'[credentials.uploader.serve]\nusers = ["{USER}"]\n'
ENDPOINT = '[agent.endpoint]\nlisten = "127.0.0.1:18911"\n'


def external(path: Path, more: str = "") -> str:
    return f'[[credentials.uploader.sinks]]\ntype = "aliyun_cli"\nprofile_mode = "External"\npath = {quoted(path)}\n{more}\n'


def uri(path: Path, more: str = "") -> str:
    return f'[[credentials.uploader.sinks]]\ntype = "credentials_uri"\npath = {quoted(path)}\n{more}\n'


def warnings(vm: Vm, *, level: str = "warning") -> list[dict[str, Any]]:
    found = json.loads(vm.keyturn("check", "--offline", "--json").stdout)["findings"]
    return [one for one in found if one["level"] == level]


def of_user(vm: Vm) -> list[dict[str, Any]]:
    return [one for one in warnings(vm) if f"user {USER}" in one["text"]]


def typed(remedy: str) -> None:
    subprocess.run(["sh", "-ec", remedy.strip("`")], check=True, stdout=subprocess.DEVNULL)


def test_a_closed_directory_is_named_at_once_and_opened_by_the_command(public_vm: Vm) -> None:
    """To the application with 77, and no more is waited for; to `check` before that: the same directories, by root's look."""
    vm = public_vm
    vm.configure(vm.credential(notify=SERVE))
    assert of_user(vm) == []
    vm.run_directory.mkdir(exist_ok=True)
    for closed in (vm.directory, vm.run_directory):
        closed.chmod(0o700)
    asked = vm.keyturn_as(pwd.getpwnam(USER).pw_uid, "credential", "uploader")
    assert (asked.returncode, asked.stdout) == (77, "")
    assert f"`chmod a+x {vm.directory}`" in asked.stderr and USER in asked.stderr
    said = of_user(vm)
    assert [one["place"] for one in said] == ["agent.runtime_directory", str(vm.config)]
    assert said[0]["remedy"] == f"`chmod a+x {vm.directory} {vm.run_directory}`"
    for one in said:
        typed(one["remedy"])
    vm.config.chmod(0o600)
    (unread,) = of_user(vm)
    typed(unread["remedy"])
    assert of_user(vm) == [] and vm.config.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("kind", [external, uri], ids=["External", "credentials_uri"])
def test_a_file_that_leads_to_keyturn_is_readable_and_its_owners(public_vm: Vm, kind: Any) -> None:
    """By the owner, group and mode of the config; whoever has the file and is not served is named."""
    vm = public_vm
    path = vm.app / "leads"

    def said(more: str) -> list[str]:
        vm.configure(vm.agent() + ENDPOINT + vm.credential(sinks=kind(path, more) + SERVE))
        return [one["remedy"] for one in warnings(vm) if one["place"].endswith("sinks[0]") and USER in one["text"]]

    (remedy,) = said('mode = "0600"')
    assert remedy == 'set `group = "nogroup"` and `mode = "0640"` there'
    assert said('group = "nogroup"\nmode = "0640"') == []
    (remedy,) = said('group = "daemon"\nmode = "0640"')
    assert remedy.startswith(f"`usermod -aG daemon {USER}`")
    vm.configure(vm.agent() + ENDPOINT + vm.credential(sinks=kind(path, 'owner = "daemon"\nmode = "0640"') + SERVE))
    assert any('add "daemon" to `users` of [credentials.uploader.serve]' in one["remedy"] for one in warnings(vm))


def test_no_daemon_is_a_warning_where_applications_ask(vm: Vm) -> None:
    """One, and none where nobody asks, or where it runs."""

    def said() -> list[str]:
        return [one["remedy"] for one in warnings(vm) if one["place"] == "daemon"]

    vm.configure(vm.credential())
    assert said() == []
    for asked in (vm.credential(notify=SERVE), vm.agent() + ENDPOINT + vm.credential()):
        vm.configure(asked)
        (remedy,) = said()
        assert remedy.endswith(f"--config {vm.config} run`")
    vm.configure(vm.credential(notify=SERVE))
    vm.daemon().ready()
    assert said() == []


def test_the_command_ends_a_key_in_clear(public_vm: Vm) -> None:
    """The SDK wrote it twice, so it was let be: after the command as it is typed it is gone, and the file is keyturn's."""
    vm = public_vm
    path = vm.directory / "aliyun" / "config.json"
    path.parent.mkdir()
    os.chown(path.parent, 65534, 65534)
    vm.configure(vm.credential(sinks=external(path, 'group = "nogroup"\nmode = "0640"') + SERVE))
    vm.daemon().ready()

    def write_back() -> None:
        config = json.loads(path.read_bytes())
        config["profiles"][0] |= {"access_key_id": "LTAI5tClear", "access_key_secret": "clear", "sts_token": ""}
        path.unlink()
        path.write_text(json.dumps(config))
        os.chown(path, 65534, 65534)
        path.chmod(0o600)

    for left in (False, True):
        write_back()
        vm.keyturn("refresh", "uploader")
        assert ("clear" in path.read_text()) is left
    (error,) = [one for one in warnings(vm, level="error") if "in clear" in one["text"]]
    typed(error["remedy"])
    assert "clear" not in path.read_text()
    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, 65534, 0o640)
    assert not any("in clear" in one["text"] for one in [*warnings(vm), *warnings(vm, level="error")])


def test_the_first_class_of_a_mode_that_a_user_is_in_decides() -> None:
    """An owner whom the mode shuts out is shut out, though others may (path_resolution(7))."""
    user = Account("app", 7, 8, (8, 9), "/")
    assert not allows((7, 8), 0o077, READ, user) and not allows((1, 9), 0o707, SEARCH, user)
    assert allows((1, 1), 0o701, SEARCH, user) and allows((1, 9), 0o640, READ, user)
    assert allows((1, 1), 0o000, READ, user._replace(uid=0))
