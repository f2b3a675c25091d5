"""`keyturn check` in root's shell, in the documented order: before the service ever ran, and beside one that runs."""

from __future__ import annotations

from tests.support.processes import eventually
from tests.support.systemd.machine import CLIENT_KEY, UNIT, Machine

OPERATOR = """\
[credentials.uploader.emergency]
authority = "operator"
ram_user_name = "uploader"
[credentials.operator.provider]
type = "access_key"
access_key_id_from_file_path = "${CREDENTIALS_DIRECTORY}/operator-id"
access_key_secret_from_file_path = "${CREDENTIALS_DIRECTORY}/operator-secret"
"""


def lines(machine: Machine, level: str) -> tuple[int, list[str]]:
    done = machine.keyturn("check")
    return done.returncode, [line for line in done.stdout.splitlines() if line.startswith(level)]


def test_before_the_first_start_nothing_is_wrong_where_nothing_is(machine: Machine) -> None:
    """Both files where root keeps them, the unit not running: exit 0, and the ClientKey was really tried."""
    code, errors = lines(machine, "error")
    assert (code, errors) == (0, [])
    _code, well = lines(machine, "ok")
    assert any(f"{CLIENT_KEY} is handed over as client_key.json" in line for line in well)
    assert any("fetched" in line and machine.cloud.current() in line for line in well)


def test_a_missing_file_is_named_where_it_belongs_and_once(machine: Machine) -> None:
    """Its source, not the copy that nobody can put anywhere; what two parts of the config use is said once."""
    try:
        machine.configure(OPERATOR)
        machine.setup()
        code, errors = lines(machine, "error")
        assert code == 1 and not any("/run/credentials" in line for line in errors)
        for name in ("operator-id", "operator-secret"):
            (line,) = [each for each in errors if name in each]
            assert f"/etc/keyturn/{name}: this file is missing" in line
    finally:
        machine.configure()
        machine.setup()


def test_another_source_in_a_drop_in_is_the_one_that_counts(machine: Machine) -> None:
    """`LoadCredential=client_key.json:/root/ck`: missing, then there."""
    machine.drop_in("LoadCredential=client_key.json:/root/ck")
    code, errors = lines(machine, "error")
    assert code == 1 and errors and all("/root/ck: this file is missing" in line for line in errors)
    machine.bed.do("cp", "-p", CLIENT_KEY, "/root/ck")
    assert lines(machine, "error") == (0, [])


def test_a_file_put_there_while_the_service_runs_needs_a_reload_and_no_restart(machine: Machine) -> None:
    """`check` says so, and the reload brings it."""
    machine.bed.do("mv", CLIENT_KEY, "/root/away")
    machine.start()
    code, errors = lines(machine, "error")
    assert code == 1 and all(f"{CLIENT_KEY}: this file is missing" in line for line in errors)
    machine.bed.do("mv", "/root/away", CLIENT_KEY)
    _code, warnings = lines(machine, "warning")
    (line,) = [each for each in warnings if CLIENT_KEY in each]
    assert line.endswith("`systemctl reload keyturn`")
    code, errors = lines(machine, "error")
    assert code == 1 and all("daemon: credentials.uploader is failing" in each for each in errors), errors
    machine.systemctl("reload", UNIT)
    eventually(lambda: machine.show("StatusText") == "1 of 1 credentials fresh")
    assert lines(machine, "error") == (0, [])
    assert not any(CLIENT_KEY in each for each in lines(machine, "warning")[1])
