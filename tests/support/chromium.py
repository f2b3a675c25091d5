"""A real Chromium without a window, for what a reader makes of our HTML pages."""

from __future__ import annotations

import html
import json
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""
PATIENCE_S = 120
MEASURE = """
addEventListener("load", () => {
  const frame = document.querySelector("iframe"), page = frame.contentDocument, root = page.documentElement;
  const style = frame.contentWindow.getComputedStyle(page.body);
  document.body.textContent = JSON.stringify({
    wide: root.scrollWidth - frame.clientWidth, ground: style.backgroundColor, text: style.color, font: style.fontFamily,
    title: page.title, ran: page.documentElement.dataset.ran || "", elements: page.querySelectorAll("*").length,
    boxes: [...page.querySelectorAll("svg.timeline")].map(one => one.getBoundingClientRect().width),
    spans: [...page.querySelectorAll("rect.span")].filter(one => one.getBoundingClientRect().width > 1).length,
  });
});
"""


class Chromium:
    """One browser's profile; each look is a process of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def measure(self, page: str, width: int, *, dark: bool = False) -> dict[str, Any]:
        """Return what a page looks like from inside, in a frame of that width: how far it is too wide, its colours, and so on."""
        frame = f'<iframe width="{width}" height="800" srcdoc="{html.escape(page)}"></iframe>'
        outer = self._file("outer.html", f"<!DOCTYPE html><body>{frame}<script>{MEASURE}</script></body>")
        said = self._run(f"--window-size={max(width + 50, 500)},900", "--dump-dom", outer, dark=dark)
        body = re.search(r"<body>(.*)</body>", said, re.DOTALL)
        assert body is not None, said
        return dict(json.loads(html.unescape(body[1])))

    def ground(self, page: str, *, dark: bool = False) -> tuple[int, int, int]:
        """Return the colour of the corner of a picture of the page."""
        picture = self.directory / "picture.png"
        self._run("--window-size=800,600", f"--screenshot={picture}", self._file("page.html", page), dark=dark)
        return first_pixel(picture.read_bytes())

    def dom(self, address: str, budget_ms: int) -> str:
        """Return what has become of a page by its own scripts, when they have had so many milliseconds of its own clock."""
        return self._run(f"--virtual-time-budget={budget_ms}", "--dump-dom", address)

    def paper(self, page: str) -> bytes:
        """Return the page as it is printed: a PDF."""
        paper = self.directory / "paper.pdf"
        self._run("--no-pdf-header-footer", f"--print-to-pdf={paper}", self._file("page.html", page))
        return paper.read_bytes()

    def _file(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text, encoding="utf-8")
        return path.as_uri()

    def _run(self, *arguments: str, dark: bool = False) -> str:
        argv = [
            PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            f"--user-data-dir={self.directory / 'profile'}", f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        ]  # fmt: skip
        done = subprocess.run([*argv, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        return done.stdout


def first_pixel(picture: bytes) -> tuple[int, int, int]:
    """Return red, green and blue of the upper left corner of a PNG of 8 bits a colour (PNG specification, 9: no filter has
    anything to add there).
    """
    data, at = b"", 8
    while at < len(picture):
        (length,), kind = struct.unpack(">I", picture[at : at + 4]), picture[at + 4 : at + 8]
        data += picture[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += 12 + length
    pixels = zlib.decompress(data)
    return pixels[1], pixels[2], pixels[3]
