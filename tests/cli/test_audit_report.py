"""`keyturn audit report` as an operator and an auditor call it: where it reads, where it writes, how it exits."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from agent.cli.main import main
from agent.core.errors import EXIT_NOT_PERMITTED
from tests.support.processes import in_child
from tests.support.written_logs import WrittenLog, two_years

CONFIG = """\
[agent]
state_directory = "{place}/state"
runtime_directory = "{place}/run"
[agent.audit]
path = "{place}/audit.jsonl"

[credentials.uploader]
owner = "team oss"
max_age = "90d"
[credentials.uploader.provider]
type = "kms_secret"
secret_name = "uploader-ak"
properties_file = "{place}/secretsmanager.properties"
[[credentials.uploader.sinks]]
type = "env_file"
path = "{place}/env"
[[credentials.uploader.notify]]
type = "systemd"
unit = "app.service"

[credentials.new]
[credentials.new.provider]
type = "ecs_ram_role"
role_name = "instance-role"
[[credentials.new.sinks]]
type = "env_file"
path = "{place}/env-of-new"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A host with a log of two years, and a config with one credential of the log and a new one."""
    tmp_path.chmod(0o755)
    log = two_years(tmp_path)
    (tmp_path / "state").mkdir(mode=0o700)
    log.head.rename(tmp_path / "state" / "audit-head")
    (tmp_path / "keyturn.toml").write_text(CONFIG.format(place=tmp_path))
    return tmp_path


def call(place, *arguments):
    return main(["--config", str(place / "keyturn.toml"), "audit", "report", *arguments])


def as_json(place, capfd, *arguments):
    code = call(place, "--format", "json", *arguments)
    said = capfd.readouterr()
    return code, json.loads(said.out), said.err


def test_config_state_and_log_make_the_report(place, capfd):
    """Owner, max_age, secret and role of the config; the end of the log proved by the state; exit 0."""
    code, found, err = as_json(place, capfd)
    rows = {one["name"]: one for one in found["credentials"]}
    assert (code, err) == (0, "")
    assert list(rows) == ["uploader", "new", "billing", "gone", "session"]
    assert (rows["uploader"]["owner"], rows["uploader"]["max_age_s"], rows["uploader"]["secret"]) == (
        "team oss",
        7776000.0,
        "uploader-ak",
    )
    assert (rows["new"]["identity"], rows["new"]["identity_source"], rows["new"]["files"]) == (
        "instance-role", "config", [f"{place}/env-of-new"],
    )  # fmt: skip
    assert (found["log"]["verified"], found["log"]["end_proved"], found["config_read"]) == (True, True, True)


@pytest.mark.parametrize("form", ["table", "csv", "json", "ocsf", "html"])
def test_a_log_that_was_changed_exits_1_and_is_reported(place, capfd, form):
    """The report is written all the same, whole, and says so itself; standard error says it too."""
    path = place / "audit.jsonl"
    path.write_text(path.read_text().replace("LTAI5tBilling", "LTAI5tForgery", 1))
    assert call(place, "--format", form, "--output", str(place / "out")) == 1
    said, written = capfd.readouterr(), (place / "out").read_text()
    assert said.out == "" and "did not verify" in said.err
    assert "verify" in written.lower() or "verified" in written.lower()
    assert call(place, "--format", form) == 1
    if form != "table":  # which has the width of the terminal, and not of a file
        assert len(capfd.readouterr().out) == pytest.approx(len(written), abs=50)


def test_the_file_is_for_its_owner_alone(place, capfd):
    """Key ids, names and reasons are nobody else's business; what stood there is replaced whole."""
    (place / "out").write_text("older")
    assert call(place, "--output", str(place / "out")) == 0
    assert stat.S_IMODE((place / "out").stat().st_mode) == 0o600
    assert "keyturn rotation report" in (place / "out").read_text()
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("target", ["a directory", "a link", "no directory"])
def test_output_goes_into_files_only(place, capfd, target):
    """A device, a directory, a link of somebody's is not replaced; that is named with its place, before the log is read."""
    (place / "audit.jsonl").unlink()
    path = {"a directory": place, "a link": place / "link", "no directory": place / "none" / "out"}[target]
    (place / "link").symlink_to("/dev/null")
    assert call(place, "--output", str(path)) == 1
    assert f"--output: {path}: " in capfd.readouterr().err
    assert os.readlink(place / "link") == "/dev/null"


