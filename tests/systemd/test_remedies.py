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
        found = [line.split("`")[1] for line in done.stdout.splitlines() if "install -d" in line]
        (remedy,) = set(found)  # of the error, and of what to do first
        machine.bed.do("sh", "-c", remedy)
        machine.start()
        assert machine.cloud.current() in machine.bed.read("/srv/made/x.json")
    finally:
        machine.bed.do("rm", "-rf", "/srv/made")
        machine.configure()
        machine.setup()


def test_once_by_root_is_sent_to_what_does_it(machine: Machine) -> None:
    """Without a daemon, to one pass as the service; beside one, to `refresh`: never back to itself."""
    refused = machine.keyturn("once")
    machine.bed.do("sh", "-c", in_remedy(refused.stderr))
    assert machine.audit("published")
    machine.start()
    for names in ([], ["uploader"]):
        refused = machine.keyturn("once", *names)
        assert refused.returncode == 1 and "systemctl start keyturn" not in refused.stderr, refused.both
        assert in_remedy(refused.stderr) == " ".join(["keyturn refresh", *names])
        assert "uploader: unchanged" in machine.bed.do("sh", "-c", in_remedy(refused.stderr))


def test_audit_before_the_first_start_is_sent_to_the_service(machine: Machine) -> None:
    """And not to `keyturn once`, which root may not run here."""
    refused = machine.keyturn("audit", "show")
    machine.bed.do("sh", "-c", in_remedy(refused.stderr))
    assert "agent_started" in machine.keyturn("audit", "show").stdout


def test_a_part_that_is_no_secret_is_missing_too(machine: Machine) -> None:
    """The mark that systemd hands over is no AccessKey id: `check` and the daemon name the file."""
    machine.configure(
        '[credentials.other]\nverify = "off"\n[credentials.other.provider]\ntype = "access_key"\n'
        'access_key_id_from_file_path = "${CREDENTIALS_DIRECTORY}/other-id"\n'
        'access_key_secret_from_file_path = "${CREDENTIALS_DIRECTORY}/other-secret"\n'
        '[[credentials.other.sinks]]\ntype = "json"\npath = "/etc/uploader/other.json"\n'
    )
    try:
        machine.setup()
        machine.bed.write("/etc/keyturn/other-secret", "s" * 30, 0o600)
        machine.start()
        assert not machine.bed.read("/etc/uploader/other.json")
        done = machine.keyturn("check", "--offline")
        assert done.returncode == 1 and "/etc/keyturn/other-id: this file is missing" in done.stdout, done.both
    finally:
        machine.bed.do("rm", "-f", "/etc/keyturn/other-secret")
        machine.configure()
        machine.setup()


def in_remedy(said: str) -> str:
    """The first command between backquotes."""
    return said.split("`")[1]
