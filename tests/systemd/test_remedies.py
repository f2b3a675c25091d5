"""On a host with the service, what keyturn says to type is typed here as it stands, and then it works."""

from __future__ import annotations

from tests.support.systemd.machine import Machine

LOG = "/var/log/keyturn/audit.jsonl"


def test_without_the_daemon_root_is_sent_to_systemd(machine: Machine) -> None:
    """`once`, `refresh`, `rotate` by root: the state is keyturn's, its credentials are the unit's; the remedy publishes."""
    for command in (("once",), ("refresh",), ("rotate", "uploader", "--reason", "x", "--yes")):
        done = machine.keyturn(*command)
        assert done.returncode == 1 and "systemctl start keyturn" in done.stderr, done.both
        assert "chown" not in done.stderr and "sudo" not in done.stderr
    machine.bed.do("systemctl", "start", "keyturn-once")
    assert machine.audit("published")
    machine.start()
    assert machine.keyturn("refresh").returncode == 0


def test_an_audit_log_of_roots_is_seen_by_check_and_mended_as_said(machine: Machine) -> None:
    """By root's `check`, by the service's, and by `run`: one `chown`, and the service starts."""
    machine.bed.do("install", "-m", "0600", "/dev/null", LOG)
    wanted = f"chown keyturn {LOG}"
    done = machine.keyturn("check", "--offline")
    assert done.returncode == 1 and wanted in done.stdout, done.both
    as_service = machine.bed.run("sh", "-c", machine.bed.do("keyturn", "systemd-setup", "--check-command"))
    assert as_service.returncode == 1 and wanted in as_service.stdout, as_service.both
    since = machine.cursor()
    assert machine.systemctl("start", "keyturn").returncode != 0
    assert wanted in machine.journal(since, "-o", "cat")
    machine.systemctl("stop", "keyturn")
    machine.bed.do("sh", "-c", wanted)
    machine.start()
    assert machine.audit("agent_started")


def test_a_missing_directory_is_made_as_said_and_the_service_writes_there(machine: Machine) -> None:
    """A sink's with the application's group, without an owner; root types what root's `check` says."""
    machine.configure(
        '[[credentials.uploader.sinks]]\ntype = "json"\npath = "/srv/made/x.json"\ngroup = "uploader"\nmode = "0640"\n'
    )
    try:
        machine.setup()
        done = machine.keyturn("check", "--offline")
        (line,) = [each for each in done.stdout.splitlines() if "install -d" in each]
        machine.bed.do("sh", "-c", line.split("`")[1])
        machine.start()
        assert machine.cloud.current() in machine.bed.read("/srv/made/x.json")
    finally:
        machine.bed.do("rm", "-rf", "/srv/made")
        machine.configure()
        machine.setup()
