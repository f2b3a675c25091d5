"""Prints what the config of the service names, one path a line, for dpkg's scripts: `sinks`, the `metrics` file, or the `config`.

It reads root's config and nothing else: neither the daemon nor its directories, which are the user keyturn's, are asked
what root should believe. Plain TOML, so that a config that keyturn refuses still names its sinks. Links are resolved;
a character that is not printable is written as an escape, so that a name is one line, whoever chose it.
"""

import os
import re
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

CONFIG = "/etc/keyturn/keyturn.toml"
DROP_IN = "/etc/systemd/system/keyturn.service.d/50-keyturn.conf"
GIVEN = {
    "STATE_DIRECTORY": "/var/lib/keyturn",
    "RUNTIME_DIRECTORY": "/run/keyturn",
    "LOGS_DIRECTORY": "/var/log/keyturn",
    "CONFIGURATION_DIRECTORY": "/etc/keyturn",
    "CREDENTIALS_DIRECTORY": "/run/credentials/keyturn.service",
}
"""What the unit sets. A variable that is not among it stays as it is written, and postrm then removes no directory."""


def config_of_service() -> str:
    """Its path: as `keyturn systemd-setup --install` wrote it down, else the usual one."""
    try:
        with open(DROP_IN) as lines:
            found = re.search(r'^Environment="?KEYTURN_CONFIG=([^"\n]+)"?$', lines.read(), re.M)
    except OSError:
        return CONFIG
    return found[1].replace("%%", "%") if found else CONFIG


def named(config: dict[str, Any], what: str) -> Iterator[str]:
    """The paths, as the service understands them."""
    if what == "metrics":
        written = [config.get("agent", {}).get("metrics_textfile")]
    else:
        credentials = config.get("credentials", {}).values()
        written = [sink.get("path") for credential in credentials for sink in credential.get("sinks", [])]
    for path in filter(None, written):
        yield re.sub(r"\$\{(\w+)\}", lambda found: GIVEN.get(found[1], found[0]), str(path))


def one_line(path: str) -> str:
    """Nothing but what can be printed."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in path)


def main(what: str) -> None:
    """Print them, each once."""
    if what == "config":
        print(config_of_service())
        return
    with open(config_of_service(), "rb") as file:
        found = set(named(tomllib.load(file), what))
    if what == "sinks":
        found = {path if "${" in path else os.path.realpath(path) for path in found}
    for path in sorted(found):
        print(one_line(path))


if __name__ == "__main__":
    main(sys.argv[1])
