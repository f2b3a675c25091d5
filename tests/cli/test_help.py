"""The overview and the helps: what is there, in order of need, at any width."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterator

import pytest

from agent.cli import overview
from agent.cli.command_line import COMMANDS, understood
from agent.cli.main import main
from agent.cli.parsers import Parser
from agent.core.docs import DOCS
from agent.core.errors import EXIT_DONE, EXIT_USAGE, EXITS
from tests.support.processes import ROOT


def printed(capfd: pytest.CaptureFixture[str], *words: str, code: int = EXIT_DONE) -> str:
    """Return what a command prints on standard output."""
    with contextlib.suppress(SystemExit):
        assert main(words) == code
    return capfd.readouterr().out


def test_bare_keyturn_and_its_help_are_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    """Every command, the emergency first, and no error."""
    shown = printed(capfd)
    assert printed(capfd, "help") == printed(capfd, "--help") == printed(capfd, "-h") == shown
    named = [line.split()[0] for line in shown.splitlines() if line.startswith("  ")]
    assert named[0] == "rotate" and set(COMMANDS) <= set(named)


def test_every_command_is_in_a_group() -> None:
    """A new one is given its place among them."""
    grouped = [name for names in overview.GROUPS.values() for name in names]
    assert set(COMMANDS) <= set(grouped) and len(grouped) == len(set(grouped))


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_the_overview_is_as_wide_as_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What cannot be broken, the usage, titles and an address, may stand out of a narrow one."""
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = printed(capfd).splitlines()
    whole = {"usage: keyturn [--config PATH] COMMAND", *overview.GROUPS, f"docs: {DOCS}"}
    assert [line for line in lines if len(line) > columns and line not in whole] == []


@pytest.mark.parametrize("words", [["rotate"], ["audit"], ["audit", "show"], ["fleet", "leave"]], ids=" ".join)
def test_help_of_a_command_is_its_help(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    shown = printed(capfd, "help", *words)
    assert shown == printed(capfd, *words, "--help") and shown.startswith(f"usage: keyturn {' '.join(words)} ")


@pytest.mark.parametrize("name", ["audit", "fleet", "endpoint"])
def test_a_command_without_its_action_shows_them(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert printed(capfd, name) == printed(capfd, name, "--help") != ""


def test_help_of_what_there_is_not_names_what_was_meant(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["help", "roate"])
    assert ended.value.code == EXIT_USAGE
    assert capfd.readouterr().err.endswith("; did you mean: keyturn rotate --help\n")


def test_topics(capfd: pytest.CaptureFixture[str]) -> None:
    """Exit codes and the environment; nearly named, too."""
    codes = printed(capfd, "help", "exit-codes")
    assert codes == printed(capfd, "help", "exitcodes")
    assert {line.split()[0] for line in codes.splitlines()[1:]} == {*map(str, EXITS), "130", "any"}
    assert "KEYTURN_CONFIG" in printed(capfd, "help", "environment")


def parsers(made: Parser) -> Iterator[Parser]:
    yield made
    for one in (made.below() or {}).values():
        yield from parsers(one)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_action_says_how_it_ends_and_where_to_read_on(name: str) -> None:
    """Exit codes and a document, its command's where it has none of its own, and an example of its own."""
    from agent.cli.command_line import parser

    for one in list(parsers(parser([name])))[1:]:
        assert one.examples and all(example.startswith(one.prog) for example in one.examples), one.prog
        assert set(one.exit_codes) <= set(EXITS) and {0, 2} <= set(one.exit_codes), one.prog
        assert (ROOT / "docs" / one.docs).is_file(), one.prog


def test_the_documents_are_below_the_projects_address() -> None:
    """The one that pyproject.toml gives to whoever installs it."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert DOCS.startswith(tuple(urls.values()))


def test_a_version_has_two_names(capfd: pytest.CaptureFixture[str]) -> None:
    assert printed(capfd, "-V") == printed(capfd, "--version") != ""
    assert understood(["help"]).run == COMMANDS["help"].place
