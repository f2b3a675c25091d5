"""What the documents tell the reader to paste is sound: every fenced block is of a kind that is checked here, or says why not."""

from __future__ import annotations

import ast
import json
import os
import pwd
import re
import shlex
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jinja2
import pytest
import yaml

from agent.app import wiring
from agent.cli.command_line import parser
from agent.config import load
from tests.support.blocks import Block, all_blocks, of_kind

PRINTED = "what a command prints"
UNTYPED = {
    "docs/config.md": (2, PRINTED),
    "docs/crash.md": (2, "the figures of the crash tests"),
    "docs/emergency.md": (3, PRINTED),
    "docs/fleet.md": (3, "for Redis: tests/fleet/test_client.py runs a server with these rules"),
    "docs/monitoring.md": (1, PRINTED),
    "docs/ram_user.md": (1, PRINTED),
    "docs/runbook.md": (1, PRINTED),
    "docs/sinks_directory.md": (1, "how a directory looks: tests/sinks/transaction/test_directory.py"),
    "docs/systemd.md": (1, "two keys of a table, as in keyturn.example.toml"),
    "docs/zh/emergency.md": (3, PRINTED),
    "docs/zh/runbook.md": (1, PRINTED),
}
"""The pages with blocks that are neither commands nor in a language: how many, and why none of them is run."""
NOT_OURS = {"docs/example_provider/README.md": "a third party's type: tests/e2e/test_third_party.py installs it"}
"""TOML that is no config without something else."""
CHECKED = frozenset({"sh", "toml", "json", "yaml", "python", "jinja", "ini", "untyped"})
"""`ini` is units: tests/docs/test_quickstart.py has systemd verify them. Besides there is `text`, for what a command prints."""


class Everybody:
    """Accounts of a machine where every user exists."""

    def uid_of(self, name: str) -> int:
        return 1000

    def gid_of(self, name: str) -> int:
        return 1000


def test_each_block_is_of_a_kind_that_is_checked_or_says_why_not() -> None:
    """`<!-- block: REASON -->` on the line before one that cannot be checked; outputs are counted by page."""
    strange = [block.place for block in all_blocks() if block.kind not in CHECKED | {"text"} and not block.reason]
    assert strange == []
    found = Counter(block.page for block in of_kind("untyped"))
    known = {page: count for page, (count, _why) in UNTYPED.items()}
    assert found == known, "a new block of what a command prints begins with ```text"
    assert all(len(block.reason) > 20 for block in all_blocks() if block.reason)


def test_each_shell_block_can_be_read_by_a_shell() -> None:
    """`bash -n` of all at once, each as a function; where that fails, of one after the other."""

    def fault(texts: list[str]) -> str:
        functions = "".join(f"f{number}() {{\n{text}\n}}\n" for number, text in enumerate(texts))
        return subprocess.run(["bash", "-n"], input=functions, capture_output=True, text=True, check=False).stderr

    shell = of_kind("sh")
    assert len(shell) > 200
    if fault([block.text for block in shell]):
        assert {block.place: said for block in shell if (said := fault([block.text]))} == {}


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the words of each `keyturn` that a shell block runs."""
    for line in (
        block.text.replace("\\\n", " ").replace('"$(', " ( ").replace(')"', " ) ").replace("…", "").splitlines()
    ):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split, words = True, []
        for word in [*lexer, ";"]:
            if not set(word) <= set("();<>|&"):
                words += [] if not words and re.fullmatch(r"[A-Z_]+=.*", word) else [word]
            else:
                if words[:1] == ["keyturn"]:
                    yield words[1:]
                words = []


def test_each_keyturn_command_of_a_shell_block_is_one() -> None:
    """The parser takes it as it stands."""
    found = [(block.place, words) for block in of_kind("sh") for words in commands(block)]
    for place, words in found:
        try:
            parser(words).parse_args(words)
        except SystemExit as error:
            assert error.code == 0, f"{place}: keyturn {shlex.join(words)}"
    assert len(found) > 150


def completed(tree: dict[str, Any], text: str) -> str:
    """Return a fragment as a whole config: what it leaves out is what stands elsewhere on its page."""
    credentials = tree.get("credentials", {})
    added = []
    named = {
        value
        for each in credentials.values()
        for table, key in (("provider", "base"), ("provider", "authority"), ("emergency", "authority"))
        if isinstance(value := each.get(table, {}).get(key), str)
    }
    for name in [*credentials, *(named - set(credentials)), *(() if credentials else ("app",))]:
        each = credentials.get(name, {})
        if "provider" not in each:
            added.append(f'[credentials.{name}.provider]\ntype = "ecs_ram_role"\n')
        if not each.get("sinks") and "serve" not in each and name not in named:
            added.append(f'[[credentials.{name}.sinks]]\ntype = "json"\npath = "/run/app/{name}.json"\n')
    if '"credentials_uri"' in text and "endpoint" not in tree.get("agent", {}):
        added.append('[agent.endpoint]\nlisten = "127.0.0.1:8911"\n')
    me = pwd.getpwuid(os.geteuid()).pw_name  # who runs a hook has to exist
    return "\n".join([re.sub(r'^user = ".*?"', f'user = "{me}"', text, flags=re.M), *added])


@pytest.mark.parametrize("block", of_kind("toml"), ids=lambda block: block.place)
def test_each_config_block_loads(block: Block) -> None:
    """With the real types; a fragment together with what it leaves out."""
    tree = tomllib.loads(block.text)
    if block.page in NOT_OURS or not {"agent", "cloud", "credentials", "fleet"} & set(tree):
        assert block.page in (*NOT_OURS, "CONTRIBUTING.md"), f"{block.place}: no table of keyturn's"
        return
    if block.page == "CONTRIBUTING.md":
        return  # types that the reader is about to write: tests/test_documents.py follows the recipes
    environ = {"CREDENTIALS_DIRECTORY": "/run/credentials/keyturn.service"}
    load.parse(completed(tree, block.text).encode(), block.place, wiring.registry(), environ=environ, users=Everybody())


@pytest.mark.parametrize("block", of_kind("json", "yaml", "python", "jinja"), ids=lambda block: block.place)
def test_each_block_in_a_language_can_be_read(block: Block) -> None:
    """By the reader of that language."""
    if block.kind == "json":
        json.loads(block.text if block.text.lstrip().startswith(("{", "[")) else f"{{{block.text}}}")
    elif block.kind == "yaml":
        assert yaml.safe_load(block.text)
    elif block.kind == "jinja":
        jinja2.Environment(autoescape=True).parse(block.text)
    else:
        ast.parse(f"{{{block.text}}}" if re.fullmatch(r'".*": ".*",\n', block.text) else block.text)
