"""The command line: every command, the module that runs it, and its options. Why argparse: docs/adr/0011.

A command is a line in `COMMANDS`: its name, the place of the function that runs it (`module:function`, called with the parsed
options), what it does, an example, and the place of the function that adds its options, in agent/cli/options. Both modules
are imported only when the command is named; the first says by its own imports, at its top, what the command needs. What only
some runs of a command need (the engine, where no daemon answers) is a module of its own, imported where it is called.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from agent import __version__
from agent.cli.parsers import Parser, subparser

DEFAULT_CONFIG = "/etc/keyturn/keyturn.toml"


class Command(NamedTuple):
    """One command: where it is run, what it does, an example, and the place of what adds its options."""

    place: str
    summary: str
    example: str
    options: str = ""


class _Version(argparse.Action):
    """`--version`: one line; or, with `--verbose`, all that a report has to name."""

    def __call__(self, parser: argparse.ArgumentParser, *_parsed: object) -> None:
        """Print it and exit."""
        words = self.const or ()
        lines = imported("agent.cli.versions:report")(words) if "--verbose" in words else [f"keyturn {__version__}"]
        print(*lines, sep="\n", flush=True)
        parser.exit()


def parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Args:
        arguments: what is to be parsed. Where a command is the first of them, behind `--config` at most, there is only
            that one: nothing that can be said of it names the others.
    """
    top = subparser(
        Parser,
        prog="keyturn",
        description="Keeps the AccessKeys and STS sessions of applications on Alibaba Cloud VMs fresh, proven and audited.",
        epilog="example: keyturn --config /etc/keyturn/keyturn.toml check",
    )
    top.add_argument("--config", metavar="PATH", help=f"default: $KEYTURN_CONFIG, then {DEFAULT_CONFIG}")
    top.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        const=tuple(arguments),
        help="print the version and exit; with --verbose also Python, system, libraries, and whether these are patched",
    )
    if "--version" in arguments:
        top.add_argument("--verbose", action="store_true", help=argparse.SUPPRESS)
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in [word for word in _first(arguments) if word in COMMANDS] or COMMANDS:
        one = COMMANDS[name]
        made = subparser(
            commands.add_parser, name, help=one.summary, description=one.summary, epilog=f"example: {one.example}"
        )
        made.set_defaults(run=one.place)
        if one.options:
            imported(one.options)(made)
    return top


def imported(place: str) -> Callable[..., Any]:
    """Return the function that `module:function` names, imported."""
    module, _colon, function = place.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def _first(arguments: Sequence[str]) -> Sequence[str]:
    """Return the first argument that is not `--config` and its value, as a sequence of one; or none."""
    has_config = arguments[:1] == ["--config"]
    is_joined = bool(arguments) and arguments[0].startswith("--config=")
    skipped = 2 if has_config else 1 if is_joined else 0
    return arguments[skipped : skipped + 1]


COMMANDS = {
    "run": Command("agent.cli.run:run", "the daemon, in the foreground", "keyturn run"),
    "once": Command(
        "agent.cli.once:once",
        "one refresh of every (or each named) credential: fetch, verify, publish, notify, exit",
        "keyturn once --retry-for 20s uploader",
        "agent.cli.options.operate:once",
    ),
    "refresh": Command(
        "agent.cli.refresh:refresh",
        "the running daemon refreshes now; waits for the outcome and prints it",
        "keyturn refresh uploader",
        "agent.cli.options.operate:refresh",
    ),
    "rotate": Command(
        "agent.cli.rotate:rotate",
        "the emergency: rotate at the source, follow the new key to every dependent, cut the old one off",
        'keyturn rotate uploader --reason "key on a public repo" --disable-old',
        "agent.cli.options.emergency:rotate",
    ),
    "adopt": Command(
        "agent.cli.adopt:adopt",
        "take a RAM user whose key was copied by hand under rotation, in steps that it says before",
        "keyturn adopt reporter --dry-run",
        "agent.cli.options.emergency:adopt",
    ),
    "plan": Command(
        "agent.cli.plan:plan",
        "who holds a key, who would be told of a new one and how, and what is in the way of a `rotate`; changes nothing",
        "keyturn plan uploader",
        "agent.cli.options.emergency:plan",
    ),
    "check": Command(
        "agent.cli.check:check",
        "say, line by line, whether config, files, keys, endpoints, credentials and dependents are in order",
        "keyturn check --offline",
        "agent.cli.options.operate:check",
    ),
    "policy": Command(
        "agent.cli.policy:policy",
        "the least RAM policy that each identity of the config needs, ready to paste",
        "keyturn policy --credential uploader",
        "agent.cli.options.operate:policy",
    ),
    "status": Command(
        "agent.cli.status:status",
        "what each credential is, how fresh, when next, what is owed",
        "keyturn status",
        "agent.cli.options.operate:status",
    ),
    "credential": Command(
        "agent.cli.credential:credential",
        "the value now in use, for the SDKs' process_command and ossfs's credential_process",
        "keyturn credential uploader --format external",
        "agent.cli.options.operate:credential",
    ),
    "audit": Command(
        "agent.cli.audit_show:audit_show",
        "read the audit log, or prove that it is whole",
        "keyturn audit verify",
        "agent.cli.options.audit:audit",
    ),
    "endpoint": Command(
        "agent.cli.endpoint:tokens",
        "the tokens of the credentials_uri sinks: see them, or replace them",
        "keyturn endpoint rotate-token uploader",
        "agent.cli.options.operate:endpoint",
    ),
    "fleet": Command(
        "agent.cli.fleet:status",
        "the hosts that share secrets: who is there, and who is behind",
        "keyturn fleet status",
        "agent.cli.options.operate:fleet",
    ),
    "systemd-setup": Command(
        "agent.cli.systemd_setup:systemd_setup",
        "what keyturn.service needs on this host, from the config: a drop-in and a polkit rule",
        "keyturn systemd-setup --install",
        "agent.cli.options.setup:systemd_setup",
    ),
    "demo": Command(
        "agent.cli.demo:demo",
        "the main job on a bare machine, against the bundled cloud emulator",
        "keyturn demo",
        "agent.cli.options.setup:demo",
    ),
    "emulator": Command(
        "agent.cli.demo:emulator",
        "the cloud emulator alone, for one's own tests; writes its CA, a ClientKey and a matching config into DIR",
        "keyturn emulator --directory /tmp/cloud",
        "agent.cli.options.setup:emulator",
    ),
}
