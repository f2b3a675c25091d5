"""Configs of hosts, and what their services need."""

from __future__ import annotations

from agent.app import wiring
from agent.config.load import parse
from agent.core.settings import Settings
from agent.systemd_setup.needs import DEFAULT_CONFIG, Needs, environment, needs_of

PROVIDER = """
[credentials.uploader.provider]
type = "access_key"
access_key_id_from_file_path = "/etc/keyturn/id"
access_key_secret_from_file_path = "/etc/keyturn/secret"
"""


class Everybody:
    """Accounts of a machine where every user exists."""

    def uid_of(self, name: str) -> int:
        return 1000

    def gid_of(self, name: str) -> int:
        return 1000


def sink(path: str = "/etc/app/credentials.ini", **keys: str) -> str:
    """A table of a sink."""
    lines = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
    return f'[[credentials.uploader.sinks]]\ntype = "credentials_ini"\npath = "{path}"\n{lines}'


def notify(kind: str, *lines: str) -> str:
    """A table of a notifier."""
    return "\n".join([f'[[credentials.uploader.notify]]\ntype = "{kind}"', *lines]) + "\n"


def host(*tables: str, provider: str = PROVIDER) -> str:
    """A config."""
    first = [table for table in tables if table.startswith("[agent")]
    rest = [table for table in tables if not table.startswith("[agent")]
    return "\n".join([*first, provider, *rest])


def settings_of(text: str) -> Settings:
    """What the service reads of it."""
    return parse(text.encode(), "keyturn.toml", wiring.registry(), environ=environment({}), users=Everybody())


def needs(*tables: str, provider: str = PROVIDER, path: str = DEFAULT_CONFIG) -> Needs:
    """What a config needs."""
    return needs_of(settings_of(host(*tables, provider=provider)), path, {})


def options(found: Needs) -> set[str]:
    """Its options as `Key=value`."""
    return {f"{option.key}={option.value}" for option in found.options}
