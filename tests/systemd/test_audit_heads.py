"""The heads of the audit log in a real journal, exported and compared by the commands that docs/audit.md names."""

from __future__ import annotations

import json
import os
import re

import pytest

from agent.audit.journal_heads import MESSAGE_ID
from tests.support.processes import eventually
from tests.support.systemd.machine import UNIT, Machine


def of_this_start(machine: Machine) -> tuple[str, str]:
    """What leaves out of the journal the heads of other tests: the machine is theirs too, and their logs are gone."""
    return f"MESSAGE_ID={MESSAGE_ID}", f"_SYSTEMD_INVOCATION_ID={machine.show('InvocationID')}"


def heads(machine: Machine, match: tuple[str, str]) -> list[tuple[int, str]]:
    """Number and hash of each head in the journal, oldest first."""
    machine.bed.do("journalctl", "--sync")
    found = [json.loads(line) for line in machine.bed.do("journalctl", "-o", "json", *match).splitlines()]
    assert {entry["PRIORITY"] for entry in found} <= {"6"}
    return [(int(entry["KEYTURN_AUDIT_SEQ"]), entry["KEYTURN_AUDIT_HASH"]) for entry in found]


def test_the_journal_proves_the_end_of_the_log_and_names_what_was_cut_off_or_rewritten(running: Machine) -> None:
    """Each head is a record of the log, the newest one within a second; a stop says the last. The rest is the auditor's."""
    match = of_this_start(running)
    newest = running.cloud.rotate()
    running.picked_up(newest)
    eventually(
        lambda: heads(running, match)[-1][0] == running.audit()[-1]["seq"],
        "the newest head is said, if a second later",
    )
    running.systemctl("stop", UNIT)
    records = {record["seq"]: record["hash"] for record in running.audit()}
    told = heads(running, match)
    assert told[-1] == max(records.items())
    assert all(records[seq] == found for seq, found in told)
    assert len(told) < len(records)

    export = f"journalctl _SYSTEMD_UNIT={UNIT} {' '.join(match)} -o json"

    def audit(script: str) -> tuple[int, str]:
        done = running.bed.run("sh", "-c", script)
        return done.returncode, done.both

    assert audit(f"{export} | keyturn audit verify --journal -")[0] == 0
    audit(
        f"{export} >/tmp/heads.json; mkdir -p /tmp/copy; head -n -1 /var/log/keyturn/audit.jsonl >/tmp/copy/audit.jsonl"
    )
    code, said = audit("keyturn audit verify --log /tmp/copy/audit.jsonl --journal /tmp/heads.json")
    assert code == 1
    assert f"the end is missing: the journal names seq {max(records)}" in said
    audit("rm -r /tmp/copy /tmp/heads.json")


@pytest.mark.parametrize("place", ["${CREDENTIALS_DIRECTORY}/audit-hmac", "/etc/keyturn/audit-hmac"])
def test_a_key_of_systemds_or_of_the_services_own_authenticates_and_root_verifies_with_it(
    machine: Machine, place: str
) -> None:
    """Root's file, handed over by LoadCredential=, or one that belongs to the service's user; the log proves nothing without it."""
    machine.bed.write("/etc/keyturn/audit-hmac", os.urandom(32).hex() + "\n", 0o600)
    if place.startswith("$"):
        machine.drop_in("LoadCredential=audit-hmac:/etc/keyturn/audit-hmac")
    else:
        machine.bed.do("chown", "keyturn", "/etc/keyturn/audit-hmac")
    machine.configure(f'[agent.audit]\nhmac_key_file = "{place}"\n')
    machine.start()
    machine.picked_up(machine.cloud.current())
    assert all(record["hmac"] for record in machine.audit())
    done = machine.keyturn("audit", "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.keyturn("audit", "verify", "--hmac-key-file", "/etc/keyturn/audit-hmac").returncode == 0
    checked = machine.keyturn("check").stdout
    assert re.search(r"^ok +agent\.audit\.hmac_key_file", checked, re.M), checked
    machine.systemctl("stop", UNIT)
    machine.bed.do("rm", "/etc/keyturn/audit-hmac")
