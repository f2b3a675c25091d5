"""The command line of a release."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, date, datetime
from pathlib import Path

from keyturn_deb.errors import BuildError

from keyturn_release import dist, version

PROJECT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    """Do one thing and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        for line in options.act(options):
            print(line, flush=True)
    except BuildError as error:
        print(f"keyturn_release: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="keyturn_release", description=__doc__)
    acts = top.add_subparsers(required=True)
    number = acts.add_parser("version", help="write a new version everywhere: code, change log, documents")
    number.add_argument("version", help="X.Y.Z")
    number.add_argument(
        "--date", type=date.fromisoformat, default=datetime.now(UTC).date(), help="default: today, in UTC"
    )
    number.set_defaults(act=lambda given: version.write(PROJECT, given.version, given.date))
    built = acts.add_parser(
        "dist", help="build sdist, wheel, Debian package, lock, SBOM and SHA256SUMS of the last commit"
    )
    built.add_argument(
        "--deb-python", default="/usr/bin/python3", help='the distribution\'s; "" builds no Debian package'
    )
    built.add_argument("--work", type=Path, default=PROJECT / "build" / "deb", help="what the next build can use again")
    built.add_argument("--output", type=Path, default=PROJECT / "dist")
    built.set_defaults(act=lambda given: dist.build(PROJECT, given.deb_python, given.work, given.output))
    return top


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
