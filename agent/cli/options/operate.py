"""The options of what an operator runs every day."""

from __future__ import annotations

import argparse

from agent.cli.parsers import subparser


def once(once: argparse.ArgumentParser) -> None:
    """Add those of `once`."""
    once.add_argument("--retry-for", metavar="20s", default="20s", help="how long temporary failures are tried again")
    once.add_argument("--json", action="store_true", help="print one JSON object")
    once.add_argument("names", metavar="NAME", nargs="*")


def refresh(refresh: argparse.ArgumentParser) -> None:
    """Add those of `refresh`."""
    refresh.add_argument("names", metavar="NAME", nargs="*")
    refresh.add_argument("--json", action="store_true", help="print one JSON object")


def check(check: argparse.ArgumentParser) -> None:
    """Add those of `check`."""
    check.add_argument("--offline", action="store_true", help="use no network")
    check.add_argument(
        "--show-config",
        action="store_true",
        help="print the config as it takes effect, defaults marked, and check no more",
    )
    check.add_argument("--json", action="store_true", help="print one JSON object")


def policy(policy: argparse.ArgumentParser) -> None:
    """Add those of `policy`."""
    policy.add_argument("--credential", metavar="N", help="only what this credential needs")
    policy.add_argument("--json", action="store_true", help="print one JSON object")


def status(status: argparse.ArgumentParser) -> None:
    """Add those of `status`."""
    status.add_argument(
        "names", metavar="NAME", nargs="*", help="all that is known of these credentials; default: a glance at all"
    )
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.add_argument(
        "--fail-if",
        metavar="STATE",
        action="append",
        default=[],
        help="exit 1 where a credential is fresh, pending, failing, stale or expired, or: owed (a dependent is to be told), old "
        "(its key is older than max_age), restricted (as leaked), differs (a file was changed), behind (a process may be on an "
        "older key); several with commas",
    )
    status.add_argument(
        "--fail-if-refused", action="store_true", help="exit 78 where the daemon refused the config of its last reload"
    )
    status.add_argument("--watch", action="store_true", help="show it again every two seconds, until Ctrl-C")


def credential(credential: argparse.ArgumentParser) -> None:
    """Add those of `credential`."""
    credential.add_argument("name", metavar="NAME")
    credential.add_argument(
        "--format", choices=("external", "ossfs", "uri", "env"), default="external", help="default: external"
    )


def endpoint(endpoint: argparse.ArgumentParser) -> None:
    """Add those of `endpoint`."""
    actions = endpoint.add_subparsers(title="actions", metavar="ACTION")
    tokens = subparser(
        actions.add_parser,
        "tokens",
        help="which there are, when they die, when each was used last; never a token itself",
        examples=("keyturn endpoint tokens", "keyturn endpoint tokens uploader --json"),
    )
    tokens.set_defaults(run="agent.cli.endpoint:tokens")
    tokens.add_argument("names", metavar="NAME", nargs="*")
    tokens.add_argument("--json", action="store_true", help="print one JSON object")
    rotate = subparser(
        actions.add_parser,
        "rotate-token",
        help="write a new one into the env file; the old one goes on for a while",
        examples=("keyturn endpoint rotate-token uploader --overlap 0s --reason 'it is in a log'",),
    )
    rotate.set_defaults(run="agent.cli.endpoint:rotate_token")
    rotate.add_argument("name", metavar="NAME")
    rotate.add_argument("--path", metavar="FILE", help="only that of this env file; default: all of the credential")
    rotate.add_argument("--overlap", metavar="24h", default="24h", help="until the old one dies; 0s: at once")
    rotate.add_argument("--reason", metavar="TEXT", default="", help="goes into the audit")
    rotate.add_argument("--json", action="store_true", help="print one JSON object")


def fleet(fleet: argparse.ArgumentParser) -> None:
    """Add those of `fleet`."""
    actions = fleet.add_subparsers(title="actions", metavar="ACTION")
    status = subparser(
        actions.add_parser,
        "status",
        help="who is there, on which version, who is behind; exit code 1 if anybody is",
        examples=("keyturn fleet status uploader --watch",),
    )
    status.set_defaults(run="agent.cli.fleet:status")
    status.add_argument("names", metavar="NAME", nargs="*")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.add_argument("--watch", action="store_true", help="show it again every two seconds, until Ctrl-C")
    leave = subparser(
        actions.add_parser,
        "leave",
        help="take this host off the board, or one that is gone for good",
        examples=("keyturn fleet leave --host web-17",),
    )
    leave.set_defaults(run="agent.cli.fleet:leave")
    leave.add_argument("--host", metavar="HOST", help="default: this one")
    leave.add_argument("--json", action="store_true", help="print one JSON object")
