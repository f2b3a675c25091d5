"""The fenced blocks of the documents: which kind each is, so that none can stand there unchecked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))

COMMANDS = (
    "aliyun|apt|chown|chmod|cp|curl|df|echo|editor|export|git|install|journalctl|keyturn|ln|make|npm|pipx?|python3(?:\\.\\d+)?|"
    "set|setfacl|sh|sudo|systemctl|timedatectl|uv|logrotate|chronyc|docker|podman|sed|eval|mkdir|cat|ssh"
)
SHELL = re.compile(rf"(?:[A-Z_]+=\S+ )?(?:\(umask|(?:\.venv/bin/|/usr/\S*/)?(?:{COMMANDS})\b)")
"""How an untyped block begins that is to be pasted into a shell."""


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: its file, below the checkout.
        line: of its fence.
        kind: what the fence says; for an untyped one "sh" where it begins like a command, else "untyped".
        text: without the indentation of the fence.
        reason: why it is not checked, from `<!-- block: REASON -->` on the line before it.
    """

    page: str
    line: int
    kind: str
    text: str
    reason: str

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str:
        """The file that it is to be written to, from a comment in one of its first two lines; "" for none."""
        for line in self.text.splitlines()[:2]:
            if found := re.fullmatch(r"# (/\S+)", line):
                return found[1]
        return ""


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page."""
    text = page.read_text(encoding="utf-8")
    fence = re.compile(r"(?:<!-- block: ([^\n]+) -->\n)?^( *)```([^\n`]*)\n(.*?)^ *```$", re.M | re.S)
    for found in fence.finditer(text):
        reason, indent, kind, body = found[1] or "", found[2], found[3].strip(), found[4]
        code = "\n".join(line.removeprefix(indent) for line in body.splitlines()) + "\n"
        if not kind:
            kind = "sh" if SHELL.match(code) else "toml" if code.startswith("[") and "type " in code else "untyped"
        start = text.count("\n", 0, found.start()) + 1 + (1 if reason else 0)
        yield Block(str(page.relative_to(ROOT)), start, kind, code, reason)


@cache
def all_blocks() -> tuple[Block, ...]:
    """Return the blocks of every page."""
    return tuple(block for page in PAGES for block in blocks(page))


def of_kind(*kinds: str) -> list[Block]:
    """Return those of some kinds that are to be checked."""
    return [block for block in all_blocks() if block.kind in kinds and not block.reason]
