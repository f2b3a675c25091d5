"""`keyturn report-bug`: a file of text that has what a helper asks for first, and no secret, whatever state keyturn is in."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli import report_bug
from agent.cli.main import main
from agent.system.process import Completed
from agent.system.process_group import Ending
from tests.support.vm import PASSWORD, Vm, quoted

ALONE = "qZ7wCanaryAloneInALine1x9Kd0vT3b"
CANARIES = {
    "hmac": "c4n4ry-of-the-hmac-key-0123456789abcdef",
    "redis": "c4n4ry+of+redis/Pa55",
    "argument": "c4n4ryOfAnArgument77",
    "word": "c4n4ry0fanargument",
    "query": "c4n4ryOfAQuery88",
    "authority": "c4n4ryOfTheAuthoritysSecretX1",
}
UNKNOWN_KEY = "c4n4ry-that-stands-in-the-config"
JOURNAL = f"""\
2026-11-30T17:00:00+00:00 host keyturn[1]: hook said: token=c4n4ry-a
2026-11-30T17:00:01+00:00 host keyturn[1]: Authorization: Bearer c4n4ry-b-b-b-b
2026-11-30T17:00:02+00:00 host keyturn[1]: GET http://user:c4n4ry-c@127.0.0.1/x?sig=c4n4ry-d
2026-11-30T17:00:03+00:00 host keyturn[1]: {{"access_key_secret": "c4n4ry e with blanks", "n": 1}}
2026-11-30T17:00:04+00:00 host keyturn[1]: {ALONE}
2026-11-30T17:00:05+00:00 host keyturn[1]: PASSWORD='c4n4ry f'
2026-11-30T17:00:06+00:00 host keyturn[1]: a password in a sentence: {PASSWORD}
2026-11-30T17:00:07+00:00 host keyturn[1]: LTAI5tQ8RmE2kZyVw3nB7cXd was published, generation 7
"""


@pytest.fixture
def host(vm: Vm) -> Iterator[Vm]:
    """A VM with a secret of its own in each place where a config may lead to one."""
    for name, secret in CANARIES.items():
        (vm.directory / name).touch(mode=0o600)
        (vm.directory / name).write_text(secret + "\n")
    (vm.directory / "authority-id").touch(mode=0o600)
    (vm.directory / "authority-id").write_text("LTAI5tAuthority000000")
    audit = f"[agent.audit]\nhmac_key_file = {quoted(vm.directory / 'hmac')}\n"
    agent = vm.agent('[agent.endpoint]\nlisten = "127.0.0.1:18911"\n').replace("[agent.audit]\n", audit)
    notify = vm.hook(["/bin/echo", f"--token={CANARIES['argument']}", CANARIES["word"]]) + (
        f'[[credentials.uploader.notify]]\ntype = "http"\nurl = "http://127.0.0.1:9/x?t={CANARIES["query"]}"\nretries = 0\n'
        '[credentials.uploader.emergency]\nram_user_name = "uploader"\n[credentials.uploader.emergency.authority]\n'
        f'type = "access_key"\naccess_key_id_from_file_path = {quoted(vm.directory / "authority-id")}\n'
        f"access_key_secret_from_file_path = {quoted(vm.directory / 'authority')}\n"
    )
    uri = f'[[credentials.uploader.sinks]]\ntype = "credentials_uri"\npath = {quoted(vm.app / "uri.env")}\n'
    serve = '[credentials.uploader.serve]\nusers = ["root"]\n'
    vm.configure(agent, vm.credential(sinks=vm.ini() + vm.env() + vm.json() + uri, notify=notify), serve)
    yield vm


def secrets_of(vm: Vm) -> list[str]:
    """Every secret that lies on the VM now."""
    found = [*CANARIES.values(), PASSWORD, json.loads((vm.directory / "clientKey.json").read_text())["PrivateKeyData"]]
    if vm.env_path().exists():
        found += re.findall(r"SECRET=(\S+)", vm.env_path().read_text())
    if (vm.app / "uri.env").exists():
        found += re.findall(r"token=(\S+)", (vm.app / "uri.env").read_text())
    return [secret.strip("\"'") for secret in found]


def report(vm: Vm, *options: str) -> str:
    """Write a report, and return it: nothing of a secret was printed, or stands in it in any line."""
    file = vm.directory / f"report-{len(list(vm.directory.glob('report-*')))}.txt"
    done = vm.keyturn("report-bug", "--output", str(file), *options)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    for secret in secrets_of(vm):
        assert secret not in text + done.stdout + done.stderr
        assert not any(secret[at : at + 24] in text for at in range(0, len(secret) - 24, 24)), "a part of it"
    return text


def test_with_a_daemon_and_without_it_has_all_parts_and_no_secret(host: Vm) -> None:
    """Before the first start, while it runs, and when it is gone; ids are shortened, and names hidden where that is wanted."""
    before = report(host)
    assert "the daemon does not answer" in before
    daemon = host.daemon().ready()
    assert len(secrets_of(host)) >= 9, "the sinks hold secrets by now"
    text = report(host)
    for title in (
        "versions",
        "config ",
        "keyturn check --offline",
        "keyturn status --json",
        "audit log",
        "systemctl",
        "metrics",
    ):
        assert f"== {title}" in text or title in text
    assert '"state": ' in text and '"event": "published"' in text and 'secret_name = "uploader-ak"' in text
    key_id = host.status()["credentials"]["uploader"]["access_key_id"]
    assert key_id not in text and f"{key_id[:6]}...{key_id[-4:]}" in text
    masked = report(host, "--mask-names")
    assert not re.search(r"(?<![\w-])uploader(?![\w-])", masked)
    assert "uploader-ak" not in masked and str(host.ini_path()) not in masked
    assert "CREDENTIAL-1" in masked and '"state": ' in masked
    daemon.process.kill()
    daemon.process.wait()
    after = report(host)
    assert "from the state on disk" in after


@pytest.mark.parametrize("broken", ["an unknown key", "no TOML"])
def test_a_config_that_is_refused_is_reported_without_what_it_holds(host: Vm, broken: str) -> None:
    """Somebody wrote a secret into it, which is why it is refused: the problem is in the report, the secret is not."""
    before = host.config.read_text()
    line = f'access_key_secret = "{UNKNOWN_KEY}"' + ("\n" if broken == "an unknown key" else " = oops\n")
    host.config.write_text(
        before.replace("[credentials.uploader.provider]\n", f"[credentials.uploader.provider]\n{line}")
    )
    text = report(host)
    assert UNKNOWN_KEY not in text
    assert "this part cannot be had" in text and str(host.config) in text
    assert ('provider.secret_name = "uploader-ak"' in text) is (broken == "an unknown key")
    assert "audit" in text and "python" in text


def test_nothing_is_overwritten_and_nothing_is_followed(host: Vm) -> None:
    """A file, a link or a directory by that name ends it with the place and the remedy."""
    taken, link, elsewhere = (host.directory / name for name in ("taken", "link", "elsewhere"))
    taken.write_text("mine")
    link.symlink_to(elsewhere)
    for path in (taken, link, host.app, host.directory / "no" / "such.txt"):
        done = host.keyturn("report-bug", "--output", str(path))
        assert (done.returncode, str(path) in done.stderr) == (1, True), done.stderr
    assert taken.read_text() == "mine" and not elsewhere.exists()


def test_the_journal_loses_what_looks_like_a_secret(
    host: Vm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a hook or a library printed there, in whatever notation; the rest of the line stays."""

    def said(argv: list[str], **_keywords: object) -> Completed:
        text = JOURNAL if argv[0] == "journalctl" else "ActiveState=active\n"
        return Completed(Ending.EXITED, 0, text.encode(), b"")

    monkeypatch.setattr(report_bug, "run_command", said)
    file = tmp_path / "report.txt"
    assert main(["--config", str(host.config), "report-bug", "--output", str(file)]) == 0
    text = file.read_text()
    assert "c4n4ry" not in text and ALONE not in text and PASSWORD not in text
    assert "hook said: token=[secret]" in text and "LTAI5t...7cXd was published, generation 7" in text
    assert "ActiveState=active" in text
    assert "look at it before you send it" in capsys.readouterr().out
