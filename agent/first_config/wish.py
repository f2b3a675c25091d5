"""What `keyturn init` was asked for, and what it found on this machine: all that the text of the config depends on."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from typing import NamedTuple

from agent.core.toml_text import toml_key

SERVICE_CONFIG = "/etc/keyturn/keyturn.toml"
"""The service's config. With it, sinks, state and logs lie where the package has them; with another one, beside it."""


class Step(NamedTuple):
    """Something that is still to be done by hand.

    Attributes:
        text: what it is for, one line for people.
        commands: what to type, each as it stands; empty where only a person can know.
    """

    text: str
    commands: tuple[str, ...] = ()


class Account(NamedTuple):
    """The user that an application runs as.

    Attributes:
        name: of the user.
        group: of the group that may read; the same name where the user is still to be made.
        home: the home; "" for none that can be used.
        exists: whether this machine has that user.
    """

    name: str
    group: str
    home: str = ""
    exists: bool = True


class Host(NamedTuple):
    """What this machine is like.

    Attributes:
        agent: the user who writes keyturn's files.
        has_service: whether keyturn.service is installed.
        keyturn: the words that call keyturn in a shell.
        has_unit: whether systemd knows the unit that was asked for.
        exists: says whether there is something at a path.
    """

    agent: str
    has_service: bool = False
    keyturn: str = "keyturn"
    has_unit: bool = False
    exists: Callable[[str], bool] = os.path.lexists


class Wish(NamedTuple):
    """The answers.

    Attributes:
        provider: a type of `agent.first_config.sources`.
        values: keys of the provider's table -> their values, as typed.
        reader: a name of `agent.first_config.readers`.
        credential: the name of the credential.
        unit: the unit that uses it, with its suffix; "" for none.
        user: whom the application runs as; None where that is nobody in particular, or keyturn's own user.
        region: the id of the region.
        path: the config, absolute.
    """

    provider: str
    values: Mapping[str, str]
    reader: str
    credential: str
    path: str
    unit: str = ""
    user: Account | None = None
    region: str = "cn-hangzhou"

    @property
    def directory(self) -> str:
        """Where the config lies, and beside it what keyturn reads."""
        return os.path.dirname(self.path)

    @property
    def is_the_services(self) -> bool:
        """Whether the rest lies where the package has it, and not beside the config."""
        return self.path == SERVICE_CONFIG

    @property
    def place(self) -> str:
        """The credential's place in the config."""
        return f"credentials.{toml_key(self.credential)}"

    def beside(self, name: str) -> str:
        """Return the path of a file that lies beside the config."""
        return os.path.join(self.directory, name)


def quoted(*words: str) -> str:
    """Return words as a shell reads them."""
    return shlex.join(words)
