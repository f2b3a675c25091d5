"""Who may do what: the service to the machine, users to the service, and nothing more than that."""

from __future__ import annotations

from tests.support.processes import eventually
from tests.support.systemd.machine import CONFIG, INI, UNIT, Machine


def test_it_runs_as_its_own_user_without_a_capability(running: Machine) -> None:
    """User keyturn, every capability set empty, no new privileges: what the application needs is done all the same."""
    facts = running.bed.do("cat", f"/proc/{running.pid}/status")
    fields = dict(line.split(":\t", 1) for line in facts.splitlines() if ":\t" in line)
    uid = running.bed.do("id", "-u", "keyturn").strip()
    assert fields["Uid"].split() == [uid] * 4
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"
    newest = running.cloud.rotate()
    running.picked_up(newest)


def test_files_and_directories_are_as_private_as_they_should_be(running: Machine) -> None:
    """State 0700 and keyturn's; config readable for it and not writable; the socket for the group; the sink as configured."""
    wanted = {
        "/var/lib/keyturn": "keyturn:keyturn 700",
        "/var/log/keyturn": "keyturn:keyturn 750",
        "/var/log/keyturn/audit.jsonl": "keyturn:keyturn 600",
        "/run/keyturn": "keyturn:keyturn 755",
        "/run/keyturn/control.sock": "keyturn:keyturn 660",
        "/etc/keyturn": "root:keyturn 750",
        CONFIG: "root:keyturn 640",
        INI: "keyturn:uploader 640",
    }
    found = running.bed.do("stat", "-c", "%U:%G %a", *wanted).splitlines()
    assert dict(zip(wanted, found, strict=True)) == wanted
    everything = running.bed.do("find", "/var/lib/keyturn", "-perm", "/077", "-not", "-path", "/var/lib/keyturn")
    assert everything == "", "within a private directory, private files"


def test_members_of_the_group_use_the_socket_and_others_do_not(running: Machine) -> None:
    """A member of the group keyturn: status, refresh. A stranger, and the application: 77 and one sentence, and nothing begins."""
    assert running.keyturn("status", user="friend").returncode == 0
    done = running.keyturn("refresh", "uploader", user="friend")
    assert done.returncode == 0, done.both
    rotate = ("rotate", "uploader", "--reason", "none", "--yes")
    for user, command in (("stranger", ("status",)), ("stranger", rotate), ("uploader", ("refresh",))):
        done = running.keyturn(*command, user=user)
        assert done.returncode == 77, (user, command, done.both)
        assert len(done.stderr.splitlines()) == 1
    assert running.audit("rotation_requested") == []


MAY_NOT = [
    ("restart", "uploader.service"),
    ("stop", "uploader.service"),
    ("reload", "other.service"),
    ("restart", "other.service"),
    ("stop", "keyturn.service"),
    ("start", "cloud.service"),
]


def test_polkit_lets_keyturn_do_what_the_config_says_and_nothing_else(machine: Machine) -> None:
    """The service's user reloads the configured unit; every other verb or unit is refused, and so is every other user."""
    told = machine.tally().get("told", 0)
    before = machine.bed.do("systemctl", "show", "--value", "--property=InvocationID", "uploader", "other")
    done = machine.systemctl("--no-ask-password", "reload", "uploader.service", user="keyturn")
    assert done.returncode == 0, done.both
    eventually(lambda: machine.tally()["told"] == told + 1)
    for verb, unit in MAY_NOT:
        done = machine.systemctl("--no-ask-password", verb, unit, user="keyturn")
        assert done.returncode != 0, (verb, unit)
        assert "authentication required" in done.stderr.lower() or "access denied" in done.stderr.lower(), done.both
    for verb in (("enable", "other.service"), ("daemon-reload",), ("mask", "other.service"), ("poweroff",)):
        assert machine.systemctl("--no-ask-password", *verb, user="keyturn").returncode != 0, verb
    done = machine.systemctl("--no-ask-password", "reload", "uploader.service", user="stranger")
    assert done.returncode != 0
    assert machine.bed.do("systemctl", "show", "--value", "--property=InvocationID", "uploader", "other") == before


def test_a_unit_that_keyturn_may_not_touch_is_named_with_the_remedy(machine: Machine) -> None:
    """A dependent added to the config without `systemd-setup`: what is owed stays, and the log names unit and remedy."""
    more = '[[credentials.uploader.notify]]\ntype = "systemd"\nunit = "other.service"\naction = "restart"\n'
    before, since = machine.show("InvocationID", "other.service"), machine.cursor()
    machine.configure(notify=more)
    machine.start()
    eventually(lambda: "may not restart" in machine.journal(since, "-o", "cat"))
    (line, *_again) = [each for each in machine.journal(since, "-o", "cat").splitlines() if "may not restart" in each]
    assert "other.service" in line and "systemd-setup" in line
    machine.picked_up(machine.cloud.current())
    eventually(lambda: [each["owed"] for each in machine.status()["notify"]] == [False, True])
    assert machine.show("InvocationID", "other.service") == before
    machine.setup()
    machine.systemctl("kill", "-s", "USR1", UNIT)
    eventually(lambda: machine.show("InvocationID", "other.service") != before, patience_s=60)


