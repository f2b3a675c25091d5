"""The README, the documents and the example config cannot lie."""

import re
import shlex
from pathlib import Path

import pytest

from agent.app import wiring
from agent.cli.command_line import parser
from agent.config import load
from agent.core import errors
from agent.core.docs import address
from agent.first_config.document import COMMAND
from tests.support.blocks import blocks
from tests.support.reader import REGION, Reader

ROOT = Path(__file__).parent.parent
FOLDERS = ("docs/**/*.md", "bench/*.md", "packaging/*.md", ".github/**/*.md", ".github/**/*.yml")
TEXTS = [*sorted(ROOT.glob("*.md")), *(path for folder in FOLDERS for path in sorted(ROOT.glob(folder)))]
TEXTS.append(ROOT / "keyturn.example.toml")


class Everybody:
    """Accounts of a machine where every user exists."""

    def uid_of(self, name):
        return 1000

    def gid_of(self, name):
        return 1000


def mentioned_commands():
    """Every `keyturn …` of the documents, brackets and ellipses of the notation removed."""
    for path in TEXTS:
        if path.name == "commands.md":
            continue  # made from the parser: docs/reference/generate.py
        text = path.read_text()
        found = [
            *re.findall(r"`(keyturn [^`\n]+)`", text),
            *re.findall(r"^ *(keyturn [a-z]+[^#\n]*)", _code(text), re.M),
        ]
        for line in found:
            words = shlex.split(re.sub(r"[\[\]…]", "", line).replace("ITS_ID", "LTAI"), comments=True)
            yield pytest.param(words[1:], id=f"{path.name}: {' '.join(words)}")


def _code(text):
    """The blocks to paste; tests/docs goes through all kinds of blocks."""
    fenced = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.S | re.M)
    return "\n".join(body for kind, body in fenced if kind in ("", "sh"))


@pytest.mark.parametrize("words", list(mentioned_commands()))
def test_every_command_in_the_documents_exists(words):
    """Whatever a document tells the reader to type is understood."""
    if words == ["--config", "PATH"]:
        words = [*words, "check"]
    if words[:1] == ["rotate"] and "--reason" not in words:
        words = [*(words[:2] if len(words) > 1 else ["rotate", "NAME"]), "--reason", "x"]
    if words == ["credential"]:
        words = ["credential", "NAME"]
    words = words[: words.index(">")] if ">" in words else words
    if words[-1:] in (["--version"], ["--verbose"], ["--help"]):
        with pytest.raises(SystemExit, match="0"):
            parser(words).parse_args(words)
        return
    parser().parse_args(words)


def test_the_example_config_loads_with_the_real_types():
    """A newcomer who copies the example and has its users gets a valid config."""
    path = ROOT / "keyturn.example.toml"
    settings = load.load(
        str(path),
        wiring.registry(),
        environ={"CREDENTIALS_DIRECTORY": "/run/credentials/keyturn.service"},
        users=Everybody(),
    )
    assert settings.credentials
    parts = wiring.Factory(settings, {})
    assert [managed.name for managed in parts.credentials()] == list(settings.credentials)


def test_the_readme_config_loads():
    """The README's whole config for one application is one."""
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    settings = load.parse(block.encode(), "README.md", wiring.registry(), environ={}, users=Everybody())
    (uploader,) = settings.credentials.values()
    (sink,) = uploader.sinks
    assert sink.profile_mode == "External" and uploader.serve.users == ("uploader",) and not uploader.notify


@pytest.mark.slow
def test_the_readme_is_followed_by_somebody(tmp_path):
    """Its blocks, pasted in order by a user with a home of their own, lead to a key, and the emergency to another one.

    `make` is noted: CI runs `make venv`, and tests/demo the demo. Between two blocks is done what the README says there: the
    commands that `init` showed, and those of an authority.
    """
    with Reader(tmp_path / "host") as reader:
        home = reader.host / "home" / "keyturn"
        (reader.host / "bin" / "make").write_text(f'#!/bin/sh\necho "make $*" >> {reader.host}/noted\n')
        (reader.host / "bin" / "make").chmod(0o755)
        reader.environ["KEYTURN_CONFIG"] = str(home / "keyturn.toml")
        run = [block for block in blocks(ROOT / "README.md") if block.kind == "sh" and not block.reason]
        demo, started, looked, emergency = run
        for block in (demo, started):
            reader.run(block.text)
        assert reader.noted.split("\n")[:2] == ["make demo", "make venv"]
        config = home / "keyturn.toml"
        due = [line[len(COMMAND) :] for line in config.read_text().splitlines() if line.startswith(COMMAND)]
        for command in due[:2]:
            reader.run(command)
        of_this_cloud = "".join(
            f'{name}_endpoint = "{reader.server.endpoint_of(name)}"\n' for name in ("sts", "kms", "ram", "ims")
        )
        text = config.read_text().replace("[cloud]\n", f'[cloud]\nca_file = "{reader.files.ca}"\n{of_this_cloud}')
        config.write_text(text.replace(REGION, f'{REGION}, endpoint = "{reader.server.endpoint_of("kms")}"'))
        said = reader.run(looked.text)
        first = reader.cloud.current_key("uploader-ak").access_key_id
        assert said.rstrip().endswith(f"access_key_id = {first}")
        for part, source in (("id", reader.files.authority_id), ("secret", reader.files.authority_secret)):
            (paste,) = [command for command in due if f"operator_access_key_{part}" in command]
            reader.run(f"{paste.partition('#')[0]} < {source}")
        reader.run(next(command for command in due if command.startswith("sed -i")))
        reader.run(emergency.text)
        second = reader.cloud.current_key("uploader-ak").access_key_id
        assert second != first and second in (home / "credentials.ini").read_text()


def test_the_make_targets_exist():
    """Every `make X` of the documents is a target."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    wanted = {name for path in TEXTS for name in re.findall(r"(?:`|^)make ([a-z]+)\b", path.read_text(), re.M)}
    assert {"dev", "test", "lint"} <= wanted <= targets


def test_the_exit_codes_are_those_of_the_code():
    """The README's list of exit codes names each code that an error can have, and no other."""
    told = (ROOT / "README.md").read_text().split("Exit codes:")[1].split("`--help`")[0]
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert {int(code) for code in re.findall(r"\b\d+\b", told)} == codes


def test_links_in_the_documents_lead_somewhere():
    """No relative link is dead."""
    dead = [
        (path.name, target)
        for path in TEXTS
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert dead == []


@pytest.mark.parametrize("name", sorted(parser()._subparsers._group_actions[0].choices))
def test_every_command_has_help_with_an_example(name, capsys):
    """`keyturn COMMAND --help` shows examples that the parser itself understands, exit codes, and where to read on."""
    with pytest.raises(SystemExit) as caught:
        parser().parse_args([name, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    examples = re.findall(r"^  keyturn (.+)$", shown.split("\nexample")[1], re.M)
    assert examples and {line.split()[0] for line in examples} == {name}
    for example in examples:
        parser().parse_args(shlex.split(example))
    assert re.search(r"^exit codes:\n  0 ", shown, re.M)
    (page,) = re.findall(rf"^docs: {re.escape(address(''))}([a-z_.]+)", shown, re.M)
    assert (ROOT / "docs" / page).is_file()
