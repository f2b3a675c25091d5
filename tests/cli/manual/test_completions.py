"""Completions offer what the parser takes, nothing else, and run nothing that they read."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.cli.command_line import COMMANDS, parser
from agent.cli.manual import completions
from agent.cli.manual.commands import read
from tests.support.processes import KEYTURN

CONFIG = """
[credentials.uploader.provider]
type = "access_key"
[credentials.reports]
verify = "off"
[[credentials.reports.sinks]]
[credentials."dotted.name".provider]
[credentials."$(touch ran)".provider]
[credentials.`touch ran`]
"""

ASK = r"""
ask() {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    _keyturn
    printf '%s\n' "${COMPREPLY[@]}" ---
}
"""


@pytest.fixture(scope="module")
def command_line():
    """The commands and options that keyturn has."""
    return read(parser())


fish_only = pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
zsh_only = pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")


class Bash:
    """One bash that is asked for all completions at once."""

    def __init__(self, script, directory):
        self.script, self.directory = script, directory
        (directory / "keyturn.toml").write_text(CONFIG)

    def offers(self, *lines):
        """What is offered for the last word of each line, as sets."""
        asked = "\n".join("ask " + " ".join(map(shlex.quote, line)) for line in lines)
        done = subprocess.run(
            ["bash", "--norc", "-u", "-c", f"{self.script}\n{ASK}\n{asked}"],
            cwd=self.directory,
            env={"PATH": "/usr/bin:/bin", "KEYTURN_CONFIG": "keyturn.toml"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return [set(part.split("\n")) - {""} for part in done.stdout.split("---\n")[:-1]]


@pytest.fixture
def bash(command_line, tmp_path):
    return Bash(completions.bash(command_line), tmp_path)


def parsers_below(made, words=()):
    """Each parser with the words that lead to it, read from argparse by this test's own eyes."""
    yield words, made
    for action in made._actions:
        if hasattr(action, "_name_parser_map"):
            for name, below in action._name_parser_map.items():
                yield from parsers_below(below, (*words, name))


def flags_of(made):
    return {flag for action in made._actions for flag in action.option_strings}


def test_bash_offers_exactly_the_options_of_each_command(bash):
    """Behind a dash: every option that the parser knows there, and no other."""
    all_parsers = list(parsers_below(parser()))
    offered = bash.offers(*(["keyturn", *words, "-"] for words, _made in all_parsers))
    for (words, made), found in zip(all_parsers, offered, strict=True):
        assert found == flags_of(made), words


def test_bash_offers_exactly_the_commands(bash):
    """Without a dash: the commands, and the actions of a command that has some."""
    top, audit = bash.offers(["keyturn", ""], ["keyturn", "audit", ""])
    tree = dict(parsers_below(parser()))
    assert top == {words[0] for words in tree if len(words) == 1}
    assert audit == {words[1] for words in tree if words[:1] == ("audit",) and len(words) == 2}


def test_bash_offers_the_credentials_of_the_config(bash):
    """Where a NAME is wanted, and behind --credential: those of the config that the line names."""
    (bash.directory / "other.toml").write_text("[credentials.elsewhere.provider]\n")
    (bash.directory / "broken.toml").write_bytes(b"[credentials.half.\n[[[ \xff\x00\n[credentials.half]\n")
    known = {"uploader", "reports", "dotted.name"}
    offered = bash.offers(
        ["keyturn", "refresh", ""],
        ["keyturn", "refresh", "uploader", "re"],
        ["keyturn", "rotate", "--reason", "refresh", ""],
        ["keyturn", "audit", "show", "--credential", ""],
        ["keyturn", "--config", "other.toml", "once", ""],
        ["keyturn", "--config", "=", "other.toml", "once", ""],
        ["keyturn", "once", "--config", "other.toml", ""],
        ["keyturn", "--config", "missing.toml", "once", ""],
        ["keyturn", "--config", "broken.toml", "once", ""],
        ["keyturn", "--config", ".", "once", ""],
    )
    elsewhere = {"elsewhere"}
    assert offered == [known, {"reports"}, known, known, elsewhere, elsewhere, elsewhere, set(), {"half"}, set()]


def test_bash_offers_commands_shells_and_choices(bash):
    """Behind help the commands, behind completion the shells, behind an option with choices these."""
    offered = bash.offers(
        ["keyturn", "help", ""],
        ["keyturn", "completion", ""],
        ["keyturn", "status", "--color", ""],
        ["keyturn", "--color", "a"],
    )
    assert offered == [set(COMMANDS), {"bash", "zsh", "fish"}, {"auto", "always", "never"}, {"auto", "always"}]


def test_bash_completes_paths_and_leaves_free_text_alone(bash):
    """--config takes files, --directory directories, --reason what only the operator knows."""
    (bash.directory / "a b.toml").touch()
    (bash.directory / "a d").mkdir()
    offered = bash.offers(
        ["keyturn", "--config", "a"],
        ["keyturn", "--config", "=", "a"],
        ["keyturn", "emulator", "--directory", "a"],
        ["keyturn", "rotate", "--reason", "a"],
        ["keyturn", "check", "u"],
    )
    assert offered == [{"a b.toml", "a d"}, {"a b.toml", "a d"}, {"a d"}, set(), set()]


def test_nothing_of_a_config_is_run(bash):
    """A name that is a command for the shell is not offered and does not run."""
    bash.offers(["keyturn", "refresh", ""], ["keyturn", "refresh", "$"])
    assert not (bash.directory / "ran").exists()


