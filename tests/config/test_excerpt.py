"""The line below a problem of the config: what is wrong in it has a caret, and what may be a secret is not in it."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from agent.config.excerpt import COLUMNS
from agent.core.errors import ConfigError
from tests.support.misplaced import CANARY, LONG, LONG_CANARY, SHORT
from tests.support.settings import GOOD, PROVIDER, SINK, read


def excerpts(text: str | bytes) -> list[str]:
    """What is shown below the problems of a text."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    return [mistake.excerpt for mistake in caught.value.mistakes]


def columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def pointed_at(excerpt: str) -> str:
    """What stands above the carets, by columns."""
    line, carets = excerpt.split("\n")
    first, last = carets.index("^"), len(carets)
    found, at = "", 0
    for each in line:
        if first <= at < last:
            found += each
        at += columns(each)
    return found


POINTED = {
    "a value": (GOOD + "mode = 640\n", "640"),
    "a value behind tabs": (GOOD + "\tmode\t=\t640\n", "640"),
    "a value behind Chinese": (GOOD + "x = {'说明' = '中文', y = 1}\nmode = 640 # 密钥\n", "x"),
    "a Chinese value": (GOOD + "mode = '六四零'\n", "'六四零'"),
    "behind a combining letter": (GOOD + "'e\u0301x' = 1\n", "'e\u0301x'"),
    "an unknown key": (GOOD + "frobnicate = 1\n", "frobnicate"),
    "a table that lacks a key": ('[credentials.a.provider]\ntype = "kms_secret"\n' + SINK, "provider"),
    "an item of an array": (GOOD + '[[credentials.a.notify]]\ntype = "exec"\ncommand = ["/x", 1]\n', "1"),
    "in an inline table": (PROVIDER + 'regions = [{ region_id = "x" }, { vpc = 1, region_id = "y" }]\n' + SINK, "1"),
    "by dotted keys": (PROVIDER + SINK + "[cloud]\n[agent]\naudit.path = 7\n", "7"),
    "the first line of several": (GOOD + 'mode = """\nx\ny"""\n', '"""'),
    "behind CRLF": ((GOOD + "mode = 640\n").replace("\n", "\r\n"), "640"),
    "behind a byte order mark": ("\ufeff" + "agent = 3\n" + GOOD, "3"),
    "control characters": (GOOD + '"a\\u001b" = 1\n', '"a\\u001b"'),
    "a string that does not end": (GOOD + 'owner = "uploader\n', '"'),
    "a table for a second time": ("[agent]\n[cloud]\n[agent]\n", "agent"),
}


@pytest.mark.parametrize(("text", "wanted"), POINTED.values(), ids=POINTED)
def test_the_carets_stand_below_what_is_wrong(text: str, wanted: str) -> None:
    """Whatever stands before it in the line."""
    assert pointed_at(excerpts(text)[0]) == wanted


def test_line_and_column_are_those_of_an_editor() -> None:
    """From 1, in characters, a byte order mark not counted."""
    with pytest.raises(ConfigError) as caught:
        read("\ufeff" + GOOD + "\t'说明' = 1\r\n")
    (mistake,) = caught.value.mistakes
    assert (mistake.line, mistake.column) == (9, 2)


def test_problems_stand_in_the_order_of_the_file() -> None:
    """Whoever mends them goes from top to bottom; what stands nowhere comes last."""
    text = "[cloud]\nregion_id = 1\n" + PROVIDER + "x = 1\n[[credentials.a.sinks]]\n[agent]\nsettle = 2\n"
    with pytest.raises(ConfigError) as caught:
        read(text)
    lines = [mistake.line for mistake in caught.value.mistakes]
    assert lines == sorted(lines) and len(lines) > 3


@pytest.mark.parametrize("before", [0, 30, 5000])
def test_a_long_line_is_cut_around_the_caret(before: int) -> None:
    """It fits into 80 columns, and what is wrong is in it."""
    line = f"regions = [{{ region_id = '{'甲' * before}', vpc = 1, endpoint = '{'b-' * 3000}' }}]\n"
    (excerpt,) = excerpts(PROVIDER + line + SINK)
    assert pointed_at(excerpt) == "1"
    assert all(columns(each) <= COLUMNS + 6 for each in excerpt.split("\n"))


@pytest.mark.parametrize("text", [*(PROVIDER + line + "\n" + SINK for line in SHORT.values()), *LONG.values()])
def test_no_line_shows_what_may_be_a_secret(text: str) -> None:
    """The sentences do not repeat it, and neither do the lines."""
    shown = "\n".join(excerpts(text))
    assert shown and CANARY not in shown and LONG_CANARY not in shown


