"""What the world may hand to keyturn: each defect is one sentence with a remedy, and no file is touched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from providers.emulator.faults import Fault
from providers.emulator.pki import server_context
from tests.support.golden import Golden, anywhere
from tests.support.vm import Vm

pytestmark = pytest.mark.slow

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="plays another user, which needs root")

STRANGER = 64321


PUBLISHED = "[default]\nenable = true\ntype = access_key\naccess_key_id = LTAIbefore\naccess_key_secret = before\n"


@dataclass(frozen=True)
class Case:
    """A defect, the exit code it has, and the place that its sentence names."""

    plant: Callable[[Vm], None]
    code: int
    place: str


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
    "the password does not open the ClientKey": Case(wrong_password, 1, "clientKey.json"),
    "the password's file is missing": Case(no_password, 1, "password"),
    "the password is empty": Case(empty_password, 1, "password"),
    "the ClientKey is missing": Case(no_client_key, 1, "clientKey.json"),
    "the ClientKey is torn": Case(torn_client_key, 1, "clientKey.json"),
    "the ClientKey is a directory": Case(client_key_is_a_directory, 1, "clientKey.json"),
    "others can read the ClientKey": Case(open_client_key, 1, "clientKey.json"),
    "others can read the password": Case(open_password, 1, "password"),
    "the reply is rubbish": Case(fault(Fault.RUBBISH), 1, "uploader"),
    "the reply is empty": Case(fault(Fault.EMPTY), 1, "uploader"),
    "the reply has another shape": Case(fault(Fault.WRONG_SHAPE), 1, "uploader"),
    "the reply has 10 MB": Case(fault(Fault.OVERSIZED), 1, "uploader"),
    "the reply is a redirect": Case(fault(Fault.REDIRECT), 1, "uploader"),
    "the connection is reset": Case(fault(Fault.RESET), 75, "uploader"),
    "the secret is no JSON": Case(generic("canary-not-json"), 1, "uploader-ak"),
    "the secret is a list": Case(generic('["canary-not-json"]'), 1, "uploader-ak"),
    "the secret lacks a key": Case(generic('{"AccessKeyId": "canary-not-json"}'), 1, "AccessKeySecret"),
    "the value has a line break": Case(generic(pair("canary-not-json\nx = y")), 1, "access_key_secret"),
    "the value has a blank": Case(generic(pair("canary-not-json y")), 1, "access_key_secret"),
    "the value is not ASCII": Case(generic(pair("canary-not-json\u00e9")), 1, "access_key_secret"),
    "the value has a zero byte": Case(generic(pair("canary-not-json\0")), 1, "access_key_secret"),
    "the value is huge": Case(generic(pair("canary-not-json" * 10_000)), 1, "access_key_secret"),
    "the sink's directory is missing": Case(missing_directory, 1, "/app/no"),
    "the sink is a symlink": Case(symlink, 1, "uploader.ini"),
    "the server is signed by a stranger": Case(foreign_ca, 1, "uploader"),
    "the CA file is rubbish": Case(unreadable_ca, 1, "ca.pem"),
}


def test_each_defect_is_one_sentence_and_touches_no_file(make_vm: Callable[..., Vm], golden: Golden) -> None:
    """One line naming the place, a remedy, the right status, no traceback, nothing of the value, files as they were."""

    def play(number: int, name: str) -> str:
        vm, case = make_vm(f"vm{number}"), CASES[name]
        vm.configure(vm.credential(settings=QUICK + '\nverify = "off"'))
        vm.ini_path().write_text(PUBLISHED)
        vm.ini_path().chmod(0o600)
        case.plant(vm)
        before = sorted((str(path), path.lstat().st_mtime_ns) for path in vm.app.rglob("*"))
        done = vm.keyturn("once", "--retry-for", "0s")
        said = done.stderr.strip()
        assert done.returncode == case.code, (name, done)
        assert len(said.splitlines()) == 1, (name, said)
        assert said.startswith("keyturn: "), (name, said)
        assert "; " in said, f"{name}: no remedy: {said}"
        assert len(said) < 1000, (name, said)
        assert case.place in said, (name, said)
        whole = done.stdout + done.stderr + (vm.log_directory / "audit.jsonl").read_text()
        assert "canary-not-json" not in whole, name
        assert sorted((str(path), path.lstat().st_mtime_ns) for path in vm.app.rglob("*")) == before, name
        assert json.dumps([json.loads(line)["event"] for line in whole.splitlines() if line.startswith("{")]), name
        return anywhere(said, vm)

    with ThreadPoolExecutor(4) as pool:
        golden("once", dict(zip(CASES, pool.map(play, range(len(CASES)), CASES), strict=True)))


@as_root
def test_what_an_ordinary_user_may_not_write_is_said(public_vm: Vm) -> None:
    """As a user who may not write state or sink: 77 or 1, one sentence that names the directory, files untouched."""
    vm = public_vm
    vm.configure(vm.credential(settings=QUICK))
    no_state = vm.keyturn_as(STRANGER, "once", "--retry-for", "0s")
    assert no_state.returncode == 77, no_state
    assert str(vm.state) in no_state.stderr
    assert len(no_state.stderr.splitlines()) == 1
    for path in (vm.state, vm.log_directory):
        path.mkdir(exist_ok=True)
        os.chown(path, STRANGER, STRANGER)
    no_key = vm.keyturn_as(STRANGER, "once", "--retry-for", "0s")
    assert no_key.returncode == 77, no_key
    assert "clientKey.json" in no_key.stderr
    for path in (vm.directory / "clientKey.json", vm.directory / "password"):
        os.chown(path, STRANGER, STRANGER)
    no_sink = vm.keyturn_as(STRANGER, "once", "--retry-for", "0s")
    assert no_sink.returncode in (1, 77), no_sink
    assert str(vm.app) in no_sink.stderr
    assert len(no_sink.stderr.splitlines()) == 1
    assert list(vm.app.iterdir()) == []
    os.chown(vm.app, STRANGER, STRANGER)
    assert vm.keyturn_as(STRANGER, "once").returncode == 0, "as an ordinary user with rights it works"
    assert vm.ini_path().stat().st_uid == STRANGER
