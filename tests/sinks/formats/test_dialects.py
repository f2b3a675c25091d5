"""The four dialects of an env file, each read by the program that it is for (tests/support/env_readers.py)."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.secret import Secret
from tests.support.env_readers import READERS, Seen, by_systemd
from tests.support.sinks import env, key, publish, session

VARIABLES = {"KEY_ID": "access_key_id", "KEY_SECRET": "access_key_secret", "TOKEN": "security_token"}
EVERY_CHARACTER = ":=AZaz09+/=._-:=~"[:-1]
"""All that is let through, with `=` and `:` where a reader could stumble."""

FOREIGN: dict[str, tuple[str, Seen]] = {
    "shell": ("# it's\nexport A='x\nKEY_ID=no'\nB=\"q\\\"\nKEY_ID=no\"\nC=a\\\nb\n", {"A": "x\nKEY_ID=no", "C": "ab"}),
    "dotenv": (
        "# it's\nexport A='x\nKEY_ID=no'\nB=\"q\"  # note\nC=it's\n",
        {"A": "x\nKEY_ID=no", "B": "q", "C": "it's"},
    ),
    "systemd": ("# it's\n; x\nA='x\nKEY_ID=no'\nC=a\\\nb\n", {"A": "x\nKEY_ID=no", "C": "ab"}),
    "docker": ("# it's\nA='x\nC=it's \\\nB=\"q\"\n", {"A": "'x", "B": '"q"', "C": "it's \\"}),
}
"""What a file of each dialect may hold besides, and what its reader makes of that."""


@pytest.mark.parametrize("dialect", READERS)
def test_its_reader_reads_what_was_published(tmp_path: Path, dialect: str) -> None:
    """Key, session, key again: the real reader of the dialect sees each value, and no stale token."""
    path = tmp_path / "app.env"
    sink = env(path, variables=VARIABLES, dialect=dialect)
    for generation, value in enumerate((key(1), session(2), key(3)), 1):
        publish([sink], value, generation)
        seen = READERS[dialect](path)
        want = {"KEY_ID": value.access_key_id, "KEY_SECRET": f"secretOf{generation:06}"}
        want |= {"TOKEN": f"CAISt0ken/of+{generation:06}=="} if value.security_token else {}
        assert {name: seen[name] for name in VARIABLES if name in seen} == want


@pytest.mark.parametrize("dialect", READERS)
def test_its_reader_takes_every_character_that_is_let_through(tmp_path: Path, dialect: str) -> None:
    """No character of a value that is published means anything to the reader."""
    path = tmp_path / "app.env"
    publish([env(path, variables=VARIABLES, dialect=dialect)], Credential("I", Secret(EVERY_CHARACTER)))
    assert READERS[dialect](path)["KEY_SECRET"] == EVERY_CHARACTER


@pytest.mark.parametrize("dialect", READERS)
def test_its_reader_sees_the_foreign_lines_unchanged(tmp_path: Path, dialect: str) -> None:
    """A `KEY_ID=` inside somebody's quotes stays theirs, and ours is set, wherever the file held one before."""
    path = tmp_path / "app.env"
    foreign, want = FOREIGN[dialect]
    path.write_text(foreign + "KEY_ID=old\nD=end\n")
    path.chmod(0o600)
    before = READERS[dialect](path)
    publish([env(path, variables={"KEY_ID": "access_key_id"}, dialect=dialect)], key(5))
    after = READERS[dialect](path)
    assert after == {**before, "KEY_ID": "LTAI5tKey000005"} and want.items() <= after.items() and after["D"] == "end"


@pytest.mark.parametrize("dialect", ["systemd", "docker"])
def test_readers_that_do_not_know_export_find_none(tmp_path: Path, dialect: str) -> None:
    """`export NAME=` of ours would be a variable of another name, or refused; it is put right."""
    path = tmp_path / "app.env"
    path.write_text("export KEY_ID=old\n")
    path.chmod(0o600)
    publish([env(path, variables=VARIABLES, dialect=dialect)], key(5))
    assert READERS[dialect](path)["KEY_ID"] == "LTAI5tKey000005"


LONGER_VALUES = ["'' '", "'x' 'open", '"x" "open', "'x'\t'y'  z", "'x' y'", ' "x" \\\'']
VALUES = [
    "".join(parts) for length in range(4) for parts in itertools.product("' \"x\\", repeat=length)
] + LONGER_VALUES
"""Every value of up to three quotes, blanks, letters and backslashes, and some longer ones."""


def test_systemd_never_takes_our_line_for_a_part_of_the_line_before(tmp_path: Path) -> None:
    """Whatever stands there: our variable is read behind it, or the line is refused; and only what would swallow ours is.

    A quote opens behind blanks too, and behind blanks after a closed quote.
    """
    path, wrong = tmp_path / "app.env", []
    for value in VALUES:
        path.write_text(f"A={value}\n")
        path.chmod(0o600)
        try:
            publish([env(path, variables={"KEY_ID": "access_key_id"}, dialect="systemd")], key(5))
            refused = False
        except SinkError:
            refused = True
            path.write_text(f"A={value}\nKEY_ID=LTAI5tKey000005\n")
        swallowed = by_systemd(path).get("KEY_ID") != "LTAI5tKey000005"
        if swallowed is not refused:
            wrong.append((value, "refused" if refused else "published"))
    assert not wrong
