"""The files with which a VM uses the emulated cloud: the ClientKey as the console exports it, and configs for it.

`secretsmanager.properties` follows Alibaba's documentation of the secrets-manager client for Python (section
"properties configuration"); `keyturn.toml` is a complete config of keyturn. Where there is a metadata service too, the
directory `providers` has a config for all other kinds of credentials (`examples.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import choice

from .cloud import Cloud
from .examples import ExampleFiles, write_examples
from .model import AccessKey, ClientKey, random_text
from .pki import client_key_file, read_client_key_file
from .private_files import make_passable_directory, make_private_directory, write_config, write_private, write_public

__all__ = ["Files", "standing_port", "write_directory"]

AUTHORITY_USER = "ops"
AUTHORITY_ACTIONS = (
    "kms:RotateSecret",
    "kms:DescribeSecret",
    "kms:ListSecretVersionIds",
    "ram:CreateAccessKey",
    "ram:UpdateAccessKey",
    "ram:DeleteAccessKey",
    "ram:ListAccessKeys",
    "ram:GetAccessKeyLastUsed",
)


@dataclass(frozen=True)
class Files:
    """The paths in an emulator's directory.

    Attributes:
        kept: configs that somebody had edited, and that were not written.
    """

    directory: Path
    kept: tuple[Path, ...] = ()

    @property
    def ca(self) -> Path:
        """The CA certificate that clients must trust."""
        return self.directory / "ca.pem"

    @property
    def admin_token(self) -> Path:
        """The token of the admin API."""
        return self.directory / "admin-token"

    @property
    def admin_header(self) -> Path:
        """The header with that token, for `curl -H @FILE`: on a command line everybody could read it."""
        return self.directory / "admin-header"

    @property
    def client_key(self) -> Path:
        """The ClientKey file."""
        return self.directory / "clientKey.json"

    @property
    def client_key_password(self) -> Path:
        """The ClientKey's password."""
        return self.directory / "clientKey_password.txt"

    @property
    def properties(self) -> Path:
        """The official client's configuration."""
        return self.directory / "secretsmanager.properties"

    @property
    def authority_id(self) -> Path:
        """The AccessKey id of the emergency authority."""
        return self.directory / "authority_access_key_id.txt"

    @property
    def authority_secret(self) -> Path:
        """The AccessKey secret of the emergency authority."""
        return self.directory / "authority_access_key_secret.txt"

    @property
    def config(self) -> Path:
        """The config for keyturn."""
        return self.directory / "keyturn.toml"

    @property
    def app(self) -> Path:
        """The directory of the application, with what keyturn publishes."""
        return self.directory / "app"

    @property
    def examples(self) -> ExampleFiles:
        """The config for all other providers, and the files that it needs."""
        return ExampleFiles(self.directory / "providers")


def write_directory(
    directory: Path,
    cloud: Cloud,
    endpoint: str,
    *,
    endpoints: Mapping[str, str] | None = None,
    metadata_url: str | None = None,
    secret: str = "uploader-ak",
    user: str = "uploader",
) -> Files:
    """Write all files into `directory`, and make their keys in `cloud`. The examples need a `metadata_url`.

    The configs name the `endpoints` of `kms`, `sts`, `ram` and `ims`, each of which refuses calls of the others; without them, the
    one `endpoint` that serves them all.

    A ClientKey that is in the directory already is taken over into the cloud, so that a daemon that has loaded it
    survives a restart of the emulator. `ca.pem`, `admin-token` and `admin-header` are the server's to write. A config that somebody
    edited is kept.
    """
    files = Files(directory.absolute())
    named = endpoints or dict.fromkeys(("kms", "sts", "ram", "ims"), endpoint)
    for passable in (files.directory, files.directory / "run"):  # for `keyturn credential` of other users
        make_passable_directory(passable)
    for private in (files.app, files.directory / "state", files.directory / "log"):
        make_private_directory(private)
    _client_key(cloud, files)
    authority = _authority(cloud)
    write_private(files.authority_id, authority.access_key_id)
    write_private(files.authority_secret, authority.access_key_secret)
    write_public(files.properties, _properties(files, cloud.region_id, named["kms"]))
    kept = (
        []
        if write_config(files.config, _config(files, cloud.region_id, endpoint, named, secret, user))
        else [files.config]
    )
    if metadata_url is not None and not write_examples(
        files.examples, cloud, named, metadata_url, properties=files.properties, secret=secret, user=user
    ):
        kept.append(files.examples.config)
    return Files(files.directory, tuple(kept))


