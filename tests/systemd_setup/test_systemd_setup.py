"""`keyturn systemd-setup`: shows by default, writes only what differs and only what is its own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from agent.app.check import findings as check_findings
from agent.cli.main import main
from agent.core.finding import Finding
from agent.system.accounts import Account
from agent.systemd_setup import install, render
from agent.systemd_setup.check import findings, seen_by_somebody_else
from agent.systemd_setup.check_command import check_command
from agent.systemd_setup.needs import DEFAULT_CONFIG, Option
from agent.systemd_setup.unit import credential_sources, fragments, is_ours, service_lines, with_credentials
from tests.support.hosts import host, needs, notify, sink

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "keyturn.service"
DROP_INS = [f"etc/systemd/system/{unit}.d/50-keyturn.conf" for unit in ("keyturn.service", "keyturn-once.service")]
RULE = "etc/polkit-1/rules.d/50-keyturn.rules"


class Host:
    """A tree, a config, and the command on them."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.config, self._capsys = directory / "root", directory / "keyturn.toml", capsys
        self.root.mkdir()
        self.configure(sink(), notify("systemd", 'unit = "app"'))

    def configure(self, *tables: str) -> None:
        self.config.write_text(host(*tables))
        self.config.chmod(0o600)

    def setup(self, *options: str) -> tuple[int, str, str]:
        code = main(["--config", str(self.config), "systemd-setup", *options, "--root", str(self.root)])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())


@pytest.fixture
def machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Host:
    return Host(tmp_path, capsys)


@pytest.mark.parametrize("option", [[], ["--print"]])
def test_it_shows_both_files_and_writes_nothing(machine: Host, option: list[str]) -> None:
    """Nobody's sandbox changes because somebody had a look."""
    code, out, _err = machine.setup(*option)
    assert code == 0 and machine.files() == []
    assert all(path in out for path in (*DROP_INS, RULE))
    assert "ReadWritePaths=-/etc/app" in out and '"app.service": ["reload-or-restart"]' in out
    assert "capabilities: none" in out


def test_it_installs_once_and_then_says_unchanged(machine: Host) -> None:
    """Provisioning runs it again and again."""
    code, out, _err = machine.setup("--install")
    assert code == 0 and machine.files() == sorted([*DROP_INS, RULE])
    assert out.count("written ") == 3
    seen = {path: (machine.root / path).stat().st_mtime_ns for path in machine.files()}
    code, out, _err = machine.setup("--install")
    assert (
        code == 0
        and out.count("unchanged ") == 3
        and "systemd" not in out.replace("/etc/systemd", "").replace("systemd/system", "")
    )
    assert seen == {path: (machine.root / path).stat().st_mtime_ns for path in machine.files()}
    assert {(machine.root / path).stat().st_mode & 0o777 for path in seen} == {0o644}


def test_what_is_no_longer_needed_goes(machine: Host) -> None:
    """A right that outlives its reason is one that nobody watches."""
    machine.setup("--install")
    machine.configure(sink())
    _code, out, _err = machine.setup("--install")
    assert machine.files() == sorted(DROP_INS) and f"removed    {machine.root / RULE}" in out
    machine.configure(sink("/var/lib/keyturn/c.ini"))
    text = machine.config.read_text()
    _code, out, _err = machine.setup("--install")
    assert "KEYTURN_CONFIG" in (machine.root / DROP_INS[0]).read_text() and text
    assert "/etc/app" not in (machine.root / DROP_INS[0]).read_text()


def test_a_file_of_somebody_else_is_left_alone(machine: Host) -> None:
    """Not replaced, not removed, and nothing else is begun."""
    (machine.root / RULE).parent.mkdir(parents=True)
    (machine.root / RULE).write_text("// mine\n")
    code, _out, err = machine.setup("--install")
    assert code == 1 and "was not written by keyturn" in err and "move it away" in err
    assert machine.files() == [RULE] and (machine.root / RULE).read_text() == "// mine\n"


