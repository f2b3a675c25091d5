"""The command line: every command, the module that runs it, and its options. Why argparse: docs/adr/0011.

A command is a line in `COMMANDS`: its name, the place of the function that runs it (`module:function`, called with the parsed
options), what it does, examples, the place of the function that adds its options, in agent/cli/options, the exit codes that it
can end with, and the document about it. Both modules are imported only when the command is named; the first says by its own
imports, at its top, what the command needs. What only some runs of a command need (the engine, where no daemon answers) is a
module of its own, imported where it is called.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from agent import __version__
from agent.cli.parsers import Mistake, Parser, subparser
from agent.core.errors import EXIT_USAGE

OVERVIEW = "agent.cli.help:overview"
ACTIONS = "agent.cli.help:actions"


class Command(NamedTuple):
    """One command: where it is run, what it does, examples (one a line), and the place of what adds its options."""

    place: str
    summary: str
    example: str
    options: str = ""
    codes: Sequence[int] = (0, 1, 2, 69, 75, 77, 78)
    docs: str = "install.md"
    brief: str = ""
    """What it does, for the overview: where the summary has more than one line of 80 columns."""


class _Version(argparse.Action):
    """`--version`: one line; or, with `--verbose`, all that a report has to name."""

    def __call__(self, parser: argparse.ArgumentParser, *_parsed: object) -> None:
        """Print it and exit."""
        words = self.const or ()
        lines = imported("agent.cli.versions:report")(words) if "--verbose" in words else [f"keyturn {__version__}"]
        print(*lines, sep="\n", flush=True)
        parser.exit()


class _Top(Parser):
    """The parser of `keyturn` itself: its help is the overview."""

    def format_help(self) -> str:
        return overview_text()


def parser(arguments: Sequence[str] | None = None) -> Parser:
    """Return the parser of the command line.

    Args:
        arguments: what is to be parsed. Where a command is the first of them, behind what every command takes at most,
            there is only that one, and none at all where none is run; None: all commands.
    """
    top = subparser(
        _Top,
        prog="keyturn",
        description="Keeps the AccessKeys and STS sessions of applications on Alibaba Cloud VMs fresh, proven and audited.",
        examples=("keyturn --config /etc/keyturn/keyturn.toml check",),
    )
    top.add_argument(
        "-V",
        "--version",
        action=_Version,
        nargs=0,
        const=tuple(arguments or ()),
        help="print the version and exit; with --verbose also Python, system, libraries, and whether these are patched",
    )
    if arguments and {"-V", "--version"} & set(arguments):
        top.add_argument("--verbose", action="store_true", help=argparse.SUPPRESS)
    top.set_defaults(run=OVERVIEW)
    commands = top.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    for name in _needed(arguments):
        one = COMMANDS[name]
        made = subparser(
            commands.add_parser, name, help=one.summary, description=one.summary, examples=one.example.splitlines(),
            codes=one.codes, docs=one.docs,
        )  # fmt: skip
        made.set_defaults(run=one.place, command=name)
        if one.options:
            imported(one.options)(made)
            made.inherit()
    return top


def understood(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what was asked for; where it is not understood, say why in one sentence, and exit with 2."""
    try:
        return parser(arguments).parse_args(arguments)
    except Mistake as mistake:
        from agent.cli.mistakes import explained

        print(explained(parser(), arguments, mistake), file=sys.stderr)
        sys.exit(EXIT_USAGE)


def overview_text() -> str:
    """Return every command in groups, for people."""
    from agent.cli import overview

    return overview.overview_text({name: one.brief or one.summary for name, one in COMMANDS.items()})


def imported(place: str) -> Callable[..., Any]:
    """Return the function that `module:function` names, imported."""
    module, _colon, function = place.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def _needed(arguments: Sequence[str] | None) -> Iterable[str]:
    """Return the commands without which these arguments cannot be understood."""
    if arguments is None:
        return COMMANDS
    at = 0
    while at < len(arguments) and arguments[at].partition("=")[0] in ("--config", "--color"):
        at += 1 if "=" in arguments[at] else 2
    if at >= len(arguments) or arguments[at] in ("-h", "--help", "-V", "--version"):
        return ()
    return [arguments[at]] if arguments[at] in COMMANDS else COMMANDS