def test_a_copy_needs_neither_config_nor_state(place, capfd):
    """On an auditor's machine: the chain is proved, its end is not; that is no failure."""
    (place / "keyturn.toml").unlink()
    code, found, _err = as_json(place, capfd, "--log", str(place / "audit.jsonl"))
    assert (code, found["config_read"], found["log"]["verified"], found["log"]["end_proved"]) == (0, False, True, False)


def test_the_end_of_a_copy_is_proved_by_a_known_head(place, capfd):
    """As the journal or the host named it; another one, or an end that was cut off, is a failure."""
    path = place / "audit.jsonl"
    head = json.loads(path.read_text().splitlines()[-1])
    known = f"{head['seq']}:{head['hash']}"
    code, found, _err = as_json(place, capfd, "--log", str(path), "--head", known)
    assert (code, found["log"]["end_proved"]) == (0, True)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    code, found, _err = as_json(place, capfd, "--log", str(path), "--head", known)
    assert (code, found["log"]["verified"]) == (1, False)
    assert call(place, "--head", known) == 2


def test_hmacs_are_checked(place, tmp_path, capfd):
    """By a key that never made one: the log did not verify."""
    key = tmp_path / "key"
    key.write_text("0123456789abcdef" * 4)
    key.chmod(0o600)
    assert call(place, "--hmac-key-file", str(key)) == 1
    assert "HMAC" in capfd.readouterr().out


def test_a_part_of_a_log_needs_its_first_number(place, capfd):
    """Where older files were archived elsewhere, what is missing is named, unless one says where it begins."""
    path = place / "audit.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[20:]))
    assert call(place, "--log", str(path)) == 1
    assert "seq 1 to 20 removed" in capfd.readouterr().err
    assert call(place, "--log", str(path), "--from-seq", "21") == 0


def test_mistakes_are_named(place, capfd):
    """An unknown credential, a time that is none, a log that is not there, or is a directory."""
    assert call(place, "--credential", "uploadr") == 2
    assert capfd.readouterr().err.endswith("audit report --credential uploader\n")
    assert call(place, "--since", "yesterday") == 2
    assert call(place, "--log", str(place / "none.jsonl")) == 1
    assert str(place / "none.jsonl") in capfd.readouterr().err
    assert call(place, "--log", str(place)) == 1
    assert capfd.readouterr().out == ""


def test_a_log_that_is_all_wrong_does_not_flood(place, capfd):
    """People see the first of what is wrong and how much more there is; programs get all."""
    (place / "audit.jsonl").write_text("rubbish\n" * 500)
    assert call(place) == 1
    said = capfd.readouterr()
    assert len(said.out.splitlines()) < 120 and "more" in said.out and len(said.err.splitlines()) < 30
    assert len(as_json(place, capfd)[1]["log"]["problems"]) >= 500


