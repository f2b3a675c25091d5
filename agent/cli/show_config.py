"""`keyturn check --show-config`: the config as it takes effect."""

from __future__ import annotations

import argparse
import json
import os
import tomllib

from agent.cli import output
from agent.config.effective import as_toml, as_tree, effective, rows
from agent.config.load import digest
from agent.config.messages import shown_place
from agent.config.outline import MAX_BYTES
from agent.core.errors import EXIT_DONE, ConfigError
from agent.core.settings import Settings
from agent.system import reading
from agent.system.accounts import user_name
from agent.systemd_setup.unit import with_credentials

_HEAD = """\
# {path} as it takes effect for user {user}.
# Keys marked "default" are not in the file. This loads to the same settings{but}."""


def show_config(settings: Settings, options: argparse.Namespace) -> int:
    """Print it, as TOML or JSON.

    Raises:
        ConfigError: the file was changed since the settings were read.
    """
    text = reading.read_trusted(options.config, MAX_BYTES)
    if settings.digest != digest(text):
        raise ConfigError([f"{options.config}: was changed while it was read; run the command again"])
    table = effective(settings, tomllib.loads(text.decode("utf-8-sig")), with_credentials(os.environ))
    found = list(rows(table))
    hidden = [shown_place(row.place) for row in found if row.is_hidden]
    if options.json:
        defaults = [shown_place(row.place) for row in found if row.is_default]
        document = {"config": options.config, "settings": as_tree(table), "defaults": defaults, "hidden": hidden}
        print(json.dumps(document), file=options.out)
        return EXIT_DONE
    print(
        _HEAD.format(
            path=output.one_line(options.config), user=user_name(), but=", but for what is hidden" if hidden else ""
        )
    )
    print("\n".join(as_toml(table)))
    return EXIT_DONE
