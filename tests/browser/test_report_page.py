"""The HTML of `audit report` in a real Chromium: light, dark, on a telephone, on paper, and with text that wants to be more."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from agent.evidence.as_html import html
from agent.evidence.collect import collect
from agent.evidence.model import Configured
from agent.evidence.report import report
from tests.support.chromium import PROGRAM, Chromium
from tests.support.written_logs import two_years

pytestmark = pytest.mark.skipif(not PROGRAM, reason="no Chromium here: apt-get install chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    log = two_years(tmp_path_factory.mktemp("log"))
    found, basis = collect(log.path, log.head, None)
    config = {
        name: Configured("kms_secret", "team oss", timedelta(days=90)) for name in ("uploader", "billing", "never")
    }
    return "".join(html(report(found, basis, config, now=datetime(2026, 10, 20, tzinfo=UTC), since=None)))


@pytest.fixture
def chromium(tmp_path):
    return Chromium(tmp_path)


def test_light_and_dark(page, chromium):
    """The reader's setting decides; the page's own style is let through by its policy."""
    assert chromium.ground(page) == (255, 255, 255)
    assert chromium.ground(page, dark=True) == (0x14, 0x18, 0x1C)
    light, dark = (chromium.measure(page, 1200, dark=dark) for dark in (False, True))
    assert (light["ground"], light["text"]) == ("rgb(255, 255, 255)", "rgb(27, 33, 39)")
    assert (dark["ground"], dark["text"]) == ("rgb(20, 24, 28)", "rgb(227, 232, 237)")
    assert light["title"] == "Rotation report"


@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_nothing_is_wider_than_the_screen(page, chromium, width):
    """On a telephone, a tablet and a desk; the timelines are drawn, as wide as there is room."""
    seen = chromium.measure(page, width)
    assert seen["wide"] <= 0
    assert len(seen["boxes"]) == 3 and all(0.8 * width < box <= width for box in seen["boxes"])
    assert seen["spans"] > 6


def test_on_paper(page, chromium):
    """A4, in a few pages."""
    paper = chromium.paper(page)
    assert 1 < len(re.findall(rb"/Type\s*/Page\b", paper)) <= 8
    (_left, _low, wide, high) = (float(number) for number in re.search(rb"/MediaBox\s*\[([^]]*)\]", paper)[1].split())
    assert (round(wide), round(high)) == (595, 842)


def said_to(server: socket.socket) -> Iterator[bytes]:
    """What each of those says who connected. (Chromium connects for a frame before it looks at the policy, and says nothing.)"""
    with contextlib.suppress(TimeoutError):
        while True:
            with server.accept()[0] as connection:
                yield connection.recv(1000)


def test_the_policy_holds_where_escaping_would_not(page, chromium):
    """A script, an image and a style that got into the page all the same neither run nor load nor show."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(0.2)
        address = f"http://127.0.0.1:{stranger.getsockname()[1]}/"
        evil = (
            "<script>document.documentElement.dataset.ran = 1</script><style>body { background: red }</style>"
            f'<img src="{address}x.png" onerror="document.documentElement.dataset.ran = 2"><iframe src="{address}"></iframe>'
            f'<link rel="stylesheet" href="{address}x.css"><script src="{address}x.js"></script>'
        )
        seen = chromium.measure(page.replace("<main>", f"<main>{evil}"), 1200)
        assert b"".join(said_to(stranger)) == b""
    assert (seen["ran"], seen["ground"]) == ("", "rgb(255, 255, 255)")


def test_the_measure_sees_what_it_is_to_see(page, chromium):
    """Without the policy that script runs, and a page that is too wide is found: the tests above could fail."""
    open_page = re.sub(r"<meta http-equiv[^>]*>", "", page)
    evil = '<script>document.documentElement.dataset.ran = 1</script><pre style="width: 3000px">x</pre>'
    seen = chromium.measure(open_page.replace("<main>", f"<main>{evil}"), 390)
    assert seen["ran"] == "1" and seen["wide"] > 1000
