"""The documents as a site: `make docs` builds it into build/site, where a broken link or anchor is an error.

Sphinx reads docs/ as it stands. The navigation is index.md itself: each of its headings with a list of links is a part of the
sidebar, so a page is added by a file and a line; one of zh/ needs no line. Links out of docs/ lead to the forge. Nothing is
fetched, neither when it is built nor when it is read.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.search import languages
from sphinx.search.en import SearchEnglish

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from agent import __version__  # noqa: E402

FORGE = "https://github.com/keyturn/keyturn"
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")
CHINESE = "中文"
"""The part of the navigation to which each page of zh/ belongs, also one that index.md does not name."""
IDEOGRAPHS = re.compile("[\u3400-\u9fff]{2,}")

project = "keyturn"
copyright = "the keyturn authors, Apache-2.0"
release = version = __version__
extensions = ["myst_parser"]
myst_heading_anchors = 4
nitpicky = True
highlight_language = "text"
html_theme = "furo"
html_title = f"keyturn {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/key.svg"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_logo": "key.svg",
    "dark_logo": "key.svg",
    "source_repository": f"{FORGE}/",
    "source_branch": "main",
    "source_directory": "docs/",
}
pygments_style = "friendly"
pygments_dark_style = "native"


def navigation(text: str) -> str:
    """Return the toctrees that the headings and lists of a page mean."""
    trees = []
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        caption, links = part.splitlines()[0], re.findall(r"^\* \[([^]]*)\]\(([^):#]+)\.md\)", part, re.M)
        pages = [f"{title} <{page}>" for title, page in links]
        if caption == CHINESE:
            found = [str(page.relative_to(DOCS).with_suffix("")) for page in sorted((DOCS / "zh").rglob("*.md"))]
            pages += [page for page in found if page not in {page for _title, page in links}]
        if links:
            trees.append("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"]))
    return "\n\n".join(trees)


def on_read(_app: Sphinx, name: str, source: list[str]) -> None:
    """Give an index its toctrees, and send links that lead out of the documents to the forge."""
    text = source[0]
    here = (DOCS / f"{name}.md").parent

    def led(match: re.Match[str]) -> str:
        target = (here / match[1]).resolve()
        if not target.exists():
            return match[0]  # Sphinx says so
        if target.is_relative_to(DOCS) and target.is_file():
            return match[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"{FORGE}/{kind}/main/{target.relative_to(DOCS.parent)}{match[2] or ''}"

    source[0] = LINK.sub(led, text)
    if name == "index":
        source[0] += f"\n\n{navigation(text)}\n"
    elif name == "adr/README":
        source[0] += "\n\n```{toctree}\n:hidden:\n:glob:\n\n0*\n```\n"


class Search(SearchEnglish):
    """English, and Chinese by pairs of characters, since Chinese has no blanks between words."""

    def split(self, input: str) -> list[str]:
        """Return the words of a text."""
        pairs = [run[at : at + 2] for run in IDEOGRAPHS.findall(input) for at in range(len(run) - 1)]
        return [*super().split(input), *pairs]


def setup(app: Sphinx) -> None:
    """Connect the above."""
    languages["en"] = Search
    app.connect("source-read", on_read)
