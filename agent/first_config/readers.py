"""How an application can read its key: the sink for each way, and what the application has to be told once.

Decision: the file is keyturn's own, and its group, which is the application's, may read it. So the service needs no capability
(docs/systemd.md), and no SDK can write a key into a profile that it can only read (docs/consumers.md).
"""

from __future__ import annotations

import os
from typing import NamedTuple

from agent.first_config.wish import Wish

LISTEN = "127.0.0.1:8911"
"""Where `credentials_uri` is served, as in docs/endpoint.md."""
KEY, SESSION, BEARER = "key", "session", "bearer"


class Reader(NamedTuple):
    """One way to read.

    Attributes:
        title: what it is, for a list to choose from.
        file: the name of the file that is written.
        lines: the keys of the sink's table besides `path` and who may read.
        in_home: whether it is `.aliyun/` of the application's home.
        asks: whether the application asks keyturn again by itself, so that nobody has to tell it.
        variable: what its unit needs, with the file's path for `{path}` and its home for `{home}`; "" for nothing.
        takes: the kinds of values that fit.
    """

    title: str
    file: str
    lines: tuple[str, ...]
    in_home: bool = False
    asks: bool = False
    variable: str = ""
    takes: frozenset[str] = frozenset({KEY, SESSION})


READERS = {
    "credentials_ini": Reader(
        "credentials.ini of Alibaba's SDKs; for keys",
        "credentials.ini",
        ('type = "credentials_ini"',),
        variable="Environment=ALIBABA_CLOUD_CREDENTIALS_FILE={path}",
    ),
    "env_file": Reader(
        "variables in an EnvironmentFile= of systemd",
        "aliyun.env",
        ('type = "env_file"', 'variables = ["alibaba_cloud", "oss"]'),
        variable="EnvironmentFile={path}",
        takes=frozenset({KEY, SESSION, BEARER}),
    ),
    "external": Reader(
        "a profile with no key in it, by which the SDKs ask keyturn: no restart",
        "config.json",
        ('type = "aliyun_cli"', 'profile_mode = "External"'),
        in_home=True,
        asks=True,
        variable="Environment=HOME={home}",
    ),
    "credentials_uri": Reader(
        "an address in a variable, which the SDKs ask: no restart",
        "credentials_uri.env",
        ('type = "credentials_uri"',),
        asks=True,
        variable="EnvironmentFile={path}",
    ),
    "aliyun_cli": Reader(
        "config.json of Alibaba's CLI, Terraform and the SDKs",
        "config.json",
        ('type = "aliyun_cli"',),
        in_home=True,
        variable="Environment=HOME={home}",
    ),
    "ossutil": Reader(
        "the config of ossutil, given to it by -c", "ossutilconfig", ('type = "ini"', 'keys = "ossutil"')
    ),
    "json": Reader("JSON, as Alibaba's SDKs take it from an address", "credential.json", ('type = "json"',)),
}
"""Name -> what it is, in the order in which they are offered. Other formats: docs/sinks.md."""

BEARER_LINES = ('type = "env_file"', 'variables = { ALIBABA_CLOUD_BEARER_TOKEN = "bearer_token" }')
"""The sink for a token that has no AccessKey."""


def sink_path(wish: Wish) -> str:
    """Return the file that is written for the application."""
    return os.path.join(sink_directory(wish), READERS[wish.reader].file)


def sink_directory(wish: Wish) -> str:
    """Return the directory of that file."""
    if READERS[wish.reader].in_home:
        return os.path.join(home(wish), ".aliyun")
    if wish.is_the_services:
        return f"/etc/{wish.credential}"
    return wish.beside(wish.credential) if wish.user is not None else wish.directory


def home(wish: Wish) -> str:
    """Return where the application looks for `.aliyun`."""
    if not wish.is_the_services:
        return wish.beside(wish.credential) if wish.user is not None else wish.directory
    return wish.user.home if wish.user is not None and wish.user.home else f"/var/lib/{wish.credential}"
