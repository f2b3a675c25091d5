"""Each right stands in the drop-in because a key of the config needs it, and for no other reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.system.accounts import find_account
from agent.systemd_setup.needs import TooMuchError, needs_of
from tests.support.hosts import PROVIDER, host, needs, notify, options, settings_of, sink

GIVE = {"capability=CAP_CHOWN", "capability=CAP_FOWNER", "capability=CAP_DAC_OVERRIDE", "SystemCallFilter=@chown"}
APP = {"ReadWritePaths=/etc/app"}

SINKS = {
    "a sink of its own needs its directory and nothing else": ([sink()], APP),
    "named as keyturn it is its own too": ([sink(owner="keyturn", group="keyturn")], APP),
    "its own with another group needs that group and no capability": (
        [sink(group="nogroup", mode="0640")],
        APP | {"SupplementaryGroups=nogroup", "SystemCallFilter=@chown"},
    ),
    "one of another user is given away": ([sink(owner="app")], APP | GIVE),
    "root is another user": ([sink(owner="root")], APP | GIVE),
    "several in one directory name it once": ([sink(), sink("/etc/app/b.ini")], APP),
    "one in keyturn's own state needs nothing": ([sink("/var/lib/keyturn/shared/c.ini")], set()),
    "one in a home shows that directory and no other": (
        [sink("/home/alice/.aliyun/c.ini")],
        {"ProtectHome=tmpfs", "BindPaths=/home/alice/.aliyun"},
    ),
    "one in /tmp cannot be private": ([sink("/tmp/app/c.ini")], {"PrivateTmp=no", "ReadWritePaths=/tmp/app"}),
    "/homestead is no home": ([sink("/homestead/c.ini")], {"ReadWritePaths=/homestead"}),
    "a path with .. is resolved, for systemd refuses it": ([sink("/etc/x/../app/c.ini")], APP),
}


@pytest.mark.parametrize("promise", SINKS)
def test_what_sinks_need(promise: str) -> None:
    """A directory to write, and capabilities only where a file is given to another user."""
    tables, wanted = SINKS[promise]
    assert options(needs(*tables)) == wanted


NOTIFIERS = {
    "a unit needs no capability": (notify("systemd", 'unit = "app"'), set()),
    "a signal to its own user's process needs none": (
        notify("signal", 'pid_file = "/run/app.pid"', 'user = "keyturn"'),
        set(),
    ),
    "a signal to another user's needs CAP_KILL, and to see it": (
        notify("signal", 'pid_file = "/run/app.pid"', 'user = "root"'),
        {"capability=CAP_KILL", "ProtectProc=default"},
    ),
    "without a user it may be anybody's": (
        notify("signal", 'pid_file = "/run/app.pid"'),
        {"capability=CAP_KILL", "ProtectProc=default"},
    ),
    "by executable it needs CAP_SYS_PTRACE, which sees what is hidden too": (
        notify("signal", 'exe = "/usr/sbin/nginx"'),
        {"capability=CAP_KILL", "capability=CAP_SYS_PTRACE"},
    ),
    "who asks for a credential is to be seen": (
        '[credentials.uploader.serve]\nusers = ["root"]\n',
        {"ProtectProc=default"},
    ),
    "a command of its own needs nothing": (notify("exec", 'command = ["/bin/true"]'), set()),
    "a command as another user": (
        notify("exec", 'command = ["/bin/true"]', 'user = "root"'),
        {"capability=CAP_SETUID", "capability=CAP_SETGID", "capability=CAP_KILL", "SystemCallFilter=@setuid"},
    ),
    "a program in a home is shown, not writable": (
        notify("exec", 'command = ["/root/bin/hook", "x"]'),
        {"ProtectHome=tmpfs", "BindReadOnlyPaths=/root/bin/hook"},
    ),
    "a pid file in /tmp must be the real one": (
        notify("signal", 'pid_file = "/tmp/app.pid"', 'user = "keyturn"'),
        {"PrivateTmp=no"},
    ),
}


@pytest.mark.parametrize("promise", NOTIFIERS)
def test_what_notifiers_need(promise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the kernel asks for at that moment."""
    monkeypatch.setattr("agent.notifiers.signal_process.find_account", lambda name: find_account("root"))
    table, wanted = NOTIFIERS[promise]
    assert options(needs(sink(), table)) == APP | wanted


