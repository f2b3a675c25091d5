"""Where a key can come from: each provider, what it has to be told, and what it needs beside the config.

Decisions. Secrets are files of keyturn's own user beside the config, which work with and without a service; systemd's
LoadCredential= is a later step (docs/systemd.md). The ClientKey is named in the config itself: a `secretsmanager.properties`
that lies there already is used instead, and none is written, since it says nothing that the config cannot say.
`function_compute` is left out: no agent runs there.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import NamedTuple

from agent.core.toml_text import toml
from agent.first_config.wish import Host, Step, Wish, quoted

PROPERTIES = "secretsmanager.properties"
CLIENT_KEY, CLIENT_KEY_PASSWORD = "client_key.json", "client_key_password"
"""The names of the two files beside the config; those that the service's unit hands over are called the same."""

_PASTE = "paste it, Enter, Ctrl-D"


class Ask(NamedTuple):
    """A key of the provider's table that has no default.

    Attributes:
        key: its name.
        question: for a person.
        example: a value that fits.
    """

    key: str
    question: str
    example: str


class Source(NamedTuple):
    """One type of provider.

    Attributes:
        title: what it is, for a list to choose from.
        asks: what has to be known.
        session: whether its values end by themselves, with a token.
        lines: yields the lines of the provider's table behind `type`.
        steps: yields what has to be done for it.
    """

    title: str
    asks: tuple[Ask, ...] = ()
    session: bool = False
    lines: Callable[[Wish, Host], Iterator[str]] = lambda wish, _host: _said(wish)
    steps: Callable[[Wish, Host], Iterator[Step]] = lambda _wish, _host: iter(())


def _said(wish: Wish) -> Iterator[str]:
    """Yield what was asked, or given by `--set`, as lines of TOML."""
    for key, value in wish.values.items():
        if key == "command":
            yield f"{key} = [{', '.join(map(toml, shlex.split(value)))}]"
        elif value in ("true", "false") or value[:1] in ("[", "{"):
            yield f"{key} = {value}"  # a boolean, an array, a table: whoever gives one writes TOML
        else:
            yield f"{key} = {toml(value)}"


def secret_file(path: str, host: Host) -> str:
    """Return the command that takes a secret from the terminal into a file that keyturn alone reads."""
    return f"{quoted('install', '-o', host.agent, '-m', '0600', '/dev/stdin', path)}  # {_PASTE}"


def _copied(pattern: str, path: str, host: Host) -> str:
    return f"{quoted('install', '-o', host.agent, '-m', '0600')} {pattern} {quoted(path)}"


def _kms_lines(wish: Wish, host: Host) -> Iterator[str]:
    yield from _said(wish)
    if _names_client_key(wish, host):
        yield f"client_key_private_key_path = {toml(wish.beside(CLIENT_KEY))}"
        yield f"client_key_password_from_file_path = {toml(wish.beside(CLIENT_KEY_PASSWORD))}"
        yield f"regions = [{{ region_id = {toml(wish.region)} }}]    # with vpc = true: by the VPC's gateway"
    elif "properties_file" not in wish.values:
        yield f"properties_file = {toml(wish.beside(PROPERTIES))}"


def _names_client_key(wish: Wish, host: Host) -> bool:
    return "properties_file" not in wish.values and not host.exists(wish.beside(PROPERTIES))


def _kms_steps(wish: Wish, host: Host) -> Iterator[Step]:
    files = {CLIENT_KEY: "./clientKey_*.json", CLIENT_KEY_PASSWORD: "./clientKey_*_Password.txt"}
    missing = {path: pattern for name, pattern in files.items() if not host.exists(path := wish.beside(name))}
    if missing and _names_client_key(wish, host):
        yield Step(
            'The ClientKey and its password, which the KMS console gives as two files (README.md, "In the console"). '
            "Where you copied them to:",
            tuple(_copied(pattern, path, host) for path, pattern in missing.items()),
        )


def _files(*parts: str) -> Callable[[Wish, Host], Iterator[str]]:
    def lines(wish: Wish, _host: Host) -> Iterator[str]:
        yield from _said(wish)
        yield from (f"{part}_from_file_path = {toml(_part_file(wish, part))}" for part in parts)

    return lines


def _file_steps(*parts: str) -> Callable[[Wish, Host], Iterator[Step]]:
    def steps(wish: Wish, host: Host) -> Iterator[Step]:
        missing = [path for part in parts if not host.exists(path := _part_file(wish, part))]
        if missing:
            text = "The values, each in a file that keyturn alone reads:"
            yield Step(text, tuple(secret_file(path, host) for path in missing))

    return steps


