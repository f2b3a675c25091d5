"""`[agent.audit] hmac_key_file` from the config to the proof, with real processes."""

from __future__ import annotations

import hashlib
import os
import signal

from agent.core.errors import EXIT_DONE, EXIT_FAILED
from tests.support.vm import Vm, eventually


def test_keyturn_works_with_the_key_of_its_config_or_not_at_all(vm: Vm) -> None:
    """A key that is missing ends a start in one sentence, which `check` says too; one that was taken out leaves a trace."""
    key = vm.directory / "audit-hmac"
    named = f'[agent.audit]\nhmac_key_file = "{key}"\n'
    vm.configure(vm.credential())
    plain = vm.config.read_text()
    vm.config.write_text(plain.replace("[agent.audit]\n", named))
    done = vm.keyturn("once")
    assert done.returncode == EXIT_FAILED
    assert done.stderr.count("\n") == 1
    assert f"agent.audit.hmac_key_file: {key}: " in done.stderr
    assert any(
        line.startswith("error") and "agent.audit.hmac_key_file" in line
        for line in vm.keyturn("check").stdout.split("\n")
    )

    secret = os.urandom(32).hex()
    key.write_text(secret + "\n")
    key.chmod(0o600)
    assert vm.keyturn("once").returncode == EXIT_DONE
    assert "audit records are authenticated" in vm.keyturn("check", "--offline").stdout
    records = vm.audit()
    assert records and all(len(record["hmac"]) == 64 for record in records)
    proved = vm.keyturn("audit", "verify")
    assert (proved.returncode, proved.stderr) == (EXIT_DONE, "")

    vm.config.write_text(plain)
    vm.cloud.rotate("uploader-ak")
    assert vm.keyturn("once").returncode == EXIT_DONE
    proved = vm.keyturn("audit", "verify")
    assert proved.returncode == EXIT_DONE
    assert "was not checked" in proved.stderr and "has no HMAC, and the record before it has one" in proved.stderr
    assert vm.keyturn("audit", "verify", "--hmac-key-file", str(key)).returncode == EXIT_FAILED
    written = [file for folder in (vm.state, vm.log_directory) for file in folder.rglob("*") if file.is_file()]
    assert written and not [file for file in written if secret.encode() in file.read_bytes()]


def test_a_reload_names_the_config_that_it_took_over_and_takes_over_no_key(vm: Vm) -> None:
    """The records of a new key are under the config of then; authentication begins with a start, and never unnoticed later."""
    vm.configure(vm.credential())
    daemon = vm.daemon().ready()
    vm.config.write_text(vm.config.read_text() + "# another\n")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: vm.audit("config_reloaded"))
    digests = [f"sha256:{hashlib.sha256(vm.config.read_bytes()).hexdigest()[:16]}"]
    assert [record["config"] for record in vm.audit("config_reloaded")] == digests
    assert vm.audit("agent_started")[0]["config"] not in digests
    vm.config.write_text(
        vm.config.read_text().replace("[agent.audit]\n", '[agent.audit]\nhmac_key_file = "/etc/none"\n')
    )
    daemon.signal(signal.SIGHUP)
    eventually(lambda: vm.audit("config_rejected"))
    assert "agent.audit.hmac_key_file cannot change while keyturn runs" in vm.audit("config_rejected")[0]["error"]
