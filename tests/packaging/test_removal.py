"""Removal and purge of the package on a machine with a real systemd: what goes, what stays, and that it is nobody's lever."""

from __future__ import annotations

import pytest

from tests.support.systemd.dpkg import CONFIG, INI, SINK, configure, install, shown, status

LEFT = "keyturn: these hold credentials of applications and are left alone; nobody keeps them fresh from now on:\n"
TIMER, WANTED = "keyturn-once.timer", "/etc/systemd/system/timers.target.wants/keyturn-once.timer"
VICTIM = "/root/victims/keyturn.prom"
WHO_ASKS = """
import os, socket, sys
os.makedirs("/run/keyturn", exist_ok=True)
server = socket.socket(socket.AF_UNIX)
server.bind("/run/keyturn/control.sock")
server.listen()
os.system("systemd-notify --ready")
server.accept()
open("/var/lib/keyturn/asked", "w")
"""


def test_removal_leaves_the_secrets_and_says_so_and_purge_its_own(machine):
    """Removed: stopped, sinks named and left, config and state kept for a return. Purged: those gone, the audit log told of."""
    install(machine)
    machine.do("ln", "-s", "/srv/app", "/srv/link")
    configure(machine, CONFIG.replace(INI, "/srv/link/credentials.ini"))
    machine.do("systemctl", "start", "keyturn", timeout_s=120)
    machine.write("/etc/systemd/system/keyturn.service.d/60-mine.conf", "[Service]\nNice=1\n")
    secret = machine.read(SINK)
    said = machine.do("dpkg", "--remove", "keyturn")
    assert f"{LEFT}  {INI}\n  {SINK}\n" in said, said
    assert machine.read(SINK) == secret
    assert machine.run("pgrep", "-u", "keyturn").returncode == 1
    assert not (machine.root / "usr/lib/keyturn").exists()
    assert machine.read("/etc/keyturn/keyturn.toml")

    install(machine)
    assert shown(machine, "ActiveState") == "active"
    assert status(machine)["credentials"]["app"]["generation"] == 1
    assert machine.do("find", "/var/lib", "-maxdepth", "1", "-name", "keyturn*") == "/var/lib/keyturn\n"

    machine.do("systemctl", "enable", TIMER)
    said = machine.do("dpkg", "--purge", "keyturn")
    assert f"  {SINK}\n" in said and "the audit log is evidence and stays in /var/log/keyturn" in said
    assert machine.read(SINK) == secret
    left = machine.do("find", "/etc", "/run", "/usr", "/var", "-name", "*keyturn*")
    mine = {"/var/log/keyturn", "/etc/systemd/system/keyturn.service.d"}
    assert set(left.splitlines()) == mine
    assert machine.do("ls", "/etc/systemd/system/keyturn.service.d") == "60-mine.conf\n"
    assert (machine.root / "var/log/keyturn/audit.jsonl").exists()


def test_removal_gives_the_service_s_user_nothing(machine):
    """Root writes nowhere in keyturn's directories, follows none of its links, and asks nobody who runs as keyturn."""
    install(machine)
    configure(machine)
    machine.do("systemctl", "start", "keyturn", timeout_s=120)
    machine.do("systemctl", "stop", "keyturn")
    machine.do("install", "-d", "-o", "keyturn", "/run/keyturn")
    own = ["--property=User=keyturn", "--property=Type=notify", "--property=NotifyAccess=all"]
    machine.do("systemd-run", "--unit=impostor", *own, "/usr/bin/python3", "-c", WHO_ASKS)
    machine.write(VICTIM, "root's\n")
    machine.do("ln", "-s", VICTIM, "/var/lib/keyturn/left-behind", user="keyturn")
    machine.do("dpkg", "--remove", "keyturn")
    assert machine.read(VICTIM) == "root's\n"
    assert machine.do("find", "/var/lib/keyturn", "/srv/app", "-user", "root") == ""
    assert not (machine.root / "var/lib/keyturn/asked").exists()


def test_a_name_is_one_line(machine):
    """A directory whose name the service's user chose puts no line of its own into what root is told, or acts upon."""
    install(machine)
    odd = "/srv/app/x\n/etc/keyturn/y\x1b[2J"
    configure(machine, CONFIG.replace(SINK, "/srv/app/link/c.json"))
    machine.do("mkdir", "-p", odd, user="keyturn")
    machine.do("ln", "-s", odd, "/srv/app/link", user="keyturn")
    said = machine.do("dpkg", "--purge", "keyturn")
    assert f"{LEFT}  {INI}\n  /srv/app/x\\n/etc/keyturn/y\\x1b[2J/c.json\n" in said, said
    assert not (machine.root / "etc/keyturn").exists()


