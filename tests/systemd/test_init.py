"""From `keyturn init` to a rotating service, as root on a machine with the package's units: what it shows is all it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from agent.first_config.document import COMMAND, EMERGENCY_MARK
from tests.support.systemd.machine import CLOUD, CONFIG, INI, Machine

DOWNLOADS = "/root/downloads"


@pytest.fixture(scope="module")
def bare() -> Iterator[Machine]:
    """A machine of one's own, on which keyturn was installed and nothing else done."""
    made = Machine()
    made.bed.do("sh", "-euc", f"rm -rf /etc/keyturn/* /etc/uploader; install -d {DOWNLOADS}")
    for name, download in (
        ("clientKey.json", "clientKey_KAAP.json"),
        ("clientKey_password.txt", "clientKey_KAAP_Password.txt"),
    ):
        made.bed.write(f"{DOWNLOADS}/{download}", made.bed.read(f"{CLOUD}/{name}"), 0o600)
    yield made
    made.close()


def due(machine: Machine, *options: str) -> list[str]:
    """Run `init`, point its config at this machine's cloud, and return the commands that it shows, but for the emergency."""
    machine.bed.do("rm", "-f", CONFIG)
    done = machine.keyturn("init", "--secret", "uploader-ak", *options)
    assert done.returncode == 0, done.both
    text = machine.bed.read(CONFIG)
    cloud = machine.agent().partition("[cloud]\n")[2]
    region = '{ region_id = "cn-hangzhou"'
    text = text.replace("[cloud]\n", f"[cloud]\n{cloud}").replace(region, f'{region}, endpoint = "{machine.endpoint}"')
    machine.bed.write(CONFIG, text, 0o640)
    machine.bed.do("chgrp", "keyturn", CONFIG)
    shown = [line.strip() for line in done.stdout.splitlines() if line.startswith(" ")]
    assert shown == [line.removeprefix(COMMAND) for line in text.splitlines() if line.startswith(COMMAND)]
    return [command for command in shown if "operator_access_key" not in command and EMERGENCY_MARK not in command]


def paste(machine: Machine, command: str) -> None:
    """Type one command into root's shell."""
    done = machine.bed.run("sh", "-ec", f"cd {DOWNLOADS}; {command}")
    assert done.returncode == 0, f"{command}\n{done.both}"


def test_what_init_shows_is_all_it_takes(bare: Machine) -> None:
    """ClientKey, directory, unit, systemd-setup, check, start: the application, restarted for each key, signs with the newest."""
    assert bare.bed.do("stat", "-c", "%U %G %a", "/etc/keyturn").split() == ["root", "keyturn", "750"]
    commands = due(bare, "--unit", "uploader.service")
    assert bare.bed.do("stat", "-c", "%U %G %a", CONFIG).split() == ["root", "keyturn", "640"]
    for command in commands:
        paste(bare, command)
    bare.picked_up(bare.cloud.current())
    newest = bare.cloud.rotate()
    assert bare.keyturn("refresh").returncode == 0
    bare.picked_up(newest)
    assert bare.bed.do("stat", "-c", "%U %G %a", INI).split() == ["keyturn", "uploader", "640"]
    assert bare.show("Environment", "uploader.service").endswith(f"ALIBABA_CLOUD_CREDENTIALS_FILE={INI}")
    bare.systemctl("stop", "keyturn")


@pytest.mark.parametrize("reader", ["external", "env_file", "credentials_uri"])
def test_a_user_who_is_not_there_is_made_by_what_it_shows(bare: Machine, reader: str) -> None:
    """The user, the lines that wait for it, the directories: `check` then finds nothing wrong but that nothing runs yet."""
    name = f"new-{reader}".replace("_", "-")
    commands = due(bare, "--credential", name, "--for", reader)
    assert any(command.startswith("useradd") for command in commands)
    for command in commands:
        if not command.startswith(("keyturn check", "systemctl enable")):
            paste(bare, command)
    found = json.loads(bare.keyturn("check", "--json").stdout)["findings"]
    later = ("daemon", "credentials." + name + ".emergency")  # both are shown: to start it, and what can wait
    wrong = [
        one
        for one in found
        if one["level"] in ("warning", "error") and one["place"] not in later and "SDK for Node" not in one["text"]
    ]
    assert wrong == []
