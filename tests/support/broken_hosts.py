"""Hosts on which something is wrong: what is planted, with which status `once` ends, and what its sentence names."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from providers.emulator.faults import Fault
from providers.emulator.pki import server_context
from tests.support.vm import Vm, quoted

PUBLISHED = "[default]\nenable = true\ntype = access_key\naccess_key_id = LTAIbefore\naccess_key_secret = before\n"


@dataclass(frozen=True)
class Case:
    """A defect, the exit code it has, and words that its sentence must have."""

    plant: Callable[[Vm], None]
    code: int
    words: tuple[str, ...]


def wrong_password(vm: Vm) -> None:
    (vm.directory / "password").write_text("Aa1!not-the-password")


def no_password(vm: Vm) -> None:
    (vm.directory / "password").unlink()


def empty_password(vm: Vm) -> None:
    (vm.directory / "password").write_text("")


def no_client_key(vm: Vm) -> None:
    (vm.directory / "clientKey.json").unlink()


def torn_client_key(vm: Vm) -> None:
    path = vm.directory / "clientKey.json"
    path.write_text(path.read_text()[:200])


def client_key_is_a_directory(vm: Vm) -> None:
    no_client_key(vm)
    (vm.directory / "clientKey.json").mkdir()


def open_client_key(vm: Vm) -> None:
    (vm.directory / "clientKey.json").chmod(0o644)


def open_password(vm: Vm) -> None:
    (vm.directory / "password").chmod(0o604)


def fault(which: Fault) -> Callable[[Vm], None]:
    return lambda vm: vm.cloud.inject(which, times=100, action="GetSecretValue")


def generic(value: str) -> Callable[[Vm], None]:
    def plant(vm: Vm) -> None:
        vm.cloud.add_generic_secret("uploader-ak", value)

    return plant


def pair(secret: str) -> str:
    return json.dumps({"AccessKeyId": "LTAI5tPlanted", "AccessKeySecret": secret})


def missing_directory(vm: Vm) -> None:
    vm.configure(vm.credential(settings=QUICK, sinks=vm.ini(path=vm.app / "no" / "uploader.ini")))


def symlink(vm: Vm) -> None:
    real = vm.app / "real.ini"
    vm.ini_path().rename(real)
    vm.ini_path().symlink_to(real)
    vm.ini_path("copy").write_text(PUBLISHED)


def foreign_ca(vm: Vm) -> None:
    other = vm.directory / "other-ca"
    server_context(other)
    (vm.directory / "ca.pem").write_bytes((other / "ca.pem").read_bytes())


def unreadable_ca(vm: Vm) -> None:
    (vm.directory / "ca.pem").write_text("rubbish")


QUICK = 'verify_timeout = "1s"'
CASES = {
    "the password does not open the ClientKey": Case(wrong_password, 1, ("clientKey.json", "password")),
    "the password's file is missing": Case(no_password, 1, ("password",)),
    "the password is empty": Case(empty_password, 1, ("password",)),
    "the ClientKey is missing": Case(no_client_key, 1, ("clientKey.json",)),
    "the ClientKey is torn": Case(torn_client_key, 1, ("clientKey.json", "JSON")),
    "the ClientKey is a directory": Case(client_key_is_a_directory, 1, ("clientKey.json",)),
    "others can read the ClientKey": Case(open_client_key, 1, ("clientKey.json", "chmod")),
    "others can read the password": Case(open_password, 1, ("password", "chmod")),
    "the reply is rubbish": Case(fault(Fault.RUBBISH), 1, ("uploader",)),
    "the reply is empty": Case(fault(Fault.EMPTY), 1, ("uploader",)),
    "the reply has another shape": Case(fault(Fault.WRONG_SHAPE), 1, ("uploader",)),
    "the reply has 10 MB": Case(fault(Fault.OVERSIZED), 1, ("uploader",)),
    "the reply is a redirect": Case(fault(Fault.REDIRECT), 1, ("redirect",)),
    "the connection is reset": Case(fault(Fault.RESET), 75, ("uploader",)),
    "the secret is no JSON": Case(generic("canary-not-json"), 1, ("uploader-ak", "JSON")),
    "the secret is a list": Case(generic('["canary-not-json"]'), 1, ("uploader-ak", "JSON")),
    "the secret lacks a key": Case(generic('{"AccessKeyId": "canary-not-json"}'), 1, ("AccessKeySecret",)),
    "the value has a line break": Case(generic(pair("canary-not-json\nx = y")), 1, ("access_key_secret",)),
    "the value has a blank": Case(generic(pair("canary-not-json y")), 1, ("access_key_secret",)),
    "the value is not ASCII": Case(generic(pair("canary-not-json\u00e9")), 1, ("access_key_secret",)),
    "the value has a zero byte": Case(generic(pair("canary-not-json\0")), 1, ("access_key_secret",)),
    "the value is huge": Case(generic(pair("canary-not-json" * 10_000)), 1, ("access_key_secret",)),
    "the sink's directory is missing": Case(missing_directory, 1, ("install -d",)),
    "the sink is a symlink": Case(symlink, 1, ("uploader.ini", "link")),
    "the server is signed by a stranger": Case(foreign_ca, 1, ("uploader", "certificate")),
    "the CA file is rubbish": Case(unreadable_ca, 1, ("ca.pem",)),
}


def many_defects(vm: Vm) -> None:
    """One host with a credential for each defect that `check` finds."""
    for name in ("shared", "missing-dir", "gone", "locked"):
        vm.cloud.add_ram_secret(f"{name}-ak", user=name)
    loose = vm.directory / "loose.json"
    loose.write_bytes((vm.directory / "clientKey.json").read_bytes())
    loose.chmod(0o644)
    world = vm.directory / "world"
    world.mkdir()
    world.chmod(0o777)
    probe = world / "probe"
    probe.write_text("#!/bin/sh\n")
    probe.chmod(0o755)
    own_key = quoted(vm.directory / "clientKey.json")
    vm.configure(
        vm.credential("loose", secret="shared-ak").replace(own_key, quoted(loose))
        + vm.credential("missing_dir", secret="missing-dir-ak", sinks=vm.ini("missing_dir", vm.app / "no" / "x.ini"))
        + vm.credential("everyone", secret="shared-ak", sinks=vm.ini("everyone", world / "x.ini"))
        + vm.credential("no_secret", secret="no-such-secret")
        + vm.credential("no_source", endpoint="127.0.0.1:1")
        + vm.credential("no_hook", notify=vm.hook(["/no/such/program"], "no_hook"))
        + vm.credential(
            "no_probe", notify=vm.hook(["/bin/true"], "no_probe") + f'pickup = {{ command = ["{probe}"] }}\n'
        )
    )
