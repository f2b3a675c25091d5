"""A command line that was nearly right: exit 2, one sentence, and what was meant as a whole where it is certain."""

from __future__ import annotations

import shlex

import pytest

from agent.cli.command_line import COMMANDS, parser, understood
from agent.cli.main import main
from agent.core.errors import EXIT_USAGE

RIGHT = {
    "stauts": "status",
    "STATUS": "status",
    "stat": "status",
    "--config x stauts --json": "--config x status --json",
    "status --jsno": "status --json",
    "status -json": "status --json",
    "--json status": "status --json",
    "--tail 5 audit show": "audit show --tail 5",
    "--tail=5 audit show": "audit show --tail=5",
    "audit --json show": "audit show --json",
    "audit shwo --jsn --tail 3": "audit show --json --tail 3",
    "roate up --reson x --disable": "rotate up --reason x --disable-old",
    "rotate up --reson='a key; leaked'": "rotate up '--reason=a key; leaked'",
    "rotate up --reason x --dry_run": "rotate up --reason x --dry-run",
    "verify": "audit verify",
    "logs --follow": "audit show --follow",
    "renew uploader": "refresh uploader",
    "validate --offline": "check --offline",
    "credential x --format osssf": "credential x --format ossfs",
    "credential x --format=osssf": "credential x --format=ossfs",
    "--color alwys status": "--color always status",
    "fleet staus": "fleet status",
    "version": "--version",
}
"""What is typed, and what was meant."""


def said_of(line: str, capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        understood(shlex.split(line))
    assert ended.value.code == EXIT_USAGE
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1), "one sentence"
    return err.rstrip("\n")


@pytest.mark.parametrize("typed", RIGHT)
def test_the_whole_command_is_shown_put_right(typed: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Ready to be pasted: what stands behind the colon is understood."""
    said = said_of(typed, capfd)
    assert said.endswith(f"; did you mean: keyturn {RIGHT[typed]}"), said


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("rotate up --reson", "--reason"), ("roate up", "rotate"), ("rotat up --reason key is out", "rotate")],
)
def test_what_lacks_more_is_not_shown_as_a_command(typed: str, meant: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Only the nearest is named where the line as a whole would be refused again."""
    assert said_of(typed, capfd).endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize(
    ("typed", "place"),
    [
        ("zzz", "keyturn: "), ("audit zzz", "keyturn audit: "), ("status --zzz", "keyturn status: "),
        ("credential x --format zzz", "keyturn credential: "), ("check extra", "keyturn check: "),
        ("rotate up --reason key is out", "keyturn rotate: "), ("rotate up", "keyturn rotate: "), ("--config", "keyturn: "),
        ("audit show --tail many", "keyturn audit show: "), ("rotate --reason", "keyturn rotate: "),
    ],
)  # fmt: skip
def test_where_nothing_is_near_it_says_where_to_look(typed: str, place: str, capfd: pytest.CaptureFixture[str]) -> None:
    said = said_of(typed, capfd)
    assert said.startswith(place) and "; " in said and "did you mean" not in said


def test_no_letter_of_what_was_typed_drives_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    for word in ("\x1b]0;owned\x07", "--\x1b[2J", "stat\nus"):
        with pytest.raises(SystemExit):
            understood([word])
        assert capfd.readouterr().err.rstrip("\n").isprintable()
        with pytest.raises(SystemExit):
            understood(["--config", "a\x1b[2Jb", "stauts"])
        assert capfd.readouterr().err.endswith("; did you mean status?\n"), "what cannot be pasted is not shown"


@pytest.mark.parametrize("name", COMMANDS)
def test_what_every_command_takes_stands_before_or_behind_it(name: str) -> None:
    """And the last word counts."""
    made = parser()
    assert made.parse_args(["--config", "a", "help"]).config == "a"
    words = {"rotate": ["x", "--reason", "y"], "emulator": ["--directory", "x"], "completion": ["zsh"]}
    operands = words.get(name) or (["x"] if name in ("plan", "adopt", "credential") else [])
    behind = made.parse_args(["--config", "a", "--color", "never", name, *operands, "--config", "b"])
    assert (behind.config, behind.color) == ("b", "never")


@pytest.mark.parametrize(
    "line",
    [
        "rotat up --reason {}",
        "rotate up {}",
        "{}",
        "--{}",
        "audit show --tail {}",
        "init --set {}",
        "init --provider {}",
    ],
)
def test_what_looks_like_a_secret_is_not_repeated(line: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Pasted into the wrong place: it would end in the mail of a cron job."""
    secret = "abcdefghijABCDEFGHIJ0123456789"
    try:
        assert main(line.format(secret).split()) == EXIT_USAGE
    except SystemExit as ended:
        assert ended.code == EXIT_USAGE
    out, err = capfd.readouterr()
    assert secret not in out + err and err.count("\n") == 1
