"""The status page tells people what /metrics tells programs, the worst first, and lets a browser do nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from agent.core.page_style import BASE
from agent.core.policy import Condition
from agent.http.message import Reply
from agent.metrics.page import page
from agent.metrics.snapshot import FleetFigures, Row, Snapshot
from tests.support.scraper import row

NOW = datetime(2026, 11, 30, 12, 3, 4, tzinfo=UTC)
T = NOW.timestamp()
DAY = 86400.0
VOID = {"meta", "link"}
EVIL = "<script>alert(1)</script>\"' onload=x &lt; \u202egnp.exe \u0000"


def seen(*rows: Row, **more: Any) -> Snapshot:
    """A snapshot of these rows, taken now."""
    return Snapshot(**{"taken_at": T, "passed": True, "awaited": (), "rows": rows, **more})


def well(name: str = "a", **more: Any) -> Row:
    """A credential about which there is nothing to say."""
    return row(name, **{"owed": 0, "last_success_at": T - 5, "expires_at": None, **more})


class Parsed(HTMLParser):
    """A page as a browser takes it apart: every tag is closed in order."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.cells: list[list[str]] = []
        """The texts of each row of the table, those of its head first."""
        self.title = self.style = ""
        self._open: list[str] = []
        self.feed(reply.body.decode())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.cells.append([])
        elif tag in ("th", "td"):
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"th", "td"} & set(self._open):
            self.cells[-1][-1] += data
        if self._open[-1:] == ["title"]:
            self.title = data
        elif self._open[-1:] == ["style"]:
            self.style += data
        elif data.strip():
            self.text.append(data.strip())


def told(*rows: Row, **more: Any) -> str:
    """The text of a page, its title first."""
    parsed = Parsed(page(seen(*rows, **more), NOW))
    return "\n".join([parsed.title, *parsed.text])


SUMMARIES = {
    "12 of 12 fresh": ["fresh"] * 12,
    "1 of 12 failing": ["fresh"] * 11 + ["failing"],
    "1 of 4 expired, 2 failing, 1 pending": ["failing", "pending", "failing", "expired"],
    "1 of 1 pending": ["pending"],
    "1 of 2 stale": ["stale", "fresh"],
}


@pytest.mark.parametrize("title", SUMMARIES)
def test_the_title_says_how_it_stands(title: str) -> None:
    """In the tab and on the page, the worst state first."""
    parsed = Parsed(page(seen(*(well(f"c{i}", state=state) for i, state in enumerate(SUMMARIES[title]))), NOW))
    assert parsed.title == f"{title} - keyturn"
    assert parsed.text[0] == title


def test_a_leaked_key_is_said_first() -> None:
    """Whatever the state is."""
    assert told(well(is_restricted=True), well("b")).startswith("1 key restricted, 2 of 2 fresh")


def test_those_in_trouble_stand_first() -> None:
    """By state, from bad to good; a restricted key above all, and those alike in the order of the config."""
    rows = [well(f"{state}-{i}", state=state) for i in range(2) for state in Condition]
    rows += [well("old", is_too_old=True), well("owing", owed=2), well("leaked", is_restricted=True)]
    names = [cells[0] for cells in Parsed(page(seen(*rows), NOW)).cells[1:]]
    bad_to_good = [f"{state}-{i}" for state in reversed(Condition) for i in range(2)]
    assert names == ["leaked", *bad_to_good[:-2], "old", "owing", *bad_to_good[-2:]]


def test_a_row_has_every_figure() -> None:
    """With times as of the page, in a table whose cells have heads."""
    session = well("s", generation=7, expires_at=T + 45 * 60)
    key = well("k", owed=2, last_success_at=T - 200, key_made_at=T - 12 * DAY, clients=(3, 1))
    late = well("e", state="expired", generation=1, expires_at=T - 90, last_success_at=None)
    parsed = Parsed(page(seen(session, key, late), NOW))
    assert parsed.cells == [
        ["Credential", "State", "Last success", "Expires", "Owed", "Generation", "Key age"],
        ["e", "expired", "never", "90s ago", "0", "1", "-"],
        ["k", "fresh1 client on an older value", "3m ago", "-", "2", "3", "12d"],
        ["s", "fresh", "5s ago", "in 45m", "0", "7", "-"],
    ]
    assert ("span", "title", "2026-11-30 12:48:04 UTC") in parsed.attributes
    assert "As of 2026-11-30 12:03:04 UTC, renewed every 10 s." in parsed.text
    assert [value for tag, name, value in parsed.attributes if (tag, name) == ("th", "scope")] == ["col"] * 7 + [
        "row"
    ] * 3


def test_what_concerns_the_whole_is_a_notice() -> None:
    """A refused config, a first pass that waits, a board that is away, a ClientKey near its end; none where all is well."""
    fleet = FleetFigures(False, {}, {})
    keys = (("KAAP.far", T + 200 * DAY), ("KAAP.near", T + 25.5 * DAY), ("KAAP.dead", T - 1))
    text = told(
        well(), config_refused=True, config_loaded_at=T - 3 * 3600, awaited=("a", "b"), fleet=fleet, client_keys=keys
    )
    assert "the one of 3h ago stays in force" in text
    assert "The first pass waits for a, b." in text
    assert "board is away" in text
    assert text.index("ClientKey KAAP.dead has expired") < text.index("ClientKey KAAP.near expires in 25 days")
    assert "KAAP.far" not in text
    calm = Parsed(page(seen(well(), fleet=FleetFigures(True, {}, {}), client_keys=(("KAAP.far", T + 200 * DAY),)), NOW))
    assert [value for tag, name, value in calm.attributes if value.startswith("notice")] == []


