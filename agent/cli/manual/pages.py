"""The man pages: keyturn(1), and one for each command, like keyturn-rotate(1).

keyturn(1) is keyturn.1.md beside this file, with the commands, their groups and the exit codes from the code's own tables; the
page of a command is made from its parser alone. Neither can tell of what is not there, and tests/cli/manual holds that nothing is
left out. keyturn.toml(5) is docs/config.md: only the Debian package has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from agent.cli.manual import roff
from agent.cli.manual.commands import Command, Option, synopsis
from agent.cli.overview import groups
from agent.core.docs import address
from agent.core.errors import EXITS

TEXT = Path(__file__).with_name("keyturn.1.md")
COMMANDS = "@COMMANDS@\n"
EXIT_STATUS = "@EXIT STATUS@\n"
"""What stands in keyturn.1.md where the code's own tables come."""
PURPOSE = "keeps the credentials of a machine's applications fresh"


def pages(top: Command, version: str, date: str = "") -> dict[str, str]:
    """Return every man page by its file name, like "keyturn-rotate.1", in man(7).

    Args:
        top: the command line.
        version: keyturn's.
        date: what the foot of a page bears, like 2026-11-30.
    """
    made = {f"keyturn-{one.words[0]}.1": _command_page(one, version, date) for one in top.commands}
    return {"keyturn.1": _first_page(top, version, date), **made}


def config_page(markdown: str, version: str, date: str) -> str:
    """Return keyturn.toml(5), of docs/config.md."""
    see = ".SH SEE ALSO\nkeyturn(1)\n"
    return _head("keyturn.toml", "5", version, date, "configuration of keyturn") + _body(markdown) + see


def _first_page(top: Command, version: str, date: str) -> str:
    before, _marker, rest = TEXT.read_text(encoding="utf-8").partition(COMMANDS)
    between, _marker, after = rest.partition(EXIT_STATUS)
    see = ".SH SEE ALSO\nkeyturn.toml(5), systemctl(1), journalctl(1)\n.PP\n" + _documents("")
    commands = [".SH OPTIONS", *_options(top.options), ".SH COMMANDS", *_commands(top)]
    parts = (_head("keyturn", "1", version, date, PURPOSE), _body(before), _joined(commands), _body(between))
    return "".join((*parts, _joined(_exits(EXITS)), _body(after), see))


def _commands(top: Command) -> Iterator[str]:
    summaries = {one.words[0]: one.summary for one in top.commands}
    for title, names in groups(summaries):
        yield f".SS {roff.escape(title)}"
        for name in names:
            yield from (".TP", _reference(name), roff.guarded(roff.inline(_sentence(summaries[name]))))


def _reference(name: str) -> str:
    """Return `keyturn-rotate(1)`, as pages name each other."""
    return rf"\fBkeyturn\-{roff.escape(name)}\fR(1)"


def _command_page(command: Command, version: str, date: str) -> str:
    leaves = [one for one in command.walk() if not one.commands]
    lines = [".SH SYNOPSIS", *_with_breaks(roff.escape(synopsis(one)) for one in leaves)]
    lines += [".SH DESCRIPTION", *_paragraphs(command.about)]
    for one in leaves:
        if one is not command:
            lines += [f".SH {roff.escape(one.words[-1]).upper()}", roff.guarded(roff.inline(_sentence(one.summary)))]
            lines += [*_arguments(one), *_options(one.own_options)]
    here = [*_arguments(command), *_options(each for each in command.options if "--help" not in each.flags)]
    lines += [".SH OPTIONS", *here]
    examples = [example for one in ([command] if command in leaves else leaves) for example in one.examples]
    lines += [*_exits(command.exit_codes), ".SH EXAMPLES", *roff.code(examples)]
    lines += [".SH SEE ALSO", "keyturn(1)", ".PP", _documents(command.docs).rstrip("\n")]
    return _head(f"keyturn-{command.words[0]}", "1", version, date, command.summary) + _joined(lines)


def _head(title: str, section: str, version: str, date: str, purpose: str) -> str:
    return (
        f'.\\" Written by keyturn from its own parser and documents.\n'
        f'.TH "{roff.escape(title.upper())}" "{section}" "{date}" "keyturn {version}" "keyturn"\n'
        rf".SH NAME{chr(10)}{roff.escape(title)} \- {roff.inline(purpose)}{chr(10)}"
    )


def _documents(page: str) -> str:
    return rf"Documents: {roff.escape(address(page))}{chr(10)}"


def _joined(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _body(markdown: str) -> str:
    """Return the text; what stands before the first heading becomes the DESCRIPTION."""
    below_title = markdown.split("\n", 1)[1] if markdown.startswith("# ") else markdown
    if below_title.strip() and not below_title.lstrip().startswith("#") and markdown is not below_title:
        below_title = f"## Description\n\n{below_title}"
    return roff.document(below_title) if below_title.strip() else ""


def _paragraphs(text: str) -> Iterator[str]:
    """Yield a description: a sentence, or what is set in columns as it stands."""
    first, _blank, rest = text.partition("\n\n")
    yield roff.guarded(roff.inline(_sentence(first)))
    for part in filter(None, rest.split("\n\n")):
        yield from roff.code(part.splitlines())


def _with_breaks(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield from ([".br"] if number else [])
        yield rf"\fB{line}\fR"


def _arguments(command: Command) -> Iterator[str]:
    for one in command.arguments:
        text = _sentence(one.help) + _one_of(one.choices, one.help)
        yield from (".TP", rf"\fI{roff.escape(one.value)}\fR", roff.guarded(roff.inline(text)) or r"\&")


def _options(options: Iterable[Option]) -> Iterator[str]:
    group = ""
    for option in options:
        if option.group != group:
            group = option.group
            yield f".SS {roff.escape(group[:1].upper() + group[1:])}"
        yield from _option(option)


def _option(option: Option) -> list[str]:
    flags = ", ".join(rf"\fB{roff.escape(flag)}\fR" for flag in option.flags)
    value = rf" \fI{roff.escape(option.value)}\fR" if option.value else ""
    text = _sentence(option.help) + _one_of(option.choices, option.help)
    return [".TP", f"{flags}{value}", roff.guarded(roff.inline(text)) or r"\&"]


def _one_of(choices: Sequence[str], said: str) -> str:
    """Return which values there are, where the help does not say it itself."""
    return f" One of: {', '.join(choices)}." if any(choice not in said for choice in choices) else ""


def _exits(codes: Iterable[int]) -> Iterator[str]:
    yield '.SH "EXIT STATUS"'
    for code in codes:
        yield from (".TP", str(code), roff.guarded(roff.inline(_sentence(EXITS[code]))))
    yield from (".PP", "Any other is a failure, too; there may be more one day.")


def _sentence(text: str) -> str:
    """Return a help text, which is lower case without a full stop, as a sentence."""
    return f"{text[:1].upper()}{text[1:]}." if text else ""
