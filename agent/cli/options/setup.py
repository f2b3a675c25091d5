"""The options of what sets keyturn up, and of what plays with it."""

from __future__ import annotations

import argparse


def systemd_setup(setup: argparse.ArgumentParser) -> None:
    """Add those of `systemd-setup`."""
    action = setup.add_mutually_exclusive_group()
    action.add_argument("--print", action="store_true", help="show it and write nothing (the default)")
    action.add_argument("--install", action="store_true", help="write what differs, remove what is not needed any more")
    action.add_argument(
        "--check-command", action="store_true", help="print the command that runs `keyturn check` as the service"
    )
    setup.add_argument("--root", metavar="DIR", default="/", help="write below DIR, for images; default: /")


def demo(demo: argparse.ArgumentParser) -> None:
    """Add those of `demo`."""
    demo.add_argument(
        "--directory", metavar="DIR", help="keep its files there; default: a temporary one, removed at the end"
    )
    demo.add_argument(
        "--keep", action="store_true", help="no story: its cloud, daemon and application to play with, until Ctrl-C"
    )


def emulator(emulator: argparse.ArgumentParser) -> None:
    """Add those of `emulator`."""
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
    emulator.add_argument(
        "--order",
        metavar="ROUTE",
        help="order something of the one that runs in DIR, and end: rotate, fault, … (docs/emulator.md)",
    )
    emulator.add_argument(
        "--body", metavar="JSON", default='{"secret": "uploader-ak"}', help="what goes with it; default: %(default)s"
    )


def report_bug(report: argparse.ArgumentParser) -> None:
    """Add those of `report-bug`."""
    report.add_argument(
        "--output", metavar="FILE", help="a new file, mode 0600; default: keyturn-report-TIME.txt, here"
    )
    report.add_argument(
        "--mask-names",
        action="store_true",
        help="hide the names of credentials, hosts, secrets, users, units and paths, too",
    )
