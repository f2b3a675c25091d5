"""The names of files are those of the config, in UTF-8, whatever the locale; long ones, and ones of many bytes a letter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from agent.system.files import TEMP_NAME, temp_name
from tests.support.processes import KEYTURN, PATIENCE_S
from tests.support.vm import Vm

pytestmark = pytest.mark.slow

NAME = "文件"


@pytest.fixture(scope="module")
def gb18030(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a shell on an older Chinese server."""
    if not shutil.which("localedef"):
        pytest.skip("localedef is not installed here")
    directory = tmp_path_factory.mktemp("locales")
    command = ["localedef", "-i", "zh_CN", "-f", "GB18030", str(directory / "zh_CN.GB18030")]
    if subprocess.run(command, capture_output=True, check=False).returncode > 1:
        pytest.skip("this locale cannot be made here")
    return {"LOCPATH": str(directory), "LC_ALL": "zh_CN.GB18030"}


LOCALES = {
    "UTF-8": {"LC_ALL": "C.UTF-8"},
    "POSIX": {"LC_ALL": "POSIX"},
    "ASCII": {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "GB18030": {},
}


@pytest.mark.parametrize("locale", LOCALES)
def test_every_name_has_the_bytes_of_the_config(vm: Vm, gb18030: dict[str, str], locale: str) -> None:
    """Sink, directory, audit log, the argument of a hook and what it is told: the same bytes in every locale."""
    place = vm.directory / NAME
    place.mkdir()
    heard = vm.directory / "heard"
    script = f'printf "%s\\n%s\\n" "$1" "$KEYTURN_SINKS" > {heard}'
    vm.configure(vm.credential(notify=vm.hook(["/bin/sh", "-c", script, "sh", NAME])))
    text = vm.config.read_text()
    assert str(vm.ini_path()) in text
    vm.config.write_text(text.replace(str(vm.ini_path()), str(place / f"{NAME}.ini")))
    environ = {**vm.environ, **(gb18030 if locale == "GB18030" else LOCALES[locale])}
    command = [*KEYTURN, "--config", str(vm.config), "once"]
    done = subprocess.run(command, env=environ, capture_output=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert os.listdir(os.fsencode(place)) == [f"{NAME}.ini".encode()]
    argument, *sinks = heard.read_bytes().splitlines()
    assert argument == NAME.encode()
    assert any(f"{NAME}/{NAME}.ini".encode() in sink for sink in sinks)
    status = subprocess.run([*command[:-1], "check", "--offline"], env=environ, capture_output=True, check=False)
    assert b"a fault of keyturn itself" not in status.stdout + status.stderr


LONG = {
    "three bytes a letter": "文" * 85,
    "two bytes a letter": "é" * 127 + "x",
    "four bytes a letter": "𐍈" * 63 + "abc",
    "one": "x" * 255,
    "moved by one": "x" + "文" * 84,
}


@pytest.mark.parametrize("what", LONG)
def test_a_name_of_255_bytes_is_published(vm: Vm, what: str) -> None:
    """The staged name is cut between two letters, and the state can be saved: twice, and nothing is left."""
    place = vm.directory / "long"
    place.mkdir()
    vm.configure(vm.credential())
    vm.config.write_text(vm.config.read_text().replace(str(vm.env_path()), str(place / LONG[what])))
    for _ in range(2):
        assert vm.keyturn("once").returncode == 0
        assert os.listdir(place) == [LONG[what]]
        vm.cloud.rotate("uploader-ak")
    assert all(json.dumps(record) for record in vm.audit("published"))


@pytest.mark.parametrize("name", [*LONG.values(), "文" * 90, "a", "\udcff" * 240])
def test_a_staged_name_fits_and_can_be_stored(name: str) -> None:
    """At most 255 bytes, whole letters only, and recognised again."""
    made = temp_name(name)
    assert len(made.encode()) <= 255
    assert TEMP_NAME.fullmatch(made) or name.startswith("\udcff")
