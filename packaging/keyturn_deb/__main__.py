"""The command line of the build."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from keyturn_deb import build
from keyturn_deb.errors import BuildError
from keyturn_deb.source import Source

PROJECT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    """Do one thing and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        print(options.act(Source(PROJECT), options), end="")
    except BuildError as error:
        print(f"keyturn_deb: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="keyturn_deb", description=__doc__)
    acts = top.add_subparsers(required=True)
    deb = acts.add_parser("build", help="the package")
    deb.add_argument("--python", default="/usr/bin/python3", help="the distribution's, which the package will run on")
    deb.add_argument("--work", type=Path, default=PROJECT / "build" / "deb", help="what the next build can use again")
    deb.add_argument("--output", type=Path, default=PROJECT / "dist")
    deb.set_defaults(act=_build)
    return top


def _build(source: Source, options: argparse.Namespace) -> str:
    options.output.mkdir(parents=True, exist_ok=True)
    made = build.build(source, options.python, options.work, options.output)
    return f"{made}  {made.stat().st_size / 1e6:.1f} MB\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
