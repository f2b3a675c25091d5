"""`systemctl reload keyturn`: a good config is taken over, a bad one refused; a rotated ClientKey comes with it."""

from __future__ import annotations

from tests.support.processes import eventually
from tests.support.systemd.machine import CLIENT_KEY, CONFIG, INI, PASSWORD_FILE, UNIT, Machine

ADDED = """\
[[credentials.uploader.sinks]]
type = "json"
path = "/etc/uploader/added.json"
"""


def reload(machine: Machine) -> None:
    """It succeeds: the config is in force."""
    done = machine.systemctl("reload", UNIT)
    assert done.returncode == 0, done.both


def refused(machine: Machine) -> None:
    """It fails as a job, and the unit goes on."""
    done = machine.systemctl("reload", UNIT)
    assert done.returncode != 0, done.both
    assert (machine.show("ActiveState"), machine.show("SubState")) == ("active", "running")


def test_a_good_config_is_in_force_when_the_reload_returns(running: Machine) -> None:
    """Another sink is written; the process and the application go on; systemd hears RELOADING=1, then READY=1, in that order."""
    pid = running.pid
    running.bed.do("systemd-analyze", "log-level", "debug")
    since = running.cursor()
    running.configure(ADDED)
    reload(running)
    running.bed.do("systemd-analyze", "log-level", "info")
    assert len(running.audit("config_reloaded")) == 1, "taken over before systemctl came back"
    eventually(lambda: running.cloud.current() in running.bed.read("/etc/uploader/added.json"))
    assert (running.pid, running.show("ActiveState")) == (pid, "active")
    words, said = ("RELOADING=1", "READY=1"), running.journal(since).splitlines()
    heard = [word for line in said for word in words if word in line]
    assert heard == ["RELOADING=1", "READY=1"]


def test_a_bad_config_is_refused_and_the_old_one_goes_on(running: Machine) -> None:
    """The reload fails, the unit goes on; log, STATUS= and audit name the key; a rotation is followed as before."""
    pid, since = running.pid, running.cursor()
    good = running.bed.read(CONFIG)
    running.bed.write(CONFIG, good.replace("poll_interval", "pol_interval"), 0o640)
    refused(running)
    assert running.pid == pid
    (line,) = [line for line in running.journal(since, "-o", "cat").splitlines() if "pol_interval" in line]
    own = [entry["MESSAGE"] for entry in running.entries(since, "-p", "err")]
    assert own == [line], "said once, as an error"
    assert "refused" in line and "pol_interval" in line and "poll_interval" in line
    (record,) = running.audit("config_rejected")
    assert "pol_interval" in record["error"]
    newest = running.cloud.rotate()
    running.picked_up(newest)
    status = "config refused, the old one stays: "
    eventually(lambda: running.show("StatusText").endswith("; 1 of 1 credentials fresh"))
    assert running.show("StatusText").startswith(status) and "pol_interval" in running.show("StatusText")
    running.bed.write(CONFIG, good, 0o640)
    reload(running)
    assert running.show("StatusText") == "1 of 1 credentials fresh"


def test_a_config_that_cannot_be_read_is_refused_too(running: Machine) -> None:
    """Gone, not TOML, not for the service's eyes: each is one line, and the unit goes on."""
    pid, good = running.pid, running.bed.read(CONFIG)
    spoils = {
        "gone": f"mv {CONFIG} {CONFIG}.away",
        "no TOML": f"echo 'no toml at all' >{CONFIG}",
        "unreadable": f"chmod 600 {CONFIG}",
    }
    for count, (name, spoil) in enumerate(spoils.items(), 1):
        since = running.cursor()
        running.bed.do("sh", "-c", spoil)
        refused(running)
        assert len(running.entries(since, "-p", "err")) == 1, name
        assert len(running.audit("config_rejected")) == count, name
        running.configure()
    assert running.pid == pid
    assert running.bed.read(CONFIG) == good
    reload(running)
    assert len(running.audit("config_reloaded")) == 1


def exchange_client_key(machine: Machine) -> str:
    """Put another ClientKey and its password where root keeps them; gives the id of the one in use till now."""
    old = machine.cloud.calls("GetSecretValue")[-1]["access_key_id"]
    password = "Bb2!another-password-of-a-client-key"
    machine.bed.write(CLIENT_KEY, machine.cloud.new_client_key(password=password), 0o600)
    machine.bed.write(PASSWORD_FILE, password, 0o600)
    return str(old)