def test_a_removed_package_leaves_no_figures_that_grow_old(machine):
    """node_exporter's file goes at a removal, since nobody will renew it; at an upgrade and a mere stop it stays."""
    figures = "/srv/metrics/keyturn.prom"
    install(machine)
    machine.do("install", "-d", "-o", "keyturn", "/srv/metrics")
    configure(machine, f'[agent]\nmetrics_textfile = "{figures}"\n{CONFIG}')
    machine.do("systemctl", "start", "keyturn", timeout_s=120)
    install(machine, "newer.deb")
    machine.do("systemctl", "stop", "keyturn")
    assert "keyturn_build_info" in machine.read(figures)
    assert "metrics" not in machine.do("dpkg", "--remove", "keyturn")
    assert not (machine.root / figures.lstrip("/")).exists()


def test_the_figures_are_removed_with_the_rights_of_the_service_s_user(machine):
    """A link in their place leads nowhere where keyturn may not remove a file itself; root is told of the link."""
    install(machine)
    configure(machine, f'[agent]\nmetrics_textfile = "/srv/app/metrics/keyturn.prom"\n{CONFIG}')
    machine.write(VICTIM, "root's\n")
    machine.do("ln", "-s", "/root/victims", "/srv/app/metrics", user="keyturn")
    said = machine.do("dpkg", "--remove", "keyturn")
    assert machine.read(VICTIM) == "root's\n"
    assert "is left, since a link leads to it; to see where: readlink -f '/srv/app/metrics/keyturn.prom'\n" in said


def test_root_is_told_to_remove_the_figures_that_keyturn_may_not(machine):
    """As in a directory of root's, where only the service's capability could write; the command works as it is typed."""
    install(machine)
    machine.write("/srv/node exporter/keyturn.prom", "old\n")
    configure(machine, f'[agent]\nmetrics_textfile = "/srv/node exporter/keyturn.prom"\n{CONFIG}')
    said = machine.do("dpkg", "--remove", "keyturn")
    _text, _colon, remedy = said.partition("keyturn may not remove its metrics file: ")
    machine.do("sh", "-c", remedy.partition("\n")[0])
    assert not (machine.root / "srv/node exporter/keyturn.prom").exists()


def test_sinks_of_a_config_elsewhere_and_below_a_variable_are_named(machine):
    """The config that the service was given is read, with the variables that the unit sets."""
    install(machine)
    configure(machine)
    machine.do("mv", "/etc/keyturn/keyturn.toml", "/etc/other.toml")
    text = CONFIG.replace(SINK, "${STATE_DIRECTORY}/app/c.json")
    machine.write("/etc/other.toml", text, 0o640)
    machine.do("install", "-d", "-o", "keyturn", "/var/lib/keyturn/app")
    machine.do(
        "env", "STATE_DIRECTORY=/var/lib/keyturn", "keyturn", "--config=/etc/other.toml", "systemd-setup", "--install"
    )
    machine.do("systemctl", "start", "keyturn", timeout_s=120)
    said = machine.do("dpkg", "--purge", "keyturn")
    assert f"{LEFT}  {INI}\n  /var/lib/keyturn/app/c.json\n" in said, said
    assert "left as it is, because a sink's file lies in it: /var/lib/keyturn\n" in said
    assert machine.read("/var/lib/keyturn/app/c.json")


@pytest.mark.parametrize("known_by", ["the list of prerm", "the config"])
def test_purge_never_removes_a_sink(machine, known_by):
    """Even one that lies among keyturn's own files, reached by a link; or whose list got lost, when the config names it."""
    install(machine)
    machine.do("install", "-d", "-o", "keyturn", "/var/lib/keyturn/app")
    machine.do("ln", "-s", "/var/lib/keyturn/app", "/srv/link")
    place = "/srv/link" if known_by == "the list of prerm" else "/var/lib/keyturn/app"
    configure(machine, CONFIG.replace("/srv/app", place))
    machine.do("systemctl", "start", "keyturn", timeout_s=120)
    secret = machine.read("/var/lib/keyturn/app/credentials.json")
    machine.do("dpkg", "--remove", "keyturn")
    if known_by == "the config":
        machine.do("rm", "/var/lib/keyturn.left-behind")
    said = machine.do("dpkg", "--purge", "keyturn")
    assert "keyturn: left as it is, because a sink's file lies in it: /var/lib/keyturn" in said
    assert secret and machine.read("/var/lib/keyturn/app/credentials.json") == secret
    assert not (machine.root / "etc/keyturn").exists()


def test_who_runs_it_by_the_timer_finds_the_timer_again(machine):
    """Removed and installed again: the timer runs, and not the daemon that was disabled for it."""
    install(machine)
    configure(machine)
    machine.do("systemctl", "disable", "--now", "keyturn")
    machine.do("systemctl", "enable", "--now", TIMER)
    machine.do("dpkg", "--remove", "keyturn")
    install(machine)
    assert (shown(machine, "ActiveState", TIMER), shown(machine, "UnitFileState", TIMER)) == ("active", "enabled")
    assert (shown(machine, "ActiveState"), shown(machine, "UnitFileState")) == ("inactive", "disabled")
    machine.do("dpkg", "--purge", "keyturn")
    install(machine)
    assert shown(machine, "UnitFileState", TIMER) == "disabled" and not (machine.root / WANTED.lstrip("/")).is_symlink()