def test_the_first_start_has_not_been(tmp_path, capfd):
    """An empty log is a log: every credential of the config is there, and none was published."""
    (tmp_path / "state").mkdir(mode=0o700)
    WrittenLog(tmp_path).close().head.rename(tmp_path / "state" / "audit-head")
    (tmp_path / "keyturn.toml").write_text(CONFIG.format(place=tmp_path))
    for form in ("table", "csv", "ocsf", "html"):
        assert call(tmp_path, "--format", form) == 0
    code, found, _err = (capfd.readouterr(), as_json(tmp_path, capfd))[1]
    assert code == 0 and [one["key"] for one in found["credentials"]] == [None, None]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_who_may_not_read_the_state_has_the_log(place, capfd):
    """As a member of a group that may read the log: a warning, no proof of the end, and that is no failure."""
    for parent in place.parents:
        if parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(0o755)
    (place / "audit.jsonl").chmod(0o644)
    assert as_json(place, capfd)[1]["log"]["end_proved"]  # and everything is imported

    def report() -> None:
        assert call(place, "--format", "json") == 0

    assert in_child(report, user=65534) == 0
    said = capfd.readouterr()
    found = json.loads(said.out)
    assert (found["log"]["verified"], found["log"]["end_proved"]) == (True, False)
    assert found["credentials"][0]["owner"] == "team oss" and str(place / "state") in said.err


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("action", ["report", "verify"])
def test_who_may_not_enter_the_directory_of_the_log_is_told_so(place, capfd, action):
    """Of the host's log and of a copy alike: one sentence, and no fault of ours."""
    log = str(place / "audit.jsonl")
    assert main(["audit", action, "--log", log]) == 0  # and everything is imported
    place.chmod(0o700)

    def refused() -> None:
        assert main(["audit", action, "--log", log]) == EXIT_NOT_PERMITTED

    capfd.readouterr()
    assert in_child(refused, user=65534) == 0
    assert capfd.readouterr().err.startswith(f"keyturn: {log}: this user may not read the audit log")


def test_what_a_real_run_writes_is_reported(vm):
    """By `keyturn once`: identity, request id, host, version and digest of the config come out of its records."""
    vm.configure(vm.credential())
    assert vm.keyturn("once").returncode == 0
    found = json.loads(vm.keyturn("audit", "report", "--format", "json").stdout)
    (one,) = found["credentials"]
    assert found["log"]["end_proved"] and one["identity_source"] == "proved"
    assert one["key"]["request_ids"] and one["key"]["host"] == found["hosts"][0]
    assert (one["key"]["agent_version"], one["key"]["config"]) == (found["agent_versions"][0], found["configs"][0])
    assert one["key"]["created_at"] is not None and one["told"] == {} and one["owed"] == []


@pytest.mark.parametrize("which", ["audit.jsonl", "audit.jsonl.1", "keyturn.toml", "link/audit.jsonl"])
@pytest.mark.parametrize("command", ["report", "incident"])
def test_no_document_takes_the_place_of_what_it_is_made_of(place, capfd, which, command):
    """The log, its rotated files and the config are not written over, whatever path leads there."""
    (place / "audit.jsonl.1").write_bytes((place / "audit.jsonl").read_bytes())
    (place / "link").symlink_to(place)
    before = {path: path.read_bytes() for path in place.iterdir() if path.is_file()}
    file = str(place / which)
    assert main(["--config", str(place / "keyturn.toml"), "audit", command, "--output", file, "--format", "json"]) == 1
    assert file in capfd.readouterr().err
    assert {path: path.read_bytes() for path in place.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("content", [b"", b"half a record"], ids=["empty", "torn"])
def test_a_copy_without_a_record_is_no_proof_of_anything(tmp_path, capfd, content):
    """An upload that came to nothing is not called verified, by either command."""
    (tmp_path / "copy.jsonl").write_bytes(content)
    for command in ("report", "verify"):
        assert main(["audit", command, "--log", str(tmp_path / "copy.jsonl")]) == 1
    assert "it has no record" in capfd.readouterr().err


def test_a_name_that_is_too_long_is_no_fault_of_keyturn(place, capfd):
    """Wherever a path may be given."""
    long = str(place / ("a" * 300))
    for arguments in (["report", "--log", long], ["verify", "--log", long], ["report", "--output", long]):
        assert main(["--config", str(place / "keyturn.toml"), "audit", *arguments]) == 1
        assert "fault" not in capfd.readouterr().err
