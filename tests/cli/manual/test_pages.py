"""The man pages leave out nothing that there is, and read well."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from keyturn_deb.source import Source

from agent import __version__
from agent.cli.command_line import COMMANDS, parser
from agent.cli.manual.commands import read, synopsis
from agent.cli.manual.pages import config_page, pages
from agent.core.errors import EXITS
from tests.support.processes import KEYTURN, ROOT

MARKUP = {r"\-": "-", r"\(aq": "'", r"\(ti": "~", r"\(ga": "`", r"\(ha": "^", r"\&": "", r"\e": "\\"}


def plain(page):
    """A page's text without its markup."""
    text = re.sub(r"\\\[u([0-9A-F]{4})\]", lambda found: chr(int(found[1], 16)), re.sub(r"\\f[BIR]", "", page))
    for markup, letter in MARKUP.items():
        text = text.replace(markup, letter)
    return text


TOP = read(parser())
CONFIG = (ROOT / "docs" / "config.md").read_text()
PAGES = {**pages(TOP, "1.2.3", "2026-11-30"), "keyturn.toml.5": config_page(CONFIG, "1.2.3", "2026-11-30")}


@pytest.fixture(params=PAGES)
def page(request):
    return PAGES[request.param]


def test_every_command_and_option_is_told():
    """Each command has a page: its synopsis, its options with their texts, its examples and exit codes."""
    assert set(PAGES) == {"keyturn.1", "keyturn.toml.5", *(f"keyturn-{name}.1" for name in COMMANDS)}
    for command in TOP.walk():
        if not command.words:
            continue
        page = PAGES[f"keyturn-{command.words[0]}.1"]
        text = plain(page)
        if command.commands:
            continue
        assert f"\n{synopsis(command)}\n" in text
        section = text if len(command.words) == 1 else text.split(f".SH {command.words[1].upper()}\n")[1]
        told = section.replace(".TP\n", "").splitlines()
        options = command.own_options
        assert [each for each in options if f"{', '.join(each.flags)} {each.value}".strip() not in told] == []
        assert [each.help for each in options if each.help.replace("`", "").lower() not in section.lower()] == []
        assert [example for example in command.examples if example not in text] == []
        assert [code for code in command.exit_codes if f".TP\n{code}\n" not in page] == []


def test_the_first_page_names_every_other_and_every_exit_status():
    """keyturn(1) leads to keyturn-rotate(1) and the like; EXIT STATUS has each code that an error can have, and no other."""
    page = PAGES["keyturn.1"]
    assert set(re.findall(r"^keyturn-([a-z-]+)\(1\)$", plain(page), re.M)) == set(COMMANDS)
    section = page.split('.SH "EXIT STATUS"')[1].split(".SH")[0]
    assert {int(code) for code in re.findall(r"^\d+$", section, re.M)} == set(EXITS)
    for option in TOP.options:
        assert f"{', '.join(option.flags)} {option.value}".strip() in plain(page)


def test_nothing_of_the_config_s_document_is_lost():
    """keyturn.toml(5) has every key, value and file that docs/config.md sets in code, and every key of a table as a term."""
    page, document = PAGES["keyturn.toml.5"], CONFIG
    text = " ".join(plain(page).split())
    assert [code for code in re.findall(r"`([^`\n]+)`", document) if " ".join(code.split()) not in text] == []
    terms = {term for line in plain(page).split(".TP\n")[1:] for term in re.findall(r"[\w.]+", line.splitlines()[0])}
    keys = set(re.findall(r"^\| (?:[^|`]*|`[a-z_]+` )\| `([a-z_]+)`[^|]*\| [^|]+ \| [^|]* \|", document, re.M))
    assert {"poll_interval", "sts_endpoint", "profile"} <= keys <= terms
    assert {"settle", "control_group", "audit.path", "verify", "authority"} <= terms


def test_no_markdown_is_left(page):
    """Neither backticks, links, bars nor bold marks."""
    text = plain(page)
    assert re.findall(r"`|\]\(|\*\*|^\|", text, re.M) == []


def test_the_title_bears_version_and_date(page):
    """.TH has both, so that two builds are alike."""
    assert re.search(r'^\.TH "KEYTURN[A-Z.\\-]*" "[15]" "2026-11-30" "keyturn 1.2.3" "keyturn"$', page, re.M)


def test_the_package_has_the_pages_with_the_day_of_its_sources(monkeypatch):
    """The same ones, and keyturn.toml(5)."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    made = Source(ROOT).man_pages()
    assert set(made) == set(PAGES) and all('"1970-01-02"' in page for page in made.values())


def test_the_command_prints_and_writes_them(tmp_path):
    """One on standard output; all of them below a directory, where man(1) looks."""

    def keyturn(*words):
        return subprocess.run([*KEYTURN, *words], capture_output=True, text=True, check=False, cwd=tmp_path)

    made = pages(TOP, __version__)
    assert keyturn("man", "rotate").stdout == keyturn("man", "keyturn", "rotate").stdout == made["keyturn-rotate.1"]
    assert keyturn("man").stdout == made["keyturn.1"]
    assert keyturn("man", "--output", "share/man").returncode == 0
    assert {path.name: path.read_text() for path in (tmp_path / "share/man/man1").iterdir()} == made
    (tmp_path / "file").touch()
    assert (keyturn("man", "--output", "file").returncode, keyturn("man", "roate").returncode) == (1, 2)


@pytest.mark.packaging
@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_man_finds_no_fault(page, tmp_path):
    """`man -l` shows it, and groff warns of nothing."""
    place = tmp_path / "page"
    place.write_text(page)
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(place)],
        env={"PATH": "/usr/bin:/bin", "MANROFFSEQ": "", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
