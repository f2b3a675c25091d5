"""The options of what is typed when a key must go: rotate, plan, adopt."""

from __future__ import annotations

import argparse

NAME = "the credential: NAME of [credentials.NAME]"


def rotate(rotate: argparse.ArgumentParser) -> None:
    """Add those of `rotate`."""
    rotate.add_argument("name", metavar="NAME", help=NAME)
    rotate.add_argument("--reason", metavar="TEXT", required=True, help="goes into the audit")
    rotate.add_argument("--yes", action="store_true", help="do not ask on a terminal")
    old = rotate.add_argument_group("the old key")
    old.add_argument("--leaked", metavar="ACCESS_KEY_ID", help="which key leaked")
    old.add_argument("--disable-old", action="store_true", help="set the old key inactive and see it refused")
    old.add_argument(
        "--delete-old", action="store_true", help="--disable-old, then delete the old key; RAM keeps it 30 days"
    )
    old.add_argument("--force", action="store_true", help="disable it even if somebody is left behind on it")
    hosts = rotate.add_argument_group("other hosts, of [fleet]")
    fleet = hosts.add_mutually_exclusive_group()
    fleet.add_argument("--fleet", action="store_true", default=None, help="refuse where the config has no [fleet]")
    fleet.add_argument(
        "--no-fleet", action="store_false", dest="fleet", help="no other host has the key: tell and ask none"
    )
    hosts.add_argument(
        "--allow-absent", metavar="HOST", action="append", default=[], help="let this host go if it is absent"
    )
    instead = rotate.add_argument_group("instead of doing it").add_mutually_exclusive_group()
    instead.add_argument(
        "--dry-run", action="store_true", help="show the plan and what is in the way, and change nothing"
    )
    instead.add_argument(
        "--drill", action="store_true", help="play it against the emulator on loopback: nothing real is touched or told"
    )
    end = rotate.add_argument_group("what comes of it")
    end.add_argument(
        "--report",
        metavar="FILE",
        help="write the emergency as a document (.md, .html or .json) at its end, on failure too",
    )
    end.add_argument("--json", action="store_true", help="print one JSON object at the end")


def plan(plan: argparse.ArgumentParser) -> None:
    """Add those of `plan`."""
    plan.add_argument("name", metavar="NAME", help=NAME)
    plan.add_argument("--json", action="store_true", help="print one JSON object")


def adopt(adopt: argparse.ArgumentParser) -> None:
    """Add those of `adopt`."""
    adopt.add_argument("name", metavar="NAME", help=NAME)
    adopt.add_argument("--yes", action="store_true", help="do not ask on a terminal")
    adopt.add_argument("--dry-run", action="store_true", help="show what is there and what would be done, and stop")
    adopt.add_argument("--json", action="store_true", help="print one JSON object at the end")