def standing_port(directory: Path) -> int | None:
    """Return the port that the config in a directory names; None where there is no such config, or it names none."""
    try:
        text = Files(directory).config.read_text()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    found = re.search(r'^\s*kms_endpoint\s*=\s*"127\.\d+\.\d+\.\d+:(\d{1,5})"', text, re.MULTILINE)
    return int(found[1]) if found and 0 < int(found[1]) < 65536 else None


def _client_key(cloud: Cloud, files: Files) -> ClientKey:
    try:
        password = files.client_key_password.read_text()
        key_id, private_key = read_client_key_file(files.client_key.read_text(), password)
    except (FileNotFoundError, ValueError):
        key = cloud.add_client_key()
        password = _password()
        write_private(files.client_key_password, password)
        write_private(files.client_key, client_key_file(key, password))
        return key
    return cloud.add_client_key(key_id=key_id, private_key=private_key)


def _password() -> str:
    """Return a password of 8 to 64 characters with both cases, digits and specials (KMS doc on ClientKeys)."""
    return "Aa1" + choice("~!@$%^&*?_-") + random_text(28)


def _authority(cloud: Cloud) -> AccessKey:
    cloud.add_user(AUTHORITY_USER, *AUTHORITY_ACTIONS)
    keys = cloud.keys_of(AUTHORITY_USER)
    return keys[-1] if keys else cloud.add_access_key(AUTHORITY_USER)


def _properties(files: Files, region_id: str, endpoint: str) -> str:
    regions = json.dumps([{"regionId": region_id, "endpoint": endpoint, "vpc": False}], separators=(",", ":"))
    return f"""\
credentials_type=client_key
client_key_private_key_path={files.client_key}
client_key_password_from_file_path={files.client_key_password}
cache_client_region_id={regions}
"""


def _config(files: Files, region_id: str, endpoint: str, named: Mapping[str, str], secret: str, user: str) -> str:
    def text(value: object) -> str:
        return json.dumps(str(value))  # a JSON string is a TOML basic string

    return f"""\
[agent]
state_directory   = {text(files.directory / "state")}
runtime_directory = {text(files.directory / "run")}

[agent.audit]
path = {text(files.directory / "log" / "audit.jsonl")}

[cloud]
# Each product has an endpoint of its own. All of them answer at {text(endpoint)}
# too, for clients that can be given one endpoint only.
region_id    = {text(region_id)}
sts_endpoint = {text(named["sts"])}
kms_endpoint = {text(named["kms"])}
ram_endpoint = {text(named["ram"])}
ims_endpoint = {text(named["ims"])}
ca_file      = {text(files.ca)}

[credentials.uploader.provider]
type = "kms_secret"
secret_name = {text(secret)}
properties_file = {text(files.properties)}
poll_interval = "1s"

[[credentials.uploader.sinks]]
type = "credentials_ini"
path = {text(files.app / "credentials.ini")}

[[credentials.uploader.sinks]]
type = "env_file"
path = {text(files.app / "aliyun.env")}
variables = ["alibaba_cloud", "oss"]
dialect = "systemd"

[credentials.uploader.emergency]
ram_user_name = {text(user)}

[credentials.uploader.emergency.authority]
type = "access_key"
access_key_id_from_file_path = {text(files.authority_id)}
access_key_secret_from_file_path = {text(files.authority_secret)}
"""
