"""The status page in a real Chromium: light, dark, on a telephone, renewed by itself, and with names that want to be more.

The pictures of it in docs/pictures are made anew by::

    .venv/bin/python -m pytest -m browser --renew tests/browser/test_status_page.py
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.http.listener import Listener
from agent.metrics.endpoints import Endpoints
from agent.metrics.exporter import MANNER
from agent.metrics.page import page
from agent.metrics.snapshot import FleetFigures, Row, Snapshot
from tests.support.chromium import PROGRAM
from tests.support.chromium_session import Tab
from tests.support.scraper import free_port, get, row
from tests.support.vm import Vm, eventually

pytestmark = pytest.mark.skipif(not PROGRAM, reason="no Chromium here: apt-get install chromium")

DOCS = Path(__file__).resolve().parents[2] / "docs"
DAY = 86400.0
Serve = Callable[..., str]
WIDE = "document.documentElement.scrollWidth"
"""The width that everything needs, in CSS pixels; a telephone shrinks what is wider, so that `innerWidth` says nothing."""
GROUND = "getComputedStyle(document.body).backgroundColor"
LATE = "getComputedStyle(document.querySelector('.late')).visibility"
HEAD = "document.querySelector('h1').textContent"
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(20, 24, 28)"


class Glass:
    """A snapshot that does not change."""

    def __init__(self, rows: tuple[Row, ...], **more: object) -> None:
        now = time.time()
        self.last = Snapshot(**{"taken_at": now, "passed": True, "awaited": (), "rows": rows, **more})  # type: ignore[arg-type]

    def look(self, _patience_s: float) -> Snapshot:
        return self.last


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves a page of these rows at the address that it returns."""
    made: list[Listener] = []

    def start(*rows: Row, **more: object) -> str:
        port = free_port()
        endpoints = Endpoints(Glass(rows, **more))  # type: ignore[arg-type]
        made.append(Listener(f"127.0.0.1:{port}", lambda: lambda request, _channel: endpoints.answer(request), MANNER))
        eventually(lambda: is_served(port))
        return f"http://127.0.0.1:{port}/"

    yield start
    for listener in made:
        listener.close()


def is_served(port: int) -> bool:
    try:
        return get(port, "/").status == 200
    except OSError:
        return False


def trouble() -> tuple[Row, ...]:
    """One row of each kind, with all that can stand in it."""
    states = ("fresh", "pending", "failing", "stale", "expired")
    rows = [row(f"credential-{state}", state=state, owed=i % 2) for i, state in enumerate(states)]
    return (*rows, row("everything", owed=12, is_restricted=True, is_too_old=True, clients=(30, 12), key_made_at=1.0))


@pytest.mark.parametrize(("is_dark", "ground"), [(False, LIGHT), (True, DARK)], ids=["light", "dark"])
def test_it_fits_the_screen_in_the_readers_colours(serve: Serve, tmp_path, is_dark: bool, ground: str) -> None:
    """From a small telephone to a desk; the policy lets the page's style through, and the console has nothing to say."""
    fleet = FleetFigures(False, {"everything": {"live": 1, "behind": 2, "absent": 3}}, {})
    keys = (("KAAP." + "a1b2" * 9, time.time() + 86400),)
    address = serve(*trouble(), config_refused=True, fleet=fleet, client_keys=keys, awaited=("a" * 64, "b" * 64))
    with Tab(tmp_path, dark=is_dark) as tab:
        for width in (320, 360, 768, 1200):
            tab.resize(width, mobile=width < 700)
            tab.go(address)
            assert (tab.ask(WIDE), tab.ask(GROUND)) == (width, ground)
            assert tab.ask("document.querySelectorAll('tbody tr').length") == 6
        assert tab.ask("document.title") == "1 key restricted, 1 of 6 expired, 1 stale, 1 failing, 1 pending - keyturn"
        tab.ask(
            "icon = new Image(); icon.src = document.querySelector('link[rel=icon]').href; document.body.append(icon)"
        )
        eventually(
            lambda: tab.ask("icon.naturalWidth") > 0,
            "the icon of the tab, which no headless browser loads, can be shown",
        )
        asked = {one for one in tab.asked if not one.startswith("data:")}
        assert (asked, tab.complaints) == ({address}, [])