def test_a_failed_write_leaves_the_file_as_it_was(machine: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a drop-in would be half a sandbox."""
    machine.setup("--install")
    before = (machine.root / DROP_INS[0]).read_text()
    machine.configure(sink("/etc/other/c.ini"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agent.system.files.write_all", full)
    code, _out, err = machine.setup("--install")
    assert code == 1 and "full" in err
    assert (machine.root / DROP_INS[0]).read_text() == before
    assert not [path for path in machine.files() if "keyturn-" in path and ".conf.keyturn" in path]


@pytest.mark.skipif(os.geteuid() != 0, reason="plays another user")
def test_only_root_may_install(machine: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 77 and one sentence, before anything is read or written."""
    os.seteuid(65534)
    try:
        code = main(["--config", str(machine.config), "systemd-setup", "--install"])
    finally:
        os.seteuid(0)
    assert code == 77 and "run it as root" in capsys.readouterr().err


def test_a_bad_config_changes_nothing(machine: Host) -> None:
    """The setup of the old config stays."""
    machine.setup("--install")
    before = (machine.root / DROP_INS[0]).read_text()
    machine.config.write_text("[nonsense]\n")
    code, _out, err = machine.setup("--install")
    assert code == 78 and "nonsense" in err and (machine.root / DROP_INS[0]).read_text() == before


@pytest.mark.parametrize(
    ("standing", "reloads"), [("nothing", 1), ("the same", 0), ("another rule only", 0), ("another drop-in", 1)]
)
def test_systemd_is_told_only_when_a_drop_in_changed(
    machine: Host, monkeypatch: pytest.MonkeyPatch, standing: str, reloads: int
) -> None:
    """A daemon-reload starts every generator again; polkit looks at its directory by itself."""
    from agent.cli import systemd_setup as command

    told: list[bool] = []
    monkeypatch.setattr(install, "systemd_runs", lambda: True)
    monkeypatch.setattr(install, "reload_systemd", lambda: told.append(True))
    if standing != "nothing":
        machine.setup("--install")
    if standing == "another rule only":
        (machine.root / RULE).write_text(f"// {render.MARK}\n")
    if standing == "another drop-in":
        (machine.root / DROP_INS[1]).write_text(f"# {render.MARK}\n")
    wanted = needs(sink(), notify("systemd", 'unit = "app"'), path=str(machine.config))
    plan = install.planned(wanted, str(machine.config), machine.root, {})
    monkeypatch.setattr(command, "Path", lambda _root: machine.root)  # as if the tree were this machine's
    command._install(plan)
    assert len(told) == reloads


def test_an_alias_is_written_by_the_name_that_polkit_is_asked_for() -> None:
    """systemd hands polkit the unit's own name (measured: a rule for an alias lets nothing through)."""
    text = render.polkit_rule(needs(sink(), notify("systemd", 'unit = "alias"')), {"alias.service": "real.service"})
    assert '"real.service": ["reload-or-restart"]' in text and "alias" not in text


HOSTILE = {
    "a plain path": ("/etc/app", "-/etc/app"),
    "blanks and colons stay in one word": ("/srv/a b:c", '"-/srv/a b:c"'),
    "a specifier is no specifier": ("/srv/%n", "-/srv/%%n"),
    "quotes and backslashes": ('/srv/a"b\\c', '"-/srv/a\\"b\\\\c"'),
}


@pytest.mark.parametrize("promise", HOSTILE)
def test_a_path_is_written_so_that_systemd_reads_the_same(promise: str) -> None:
    """systemd.syntax(7); tests/systemd_setup/test_units.py has systemd itself read them."""
    path, wanted = HOSTILE[promise]
    assert render._value(Option("ReadWritePaths", path)) == wanted


def test_a_right_as_good_as_roots_is_not_written(machine: Host) -> None:
    """Exit 1, one sentence, nothing on the disk; `check` says the same words; a warning is printed and does not stop it."""
    machine.configure(sink("/etc/x.json", owner="root"))
    code, _out, err = machine.setup("--install")
    assert code == 1 and machine.files() == [] and len(err.splitlines()) == 1
    assert "credentials.uploader.sinks[0]: /etc is not for a service" in err and "a directory of its own" in err
    installed(machine.root)
    ((level, text),) = about_files(said(machine, DEFAULT_CONFIG))
    assert level == "error" and text in err
    machine.configure(sink("/root/.aliyun/c.ini", owner="root"))
    code, _out, err = machine.setup("--install")
    assert code == 0 and "warning" in err and "in root's home" in err
    assert [level for level, _text in about_files(said(machine))] == ["ok", "warning"]


# -- what `check` says of it ------------------------------------------------------------------------------


def installed(root: Path, unit: str = UNIT.read_text()) -> Path:
    """A root with the unit in it."""
    place = root / "lib/systemd/system/keyturn.service"
    place.parent.mkdir(parents=True)
    place.write_text(unit)
    return root


def said(machine: Host, config: str | None = None) -> list[Finding]:
    from tests.support.hosts import settings_of

    settings = settings_of(machine.config.read_text())
    return list(findings(settings, config or str(machine.config), {}, machine.root))


def about_files(found: list[Finding]) -> list[tuple[str, str]]:
    return [(each.level, each.text) for each in found if "runs as" not in each.text]


def test_check_says_nothing_where_the_unit_is_not_installed(machine: Host) -> None:
    """No noise in a container, under another supervisor, or for `once` from cron."""
    assert said(machine, DEFAULT_CONFIG) == []


def test_check_says_what_is_missing_and_then_what_is_out_of_date(machine: Host) -> None:
    """With the remedy, and quiet again when it was done."""
    installed(machine.root)
    wrong = about_files(said(machine, DEFAULT_CONFIG))
    assert [level for level, _text in wrong] == ["error"] * 3 and all("missing" in text for _level, text in wrong)
    machine.setup("--install")
    assert [level for level, _text in about_files(said(machine))] == ["ok"]
    machine.configure(sink("/etc/other/c.ini"), notify("systemd", 'unit = "app"'))
    texts = [text for level, text in about_files(said(machine)) if level == "error"]
    assert len(texts) == 2 and all("out of date" in text for text in texts)
    machine.configure(sink())
    assert any(RULE in text and "not needed" in text for _level, text in about_files(said(machine)))


def test_check_sees_another_rule_though_it_may_not_read_it(machine: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian keeps rules.d from everybody but polkit; the drop-in names the units too."""
    installed(machine.root)
    machine.setup("--install")
    real = install.standing_at

    def as_the_service(path: Path) -> str | None:
        if path.name.endswith(".rules"):
            raise install.NotPermittedError("no", "no")
        return real(path)

    monkeypatch.setattr(install, "standing_at", as_the_service)
    (level, text), (warned, unseen) = about_files(said(machine))
    assert (level, warned) == ("ok", "warning")
    assert "polkit" not in text, "nothing is said to be right that was not seen"
    assert RULE in unseen and "cannot be seen" in unseen
    machine.configure(sink(), notify("systemd", 'unit = "another"'))
    assert [level for level, _text in about_files(said(machine))] == ["error", "error", "warning"]
    machine.configure(sink())
    monkeypatch.setattr(install, "standing_at", real)
    machine.setup("--install")
    monkeypatch.setattr(install, "standing_at", as_the_service)
    assert [level for level, _text in about_files(said(machine))] == ["ok"], (
        "of a rule that is not needed nothing is said"
    )


def test_check_leaves_other_configs_and_other_units_alone(machine: Host) -> None:
    """A config that is only tried, and a unit that an operator runs as root."""
    installed(machine.root)
    assert said(machine, "/tmp/trial.toml") == []
    (machine.root / "lib/systemd/system/keyturn.service").write_text("[Service]\nExecStart=/x\n")
    assert said(machine, DEFAULT_CONFIG) == []


def test_check_says_when_it_is_not_the_service_that_looks(machine: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write where the service may not."""
    installed(machine.root)
    machine.setup("--install")
    somebody = Account("keyturn", 4242, 4242, (), "/")
    monkeypatch.setattr("agent.systemd_setup.check.find_account", lambda _name: somebody)
    (warning,) = seen_by_somebody_else(str(machine.config), machine.root)
    assert warning.level == "warning" and "--check-command" in warning.remedy
    assert list(seen_by_somebody_else("/tmp/trial.toml", machine.root)) == []


def test_check_asks_the_setup(machine: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is part of `keyturn check`."""
    from tests.support.hosts import settings_of

    mark = Finding("error", "systemd", "canary")
    monkeypatch.setattr("agent.systemd_setup.check.findings", lambda *_: iter([mark]))
    settings = settings_of(machine.config.read_text())
    assert mark in list(check_findings(settings, str(machine.config), {}, offline=True))


# -- `check` as the service -------------------------------------------------------------------------------


def test_the_check_command_has_everything_that_the_service_has() -> None:
    """All but the life of a daemon; as D-Bus means it: no specifiers, and one set of capabilities."""
    drop_in = "[Service]\nReadWritePaths=-/srv/%%n\nAmbientCapabilities=CAP_KILL\nAmbientCapabilities=CAP_CHOWN\n"
    words = shlex.split(
        check_command(UNIT.read_text(), {"50-keyturn.conf": "[Service]\nUser=old\n"}, drop_in, "/c.toml")
    )
    properties = [word.removeprefix("--property=") for word in words if word.startswith("--property=")]
    assert "User=keyturn" in properties and "User=old" not in properties
    assert "ReadWritePaths=-/srv/%n" in properties and "AmbientCapabilities=CAP_KILL CAP_CHOWN" in properties
    kept = {key for key, _value in service_lines(UNIT.read_text())} - {each.partition("=")[0] for each in properties}
    assert kept == {
        "Type", "NotifyAccess", "ExecStart", "ExecReload", "TimeoutStartSec", "TimeoutStopSec", "WatchdogSec",
        "Restart", "RestartSec", "RestartPreventExitStatus",
    }  # fmt: skip
    assert words[-4:] == ["/usr/bin/keyturn", "--config", "/c.toml", "check"]
    assert "RuntimeDirectoryPreserve=yes" in properties, "or the end of the check removes the daemon's socket"


def test_without_a_unit_there_is_no_check_command(machine: Host) -> None:
    """It says what to install."""
    code, _out, err = machine.setup("--check-command")
    assert code == 1 and "not installed" in err


def test_a_shell_can_read_the_config_of_the_service(tmp_path: Path) -> None:
    """`audit verify` needs no $CREDENTIALS_DIRECTORY; without the unit, an unset variable is an error as ever."""
    assert with_credentials({}, tmp_path) == {}
    installed(tmp_path)
    assert with_credentials({}, tmp_path)["CREDENTIALS_DIRECTORY"] == "/run/credentials/keyturn.service"
    assert with_credentials({"CREDENTIALS_DIRECTORY": "/x"}, tmp_path) == {"CREDENTIALS_DIRECTORY": "/x"}


def test_the_sources_of_credentials_are_read_as_systemd_does(tmp_path: Path) -> None:
    """Unit first, drop-ins by name; the last line for a name counts, an empty one takes all back, encrypted is not read."""
    installed(tmp_path)
    usual = {name: f"/etc/keyturn/{name}" for name in ("client_key.json", "client_key_password")}
    assert credential_sources(tmp_path) == usual
    drop_ins = tmp_path / "etc/systemd/system/keyturn.service.d"
    drop_ins.mkdir(parents=True)
    (drop_ins / "60-b.conf").write_text("[Service]\nLoadCredential=client_key.json:/root/b%%c\n")
    (drop_ins / "50-a.conf").write_text("[Service]\nLoadCredential=client_key.json:/root/a\nLoadCredential=op:op\n")
    assert credential_sources(tmp_path) == {**usual, "client_key.json": "/root/b%c", "op": "/etc/credstore/op"}
    (drop_ins / "70-c.conf").write_text("[Service]\nLoadCredential=\nLoadCredentialEncrypted=op:/etc/keyturn/op.cred\n")
    assert credential_sources(tmp_path) == {"op": ""}


def test_the_unit_is_read_as_systemd_does(tmp_path: Path) -> None:
    """Sections, comments, continued lines; the first of two drop-ins of one name counts, a masked unit is none."""
    assert list(service_lines("[Unit]\nUser=a\n[Service]\n# User=b\nUser=keyturn\nX=1 \\\n 2\n")) == [
        ("User", "keyturn"),
        ("X", "1   2"),
    ]
    assert is_ours("[Service]\nUser=root\nUser=keyturn\n") and not is_ours("[Service]\nUser=keyturn\nUser=root\n")
    for directory, text in (("etc", "a"), ("lib", "b")):
        place = tmp_path / directory / "systemd/system/keyturn.service.d/x.conf"
        place.parent.mkdir(parents=True)
        place.write_text(text)
    assert fragments(tmp_path) == {"x.conf": "a"}


def test_the_generated_files_are_shell_and_javascript_safe() -> None:
    """A unit's name may hold backslashes (systemd-escape); in the rule it is a string and stays one."""
    text = render.polkit_rule(needs(sink(), notify("systemd", "unit = 'a\\x2db.service'")), {})
    assert '"a\\\\x2db.service"' in text


def test_the_template_of_the_rule_is_what_is_generated() -> None:
    """Who writes it by hand gets the same rule."""
    template = (ROOT / "systemd" / "50-keyturn.rules.in").read_text()
    body = template[template.index("polkit.addRule") :]
    assert body == render._RULE[render._RULE.index("polkit.addRule") :]


def test_an_own_process_prints_it_too() -> None:
    """The whole way from the command line."""
    words = [sys.executable, "-m", "agent", "systemd-setup", "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--check-command" in done.stdout
