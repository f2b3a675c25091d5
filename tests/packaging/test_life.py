"""The package's life on a machine with a real systemd: installation, upgrade, and what its command finds there."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.support.systemd.dpkg import SINK, configure, install, shown, status

IMPORT_ALL = """
import importlib, pkgutil, sys, agent, providers
for package in (agent, providers):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
import alibabacloud_credentials.client, jinja2
import alibaba_cloud_secretsmanager_client.secret_manager_cache_client_builder
print(*{module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)}, sep="\\n")
"""


def test_a_fresh_installation_waits_for_its_config(machine):
    """No network, no compiler: user, directories and unit are there, nothing runs, nothing fails; with a config it runs."""
    assert set(re.findall(r"^ *(\w+):", machine.do("cat", "/proc/net/dev"), re.M)) == {"lo"}
    said = install(machine)
    assert "/usr/share/doc/keyturn/examples/keyturn.example.toml" in said
    assert machine.do(
        "stat", "-c", "%U %G %a", "/etc/keyturn", "/var/lib/keyturn", "/var/log/keyturn"
    ).splitlines() == [
        "root keyturn 750",
        "keyturn keyturn 700",
        "keyturn keyturn 750",
    ]
    assert machine.do("find", "/etc/keyturn", "-type", "f") == ""
    assert shown(machine, "UnitFileState") == "enabled"
    assert shown(machine, "UnitFileState", "keyturn-once.timer") == "disabled"
    machine.do("systemctl", "start", "keyturn")
    assert (shown(machine, "ActiveState"), shown(machine, "ConditionResult")) == ("inactive", "no")
    assert machine.do("systemctl", "--failed", "--plain", "--no-legend") == ""
    configure(machine)
    machine.do("systemctl", "start", "keyturn", timeout_s=120)
    assert shown(machine, "ActiveState") == "active"
    assert "LTAI5tExampleExample" in machine.read(SINK)
    machine.power_off()


def test_the_command_runs_from_its_own_libraries_and_writes_none(machine):
    """Everything imports, from the environment or the distribution's Python; afterwards every file is as it was packed."""
    install(machine)
    before = machine.do("find", "/usr/lib/keyturn", "-printf", "%p %s %T@\n")
    loaded = machine.do("/usr/lib/keyturn/venv/bin/python3", "-I", "-c", IMPORT_ALL, timeout_s=120).split()
    assert {path.split("/")[3] for path in loaded} <= {"keyturn", *re.findall(r"python3\.\d+", " ".join(loaded))}
    assert not any("dist-packages" in path for path in loaded)
    hostile = ["env", "PYTHONPATH=/nowhere", "PYTHONHOME=/nowhere", "keyturn", "--version"]
    assert machine.do(*hostile) == machine.do("keyturn", "--version")
    machine.do("keyturn", "check", "--help")
    assert machine.do("find", "/usr/lib/keyturn", "-printf", "%p %s %T@\n") == before
    assert machine.do("dpkg", "--verify", "keyturn") == ""
    if shutil.which("man"):
        assert "keyturn.toml" in machine.do("man", "-P", "cat", "5", "keyturn.toml")


def test_a_third_party_s_provider_is_found_beside_the_package(machine):
    """A module in /usr/local/lib/keyturn/site-packages can be imported; the package's own cannot be replaced from there."""
    install(machine)
    machine.write("/usr/local/lib/keyturn/site-packages/thirdparty.py", "place = __file__\n")
    machine.write("/usr/local/lib/keyturn/site-packages/structlog.py", "raise SystemExit(3)\n")
    ask = ["/usr/lib/keyturn/venv/bin/python3", "-I", "-c", "import structlog, thirdparty; print(thirdparty.place)"]
    assert machine.do(*ask).strip() == "/usr/local/lib/keyturn/site-packages/thirdparty.py"


def test_an_upgrade_keeps_everything_and_restarts(machine):
    """Config, an edited snippet, state and files stay; the new version runs when dpkg returns; one that was stopped stays so."""
    install(machine)
    configure(machine)
    machine.do("systemctl", "start", "keyturn", timeout_s=120)
    machine.write("/etc/logrotate.d/keyturn", "# mine\n")
    kept = {path: machine.read(path) for path in (SINK, "/etc/keyturn/keyturn.toml", "/etc/logrotate.d/keyturn")}
    before, pid = status(machine), shown(machine, "MainPID")
    install(machine, "newer.deb")
    after = status(machine)
    assert shown(machine, "ActiveState") == "active" and shown(machine, "MainPID") != pid
    assert after["agent"]["version"] == "99" != before["agent"]["version"]
    assert after["credentials"]["app"]["generation"] == before["credentials"]["app"]["generation"] == 1
    assert {path: machine.read(path) for path in kept} == kept
    records = re.fullmatch(r"whole: (\d+) records in .*\n", machine.do("keyturn", "audit", "verify"))
    assert int(records[1]) == len(machine.read("/var/log/keyturn/audit.jsonl").splitlines())
    assert machine.read("/var/log/keyturn/audit.jsonl").count('"agent_started"') == 2  # one chain of both versions

    for done_by_hand, state in (("stop", "enabled"), ("disable", "disabled")):
        machine.do("systemctl", done_by_hand, "keyturn")
        install(machine, "newer.deb")
        assert (shown(machine, "ActiveState"), shown(machine, "UnitFileState")) == ("inactive", state)


@pytest.mark.parametrize(
    "spoil", ["echo 'nonsense = 1' >/etc/keyturn/keyturn.toml", "chmod 0600 /etc/keyturn/keyturn.toml"]
)
def test_a_config_that_the_new_version_cannot_use_ends_no_daemon_and_fails_no_upgrade(machine, spoil):
    """dpkg ends well and says what is wrong; the daemon of the version before goes on, until the config is mended."""
    install(machine)
    configure(machine)
    machine.do("systemctl", "start", "keyturn", timeout_s=120)
    pid, good = shown(machine, "MainPID"), machine.read("/etc/keyturn/keyturn.toml")
    machine.do("sh", "-c", spoil)
    done = machine.run("dpkg", "--install", "/packages/newer.deb", timeout_s=240)
    assert done.returncode == 0
    assert "/etc/keyturn/keyturn.toml" in done.both and "systemctl restart keyturn" in done.both
    assert machine.do("dpkg-query", "-W", "-f", "${Status}", "keyturn") == "install ok installed"
    assert (shown(machine, "ActiveState"), shown(machine, "MainPID")) == ("active", pid)
    machine.write("/etc/keyturn/keyturn.toml", good, 0o640)
    machine.do("chgrp", "keyturn", "/etc/keyturn/keyturn.toml")
    machine.do("systemctl", "restart", "keyturn", timeout_s=120)
    assert status(machine)["agent"]["version"] == "99"


def test_without_a_running_systemd_it_installs_all_the_same(machine):
    """An image that is being built: nothing is started, user, directories and the enabled unit are there."""
    hidden = [
        "unshare",
        "--mount",
        "--",
        "sh",
        "-euc",
        "mount -t tmpfs none /run; dpkg --install /packages/keyturn.deb",
    ]
    machine.do(*hidden, timeout_s=240)
    assert machine.do("stat", "-c", "%U %G %a", "/etc/keyturn").strip() == "root keyturn 750"
    assert (
        machine.do("readlink", "-f", "/etc/systemd/system/multi-user.target.wants/keyturn.service")
        .strip()
        .endswith("/lib/systemd/system/keyturn.service")
    )
    machine.do("systemctl", "daemon-reload")
    assert shown(machine, "UnitFileState") == "enabled"