def _part_file(wish: Wish, part: str) -> str:
    return wish.beside(f"{wish.credential}_{part}")


def _inline_key(wish: Wish, prefix: str) -> str:
    """Return an inline provider that reads an AccessKey from two files beside the config."""
    parts = [
        f"access_key_{part}_from_file_path = {toml(wish.beside(f'{prefix}_access_key_{part}'))}"
        for part in ("id", "secret")
    ]
    return f'{{ type = "access_key", {", ".join(parts)} }}'


def _ram_user_lines(wish: Wish, _host: Host) -> Iterator[str]:
    yield from _said(wish)
    yield "owner = true    # this host rotates; say so on one host only"
    yield f"authority = {_inline_key(wish, 'authority')}"


def _ram_user_steps(wish: Wish, host: Host) -> Iterator[Step]:
    paths = [wish.beside(f"authority_access_key_{part}") for part in ("id", "secret")]
    missing = [path for path in paths if not host.exists(path)]
    if missing:
        yield Step(
            "The AccessKey of the RAM user who makes the keys of the other one (its policy: `keyturn policy`):",
            tuple(secret_file(path, host) for path in missing),
        )


def _role_lines(wish: Wish, _host: Host) -> Iterator[str]:
    yield from _said(wish)
    if "base" not in wish.values:
        yield 'base = { type = "ecs_ram_role" }    # who assumes it: the instance\'s own role, or another credential by its name'


def _key_pair_lines(wish: Wish, _host: Host) -> Iterator[str]:
    yield from _said(wish)
    if "private_key_file" not in wish.values:
        yield f"private_key_file = {toml(wish.beside('private_key.pem'))}"


def _key_pair_steps(wish: Wish, host: Host) -> Iterator[Step]:
    path = wish.beside("private_key.pem")
    if "private_key_file" not in wish.values and not host.exists(path):
        yield Step(
            "The private key of the pair, where it was copied to:",
            (_copied("./private_key.pem", path, host),),
        )


_ACCESS_KEY = ("access_key_id", "access_key_secret")
_SESSION = (*_ACCESS_KEY, "security_token")
_ROLE = Ask("role_arn", "ARN of the RAM role", "acs:ram::1234567890123456:role/reports")

SOURCES = {
    "kms_secret": Source(
        "a RAM secret in KMS, which rotates it; read by a ClientKey",
        (Ask("secret_name", "Name of the secret in KMS", "uploader-ak"),),
        lines=_kms_lines,
        steps=_kms_steps,
    ),
    "ecs_ram_role": Source("the RAM role of this ECS instance", session=True),
    "ram_role_arn": Source("a RAM role that this instance's role assumes", (_ROLE,), True, _role_lines),
    "ram_user": Source(
        "a RAM user, whose keys keyturn itself makes: no KMS",
        (Ask("ram_user_name", "Name of the RAM user", "uploader"),),
        lines=_ram_user_lines,
        steps=_ram_user_steps,
    ),
    "oidc_role_arn": Source(
        "a RAM role, by an OIDC token",
        (
            _ROLE,
            Ask("oidc_provider_arn", "ARN of the OIDC provider", "acs:ram::1234567890123456:oidc-provider/ack"),
            Ask(
                "oidc_token_file_path",
                "File with the OIDC token",
                "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens/token",
            ),
        ),
        session=True,
    ),
    "rsa_key_pair": Source(
        "sessions of an RSA key pair",
        (Ask("public_key_id", "Id that RAM gave the public key", "LTRSA.example"),),
        True,
        _key_pair_lines,
        _key_pair_steps,
    ),
    "credentials_uri": Source(
        "an address that answers as Alibaba's SDKs expect",
        (Ask("credentials_uri", "The address", "http://127.0.0.1:8080/credentials"),),
        session=True,
    ),
    "process": Source(
        "a command that prints it as JSON",
        (Ask("command", "The command, with its arguments", "/usr/local/bin/vault-key uploader"),),
        session=True,
    ),
    "default": Source("the default chain of Alibaba's SDK for Python", session=True),
    "access_key": Source("an AccessKey in two files", lines=_files(*_ACCESS_KEY), steps=_file_steps(*_ACCESS_KEY)),
    "sts": Source("an STS session in three files", session=True, lines=_files(*_SESSION), steps=_file_steps(*_SESSION)),
    "bearer": Source("a bearer token in a file", lines=_files("bearer_token"), steps=_file_steps("bearer_token")),
}
"""Type -> what it takes, in the order in which they are offered."""