COMMANDS = {
    "run": Command(
        "agent.cli.run:run", "the daemon, in the foreground", "keyturn run", "", (0, 1, 2, 77, 78), "systemd.md"
    ),
    "init": Command(
        "agent.cli.init:init",
        "write a first config, with what is still to be done as comments; never replaces a file",
        "keyturn init --secret uploader-ak --for credentials_ini --unit uploader.service",
        "agent.cli.options.init:init",
        (0, 1, 2, 77),
        brief="write a first config; what is still to be done stands in it",
    ),
    "once": Command(
        "agent.cli.once:once",
        "one refresh of every (or each named) credential: fetch, verify, publish, notify, exit",
        "keyturn once\nkeyturn once --retry-for 20s uploader",
        "agent.cli.options.operate:once",
        (0, 1, 2, 75, 77, 78),
        brief="one refresh of every (or each named) credential, then exit",
    ),
    "refresh": Command(
        "agent.cli.refresh:refresh",
        "the running daemon refreshes now; waits for the outcome and prints it",
        "keyturn refresh\nkeyturn refresh uploader --json",
        "agent.cli.options.operate:refresh",
        docs="runbook.md",
        brief="refresh now, wait for the outcome and print it",
    ),
    "rotate": Command(
        "agent.cli.rotate:rotate",
        "the emergency: rotate at the source, follow the new key to every dependent, cut the old one off",
        'keyturn rotate uploader --reason "key on a public repo" --disable-old\n'
        "keyturn rotate uploader --reason rehearsal --dry-run\n"
        "keyturn rotate uploader --reason rehearsal --drill\n"
        'keyturn rotate uploader --reason "seen in a log" --leaked LTAI5tExample --disable-old --report incident.md',
        "agent.cli.options.emergency:rotate",
        docs="emergency.md",
        brief="a new key now, to every dependent; the old one is cut off",
    ),
    "adopt": Command(
        "agent.cli.adopt:adopt",
        "take a RAM user whose key was copied by hand under rotation, in steps that it says before",
        "keyturn adopt reporter --dry-run\nkeyturn adopt reporter",
        "agent.cli.options.emergency:adopt",
        docs="ram_user.md",
        brief="take a RAM user's hand-copied key under rotation, in steps",
    ),
    "plan": Command(
        "agent.cli.plan:plan",
        "who holds a key, who would be told of a new one and how, and what is in the way of a `rotate`; changes nothing",
        "keyturn plan uploader\nkeyturn plan uploader --json",
        "agent.cli.options.emergency:plan",
        docs="emergency.md",
        brief="who holds a key, and what is in the way of a `rotate`",
    ),
    "check": Command(
        "agent.cli.check:check",
        "say, line by line, whether config, files, keys, endpoints, credentials and dependents are in order",
        "keyturn check\nkeyturn check --offline",
        "agent.cli.options.operate:check",
        (0, 1, 2, 77, 78),
        brief="is everything in order: config, files, keys, sources, dependents",
    ),
    "policy": Command(
        "agent.cli.policy:policy",
        "the least RAM policy that each identity of the config needs, ready to paste",
        "keyturn policy\nkeyturn policy --credential uploader",
        "agent.cli.options.operate:policy",
        (0, 1, 2, 77, 78),
        "policy.md",
        brief="the least RAM policy for each identity of the config",
    ),
    "status": Command(
        "agent.cli.status:status",
        "what each credential is, how fresh, when next, what is owed; the worst first",
        "keyturn status\nkeyturn status uploader\nkeyturn status --fail-if failing,stale,expired",
        "agent.cli.options.operate:status",
        (0, 1, 2, 69, 77, 78),
        "monitoring.md",
    ),
    "credential": Command(
        "agent.cli.credential:credential",
        "the value now in use, for the SDKs' process_command and ossfs's credential_process",
        "keyturn credential uploader --format external\nkeyturn credential uploader --format env",
        "agent.cli.options.operate:credential",
        docs="serving.md",
        brief="the value now in use, for SDKs and ossfs that ask",
    ),
    "audit": Command(
        ACTIONS,
        "read the audit log, or prove that it is whole",
        "keyturn audit verify\nkeyturn audit show --since 2d",
        "agent.cli.options.audit:audit",
        (0, 1, 2, 77, 78),
        "audit.md",
    ),
    "endpoint": Command(
        ACTIONS,
        "the tokens of the credentials_uri sinks: see them, or replace them",
        "keyturn endpoint tokens\nkeyturn endpoint rotate-token uploader",
        "agent.cli.options.operate:endpoint",
        docs="endpoint.md",
        brief="the tokens of the credentials_uri sinks",
    ),
    "fleet": Command(
        ACTIONS,
        "the hosts that share secrets: who is there, and who is behind",
        "keyturn fleet status\nkeyturn fleet leave --host web-17",
        "agent.cli.options.operate:fleet",
        (0, 1, 2, 75, 77, 78),
        "fleet.md",
    ),
    "systemd-setup": Command(
        "agent.cli.systemd_setup:systemd_setup",
        "what keyturn.service needs on this host, from the config: a drop-in and a polkit rule",
        "keyturn systemd-setup\nkeyturn systemd-setup --install",
        "agent.cli.options.setup:systemd_setup",
        (0, 1, 2, 77, 78),
        "systemd.md",
        brief="what keyturn.service needs on this host",
    ),
    "report-bug": Command(
        "agent.cli.report_bug:report_bug",
        "write what whoever helps has to know into one file, without secrets; sends nothing",
        "keyturn report-bug\nkeyturn report-bug --mask-names --output report.txt",
        "agent.cli.options.setup:report_bug",
        (0, 1, 2, 77),
        "monitoring.md",
    ),
    "demo": Command(
        "agent.cli.demo:demo",
        "the main job on a bare machine, against the bundled cloud emulator",
        "keyturn demo",
        "agent.cli.options.setup:demo",
        (0, 1, 2),
        brief="watch a key rotate under a program, on a bare machine",
    ),
    "emulator": Command(
        "agent.cli.demo:emulator",
        "the cloud emulator alone, for one's own tests; writes its CA, a ClientKey and a matching config into DIR",
        "keyturn emulator --directory /tmp/cloud\n"
        "keyturn emulator --directory /tmp/cloud --rotate-every 30s --propagation-delay 0s",
        "agent.cli.options.setup:emulator",
        (0, 1, 2),
        "emulator.md",
        brief="the cloud emulator alone, for one's own tests",
    ),
    "help": Command(
        "agent.cli.help:shown",
        "every command in groups, or all about one",
        "keyturn help rotate\nkeyturn help audit show\nkeyturn help exit-codes",
        "agent.cli.options.about:help",
        (0, 2),
    ),
    "completion": Command(
        "agent.cli.completion:completion",
        "what completes commands, options and credentials, for a shell",
        "keyturn completion bash\nkeyturn completion zsh\nkeyturn completion fish",
        "agent.cli.options.about:completion",
        (0, 1, 2),
    ),
    "man": Command(
        "agent.cli.completion:man",
        "the man pages, of keyturn and of each command",
        "keyturn man rotate\nkeyturn man --output ~/.local/share/man",
        "agent.cli.options.about:man",
        (0, 1, 2),
    ),
}