def test_a_reload_brings_a_rotated_client_key(running: Machine) -> None:
    """The files that LoadCredential= names were replaced: the process that runs uses the new ClientKey, within one poll.

    Then the old one may go; the application notices nothing.
    """
    pid, old = running.pid, exchange_client_key(running)
    reload(running)
    eventually(lambda: running.cloud.calls("GetSecretValue")[-1]["access_key_id"] != old)
    running.cloud.disable_old_client_keys()
    running.picked_up(running.cloud.rotate())
    assert (running.pid, running.show("StatusText")) == (pid, "1 of 1 credentials fresh")
    assert len(running.audit("agent_started")) == 1


def test_a_systemd_that_hands_nothing_over_at_a_reload_is_told_of(running: Machine) -> None:
    """252 hands over, but not to the first command of a list, as another systemd may not at all: the log says what to do.

    The old ClientKey goes on until the restart, and after that nothing is said any more.
    """
    running.drop_in("ExecReload=\nExecReload=/bin/kill -HUP $MAINPID")
    old, since = exchange_client_key(running), running.cursor()
    reload(running)
    eventually(lambda: "restart keyturn" in running.journal(since, "-o", "cat"))
    said = [line for line in running.journal(since, "-o", "cat").splitlines() if "handed" in line]
    assert [line.split()[0] for line in said] == [CLIENT_KEY, PASSWORD_FILE]
    assert running.cloud.calls("GetSecretValue")[-1]["access_key_id"] == old
    running.systemctl("restart", UNIT)
    eventually(lambda: running.cloud.calls("GetSecretValue")[-1]["access_key_id"] != old)
    since = running.cursor()
    reload(running)
    eventually(lambda: len(running.audit("config_reloaded")) == 2)
    assert "handed" not in running.journal(since, "-o", "cat")


def test_a_credential_that_comes_from_elsewhere_is_compared_with_that(running: Machine) -> None:
    """`LoadCredential=client_key.json:/root/ck` beside an old file in /etc/keyturn: a reload is no restart, however often.

    When the file that is named was replaced, the process that runs gets it, as ever.
    """
    running.bed.do("cp", "-p", CLIENT_KEY, "/root/ck")
    running.drop_in("LoadCredential=client_key.json:/root/ck")
    running.systemctl("restart", UNIT)
    pid, old = running.pid, running.cloud.calls("GetSecretValue")[-1]["access_key_id"]
    running.bed.write(CLIENT_KEY, "left from before", 0o600)
    for _ in range(2):
        reload(running)
    exchange_client_key(running)
    running.bed.do("mv", CLIENT_KEY, "/root/ck")
    running.bed.write(CLIENT_KEY, "left from before", 0o600)
    reload(running)
    eventually(lambda: running.cloud.calls("GetSecretValue")[-1]["access_key_id"] != old)
    assert (running.pid, running.show("ActiveState")) == (pid, "active")
    assert len(running.audit("agent_started")) == 2, "the test's own restart, and no other"


def test_the_client_key_is_handed_over_and_lies_nowhere_else(running: Machine) -> None:
    """Only root reads the file in /etc; the service has its own copy, which no other user reads, and no other place."""
    mount = "/run/credentials/keyturn.service"
    for name, source in (("client_key.json", CLIENT_KEY), ("client_key_password", PASSWORD_FILE)):
        assert running.bed.run("cat", source, user="keyturn").returncode != 0
        assert running.bed.run("cat", f"{mount}/{name}", user="stranger").returncode != 0
        assert running.bed.run("cat", f"{mount}/{name}", user="uploader").returncode != 0
    password = running.bed.read(PASSWORD_FILE)
    environ = running.bed.do("cat", f"/proc/{running.pid}/environ")
    assert password not in environ and "CREDENTIALS_DIRECTORY=" in environ
    places = "/var/lib/keyturn /var/log/keyturn /run/keyturn /etc/uploader /var/log/journal"
    assert running.bed.run("grep", "-rlF", password, *places.split()).stdout == ""
    assert running.cloud.current() in running.bed.read(INI)