HIDDEN = {
    "on the same line as another mistake": f'regions = [{{ vpc = 1, access_key_secret = "{CANARY}" }}]',
    "in a string over several lines": f'access_key_secret = """\nx\n{CANARY}"""',
    "in a string that does not end": f'access_key_secret = "{CANARY}',
    "in a long string that does not end": f'access_key_secret = """\n{CANARY}\n',
    "without quotes": f"access_key_secret = {CANARY}",
    "by a dotted key": f'token.value = "{CANARY}"',
    "by a quoted key": f'"access_key_secret" = "{CANARY}"',
    "behind what is no TOML": f'x = nope access_key_secret = "{CANARY}"',
    "in a table that does not end": f'regions = [{{ vpc = 1, access_key_secret = "{CANARY}"',
    "for the second time": f'access_key_secret = "{CANARY}"\naccess_key_secret = "{CANARY}"',
    "as a URL's password": f'regions = "https://user:{CANARY}@host/x"',
    "as a URL's token": f'regions = "https://host/x?y=1&access_token={CANARY}"',
    "as a step of a URL": f'regions = "https://host/hook/{CANARY}1234567890abcd/x"',
    "as a header of a command": f'regions = ["curl", "-H", "Authorization: Bearer {CANARY}"]',
    "as an option of a command": f'regions = ["x", "--password={CANARY}"]',
    "as the value of an option": f'poll_interval = ["x", "--token", "{CANARY}"]',
    "as a variable of a command": f'regions = ["env", "DB_PASSWORD={CANARY}", "x"]',
    "as the file of a password": f'client_key_password_from_file_path = "{CANARY}"',
    "as the variable of a password": f'client_key_password_from_env_variable = "{CANARY} {CANARY}"\nx = 1',
    "as a number": "access_key_secret = 4410004410",
    "as a key that is a secret": f'"{LONG_CANARY}" = 1',
}


@pytest.mark.parametrize("line", HIDDEN.values(), ids=HIDDEN)
def test_wherever_a_secret_stands_it_is_not_shown(line: str) -> None:
    """By its key, its shape, or the place where programs are handed secrets; nor is it in the sentence."""
    with pytest.raises(ConfigError) as caught:
        read(PROVIDER + line + "\n" + SINK)
    said = "\n".join([*caught.value.problems, *(mistake.excerpt for mistake in caught.value.mistakes)])
    assert said
    assert CANARY not in said and LONG_CANARY not in said and "4410004410" not in said


def test_a_line_of_harmless_values_is_shown_whole() -> None:
    """Hiding everything would hide nothing of use: paths, names, users and commands are seen."""
    line = 'command = ["/usr/bin/systemctl", "--user", "reload", "uploader.service", 1]'
    (excerpt,) = excerpts(GOOD + '[[credentials.a.notify]]\ntype = "exec"\n' + line + "\n")
    assert "***" not in excerpt.replace('"***"', "", 1) or "uploader.service" in excerpt
    (excerpt,) = excerpts(PROVIDER + 'properties_file = "/etc/keyturn/secretsmanager.properties"\nmode = 1\n' + SINK)
    assert "mode = 1" in excerpt


def test_the_whole_example_hides_nothing_of_its_own(tmp_path: Path) -> None:
    """Not one value of the example, which holds no secret, is taken for one."""
    from agent.config.masking import secret_stretches
    from agent.config.positions import Positions

    positions = Positions((Path(__file__).parents[2] / "keyturn.example.toml").read_text())
    hidden = []
    for entry in positions.entries:
        if entry.value is not None and entry.is_leaf:
            value = positions.text[entry.value.start : entry.value.end].strip("\"'")
            hidden += [entry.place for _ in secret_stretches(entry.place, value)]
    assert hidden == []


@pytest.mark.parametrize(
    "text",
    [
        PROVIDER + "frobnicate = 'c4n4ry'\n" + SINK,
        PROVIDER + "frobnicate = ['x', 'c4n4ry']\n" + SINK,
        PROVIDER + "frobnicate = { x = 'c4n4ry' }\n" + SINK,
        PROVIDER + "frobnicate = 3 # it was c4n4ry\n" + SINK,
        "[credentials.a]\nprovider = { type = 'kms_secret', pwd = 'c4n4ry', secret_name = 5 }\n",
        "[credentials.a]\nprovider = { pass = 'c4n4ry', secret_name = 'x }\n",
        PROVIDER + "sk = 'c4n4ry\n",
        PROVIDER + "sk = c4n4ry\n",
        PROVIDER + "password = 098765\n",
        PROVIDER + 'password = "a" c4n4ry"\n',
        PROVIDER + "c4n4ry\n",
        PROVIDER + "access_key_secret: c4n4ry\n",
        PROVIDER + "access_key_secret c4n4ry\n",
        "[fleet]\nurl = 'redis://user:p@ss/c4n4ry@host:6379'\n",
    ],
)
def test_nor_what_no_shape_and_no_known_key_tells(text: str) -> None:
    """A short secret below a key that nobody knows, in a comment, or in a line that is no TOML."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    shown = "\n".join([*caught.value.problems, *(one.excerpt for one in caught.value.mistakes)])
    assert "c4n4ry" not in shown and "98765" not in shown


def test_a_comment_is_left_out_and_a_lone_key_is_shown() -> None:
    """What mends the line stays in it."""
    assert "mode = 640 #***" in excerpts(GOOD + "mode = 640 # why\n")[0]
    assert "poll_interval" in excerpts(PROVIDER + "poll_interval\n")[0]
