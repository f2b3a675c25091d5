"""What `check` says of those who read: which client reads a sink's file again, and who may ask for what is in none."""

from __future__ import annotations

import json
from typing import Any

from tests.support.vm import Vm, quoted


def findings(vm: Vm, *tables: str) -> list[dict[str, Any]]:
    vm.configure(*tables)
    return list(json.loads(vm.keyturn("check", "--offline", "--json").stdout)["findings"])


def test_each_sink_has_a_line_about_its_readers(vm: Vm) -> None:
    """Short, in order, and only where something is known."""
    said = {one["place"]: one for one in findings(vm, vm.credential())}
    ini, env = (said[f"credentials.uploader.sinks[{number}].readers"] for number in (0, 1))
    assert ini["level"] == env["level"] == "ok" and "docs/consumers.md" in ini["text"]
    assert "Java and C#" in ini["text"].partition("read once")[0] and "Python" in ini["text"].partition("read once")[2]


def test_a_profile_with_a_command_that_nobody_may_ask_is_a_warning(vm: Vm) -> None:
    """Without `serve` each call of the application would fail; with it there is nothing to say."""
    sink = f'[[credentials.uploader.sinks]]\ntype = "aliyun_cli"\nprofile_mode = "External"\npath = {quoted(vm.app / "c")}\n'
    serve = '[credentials.uploader.serve]\nusers = ["root"]\n'

    def warned(tables: str) -> list[str]:
        return [one["remedy"] for one in findings(vm, tables) if "may" in one["text"] and "ask keyturn" in one["text"]]

    (remedy,) = warned(vm.credential(sinks=sink))
    assert "[credentials.uploader.serve]" in remedy and warned(vm.credential(sinks=sink + serve)) == []