def test_strange_names_stay_names(serve: Serve, tmp_path) -> None:
    """HTML, sixty-four wide letters without a break, Chinese, Hebrew and an override of the direction: text, in its place."""
    evil = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    names = [evil, "W" * 64, "凭证" * 32, "שלום-" * 12, "a\u202eb", "." * 64, "x" * 500]
    address = serve(*(row(name, state="failing") for name in names))
    with Tab(tmp_path) as tab:
        for width in (360, 1200):
            tab.resize(width, mobile=width < 700)
            tab.go(address)
            assert tab.ask(WIDE) == width
            shown = tab.ask("[...document.querySelectorAll('tbody th')].map(one => one.textContent)")
            assert shown == [name.replace("\u202e", "\\u202e") for name in names]
            kinds = tab.kinds()
            assert (kinds["table"], kinds["row"] >= 7, kinds["rowheader"], kinds["cell"] >= 7) == (1, True, 7, True)
        assert tab.ask("document.title") == "7 of 7 failing - keyturn"
        assert (set(tab.asked), tab.complaints) == ({address}, [])


def test_the_policy_holds_where_escaping_would_not(serve: Serve, tmp_path) -> None:
    """A script, a style and an image that got into the page all the same neither run nor show nor load."""
    address = serve(row())
    evil = (
        '<p id=evil style="color: red">x</p><img src="http://127.0.0.1:1/x.png" onerror="document.title = 1">'
        "<iframe src=/metrics></iframe>"
    )
    with Tab(tmp_path) as tab:
        tab.go(address)
        tab.ask(f"document.body.insertAdjacentHTML('beforeend', {evil!r})")
        tab.ask(
            "for (const [tag, text] of [['script', 'document.title = 2'], ['style', 'body { background: red }']]) {"
            " const made = document.createElement(tag); made.textContent = text; document.body.append(made); }"
        )
        assert tab.ask("document.title") == "1 of 1 fresh - keyturn"
        assert tab.ask("getComputedStyle(document.getElementById('evil')).color") == "rgb(27, 33, 39)"
        assert tab.ask(GROUND) == LIGHT
        assert sum("Content Security Policy" in each for each in tab.complaints) >= 4, "it was refused, and said so"
        tab.ask("document.body.style.background = 'red'")
        assert tab.ask(GROUND) != LIGHT, "what a script may do is seen: this test could fail"


def test_no_page_can_frame_it(serve: Serve, tmp_path) -> None:
    """Whose it ever is: a frame of it stays empty."""
    address = serve(row())
    (tmp_path / "frame.html").write_text(f'<iframe src="{address}"></iframe>')
    with Tab(tmp_path) as tab:
        tab.go((tmp_path / "frame.html").as_uri())
        assert any("frame-ancestors" in each for each in tab.complaints)


def test_a_thousand_rows_are_no_burden(serve: Serve, tmp_path) -> None:
    """Loaded and laid out on a telephone; those in trouble stand on the first screen."""
    rows = [row(f"service-{i:04}", state="stale" if i == 777 else "fresh") for i in range(1000)]
    address = serve(*rows)
    with Tab(tmp_path) as tab:
        tab.resize(360, mobile=True)
        tab.go(address)
        assert (tab.ask(WIDE), tab.ask("document.querySelectorAll('tbody tr').length")) == (360, 1000)
        assert tab.ask("document.querySelector('tbody tr').getBoundingClientRect().bottom < innerHeight")
        assert tab.ask("document.querySelector('tbody th').textContent") == "service-0777"


