"""No secret leaves by a side door: everything that keyturn writes, prints and starts is searched for canaries."""

from __future__ import annotations

import base64
import signal
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from providers.emulator.faults import Fault
from providers.emulator.pki import read_client_key_file
from tests.support.vm import PASSWORD, Vm, eventually


def canaries(vm: Vm, secrets: list[str]) -> dict[str, bytes]:
    """What must be found nowhere, in pieces long enough to be no accident."""
    _key_id, key = read_client_key_file((vm.directory / "clientKey.json").read_text(), PASSWORD)
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    modulus = key.private_numbers().d
    found = {f"secret {number}": secret.encode() for number, secret in enumerate(secrets)}
    found["password"] = PASSWORD.encode()
    found["private key"] = base64.b64encode(der)[200:260]
    found["private exponent"] = str(modulus)[:60].encode()
    found["a signature"] = b"Signature="
    found["an authorization"] = b"Authorization"
    return found


@pytest.mark.parametrize("form", ["plain", "json"])
def test_no_secret_is_in_logs_state_audit_hooks_or_status(vm: Vm, form: str) -> None:
    """At log level debug, through publishes, refusals, resets and failing hooks: not one canary anywhere."""
    dump = vm.directory / "hooks"
    script = f"{{ tr '\\\\0' '\\\\n' < /proc/$$/environ; cat /proc/$$/cmdline; cat; }} >> {dump}; echo said; exit 3"
    extra = f'log_level = "debug"\nlog_format = "{form}"'
    notify = vm.hook(["/bin/sh", "-c", script], extra='retry_for = "5s"')
    vm.configure(
        vm.agent(extra) + vm.credential(poll="1s", notify=notify, settings='verify_timeout = "1s"\ncanary = true')
    )
    secrets = [vm.cloud.current_key("uploader-ak").access_key_secret]
    daemon = vm.daemon({"DEBUG": "sdk"}).ready()
    eventually(lambda: dump.exists() and "KEYTURN_EVENT" in dump.read_text())
    secrets.append(vm.cloud.rotate("uploader-ak").access_key_secret)
    eventually(lambda: vm.holds(vm.cloud.current_key("uploader-ak").access_key_id))
    for fault in (Fault.RESET, Fault.RUBBISH, Fault.REDIRECT, Fault.LOSE_REPLY):
        before = len(vm.cloud.calls)
        vm.cloud.inject(fault, times=1)
        daemon.signal(signal.SIGUSR1)
        eventually(lambda before=before: len(vm.cloud.calls) > before)
    vm.cloud.fail_next(400, "IncompleteSignature", message="string to sign: canary&AccessKeySecret")
    daemon.signal(signal.SIGUSR1)
    shown = vm.keyturn("status", "--json").stdout + vm.keyturn("status").stdout + vm.keyturn("refresh").stdout
    command_line = Path(f"/proc/{daemon.pid}/cmdline").read_bytes() + Path(f"/proc/{daemon.pid}/environ").read_bytes()
    assert daemon.stop() == 0
    places = {
        "the daemon's output": daemon.log.encode(),
        "what commands print": shown.encode(),
        "the daemon's command line and environment": command_line,
        "what hooks get": dump.read_bytes(),
        "the service manager's messages": "".join(text for _at, text in daemon.listener.messages).encode(),
    }
    for root in (vm.state, vm.run_directory, vm.log_directory):
        places.update({str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()})
    assert len(places) > 7, "state, lock, audit and its head are among them"
    assert secrets[1] in vm.ini_path().read_text(), "the search would find it where it belongs"
    for what, canary in canaries(vm, secrets).items():
        for where, content in places.items():
            assert canary not in content, f"{what} is in {where}"
    assert b"KEYTURN_ACCESS_KEY_ID" in places["what hooks get"]
    assert b"string to sign" not in daemon.log.encode()
