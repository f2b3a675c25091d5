"""The Chinese pages say what the English ones say: the same headings, commands, tables and words of the program, by section."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
FENCE = "```"
PAGES = [
    *((page, ROOT / "docs" / page.relative_to(ROOT / "docs/zh")) for page in sorted((ROOT / "docs/zh").rglob("*.md"))),
    *((page, ROOT / "README.md") for page in ROOT.glob("README.zh-CN.md")),
]


class Section(NamedTuple):
    """What does not depend on the language."""

    level: int
    commands: list[str]
    """Each block's text without comments, which may be translated."""
    tables: list[int]
    """The number of cells of each row."""
    words: Counter[str]
    """What is set as code: options, keys, events, outputs."""


def sections(text: str) -> list[Section]:
    """What stands before the first heading, and under each one."""
    found = [Section(0, [], [], Counter())]
    block: list[str] | None = None
    for line in text.splitlines():
        if line.lstrip().startswith(FENCE):
            if block is not None:
                found[-1].commands.append("\n".join(block))
            block = [] if block is None else None
        elif block is not None:
            block.append(re.sub(r"(^|\s+)# .*$", "", line))
        elif heading := re.match(r"(#+) ", line):
            found.append(Section(len(heading[1]), [], [], Counter(re.findall(r"`([^`]+)`", line))))
        else:
            if line.startswith("|"):
                found[-1].tables.append(len(re.split(r"(?<!\\)\|", line)))
            found[-1].words.update(re.findall(r"`([^`]+)`", line))
    return found


@pytest.mark.parametrize(
    ("chinese", "english"), PAGES, ids=[str(chinese.relative_to(ROOT)) for chinese, _english in PAGES]
)
def test_a_chinese_page_is_equal_to_the_english_one(chinese: Path, english: Path) -> None:
    """A section that was added, a command that was changed, a row that was forgotten: named by its place."""
    text = english.read_text()
    ours, theirs = sections(chinese.read_text()), sections(text)
    headings = [
        line for line in re.sub(rf"{FENCE}.*?{FENCE}", "", text, flags=re.S).splitlines() if line.startswith("#")
    ]
    assert [one.level for one in ours] == [one.level for one in theirs]
    for place, own, other in zip(["the beginning", *headings], ours, theirs, strict=True):
        assert own.commands == other.commands, place
        assert own.tables == other.tables, place
        assert own.words == other.words, place


@pytest.mark.parametrize("page", [page for page, _english in PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_a_chinese_page_is_written_in_chinese(page: Path) -> None:
    """Outside of code, a line of prose without one Chinese character was not translated."""
    text = re.sub(rf"{FENCE}.*?{FENCE}", "", page.read_text(), flags=re.S)
    prose = [re.sub(r"`[^`]*`|\[[^]]*\]\([^)]*\)|<[^>]*>", "", line) for line in text.splitlines()]
    plain = [
        line for line in prose if len(re.findall(r"[A-Za-z]{2,}", line)) > 8 and not re.search(r"[\u4e00-\u9fff]", line)
    ]
    assert plain == []


def test_there_are_chinese_pages_for_whoever_must_act() -> None:
    """The emergency and the runbook."""
    assert {page.name for page, _english in PAGES} >= {"emergency.md", "runbook.md"}
