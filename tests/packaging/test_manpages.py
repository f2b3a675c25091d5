"""The man pages leave out nothing that there is, and read well."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from keyturn_deb import manpages, roff
from keyturn_deb.commandline import synopsis

from agent.core import errors

MARKUP = {r"\-": "-", r"\(aq": "'", r"\(ti": "~", r"\(ga": "`", r"\(ha": "^", r"\&": "", r"\e": "\\"}


def plain(page):
    """A page's text without its markup."""
    text = re.sub(r"\\\[u([0-9A-F]{4})\]", lambda found: chr(int(found[1], 16)), re.sub(r"\\f[BIR]", "", page))
    for markup, letter in MARKUP.items():
        text = text.replace(markup, letter)
    return text


@pytest.fixture(scope="module", params=sorted(manpages.PAGES))
def page(request, source):
    return manpages.page(source, request.param)


def test_every_command_and_option_is_told(source, command_line):
    """keyturn(1) has each command's synopsis, its options with their texts, and its example."""
    text = plain(manpages.page(source, "keyturn.1"))
    for command in command_line.walk():
        if command.words and not command.commands:
            assert f".SS {synopsis(command)}\n" in text
            section = text.split(f".SS {synopsis(command)}\n")[1].split(".SS ")[0]
            assert command.example in section
            told = section.replace(".TP\n", "").splitlines()
            options = [each for each in command.options if "--help" not in each.flags]
            assert [each for each in options if f"{', '.join(each.flags)} {each.value}".strip() not in told] == []
            assert [each.help for each in options if each.help.replace("`", "").lower() not in section.lower()] == []
    for option in command_line.options:
        assert f"{', '.join(option.flags)} {option.value}".strip() in re.sub(r"\\f.", "", text)


def test_every_exit_status_is_told(source):
    """EXIT STATUS names each code that an error can have, and no other."""
    section = manpages.page(source, "keyturn.1").split('.SH "EXIT STATUS"')[1].split(".SH")[0]
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert {int(code) for code in re.findall(r"^\d+$", section, re.M)} == codes


def test_nothing_of_the_config_s_document_is_lost(source):
    """keyturn.toml(5) has every key, value and file that docs/config.md sets in code, and every key of a table as a term."""
    page, document = manpages.page(source, "keyturn.toml.5"), source.text("docs/config.md")
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


def test_the_title_bears_version_and_date(source, page, monkeypatch):
    """.TH has the version and the day of the sources, so that two builds are alike."""
    assert re.search(
        rf'^\.TH "KEYTURN[A-Z.]*" "[15]" "\d{{4}}-\d\d-\d\d" "keyturn {re.escape(source.version)}" "keyturn"$',
        page,
        re.M,
    )
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert '"1970-01-02"' in manpages.page(source, "keyturn.1")


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


PIECES = {
    "a heading": ("## Exit status\n", '.SH "EXIT STATUS"\n'),
    "a key as a heading keeps its letters": ("## `[agent]`\n", '.SH "[agent]"\n'),
    "a paragraph": ("two\nlines\n", ".PP\ntwo lines\n"),
    "code, bold, a link": ("`a-b` **c** [d](e.md)\n", ".PP\n\\fBa\\-b\\fR \\fBc\\fR d\n"),
    "what roff would take for a request": ("`.TH`\n\n.x\n", ".PP\n\\fB.TH\\fR\n.PP\n\\&.x\n"),
    "a backslash": ("`\\n`\n", ".PP\n\\fB\\en\\fR\n"),
    "a list whose points go on": ("* a\n  b\n* c\n", ".IP \\(bu 3\na b\n.IP \\(bu 3\nc\n"),
    "code as it stands": ("```\n# x | y\n\n.z\n```\n", ".PP\n.in +4n\n.EX\n# x | y\n\n\\&.z\n.EE\n.in\n"),
    "a table of keys": (
        "| key | type | default | meaning |\n| --- | --- | --- | --- |\n| `a` | path | none | b \\| c |\n",
        ".TP\n\\fBa\\fR (path)\nb | c; default: none\n",
    ),
    "a table of groups": (
        "| type | key | type | default | meaning |\n| --- |\n| `t` | `a` | x | | m |\n| | `b` | y | `1` | |\n",
        ".PP\ntype \\fBt\\fR:\n.TP\n\\fBa\\fR (x)\nm\n.TP\n\\fBb\\fR (y)\ndefault: \\fB1\\fR\n",
    ),
    "letters outside of ASCII": ("±\n", ".PP\n\\[u00B1]\n"),
}


@pytest.mark.parametrize("name", PIECES)
def test_markdown_becomes_man(name):
    """Each kind of block that our documents use."""
    markdown, expected = PIECES[name]
    assert roff.document(markdown) == expected
