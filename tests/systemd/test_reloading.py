"""`systemctl reload keyturn`: a good config is taken over, a bad one refused; and what a reload cannot change."""

from __future__ import annotations

from bed_machine import CLIENT_KEY, CONFIG, INI, PASSWORD_FILE, UNIT, Machine, eventually

ADDED = """\
[[credentials.uploader.sinks]]
type = "json"
path = "/etc/uploader/added.json"
"""


def reload(machine: Machine) -> None:
    """It succeeds as a job whatever comes of it: the unit goes on."""
    done = machine.systemctl("reload", UNIT)
    assert done.returncode == 0, done.both


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
    """`systemctl reload` leaves the unit active; an error line and the audit name the key; a rotation is followed as before."""
    pid, since = running.pid, running.cursor()
    good = running.bed.read(CONFIG)
    running.bed.write(CONFIG, good.replace("poll_interval", "pol_interval"), 0o640)
    reload(running)
    assert (running.pid, running.show("ActiveState"), running.show("SubState")) == (pid, "active", "running")
    (line,) = running.journal(since, "-o", "cat", "-p", "err").splitlines()
    assert "refused" in line and "pol_interval" in line and "poll_interval" in line
    (record,) = running.audit("config_rejected")
    assert "pol_interval" in record["error"]
    newest = running.cloud.rotate()
    running.picked_up(newest)
    eventually(lambda: running.show("StatusText") == "1 of 1 credentials fresh")


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
        reload(running)
        assert len(running.journal(since, "-o", "cat", "-p", "err").splitlines()) == 1, name
        assert len(running.audit("config_rejected")) == count, name
        running.configure()
    assert running.pid == pid
    assert running.bed.read(CONFIG) == good
    reload(running)
    assert len(running.audit("config_reloaded")) == 1


def test_reload_does_not_take_a_changed_client_key_and_a_restart_does(running: Machine) -> None:
    """LoadCredential= is read at the start of a unit (systemd.exec(5)): a reload goes on with the old ClientKey.

    So a ClientKey is exchanged by `systemctl restart keyturn`, while the old one is still good: nobody notices. A key
    that is no good any more fails the credential, with the value on disk in use, until the restart.
    """
    password = "Bb2!another-password-of-a-client-key"
    running.bed.write(CLIENT_KEY, running.cloud.new_client_key(password=password), 0o600)
    running.bed.write(PASSWORD_FILE, password, 0o600)
    since = running.cloud.number()
    reload(running)
    eventually(lambda: len(running.cloud.calls("GetSecretValue", since)) > 1)
    (old,) = {call["access_key_id"] for call in running.cloud.calls("GetSecretValue")}
    running.cloud.disable_old_client_keys()
    eventually(lambda: "failing" in running.show("StatusText"))
    assert running.systemctl("restart", UNIT).returncode == 0
    eventually(lambda: running.cloud.calls("GetSecretValue")[-1]["access_key_id"] != old)
    eventually(lambda: running.show("StatusText") == "1 of 1 credentials fresh")
    newest = running.cloud.rotate()
    running.picked_up(newest)


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
