"""The documents as a site (docs/conf.py), in a real Chromium: nothing from elsewhere, fit for a phone, a search."""

from __future__ import annotations

import functools
import html
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.blocks import ROOT
from tests.support.chromium import PROGRAM, Chromium

pytestmark = pytest.mark.skipif(not PROGRAM, reason="no Chromium here: apt-get install chromium")
PHONE_PX = 360
MEASURE = """
<!DOCTYPE html><body><script>
const pages = PAGES, wide = {};
async function look(page) {
  const frame = document.createElement("iframe");
  frame.width = WIDTH; frame.height = 800; frame.src = page;
  document.body.append(frame);
  await new Promise(done => frame.onload = done);
  const root = frame.contentDocument.documentElement;
  if (root.scrollWidth > frame.clientWidth) wide[page] = root.scrollWidth;
  frame.remove();
}
(async () => {
  for (const page of pages) await look(page);
  document.body.textContent = JSON.stringify({wide, seen: pages.length});
})();
</script></body>
"""


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that says nothing."""

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does: a warning is an error."""
    made = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-E",
        "-a",
        "-W",
        "--keep-going",
        "-b",
        "html",
        "-d",
        str(made / "trees"),
    ]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(made / "html")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return made / "html"


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def chromium(tmp_path: Path) -> Chromium:
    return Chromium(tmp_path)


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    """No script, style, font, picture or frame has an address of another host; links may."""
    loaded = re.compile(r'<(?:script|link|img|iframe|source|object)\b[^>]*?(?:src|href|data)="((?:https?:)?//[^"]+)"')
    pages = {page.name: loaded.findall(page.read_text()) for page in site.rglob("*.html")}
    assert {name: found for name, found in pages.items() if found} == {}
    styles = [
        style.name for style in site.rglob("*.css") if re.search(r"url\(['\"]?https?:|@import", style.read_text())
    ]
    assert len(pages) > 60 and styles == []


def test_each_page_fits_a_phone(site: Path, address: str, chromium: Chromium) -> None:
    """What is wide is scrolled in itself: the page is not."""
    pages = sorted(str(page.relative_to(site)) for page in site.rglob("*.html"))
    (site / "measure.html").write_text(MEASURE.replace("PAGES", json.dumps(pages)).replace("WIDTH", str(PHONE_PX)))
    said = chromium.dom(f"{address}/measure.html", budget_ms=120_000)
    (site / "measure.html").unlink()
    body = re.search(r"<body>(.*)</body>", said, re.DOTALL)
    assert body is not None
    assert json.loads(html.unescape(body[1])) == {"wide": {}, "seen": len(pages)}


@pytest.mark.parametrize(("words", "page"), [("canary", "canary.html"), ("%E8%BD%AE%E8%BD%AC", "zh/emergency.html")])
def test_the_search_works_from_a_directory(site: Path, chromium: Chromium, words: str, page: str) -> None:
    """Without a server and without a network, in English and in Chinese."""
    said = chromium.dom(f"{(site / 'search.html').as_uri()}?q={words}", budget_ms=20_000)
    assert f'href="{page}' in said.split("search-results")[-1]