def test_a_sink_of_another_user_gets_the_capabilities_it_needs_and_no_more(machine: Machine) -> None:
    """`systemd-setup` for a file of the application's own: written with its owner and mode, and still not by root."""
    machine.bed.do("install", "-d", "-o", "uploader", "-g", "uploader", "-m", "0700", "/etc/uploader/own")
    path = "/etc/uploader/own/credentials.json"
    sink = f'[[credentials.uploader.sinks]]\ntype = "json"\npath = "{path}"\nowner = "uploader"\nmode = "0600"\n'
    machine.configure(sink)
    try:
        machine.setup()
        machine.start()
        assert machine.cloud.current() in machine.bed.read(path)
        assert machine.bed.do("stat", "-c", "%U:%G %a", path) == "uploader:uploader 600\n"
        held = int(machine.bed.do("grep", "CapEff", f"/proc/{machine.pid}/status").split()[1], 16)
        assert held == 1 << 0 | 1 << 1 | 1 << 3, "CHOWN, DAC_OVERRIDE, FOWNER (capability.h)"
        assert machine.bed.do("ps", "-o", "user=", "-p", str(machine.pid)).strip() == "keyturn"
    finally:
        machine.configure()
        machine.setup()


def test_check_as_the_service_user_sees_what_the_service_sees(running: Machine) -> None:
    """Its sandbox (a directory that is read-only for it), its credentials, its drop-in; not what root would see."""
    command = running.bed.do("keyturn", "systemd-setup", "--check-command")
    done = running.bed.run("sh", "-c", command)
    assert done.returncode == 0, done.both
    running.bed.do("install", "-d", "-o", "keyturn", "/srv/unseen")
    more = '[[credentials.uploader.sinks]]\ntype = "json"\npath = "/srv/unseen/x.json"\n'
    try:
        running.configure(more)
        done = running.bed.run("sh", "-c", command)
        assert done.returncode == 1 and "read-only" in done.stdout, "root, and keyturn in a shell, could write there"
        running.configure()
        running.bed.do("rm", "/etc/systemd/system/keyturn.service.d/50-keyturn.conf")
        done = running.bed.run("sh", "-c", command)
        assert done.returncode == 1
        errors = [each for each in done.stdout.splitlines() if each.startswith("error")]
        assert errors and all("systemd-setup --install" in each for each in errors)
    finally:
        running.configure()
        running.setup()


RULE = "/etc/polkit-1/rules.d/50-keyturn.rules"


def test_check_as_the_service_user_vouches_for_no_rule_that_it_cannot_see(running: Machine) -> None:
    """polkit's directory is closed to it: it says so, and that root should look; root then says that the rule is missing."""
    command = running.bed.do("keyturn", "systemd-setup", "--check-command")
    try:
        running.bed.do("mv", RULE, "/root/away.rules")
        about = [line for line in running.bed.run("sh", "-c", command).stdout.splitlines() if " systemd: " in line]
        assert not any("polkit" in line for line in about if line.startswith("ok"))
        (unseen,) = [line for line in about if RULE in line]
        assert unseen.startswith("warning") and "`keyturn check` as root" in unseen
        done = running.keyturn("check", "--offline")
        (missing,) = [line for line in done.stdout.splitlines() if RULE in line]
        assert done.returncode == 1 and missing.startswith("error") and "missing" in missing
    finally:
        running.setup()


def test_a_sink_that_would_make_root_of_the_service_is_not_set_up(machine: Machine) -> None:
    """With the capabilities for a sink of another user a writable /etc is root: nothing is written, the sentence is plain."""
    before = machine.bed.do("cat", "/etc/systemd/system/keyturn.service.d/50-keyturn.conf")
    try:
        machine.configure('[[credentials.uploader.sinks]]\ntype = "json"\npath = "/etc/x.json"\nowner = "uploader"\n')
        done = machine.keyturn("systemd-setup", "--install")
        assert done.returncode == 1 and "/etc is not for a service to write" in done.stderr, done.both
        assert machine.bed.do("cat", "/etc/systemd/system/keyturn.service.d/50-keyturn.conf") == before
        done = machine.keyturn("check", "--offline")
        assert done.returncode == 1 and "/etc is not for a service to write" in done.stdout
    finally:
        machine.configure()