def test_it_is_renewed_and_follows_a_rotation(vm: Vm, tmp_path) -> None:
    """By itself, where the reader is; paused it stays as it is; one that is not renewed says so."""
    port = free_port()
    vm.configure(vm.agent(f'metrics_listen = "127.0.0.1:{port}"') + vm.credential())
    daemon = vm.daemon().ready()
    eventually(lambda: is_served(port))
    generation = "document.querySelector('tbody td:nth-child(6)').textContent"
    with Tab(tmp_path) as tab:
        tab.resize(360, 300, mobile=True)
        tab.go(f"http://127.0.0.1:{port}/")
        assert (tab.ask(HEAD), tab.ask(generation), tab.ask(LATE)) == ("1 of 1 fresh", "1", "hidden")
        tab.ask("scrollTo(0, 120)")
        where = tab.ask("scrollY")
        assert where > 50
        vm.cloud.rotate("uploader-ak")
        daemon.signal(signal.SIGUSR1)
        eventually(lambda: vm.events().count("published") == 2)
        tab.wait_for_load(tab.loads)
        assert (tab.ask(generation), tab.ask("scrollY")) == ("2", where)

        tab.ask("document.querySelector('.subtitle a').click()")
        tab.wait_for_load(tab.loads)
        assert tab.ask("document.querySelector('.subtitle').textContent").endswith("UTC, paused. Go on")
        assert daemon.stop() == 0
        tab.ask("document.getAnimations()[0].currentTime = 29900")
        assert tab.ask(LATE) == "hidden"
        tab.ask("document.getAnimations()[0].currentTime = 30000")
        assert tab.ask(LATE) == "visible"
        assert tab.complaints == []


def test_what_waits_for_a_host_that_is_gone_says_that_it_is_old(serve: Serve, tmp_path) -> None:
    """A browser leaves the old page standing while it waits; a page that is opened again is young again."""
    address = serve(row())
    with Tab(tmp_path) as tab:
        tab.go(address)
        tab.ask("document.getAnimations()[0].currentTime = 60000")
        assert tab.ask(LATE) == "visible"
        tab.go(address)
        assert tab.ask(LATE) == "hidden"


def example(t: float) -> Snapshot:
    """A host on a bad day."""

    def one(name: str, **more: object) -> Row:
        given = {
            "state": "fresh",
            "owed": 0,
            "last_success_at": t - 23,
            "expires_at": None,
            "key_made_at": t - 9 * DAY,
            **more,
        }
        return row(name, **given)

    def session(name: str, left_min: int, **more: object) -> Row:
        success_at = t - (60 - left_min) * 60
        return one(name, expires_at=t + left_min * 60, last_success_at=success_at, key_made_at=None, **more)

    rows = (
        one("uploader", generation=14, last_success_at=t - 12, key_made_at=t - 2.1 * DAY),
        one("billing", state="failing", generation=7, owed=1, last_success_at=t - 26 * 60, key_made_at=t - 31 * DAY),
        one("reports", is_too_old=True, generation=3, last_success_at=t - 41, key_made_at=t - 97 * DAY),
        session("log-shipper", 41, generation=212),
        session("backup", 28, generation=88, clients=(3, 1)),
        session("search-index", -4, state="expired", generation=1045),
        one("thumbnails", generation=19, last_success_at=t - 58),
        one("web-assets", generation=5, last_success_at=t - 33, key_made_at=t - 44 * DAY),
    )
    return Snapshot(t, True, (), rows, client_keys=(("KAAP.7f0c31e2", t + 25.5 * DAY),))


PICTURES = {"status-page": (False, 1100, 640, 1.0), "status-page-phone": (True, 360, 650, 1.5)}


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_of_the_docs(name: str, tmp_path, pytestconfig) -> None:
    """They show the page in that size, and are small; that they show what it looks like now is for --renew, and for your eyes."""
    is_dark, width, height, scale = PICTURES[name]
    now = datetime(2026, 11, 30, 12, 3, 4, tzinfo=UTC)
    (tmp_path / "page.html").write_bytes(page(example(now.timestamp()), now).body)
    with Tab(tmp_path, dark=is_dark) as tab:
        tab.resize(width, height, scale=scale, mobile=is_dark)
        tab.go((tmp_path / "page.html").as_uri())
        picture = tab.picture()
        title = tab.ask(HEAD)
    file = DOCS / "pictures" / f"{name}.png"
    if pytestconfig.getoption("renew"):
        file.write_bytes(picture)
    assert len(file.read_bytes()) < 100_000
    assert file.read_bytes()[:24] == picture[:24], "another size (PNG specification, 11.2.2: it begins with its header)"
    assert f'"{title}"' in (DOCS / "monitoring.md").read_text(), "what its description says"