AGENT = {
    "defaults need nothing": ("[agent]", set()),
    "another state directory": ('[agent]\nstate_directory = "/srv/state"', {"ReadWritePaths=/srv/state"}),
    "another runtime directory": ('[agent]\nruntime_directory = "/run/kt"', {"ReadWritePaths=/run/kt"}),
    "another audit log: its directory": ('[agent.audit]\npath = "/srv/log/a.jsonl"', {"ReadWritePaths=/srv/log"}),
    "a metrics file: its directory": (
        '[agent]\nmetrics_textfile = "/var/lib/node/k.prom"',
        {"ReadWritePaths=/var/lib/node"},
    ),
    "a high port needs nothing": ('[agent]\nmetrics_listen = "127.0.0.1:9464"', set()),
    "a low port": ('[agent]\nmetrics_listen = "127.0.0.1:80"', {"capability=CAP_NET_BIND_SERVICE"}),
    "an endpoint: the kernel's word for who asks": (
        '[agent.endpoint]\nlisten = "127.0.0.1:8911"',
        {"RestrictAddressFamilies=AF_NETLINK"},
    ),
    "an endpoint on a port that nobody else may take": (
        '[agent.endpoint]\nlisten = "127.0.0.1:911"',
        {"RestrictAddressFamilies=AF_NETLINK", "capability=CAP_NET_BIND_SERVICE"},
    ),
    "another control group": (
        '[agent]\ncontrol_group = "nogroup"',
        {"SupplementaryGroups=nogroup", "SystemCallFilter=@chown"},
    ),
    "a control group that nobody made must not keep the unit from starting": (
        '[agent]\ncontrol_group = "no-such-group"',
        set(),
    ),
}


@pytest.mark.parametrize("promise", AGENT)
def test_what_the_agent_itself_needs(promise: str) -> None:
    """What differs from the unit's own directories, and no more."""
    table, wanted = AGENT[promise]
    assert options(needs(table, sink())) == APP | wanted


def test_each_action_is_the_verb_of_its_unit() -> None:
    """polkit is asked with systemctl's own word; a unit without a suffix is a service."""
    found = needs(
        sink(),
        notify("systemd", 'unit = "app"'),
        notify("systemd", 'unit = "app.service"', 'action = "kill"', 'signal = "HUP"'),
        notify("systemd", 'unit = "w@1.service"', 'action = "try-restart"'),
    )
    assert found.units == {"app.service": ("kill", "reload-or-restart"), "w@1.service": ("try-restart",)}


def test_files_that_systemd_hands_over_are_loaded() -> None:
    """Beside the two that the unit loads itself; and a missing one does not keep the unit from starting."""
    provider = PROVIDER.replace("/etc/keyturn/id", "${CREDENTIALS_DIRECTORY}/ops-id").replace(
        "/etc/keyturn/secret", "${CREDENTIALS_DIRECTORY}/client_key_password"
    )
    assert options(needs(sink(), provider=provider)) == APP | {
        "LoadCredential=ops-id:/etc/keyturn/ops-id",
        "SetCredential=ops-id:keyturn-missing-credential",
    }


def test_the_password_and_the_ca_of_a_fleet() -> None:
    """Handed over as every other file, and seen where the sandbox would hide it; its network is open to the service already."""
    fleet = '[fleet]\nurl = "rediss://redis.internal:6379/0"\nusername = "keyturn"\nca_file = "/home/ops/ca.pem"\n'
    password = 'password_from_file_path = "${CREDENTIALS_DIRECTORY}/redis_password"\n'
    assert options(needs(sink(), fleet + password)) == APP | {
        "LoadCredential=redis_password:/etc/keyturn/redis_password",
        "SetCredential=redis_password:keyturn-missing-credential",
        "ProtectHome=tmpfs",
        "BindReadOnlyPaths=/home/ops/ca.pem",
    }


def test_files_that_a_properties_file_takes_from_systemd_are_loaded(tmp_path: Path) -> None:
    """The official client's file can only name the directory as it is."""
    properties = tmp_path / "p.properties"
    properties.write_text("client_key_private_key_path=/run/credentials/keyturn.service/second.json\n")
    provider = f"""
[credentials.uploader.provider]
type = "kms_secret"
secret_name = "x"
properties_file = "{properties}"
"""
    assert "LoadCredential=second.json:/etc/keyturn/second.json" in options(needs(sink(), provider=provider))


