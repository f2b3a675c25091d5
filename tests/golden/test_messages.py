"""What is said of each mistake, word for word; see tests/support/golden.py."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.app.wiring import load_settings
from agent.core.errors import ConfigError
from tests.support import golden
from tests.support.broken_configs import BROKEN_SINKS, NOT_TOML, ONE_PROBLEM, with_sinks
from tests.support.broken_hosts import CASES, PUBLISHED, QUICK, many_defects
from tests.support.settings import read
from tests.support.vm import Vm

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="the file has what root is told")


@pytest.fixture
def compare(pytestconfig: pytest.Config) -> Callable[[str, dict[str, str]], None]:
    """Hold sentences against the golden file."""
    return lambda part, said: golden.compare(part, said, pytestconfig.getoption("renew"))


def refused(text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


def without_places_of_this_run(text: str, vm: Vm) -> str:
    """Directories, ports, times and the ids of requests differ from run to run."""
    text = text.replace(str(vm.directory), "/vm")
    text = re.sub(r"127\.0\.0\.1:\d{2,}", "127.0.0.1:PORT", text)
    text = re.sub(r"request [0-9A-F-]{36}", "request ID", text)
    return re.sub(r"\b\d+(\.\d+)? s\b", "N s", text)


def test_what_a_broken_config_is_told(compare: Callable[[str, dict[str, str]], None]) -> None:
    """Every rule of the config, each by a config that breaks only this one."""
    texts = {**{name: text for name, (text, _place) in ONE_PROBLEM.items()}, **NOT_TOML}
    compare("config", {name: refused(text) for name, text in texts.items()})


def test_what_broken_sinks_are_told(tmp_path: Path, compare: Callable[[str, dict[str, str]], None]) -> None:
    """The rules that the built-in sinks have of their own."""
    said = {}
    for name, (sinks, _place) in BROKEN_SINKS.items():
        path = with_sinks(tmp_path, sinks)
        with pytest.raises(ConfigError) as caught:
            load_settings(str(path), {"A": "a", "B": "b"})
        said[name] = str(caught.value).replace(str(tmp_path), "/etc/keyturn")
    compare("sinks", said)


@as_root
def test_what_once_says_of_each_defect(
    make_vm: Callable[..., Vm], compare: Callable[[str, dict[str, str]], None]
) -> None:
    """What is on standard error when a refresh fails for a reason that an operator can mend."""

    def said(number: int, name: str) -> str:
        vm = make_vm(f"vm{number}")
        vm.configure(vm.credential(settings=QUICK + '\nverify = "off"'))
        vm.ini_path().write_text(PUBLISHED)
        CASES[name].plant(vm)
        return without_places_of_this_run(vm.keyturn("once", "--retry-for", "0s").stderr, vm)

    with ThreadPoolExecutor(4) as pool:
        compare("once", dict(zip(CASES, pool.map(said, range(len(CASES)), CASES), strict=True)))


@as_root
def test_what_check_says_of_each_defect(vm: Vm, compare: Callable[[str, dict[str, str]], None]) -> None:
    """Place, sentence and remedy of every error that `check` finds on a host with many."""
    many_defects(vm)
    found = json.loads(vm.keyturn("check", "--json").stdout)["findings"]
    said: dict[str, str] = {}
    for one in found:
        if one["level"] == "error":
            line = without_places_of_this_run(f"{one['text']}; {one['remedy']}", vm)
            place = without_places_of_this_run(one["place"], vm)
            said[place] = f"{said[place]}\n{line}" if place in said else line
    compare("check", said)