def test_hosts_that_are_not_there_are_named_by_their_number() -> None:
    """As /metrics counts them."""
    hosts = {"a": {"live": 12, "behind": 1, "absent": 2}}
    parsed = Parsed(page(seen(well(), fleet=FleetFigures(True, hosts, {})), NOW))
    assert parsed.cells[1][1] == "fresh1 host behind2 hosts absent"


def test_an_engine_that_is_stuck_is_said() -> None:
    """The figures from before, with their age, and a title that cannot be taken for news."""
    parsed = Parsed(page(seen(well(), taken_at=T - 240), NOW, is_stuck=True))
    assert parsed.title == "Old: 1 of 1 fresh - keyturn"
    assert any(text.startswith("These figures are 4m old") for text in parsed.text)


def test_before_there_is_anything_it_says_so_and_asks_again() -> None:
    """503, for programs; a page all the same, for people."""
    reply = page(None, NOW, is_stuck=True)
    assert (reply.status, reply.headers["Refresh"]) == (503, "10")
    assert Parsed(reply).title == "Starting - keyturn"


def test_it_is_renewed_until_it_is_paused() -> None:
    """A link leads to a page that stays as it is, and back."""
    live, paused = page(seen(well()), NOW), page(seen(well()), NOW, is_paused=True)
    assert live.headers["Refresh"] == "10" and "Refresh" not in paused.headers
    assert ("a", "href", "./?paused") in Parsed(live).attributes
    assert ("a", "href", "./") in Parsed(paused).attributes


def test_the_policy_allows_this_very_style_and_nothing_else() -> None:
    """No script, no address but relative links, no attribute that the policy would refuse."""
    reply = page(seen(well(is_too_old=True, owed=1)), NOW)
    parsed = Parsed(reply)
    digest = base64.b64encode(hashlib.sha256(parsed.style.encode()).digest()).decode()
    policy = dict(part.split(" ", 1) for part in reply.headers["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'", "style-src": f"'sha256-{digest}'", "img-src": "data:",
        "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
    }  # fmt: skip
    assert reply.headers["Referrer-Policy"] == "no-referrer"
    head = reply.as_bytes(head_only=True).decode()
    assert "Cache-Control: no-store" in head and "X-Content-Type-Options: nosniff" in head
    assert not {"script", "img", "iframe", "form"} & set(parsed.tags)
    assert not [name for _tag, name, _value in parsed.attributes if name == "style" or name.startswith("on")]
    links = {
        value for _tag, name, value in parsed.attributes if name in ("href", "src") and not value.startswith("data:")
    }
    assert links == {"./?paused", "metrics", "livez", "readyz"}
    assert "url(" not in parsed.style and "@import" not in parsed.style


def test_a_text_stays_a_text() -> None:
    """Names that want to be HTML, or to turn the letters around; the id of a ClientKey comes from a file."""
    shown = seen(well(EVIL), awaited=(EVIL,), client_keys=((EVIL, T),))
    parsed = Parsed(page(shown, NOW))
    assert "script" not in parsed.tags
    written = EVIL.replace("\u202e", "\\u202e").replace("\u0000", "\\x00")
    assert parsed.cells[1][0] == written
    assert f"The first pass waits for {written}." in parsed.text
    assert not [name for _tag, name, _value in parsed.attributes if name.startswith("on")]


def test_a_thousand_credentials_are_light() -> None:
    """Less than 400 kB."""
    rows = [well(f"a-name-of-some-length-{i}", owed=i % 2, expires_at=T + i, key_made_at=T - i) for i in range(1000)]
    assert len(page(seen(*rows), NOW).body) < 400_000


def test_a_clock_that_was_set_back_breaks_nothing() -> None:
    """What lies ahead is told so; nothing is negative."""
    parsed = Parsed(
        page(seen(well(last_success_at=T + 5000, key_made_at=T + 5000), taken_at=T + 60), NOW, is_stuck=True)
    )
    assert (parsed.cells[1][2], parsed.cells[1][6]) == ("in 83m", "0s")
    assert page(seen(well(expires_at=datetime.max.replace(tzinfo=UTC).timestamp() - 1)), NOW).status == 200
    assert page(seen(well()), NOW + timedelta(days=9999)).status == 200


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    whole = colour if len(colour) == 6 else "".join(each * 2 for each in colour)
    parts = [int(whole[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_text_can_be_read(scheme: int) -> None:
    """WCAG AA: 4.5 to 1 for each colour of letters on each ground that it stands on."""
    light, dark = BASE.split("@media (prefers-color-scheme: dark)")
    colours = dict(re.findall(r"--([a-z-]+): #([0-9a-f]{3,6})", (light, dark)[scheme]))
    pairs = [(text, ground) for text in ("text", "faint") for ground in ("ground", "raised")]
    pairs += [(mood, f"{mood}-ground") for mood in ("good", "bad", "so-so")]
    pairs += [("text", f"{mood}-ground") for mood in ("good", "bad", "so-so")]
    for text, ground in pairs:
        low, high = sorted(luminance(colours[name]) for name in (text, ground))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)
