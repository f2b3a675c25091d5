"""Root's `keyturn check` says what the service would meet: the same user, sandbox and credentials, and what the daemon knows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.support.systemd.machine import CONFIG, UNIT, Machine, eventually

MADE = '[[credentials.uploader.sinks]]\ntype = "json"\npath = "/srv/made/x.json"\n'


def errors(machine: Machine) -> list[dict[str, str]]:
    """What root's check is red about; its exit code says the same."""
    done = machine.keyturn("check", "--json")
    found = [one for one in json.loads(done.stdout)["findings"] if one["level"] == "error"]
    assert done.returncode == (1 if found else 0), done.both
    return found


@pytest.fixture
def spoiled(machine: Machine) -> Iterator[Machine]:
    """Put right again, whatever the test did to files."""
    yield machine
    machine.bed.do("rm", "-rf", "/srv/made")
    machine.bed.do("chown", "keyturn:uploader", "/etc/uploader")
    machine.bed.do("chown", "keyturn:keyturn", "/var/lib/keyturn", "/var/log/keyturn")
    machine.configure()
    machine.setup()


def roots_sink(machine: Machine) -> str:
    machine.bed.do("chown", "root:root", "/etc/uploader")
    return "credentials.uploader.sinks[0]"


def made_by_root(machine: Machine) -> str:
    machine.bed.do("install", "-d", "/srv/made")
    machine.configure(MADE)
    machine.setup()
    return "credentials.uploader.sinks[1]"


def roots_properties(machine: Machine) -> str:
    machine.configure(
        '[credentials.other]\nverify = "off"\n[credentials.other.provider]\ntype = "access_key"\n'
        'access_key_id_from_file_path = "/etc/keyturn/id"\naccess_key_secret_from_file_path = "/etc/keyturn/secret"\n'
        '[[credentials.other.sinks]]\ntype = "json"\npath = "/etc/uploader/other.json"\n'
    )
    machine.bed.write("/etc/keyturn/id", "LTAI5tExampleExample", 0o600)
    machine.bed.write("/etc/keyturn/secret", "s" * 30, 0o600)
    machine.setup()
    return "credentials.other.provider"


def closed_config(machine: Machine) -> str:
    machine.bed.do("chmod", "0600", CONFIG)
    return CONFIG


@pytest.mark.parametrize("spoil", [roots_sink, made_by_root, roots_properties, closed_config])
def test_what_root_may_and_the_service_may_not_is_an_error(spoiled: Machine, spoil: Callable[[Machine], str]) -> None:
    """A directory, a secret and the config itself that are root's: each at its place."""
    place = spoil(spoiled)
    assert any(one["place"].startswith(place) for one in errors(spoiled)), spoiled.keyturn("check").both


def test_what_the_service_may_and_root_would_not_trust_is_none(spoiled: Machine) -> None:
    """A secret of the service's own user, as the documents have it; root once said to give it to root."""
    roots_properties(spoiled)
    spoiled.bed.do("chown", "keyturn", "/etc/keyturn/id", "/etc/keyturn/secret")
    assert errors(spoiled) == []


def test_a_remedy_of_a_directory_works_when_it_is_typed(spoiled: Machine) -> None:
    """Then check is green, and the service publishes there."""
    made_by_root(spoiled)
    (found,) = errors(spoiled)
    spoiled.bed.do("sh", "-c", found["remedy"].split("`")[1])
    assert errors(spoiled) == []
    spoiled.start()
    assert spoiled.cloud.current() in spoiled.bed.read("/srv/made/x.json")


def test_what_the_daemon_knows_is_said(spoiled: Machine) -> None:
    """A refused config although the file is mended since; a credential that fails; nothing of it when all is well."""
    spoiled.start()
    spoiled.picked_up(spoiled.cloud.current())
    eventually(spoiled.told_all)
    assert errors(spoiled) == []
    good = spoiled.bed.read(CONFIG)
    spoiled.bed.write(CONFIG, good.replace("poll_interval", "pol_interval"), 0o640)
    assert spoiled.systemctl("reload", UNIT).returncode != 0
    spoiled.bed.write(CONFIG, good, 0o640)
    (found,) = errors(spoiled)
    assert found["place"] == "daemon" and "pol_interval" in found["text"]
    assert spoiled.systemctl("reload", UNIT).returncode == 0
    assert errors(spoiled) == []
    spoiled.cloud.fail(500)
    eventually(lambda: spoiled.status()["state"] == "failing")
    spoiled.cloud.clear()
    assert {one["place"] for one in errors(spoiled)} <= {"daemon"}


def test_the_config_is_the_services_however_it_is_named(spoiled: Machine) -> None:
    """In its directory without one: not a trial config that root looks at as root."""
    place = roots_sink(spoiled)
    done = spoiled.bed.run("sh", "-c", "cd /etc/keyturn && keyturn --config keyturn.toml check")
    assert done.returncode == 1 and f"error   {place}: " in done.stdout, done.both


def test_a_user_who_is_neither_is_sent_to_root(machine: Machine) -> None:
    """And not told to take the service's files away from it."""
    done = machine.bed.run("keyturn", "check", "--offline", user="friend")
    assert done.returncode == 1 and "chown" not in done.stdout, done.both
    assert [line for line in done.stdout.splitlines() if line.startswith("error")][-1].endswith(
        "`keyturn check` as root"
    )


def test_a_unit_that_cannot_be_run_is_an_error(machine: Machine) -> None:
    """Root looks all the same, and knows that it was not the service that looked."""
    machine.drop_in("User=nobody-at-all")
    (found,) = errors(machine)
    assert (found["place"], "217" in found["text"]) == ("systemd", True)


def test_two_checks_at_once_do_not_meet(machine: Machine) -> None:
    """Each has its own unit, and leaves none."""
    both = "keyturn check --offline >/tmp/a & keyturn check --offline >/tmp/b; one=$?; wait $! && exit $one"
    machine.bed.do("sh", "-c", both)
    assert "keyturn-check" not in machine.bed.do("systemctl", "list-units", "--all", "--plain", "--no-legend")
