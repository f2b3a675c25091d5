"""The options of `keyturn init`, in a module of their own: their choices are tables that no other command needs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from agent.first_config.readers import READERS
from agent.first_config.sources import SOURCES


def init(init: argparse.ArgumentParser) -> None:
    """Add those of `init`."""
    init.add_argument(
        "--provider", metavar="TYPE", choices=tuple(SOURCES), help=f"where the key comes from: {_listed(SOURCES)}"
    )
    init.add_argument("--secret", metavar="NAME", help="the secret in KMS")
    init.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="another key of the provider, as in docs/config.md; again for more",
    )
    init.add_argument(
        "--for",
        dest="reader",
        metavar="READER",
        choices=tuple(READERS),
        help=f"how the application reads it: {', '.join(READERS)}",
    )
    init.add_argument("--unit", metavar="UNIT", help="its systemd unit, which is told of each new key")
    init.add_argument(
        "--user", metavar="USER", help="whom it runs as; default: as the unit says, else called like the credential"
    )
    init.add_argument(
        "--credential", metavar="NAME", help="what keyturn calls it; default: from the unit or the secret"
    )
    init.add_argument("--region", metavar="ID", help="default: $ALIBABA_CLOUD_REGION_ID, then cn-hangzhou")
    init.add_argument(
        "--output", metavar="PATH", help="default: the config that every command reads; -: standard output"
    )
    init.add_argument("--yes", action="store_true", help="do not ask on a terminal")


def _listed(names: Iterable[str]) -> str:
    first, *others = names
    return f"{first} (default), {', '.join(others)}"