def test_zsh_has_every_option_in_the_function_of_its_command(command_line):
    """Each command's function names its own options and no other."""
    script = completions.zsh(command_line)
    bodies = dict(re.findall(r"^(_keyturn[\w-]*)\(\) \{\n(.*?)^\}", script, re.M | re.S))
    for words, made in parsers_below(parser()):
        body = bodies["_".join(["_keyturn", *words])]
        assert set(re.findall(r"\)(--?[a-zA-Z-]+)\[", body)) == flags_of(made), words


@zsh_only
def test_zsh_can_read_its_completion(command_line, tmp_path):
    """It is zsh: parsed, and its functions defined."""
    script = tmp_path / "_keyturn"
    script.write_text("compdef() { }\n" + completions.zsh(command_line) + "whence -w _keyturn _keyturn_audit_show\n")
    done = subprocess.run(["zsh", "-f", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["_keyturn:", "function", "_keyturn_audit_show:", "function"]


@fish_only
def test_fish_offers_exactly_the_options_of_each_command(command_line, tmp_path):
    """What fish itself offers behind two dashes, for every command."""
    (tmp_path / "keyturn.toml").write_text(CONFIG)
    all_parsers = list(parsers_below(parser()))
    lines = [" ".join(["keyturn", *words]) for words, _made in all_parsers]
    offered = fish(command_line, tmp_path, [f"{line} --" for line in lines])
    for (words, made), found in zip(all_parsers, offered, strict=True):
        assert found == {flag for flag in flags_of(made) if flag.startswith("--")}, words


@fish_only
def test_fish_offers_commands_and_credentials(command_line, tmp_path):
    """The words that may come next."""
    (tmp_path / "keyturn.toml").write_text(CONFIG)
    (tmp_path / "other.toml").write_text("[credentials.elsewhere]\n")
    lines = [
        "keyturn ", "keyturn audit ", "keyturn refresh ", "keyturn --config x check ", "keyturn help ", "keyturn completion ",
        "keyturn --config other.toml refresh ", "keyturn refresh --config=other.toml ", "keyturn --config missing refresh ",
    ]  # fmt: skip
    top, audit, names, after, helped, shells, *elsewhere, missing = fish(command_line, tmp_path, lines)
    tree = dict(parsers_below(parser()))
    assert top == {words[0] for words in tree if len(words) == 1}
    assert audit == {words[1] for words in tree if len(words) == 2 and words[0] == "audit"} > {"show", "verify"}
    assert names == {"uploader", "reports", "dotted.name"}
    assert (after, helped, shells) == (set(), set(COMMANDS), {"bash", "zsh", "fish"})
    assert (elsewhere, missing) == ([{"elsewhere"}, {"elsewhere"}], set())
    assert not (tmp_path / "ran").exists()


def fish(command_line, directory: Path, lines):
    """What fish offers for each line, as sets of words."""
    script = completions.fish(command_line) + "".join(f"complete -C {shlex.quote(line)}; echo ---\n" for line in lines)
    home = {"HOME": str(directory), "PATH": "/usr/bin:/bin", "KEYTURN_CONFIG": "keyturn.toml"}
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], cwd=directory, env=home, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return [{line.split("\t")[0] for line in part.splitlines()} for part in done.stdout.split("---\n")[:-1]]


ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'autoload -Uz compinit; compinit -u -D; source ./_keyturn'
zpty -w shell 'compadd() { local -a all; builtin compadd -O all "$@"; print -rl -- $all >> offers; builtin compadd "$@" }'
zpty -w shell 'ask() { zle list-choices; print -- --- >> offers; zle kill-whole-line }; zle -N ask; bindkey "^T" ask'
for line in "$@"; do zpty -w -n shell "$line"$'\x14'; done
zpty -w shell exit
while zpty -r shell nothing; do :; done
"""
"""A zsh on a terminal of its own, in which the completion of each line is asked for."""


@zsh_only
@pytest.mark.packaging
def test_zsh_offers_commands_and_credentials(command_line, tmp_path):
    """What the shell itself offers for a tab, read by `source` as the help says."""
    (tmp_path / "keyturn.toml").write_text(CONFIG)
    (tmp_path / "other.toml").write_text("[credentials.elsewhere]\n")
    (tmp_path / "_keyturn").write_text(completions.zsh(command_line))
    lines = [
        "keyturn ", "keyturn audit ", "keyturn refresh ", "keyturn completion ", "keyturn --config other.toml refresh ",
        "keyturn refresh --config other.toml ", "keyturn help ",
    ]  # fmt: skip
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "KEYTURN_CONFIG": "keyturn.toml", "TERM": "xterm"}
    subprocess.run(["zsh", "-f", "-c", ZSH, "zsh", *lines], cwd=tmp_path, env=environ, timeout=60, check=True)
    parts = [set(part.split()) for part in (tmp_path / "offers").read_text().split("---\n")][: len(lines)]
    top, audit, names, shells, before, behind, helped = parts
    assert top == helped == set(COMMANDS)
    assert audit == {"show", "verify", "report", "incident"}
    assert names == {"uploader", "reports", "dotted.name"}
    assert shells == {"bash", "zsh", "fish"}
    assert before == behind == {"elsewhere"}
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("shell", completions.SHELLS)
def test_the_command_prints_what_is_made(shell, command_line):
    """From the installed program, without a config."""
    done = subprocess.run(
        [*KEYTURN, "--config", "/nowhere", "completion", shell], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == (completions.SHELLS[shell](command_line), "")
