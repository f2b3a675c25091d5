"""The command line: every command, the module that runs it, and its options. Why argparse: docs/adr/0011.

A command is a function that adds its options, and a line in `COMMANDS`: its name, the place of the function that runs it
(`module:function`, called with the parsed options), what it does, an example. That module is imported only when the command
is run, and says by its own imports, at its top, what the command needs; this one needs none of them. What only some runs of
a command need (the engine, where no daemon answers) is a module of its own, imported where it is called.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from agent import __version__
from agent.core.errors import EXIT_USAGE
from agent.system.terminal import terminal_size

DEFAULT_CONFIG = "/etc/keyturn/keyturn.toml"


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal. argparse asks for one with each option that is added."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=terminal_size().columns - 2)


class _Parser(argparse.ArgumentParser):
    """A parser that ends a complaint with the command's example, which can be typed as it stands."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and exit."""
        self.print_usage(sys.stderr)
        example = f"; {self.epilog}" if self.epilog and " " in self.prog else ""
        self.exit(EXIT_USAGE, f"{self.prog}: error: {message}{example}\n")


class Command(NamedTuple):
    """One command: where it is run, what it does, an example, and what adds its options."""

    place: str
    summary: str
    example: str
    add_options: Callable[[argparse.ArgumentParser], None] = lambda _parser: None


def parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Args:
        arguments: what is to be parsed. Where a command is the first of them, behind `--config` at most, there is only
            that one: nothing that can be said of it names the others.
    """
    top = _parser(
        _Parser,
        prog="keyturn",
        description="Keeps the AccessKeys and STS sessions of applications on Alibaba Cloud VMs fresh, proven and audited.",
        epilog="example: keyturn --config /etc/keyturn/keyturn.toml check",
    )
    top.add_argument("--config", metavar="PATH", help=f"default: $KEYTURN_CONFIG, then {DEFAULT_CONFIG}")
    top.add_argument("--version", action="version", version=f"keyturn {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in [word for word in _first(arguments) if word in COMMANDS] or COMMANDS:
        one = COMMANDS[name]
        made = _parser(
            commands.add_parser, name, help=one.summary, description=one.summary, epilog=f"example: {one.example}"
        )
        made.set_defaults(run=one.place)
        one.add_options(made)
    return top


def _first(arguments: Sequence[str]) -> Sequence[str]:
    """Return the first argument that is not `--config` and its value, as a sequence of one; or none."""
    has_config = arguments[:1] == ["--config"]
    is_joined = bool(arguments) and arguments[0].startswith("--config=")
    skipped = 2 if has_config else 1 if is_joined else 0
    return arguments[skipped : skipped + 1]


def _once(once: argparse.ArgumentParser) -> None:
    once.add_argument("--retry-for", metavar="20s", default="20s", help="how long temporary failures are tried again")
    once.add_argument("names", metavar="NAME", nargs="*")


def _refresh(refresh: argparse.ArgumentParser) -> None:
    refresh.add_argument("names", metavar="NAME", nargs="*")
    refresh.add_argument("--json", action="store_true", help="print one JSON object")


def _rotate(rotate: argparse.ArgumentParser) -> None:
    rotate.add_argument("name", metavar="NAME")
    rotate.add_argument("--reason", metavar="TEXT", required=True, help="goes into the audit")
    rotate.add_argument("--leaked", metavar="ACCESS_KEY_ID", help="which key leaked")
    rotate.add_argument("--disable-old", action="store_true", help="set the old key inactive and see it refused")
    rotate.add_argument(
        "--delete-old", action="store_true", help="--disable-old, then delete the old key; RAM keeps it 30 days"
    )
    fleet = rotate.add_mutually_exclusive_group()
    fleet.add_argument("--fleet", action="store_true", default=None, help="refuse where the config has no [fleet]")
    fleet.add_argument(
        "--no-fleet", action="store_false", dest="fleet", help="no other host has the key: tell and ask none"
    )
    rotate.add_argument(
        "--allow-absent", metavar="HOST", action="append", default=[], help="let this host go if it is absent"
    )
    rotate.add_argument("--force", action="store_true", help="disable it even if somebody is left behind on it")
    rotate.add_argument(
        "--report",
        metavar="FILE",
        help="write the emergency as a document (.md, .html or .json) at its end, on failure too",
    )
    rotate.add_argument("--yes", action="store_true", help="do not ask on a terminal")
    instead = rotate.add_mutually_exclusive_group()
    instead.add_argument(
        "--dry-run", action="store_true", help="show the plan and what is in the way, and change nothing"
    )
    instead.add_argument(
        "--drill", action="store_true", help="play it against the emulator on loopback: nothing real is touched or told"
    )
    rotate.add_argument("--json", action="store_true", help="print one JSON object at the end")


def _adopt(adopt: argparse.ArgumentParser) -> None:
    adopt.add_argument("name", metavar="NAME")
    adopt.add_argument("--yes", action="store_true", help="do not ask on a terminal")
    adopt.add_argument("--dry-run", action="store_true", help="show what is there and what would be done, and stop")
    adopt.add_argument("--json", action="store_true", help="print one JSON object at the end")


def _plan(plan: argparse.ArgumentParser) -> None:
    plan.add_argument("name", metavar="NAME")
    plan.add_argument("--json", action="store_true", help="print one JSON object")


def _check(check: argparse.ArgumentParser) -> None:
    check.add_argument("--offline", action="store_true", help="use no network")
    check.add_argument("--json", action="store_true", help="print one JSON object")


def _policy(policy: argparse.ArgumentParser) -> None:
    policy.add_argument("--credential", metavar="N", help="only what this credential needs")
    policy.add_argument("--json", action="store_true", help="print one JSON object")


def _status(status: argparse.ArgumentParser) -> None:
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.add_argument(
        "--fail-if-refused", action="store_true", help="exit 78 where the daemon refused the config of its last reload"
    )
    status.add_argument("--watch", action="store_true", help="show it again every two seconds, until Ctrl-C")


def _credential(credential: argparse.ArgumentParser) -> None:
    credential.add_argument("name", metavar="NAME")
    credential.add_argument(
        "--format", choices=("external", "ossfs", "uri", "env"), default="external", help="default: external"
    )


def _audit(audit: argparse.ArgumentParser) -> None:
    actions = audit.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = _parser(
        actions.add_parser,
        "show",
        help="read it",
        epilog="example: keyturn audit show --credential uploader --since 2d --tail 20",
    )
    show.set_defaults(run="agent.cli.audit_show:audit_show")
    show.add_argument("--credential", metavar="N")
    show.add_argument("--since", metavar="T", help="a time like 2026-11-22T03:00:00Z, or how long ago, like 2d")
    show.add_argument("--key", metavar="ID", help="records that name this AccessKey id")
    show.add_argument("--tail", metavar="N", type=int, help="the newest N of them")
    show.add_argument(
        "--follow",
        action="store_true",
        help="go on with what is written from now on, until Ctrl-C; begins with the newest 10",
    )
    show.add_argument("--json", action="store_true", help="print the records, one JSON object a line")
    _log(show)
    verify = _parser(
        actions.add_parser, "verify", help="prove that it is whole", epilog="example: keyturn audit verify"
    )
    verify.set_defaults(run="agent.cli.audit_verify:audit_verify")
    verify.add_argument("--from-seq", metavar="N", type=int, default=1, help="older records were archived elsewhere")
    verify.add_argument(
        "--hmac-key-file",
        metavar="PATH",
        action="append",
        help="the key that authenticates the records, instead of the config's; again for each key of earlier times",
    )
    verify.add_argument(
        "--journal",
        metavar="FILE",
        help="compare with the heads in a journal: what journalctl -o json printed; - for stdin",
    )
    verify.add_argument("--log", metavar="PATH", help="a copy of the log: no config and no state is read")
    verify.add_argument("--head", metavar="SEQ:HASH", help="with --log: the newest record that is known to be in it")
    verify.add_argument("--json", action="store_true", help="print one JSON object")
    report = _parser(
        actions.add_parser,
        "report",
        help="every credential, its key, its rotations, and whether the log behind that verified",
        epilog="example: keyturn audit report --since 2026-07-01 --format html --output report.html",
    )
    report.set_defaults(run="agent.cli.audit_report:audit_report")
    report.add_argument("--credential", metavar="N")
    report.add_argument("--since", metavar="T", help="a time like 2026-07-01, or how long ago, like 90d; default: all")
    report.add_argument(
        "--format", choices=("table", "csv", "json", "ocsf", "html"), default="table", help="default: table"
    )
    report.add_argument("--output", metavar="FILE", help="write it there; default: standard output")
    _copy(report)
    report.add_argument("--from-seq", metavar="N", type=int, default=1, help="older records were archived elsewhere")
    incident = _parser(
        actions.add_parser,
        "incident",
        help="one emergency as a document, to attach to a ticket; default: the newest",
        epilog="example: keyturn audit incident --credential uploader --output incident.html",
    )
    incident.set_defaults(run="agent.cli.audit_incident:audit_incident")
    incident.add_argument("--credential", metavar="N", help="the newest of this credential")
    incident.add_argument("--key", metavar="ACCESS_KEY_ID", help="the one about this key")
    incident.add_argument("--list", action="store_true", help="list the emergencies that the log has, the oldest first")
    incident.add_argument(
        "--format", choices=("markdown", "html", "json"), help="default: what FILE ends in, else markdown"
    )
    incident.add_argument("--output", metavar="FILE", help="write it there, with mode 0600; default: standard output")
    _copy(incident)
    incident.add_argument("--from-seq", metavar="N", type=int, help="the oldest record must be this one; default: any")


def _copy(action: argparse.ArgumentParser) -> None:
    _log(action)
    action.add_argument("--head", metavar="SEQ:HASH", help="with --log: the newest record that is known to be in it")
    action.add_argument("--hmac-key-file", metavar="PATH", action="append", help="as for audit verify")


def _log(action: argparse.ArgumentParser) -> None:
    action.add_argument("--log", metavar="PATH", help="a copy of the log, newest file: no config and no state is read")


def _endpoint(endpoint: argparse.ArgumentParser) -> None:
    actions = endpoint.add_subparsers(title="actions", metavar="ACTION", required=True)
    tokens = _parser(
        actions.add_parser,
        "tokens",
        help="which there are, when they die, when each was used last; never a token itself",
        epilog="example: keyturn endpoint tokens uploader",
    )
    tokens.set_defaults(run="agent.cli.endpoint:tokens")
    tokens.add_argument("names", metavar="NAME", nargs="*")
    tokens.add_argument("--json", action="store_true", help="print one JSON object")
    rotate = _parser(
        actions.add_parser,
        "rotate-token",
        help="write a new one into the env file; the old one goes on for a while",
        epilog="example: keyturn endpoint rotate-token uploader --overlap 0s --reason 'it is in a log'",
    )
    rotate.set_defaults(run="agent.cli.endpoint:rotate_token")
    rotate.add_argument("name", metavar="NAME")
    rotate.add_argument("--path", metavar="FILE", help="only that of this env file; default: all of the credential")
    rotate.add_argument("--overlap", metavar="24h", default="24h", help="until the old one dies; 0s: at once")
    rotate.add_argument("--reason", metavar="TEXT", default="", help="goes into the audit")
    rotate.add_argument("--json", action="store_true", help="print one JSON object")


def _fleet(fleet: argparse.ArgumentParser) -> None:
    actions = fleet.add_subparsers(title="actions", metavar="ACTION", required=True)
    status = _parser(
        actions.add_parser,
        "status",
        help="who is there, on which version, who is behind; exit code 1 if anybody is",
        epilog="example: keyturn fleet status uploader --watch",
    )
    status.set_defaults(run="agent.cli.fleet:status")
    status.add_argument("names", metavar="NAME", nargs="*")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.add_argument("--watch", action="store_true", help="show it again every two seconds, until Ctrl-C")
    leave = _parser(
        actions.add_parser,
        "leave",
        help="take this host off the board, or one that is gone for good",
        epilog="example: keyturn fleet leave --host web-17",
    )
    leave.set_defaults(run="agent.cli.fleet:leave")
    leave.add_argument("--host", metavar="HOST", help="default: this one")
    leave.add_argument("--json", action="store_true", help="print one JSON object")


def _systemd_setup(setup: argparse.ArgumentParser) -> None:
    action = setup.add_mutually_exclusive_group()
    action.add_argument("--print", action="store_true", help="show it and write nothing (the default)")
    action.add_argument("--install", action="store_true", help="write what differs, remove what is not needed any more")
    action.add_argument(
        "--check-command", action="store_true", help="print the command that runs `keyturn check` as the service"
    )
    setup.add_argument("--root", metavar="DIR", default="/", help="write below DIR, for images; default: /")


def _demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument(
        "--directory", metavar="DIR", help="keep its files there; default: a temporary one, removed at the end"
    )


def _emulator(emulator: argparse.ArgumentParser) -> None:
    emulator.add_argument("--directory", metavar="DIR", required=True)
    emulator.add_argument("--port", type=int, help="default: the one that the config in DIR names, else a free one")
    emulator.add_argument("--rotate-every", metavar="10s", help="have KMS rotate the secret by itself")
    emulator.add_argument(
        "--propagation-delay", metavar="TIME", default="1s", help="until a new key works (default: 1s)"
    )
    emulator.add_argument(
        "--old-key-life",
        metavar="TIME",
        default="48h",
        help="how long the key before lives on, and KMS refuses another rotation (default: 48h, as KMS does)",
    )


def _parser(make: Callable[..., argparse.ArgumentParser], *args: str, **keywords: str) -> argparse.ArgumentParser:
    return make(*args, formatter_class=_Help, allow_abbrev=False, **keywords)


COMMANDS = {
    "run": Command("agent.cli.run:run", "the daemon, in the foreground", "keyturn run"),
    "once": Command(
        "agent.cli.once:once",
        "one refresh of every (or each named) credential: fetch, verify, publish, notify, exit",
        "keyturn once --retry-for 20s uploader",
        _once,
    ),
    "refresh": Command(
        "agent.cli.refresh:refresh",
        "the running daemon refreshes now; waits for the outcome and prints it",
        "keyturn refresh uploader",
        _refresh,
    ),
    "rotate": Command(
        "agent.cli.rotate:rotate",
        "the emergency: rotate at the source, follow the new key to every dependent, cut the old one off",
        'keyturn rotate uploader --reason "key on a public repo" --disable-old',
        _rotate,
    ),
    "adopt": Command(
        "agent.cli.adopt:adopt",
        "take a RAM user whose key was copied by hand under rotation, in steps that it says before",
        "keyturn adopt reporter --dry-run",
        _adopt,
    ),
    "plan": Command(
        "agent.cli.plan:plan",
        "who holds a key, who would be told of a new one and how, and what is in the way of a `rotate`; changes nothing",
        "keyturn plan uploader",
        _plan,
    ),
    "check": Command(
        "agent.cli.check:check",
        "say, line by line, whether config, files, keys, endpoints, credentials and dependents are in order",
        "keyturn check --offline",
        _check,
    ),
    "policy": Command(
        "agent.cli.policy:policy",
        "the least RAM policy that each identity of the config needs, ready to paste",
        "keyturn policy --credential uploader",
        _policy,
    ),
    "status": Command(
        "agent.cli.status:status",
        "what each credential is, how fresh, when next, what is owed",
        "keyturn status",
        _status,
    ),
    "credential": Command(
        "agent.cli.credential:credential",
        "the value now in use, for the SDKs' process_command and ossfs's credential_process",
        "keyturn credential uploader --format external",
        _credential,
    ),
    "audit": Command(
        "agent.cli.audit_show:audit_show",
        "read the audit log, or prove that it is whole",
        "keyturn audit verify",
        _audit,
    ),
    "endpoint": Command(
        "agent.cli.endpoint:tokens",
        "the tokens of the credentials_uri sinks: see them, or replace them",
        "keyturn endpoint rotate-token uploader",
        _endpoint,
    ),
    "fleet": Command(
        "agent.cli.fleet:status",
        "the hosts that share secrets: who is there, and who is behind",
        "keyturn fleet status",
        _fleet,
    ),
    "systemd-setup": Command(
        "agent.cli.systemd_setup:systemd_setup",
        "what keyturn.service needs on this host, from the config: a drop-in and a polkit rule",
        "keyturn systemd-setup --install",
        _systemd_setup,
    ),
    "demo": Command(
        "agent.cli.demo:demo",
        "the main job on a bare machine, against the bundled cloud emulator",
        "keyturn demo",
        _demo,
    ),
    "emulator": Command(
        "agent.cli.demo:emulator",
        "the cloud emulator alone, for one's own tests; writes its CA, a ClientKey and a matching config into DIR",
        "keyturn emulator --directory /tmp/cloud",
        _emulator,
    ),
}
