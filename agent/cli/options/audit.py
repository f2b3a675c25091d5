"""The options of `keyturn audit`."""

from __future__ import annotations

import argparse

from agent.cli.parsers import subparser


def audit(audit: argparse.ArgumentParser) -> None:
    """Add those of `audit`."""
    actions = audit.add_subparsers(title="actions", metavar="ACTION")
    show = subparser(
        actions.add_parser,
        "show",
        help="read it",
        examples=("keyturn audit show --credential uploader --since 2d --tail 20", "keyturn audit show --follow"),
    )
    show.set_defaults(run="agent.cli.audit_show:audit_show")
    which = show.add_argument_group("which records")
    which.add_argument("--credential", metavar="N", help="those of this credential")
    which.add_argument("--since", metavar="T", help="a time like 2026-11-22T03:00:00Z, or how long ago, like 2d")
    which.add_argument("--key", metavar="ID", help="records that name this AccessKey id")
    which.add_argument("--tail", metavar="N", type=int, help="the newest N of them")
    which.add_argument(
        "--follow",
        action="store_true",
        help="go on with what is written from now on, until Ctrl-C; begins with the newest 10",
    )
    _log(show.add_argument_group(READ))
    show.add_argument_group(OUTPUT).add_argument(
        "--json", action="store_true", help="print the records, one JSON object a line"
    )
    verify = subparser(
        actions.add_parser,
        "verify",
        help="prove that it is whole",
        examples=("keyturn audit verify", "keyturn audit verify --journal heads.json"),
    )
    verify.set_defaults(run="agent.cli.audit_verify:audit_verify")
    proof = verify.add_argument_group(READ)
    proof.add_argument("--from-seq", metavar="N", type=int, default=1, help="older records were archived elsewhere")
    proof.add_argument(
        "--hmac-key-file",
        metavar="PATH",
        action="append",
        help="the key that authenticates the records, instead of the config's; again for each key of earlier times",
    )
    proof.add_argument(
        "--journal",
        metavar="FILE",
        help="compare with the heads in a journal: what journalctl -o json printed; - for stdin",
    )
    proof.add_argument("--log", metavar="PATH", help="a copy of the log: no config and no state is read")
    proof.add_argument("--head", metavar="SEQ:HASH", help="with --log: the newest record that is known to be in it")
    verify.add_argument_group(OUTPUT).add_argument("--json", action="store_true", help="print one JSON object")
    report = subparser(
        actions.add_parser,
        "report",
        help="every credential, its key, its rotations, and whether the log behind that verified",
        examples=(
            "keyturn audit report",
            "keyturn audit report --since 2026-07-01 --format html --output report.html",
        ),
    )
    report.set_defaults(run="agent.cli.audit_report:audit_report")
    which = report.add_argument_group("which records")
    which.add_argument("--credential", metavar="N", help="those of this credential")
    which.add_argument("--since", metavar="T", help="a time like 2026-07-01, or how long ago, like 90d; default: all")
    _copy(report).add_argument(
        "--from-seq", metavar="N", type=int, default=1, help="older records were archived elsewhere"
    )
    output = report.add_argument_group(OUTPUT)
    output.add_argument(
        "--format", choices=("table", "csv", "json", "ocsf", "html"), default="table", help="default: table"
    )
    output.add_argument("--output", metavar="FILE", help="write it there; default: standard output")
    incident = subparser(
        actions.add_parser,
        "incident",
        help="one emergency as a document, to attach to a ticket; default: the newest",
        examples=(
            "keyturn audit incident --list",
            "keyturn audit incident --credential uploader --output incident.html",
        ),
    )
    incident.set_defaults(run="agent.cli.audit_incident:audit_incident")
    which = incident.add_argument_group("which emergency")
    which.add_argument("--credential", metavar="N", help="the newest of this credential")
    which.add_argument("--key", metavar="ACCESS_KEY_ID", help="the one about this key")
    which.add_argument("--list", action="store_true", help="list the emergencies that the log has, the oldest first")
    _copy(incident).add_argument(
        "--from-seq", metavar="N", type=int, help="the oldest record must be this one; default: any"
    )
    output = incident.add_argument_group(OUTPUT)
    output.add_argument(
        "--format", choices=("markdown", "html", "json"), help="default: what FILE ends in, else markdown"
    )
    output.add_argument("--output", metavar="FILE", help="write it there, with mode 0600; default: standard output")


READ, OUTPUT = "what is read", "what is printed"


def _copy(action: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    read = action.add_argument_group(READ)
    _log(read)
    read.add_argument("--head", metavar="SEQ:HASH", help="with --log: the newest record that is known to be in it")
    read.add_argument("--hmac-key-file", metavar="PATH", action="append", help="as for audit verify")
    return read


def _log(read: argparse._ArgumentGroup) -> None:
    read.add_argument("--log", metavar="PATH", help="a copy of the log, newest file: no config and no state is read")