def test_the_needs_are_the_same_wherever_they_are_read() -> None:
    """In the unit, in a transient one and in a shell: else `check` would find a difference that is none."""
    provider = PROVIDER.replace("/etc/keyturn/id", "${CREDENTIALS_DIRECTORY}/ops-id")
    settings = settings_of(host(sink(), provider=provider))
    other = "/run/credentials/keyturn-check.service"
    moved = settings_of(host(sink(), provider=provider).replace("${CREDENTIALS_DIRECTORY}", other))
    assert needs_of(settings, "/c", {}) == needs_of(moved, "/c", {"CREDENTIALS_DIRECTORY": other})


def test_every_option_names_the_keys_that_need_it() -> None:
    """An operator who takes the key out knows which right goes."""
    found = needs(sink(), sink("/etc/app/b.ini", owner="app"))
    reasons = {f"{option.key}={option.value}": why for option, why in found.options.items()}
    assert reasons["ReadWritePaths=/etc/app"] == ("credentials.uploader.sinks[0]", "credentials.uploader.sinks[1]")
    assert reasons["capability=CAP_CHOWN"] == ("credentials.uploader.sinks[1]",)


def test_another_config_is_told_to_every_command_of_the_unit() -> None:
    """`run` and the reload read the same file."""
    assert options(needs(sink(), path="/etc/other.toml")) == APP | {"Environment=KEYTURN_CONFIG=/etc/other.toml"}


REFUSED = {
    "/x.json": "/",
    "/etc/x.json": "/etc",
    "/etc/./x.json": "/etc",
    "/etc/app/../x.json": "/etc",
    "/etc/systemd/system/x.json": "/etc/systemd/system",
    "/etc/polkit-1/rules.d/x.json": "/etc/polkit-1/rules.d",
    "/etc/cron.d/x.json": "/etc/cron.d",
    "/etc/rc3.d/x.json": "/etc/rc3.d",
    "/etc/keyturn/x.json": "/etc/keyturn",
    "/root/.ossutilconfig": "/root",
    "/root/.ssh/x.json": "/root/.ssh",
    "/home/alice/.ssh/x.json": "/home/alice/.ssh",
    "/usr/local/app/x.json": "/usr/local/app",
    "/lib/x.json": "/lib",
    "/run/x.json": "/run",
    "/run/systemd/system/x.json": "/run/systemd/system",
    "/var/run/x.json": "/var/run, which is /run,",
    "/var/lib/x.json": "/var/lib",
    "/var/lib/dpkg/info/x.json": "/var/lib/dpkg/info",
}


@pytest.mark.parametrize("path", REFUSED)
@pytest.mark.parametrize("owner", [{}, {"owner": "app"}])
def test_what_is_as_good_as_root_is_refused(path: str, owner: dict[str, str]) -> None:
    """A directory whose content decides what root runs is written by no service; the sentence says where to go."""
    with pytest.raises(TooMuchError) as caught:
        needs(sink(path, **owner))
    assert caught.value.problem.startswith(f"credentials.uploader.sinks[0]: {REFUSED[path]} is not for a service")
    assert caught.value.remedy.startswith("put it into a directory of its own, such as /etc/uploader")


def test_a_path_of_keyturns_own_is_refused_just_so() -> None:
    """The state, the audit log and the metrics file are no excuse."""
    for table in ('[agent]\nstate_directory = "/etc"', '[agent]\nmetrics_textfile = "/usr/share/x.prom"'):
        with pytest.raises(TooMuchError, match="is not for a service"):
            needs(table, sink())


def test_a_link_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    """ReadWritePaths= follows it too."""
    (tmp_path / "innocent").symlink_to("/etc/systemd")
    with pytest.raises(TooMuchError, match="innocent, which is /etc/systemd, is not"):
        needs(sink(f"{tmp_path}/innocent/x.json"))


@pytest.mark.parametrize(
    "path", ["/etc/uploader/x", "/srv/x", "/srv/app/x", "/run/app/x", "/var/lib/app/x", "/opt/app/x"]
)
def test_a_directory_of_ones_own_stays_fine(path: str) -> None:
    """Beside those, not in them; without a word."""
    assert needs(sink(path, owner="app")).warnings == ()


def test_a_directory_in_roots_home_and_a_home_itself_are_warned_of() -> None:
    """Root alone reads /root/.aliyun; what stands in a home decides what its user runs at a login."""
    (risk,) = needs(sink("/root/.aliyun/config.json", owner="root")).warnings
    assert "/root/.aliyun, in root's home" in risk.text and risk.text.startswith("credentials.uploader.sinks[0]: ")
    (risk,) = needs(sink("/home/alice/.ossutilconfig", owner="alice")).warnings
    assert "the home /home/alice" in risk.text and "/home/alice/.aliyun" in risk.remedy
