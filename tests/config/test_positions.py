"""Where keys and values stand in the text of a config: held against tomllib, which alone says what they mean."""

from __future__ import annotations

import datetime
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.positions import Positions

EXAMPLE = Path(__file__).parents[2] / "keyturn.example.toml"

FORMS = {
    "dotted keys": "a.b . c = 1\na.d=2",
    "quoted keys": '"a b".\'c.d\' = 1\n["x\\u0041y".z]\nk = 2',
    "inline tables": "a = { b = { c = 1 }, d = [ { e = 2 }, { e = 3 } ] }",
    "tables of tables": "[[a]]\nb=1\n[[a.c]]\nd=1\n[[a.c]]\nd=2\n[a.e]\nf=3\n[[a]]\nb=2\n[[a.c]]\nd=3\n[a.c.g]\nh = 1",
    "a header before its parent's": "[a.b.c]\nx=1\n[a]\ny=2\n[a.b]\nz=3",
    "strings over several lines": 'a = """\n[b]\nc = 1 # "quoted"\\\n  """""\nd = \'\'\'\'x\'\'\'\'\'\ne = """"""',
    "every scalar": "a=1_000\nb=0x_f\n".replace("0x_f", "0xf")
    + "c=-1.5e3\nd=inf\ne=true\nf=1979-05-27 07:32:00Z\ng=07:32:00 # t\nh=nan",
    "arrays over several lines": "a = [ # x\n 1,\n\n # y\n [2, 3,], 'x',\n]",
    "CRLF": 'a = 1\r\n[b]\r\nc = """\r\nx\r\n"""\r\nd = 2\r\n',
    "a byte order mark": "\ufeffa = 1\nb = 2",
    "tabs": "\ta\t=\t1\t# x\n[\tb\t.\tc\t]\nd=1",
    "nothing": "",
    "only a comment": "# a = 1",
}


def flat(tree: Any, place: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    """Every part of a tree by its place."""
    found = {place: tree} if place else {}
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, part in parts:
        found |= flat(part, (*place, key))
    return found


def agrees(text: str) -> None:
    """Each part that tomllib reads is found, and what stands at its position means what tomllib read; there is nothing else."""
    tree = flat(tomllib.loads(text.removeprefix("\ufeff")))
    positions = Positions(text)
    assert positions.lost_at is None
    assert {entry.place for entry in positions.entries} == set(tree)
    for place, value in tree.items():
        entry = positions.find(place)
        assert entry is not None and entry.place == place
        if entry.value is not None:
            read = tomllib.loads(f"x = {positions.text[entry.value.start : entry.value.end]}")["x"]
            assert read == value or read != read, place
            assert positions.text[entry.value.start : entry.value.end].strip() != ""
        else:
            assert isinstance(value, dict | list)
        if entry.key is not None and isinstance(place[-1], str):
            assert place[-1] in tomllib.loads(f"{positions.text[entry.key.start : entry.key.end]} = 1"), place


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_each_form_of_toml_has_its_positions(text: str) -> None:
    """Whatever the grammar allows, the position leads to the very text that tomllib read."""
    agrees(text)


def test_the_example_has_its_positions() -> None:
    """The config that people start from."""
    agrees(EXAMPLE.read_text())


NAMES = st.sampled_from(["a", "b", "c-d", "1", "e f", 'g"h', "i.j", "'", "文", ""])
SCALARS = (
    st.integers(-10, 10**6) | st.booleans() | st.floats(allow_nan=False) | st.datetimes(datetime.datetime(1990, 1, 1))
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\"'\\#[]{}=,"), max_size=12)
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda each: st.lists(each, max_size=3) | st.dictionaries(NAMES, each, max_size=3), max_leaves=8
)


def key(name: str, draw: Any) -> str:
    """A name as TOML writes it, in one of its ways."""
    ways = ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"']
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        ways.append(name)
    if "'" not in name:
        ways.append(f"'{name}'")
    return str(draw(st.sampled_from(ways)))


def value(each: Any, draw: Any) -> str:
    """A value as TOML writes it, in one of its ways."""
    blank = draw(st.sampled_from(["", " ", "\t"]))
    if isinstance(each, dict):
        pairs = f"{blank},{blank}".join(
            f"{key(name, draw)}{blank}={blank}{value(part, draw)}" for name, part in each.items()
        )
        return "{" + blank + pairs + blank + "}"
    if isinstance(each, list):
        between = draw(st.sampled_from(["", " ", "\n", " # [x]\n"]))
        items = f",{between}".join(value(part, draw) for part in each)
        return f"[{between}{items}{',' if each and draw(st.booleans()) else ''}{between}]"
    if isinstance(each, str):
        return text(each, draw)
    return str(each).lower() if isinstance(each, bool | float) else str(each)


def text(each: str, draw: Any) -> str:
    """A string in one of its four ways."""
    escaped = each.replace("\\", "\\\\").replace('"', '\\"')
    ways = ['"' + escaped.replace("\n", "\\n") + '"', '"""\n' + escaped + '"""']
    if "'" not in each:
        ways += [f"'''\n{each}'''"] + ([f"'{each}'"] if "\n" not in each else [])
    return str(draw(st.sampled_from(ways)))


@st.composite
def documents(draw: Any) -> str:
    """Texts made of headers and pairs; many are TOML, some are not, since they say something twice."""
    lines = []
    for _ in range(draw(st.integers(0, 6))):
        path = ".".join(key(name, draw) for name in draw(st.lists(NAMES, min_size=1, max_size=3)))
        if draw(st.booleans()):
            lines.append(f"[[{path}]]" if draw(st.booleans()) else f" [ {path} ] # [x]")
        else:
            lines.append(f"{path} = {value(draw(VALUES), draw)}")
    return draw(st.sampled_from(["\n", "\r\n", "\n\n# x = 1\n"])).join(lines)


@settings(max_examples=200)
@given(documents())
def test_any_toml_has_its_positions(document: str) -> None:
    """Whatever tomllib takes."""
    try:
        tomllib.loads(document)
    except tomllib.TOMLDecodeError:
        return
    agrees(document)


@settings(max_examples=100)
@given(st.text(st.sampled_from("ab.=[]{}\"'\\#, \t\n\r1文\ufeff"), max_size=40))
def test_any_text_is_looked_over(document: str) -> None:
    """No text makes it fail; what tomllib takes, it follows to the end."""
    positions = Positions(document)
    try:
        tomllib.loads(document.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError:
        return
    assert positions.lost_at is None


def test_a_thousand_credentials_are_looked_over_in_their_time() -> None:
    """The look is linear: ten times the text has about ten times the parts, and each is found at its line."""
    text = "".join(f'[credentials.c{number}.provider]\ntype = "default"\n' for number in range(1000))
    positions = Positions(text)
    entry = positions.find(("credentials", "c999", "provider", "type"))
    assert entry is not None and entry.value is not None
    assert positions.line_and_column(entry.value.start) == (2000, 8)
