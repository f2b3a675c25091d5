"""keyturn(1) and keyturn.toml(5).

The first is packaging/man/keyturn.1.md, with commands and options from the parser; the second is docs/config.md. Neither can
tell of what is not there, and tests/packaging holds that nothing is left out.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from keyturn_deb import roff
from keyturn_deb.commandline import Command, Option, synopsis

if TYPE_CHECKING:
    from keyturn_deb.source import Source

COMMANDS = "@COMMANDS@\n"
"""Stands in keyturn.1.md where the parser's part comes."""

PAGES = {
    "keyturn.1": ("keyturn", "keeps the credentials of a machine's applications fresh", "packaging/man/keyturn.1.md"),
    "keyturn.toml.5": ("keyturn.toml", "configuration of keyturn", "docs/config.md"),
}
"""File name: what NAME says, and the text."""

_SEE_ALSO = {"keyturn.1": "keyturn.toml(5), systemctl(1), journalctl(1)", "keyturn.toml.5": "keyturn(1)"}


def page(source: Source, name: str) -> str:
    """A whole man page in man(7)."""
    title, purpose, place = PAGES[name]
    before, _marker, after = source.text(place).partition(COMMANDS)
    commands = _commands(source.command_line()) if after else ""
    parts = (
        _head(source, name),
        rf".SH NAME{chr(10)}{roff.escape(title)} \- {purpose}{chr(10)}",
        _body(before),
        commands,
    )
    return "".join((*parts, _body(after), _tail(name)))


def _body(markdown: str) -> str:
    """The text; what stands before the first heading becomes the DESCRIPTION."""
    below_title = markdown.split("\n", 1)[1] if markdown.startswith("# ") else markdown
    if below_title.strip() and not below_title.lstrip().startswith("#") and markdown is not below_title:
        below_title = f"## Description\n\n{below_title}"
    return roff.document(below_title) if below_title.strip() else ""


def _head(source: Source, name: str) -> str:
    stem, _dot, section = name.rpartition(".")
    date = time.strftime("%Y-%m-%d", time.gmtime(source.epoch))
    return f'.\\" Written by packaging/keyturn_deb: change {PAGES[name][2]} or the parser instead.\n' + (
        f'.TH "{stem.upper()}" "{section}" "{date}" "keyturn {source.version}" "keyturn"\n'
    )


def _tail(name: str) -> str:
    return f".SH SEE ALSO\n{_SEE_ALSO[name]}\n.PP\nAll documents: /usr/share/doc/keyturn/docs/\n"


# -- commands ---------------------------------------------------------------------------------------------------------
def _commands(top: Command) -> str:
    lines = [".SH OPTIONS", *(line for option in top.options for line in _option(option)), ".SH COMMANDS"]
    for command in top.walk():
        if command.words and not command.commands:
            lines += _command(command)
    return "\n".join(lines) + "\n"


def _command(command: Command) -> list[str]:
    lines = [f".SS {roff.escape(synopsis(command))}", f"{roff.inline(_sentence(command.summary))}"]
    lines += [line for option in command.options if "--help" not in option.flags for line in _option(option)]
    if command.example:
        lines += [".PP", "Example:", *roff.code([command.example])]
    return lines


def _option(option: Option) -> list[str]:
    flags = ", ".join(rf"\fB{roff.escape(flag)}\fR" for flag in option.flags)
    value = rf" \fI{roff.escape(option.value)}\fR" if option.value else ""
    text = _sentence(option.help)
    if option.choices:
        text += f" One of: {', '.join(option.choices)}."
    return [".TP", f"{flags}{value}", roff.guarded(roff.inline(text)) or r"\&"]


def _sentence(text: str) -> str:
    """Help texts are lower case without a full stop; a page has sentences."""
    return f"{text[:1].upper()}{text[1:]}." if text else ""
