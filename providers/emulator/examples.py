"""A second config beside that for the managed secret, with one credential for each other provider.

`DIR/providers/keyturn.toml` is complete and has a state directory of its own, so both configs can run at once. What it
needs is made in the cloud: a role for everything, an OIDC provider, an RSA key pair.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from .cloud import Cloud
from .private_files import make_passable_directory, make_private_directory, write_config, write_private, write_public
from .uri import PATH as CREDENTIALS_PATH

__all__ = ["ROLE", "ExampleFiles", "write_examples"]

ROLE = "app"
OIDC_PROVIDER = "cluster"
OIDC_TOKEN_LIFE_S = 30 * 24 * 3600.0


@dataclass(frozen=True)
class ExampleFiles:
    """The paths in the directory of the examples."""

    directory: Path

    @property
    def config(self) -> Path:
        """The config for keyturn."""
        return self.directory / "keyturn.toml"

    @property
    def metadata_url(self) -> Path:
        """The address of the metadata service."""
        return self.directory / "metadata_url.txt"

    @property
    def credentials_uri(self) -> Path:
        """The address of the credentials URI."""
        return self.directory / "credentials_uri.txt"

    @property
    def oidc_token(self) -> Path:
        """A token of the OIDC provider."""
        return self.directory / "oidc_token.txt"

    @property
    def rsa_key(self) -> Path:
        """The private key of the RSA key pair, PEM."""
        return self.directory / "rsa_private_key.pem"


def write_examples(
    files: ExampleFiles,
    cloud: Cloud,
    endpoints: Mapping[str, str],
    metadata_url: str,
    *,
    properties: Path,
    secret: str,
    user: str,
) -> bool:
    """Write the examples; `user`, whose key `secret` holds, may then assume the role `app`.

    Args:
        files: the paths.
        cloud: gets the role, the OIDC provider and the RSA key pair.
        endpoints: those of the emulated cloud's products, whose `ca.pem` lies in the directory above.
        metadata_url: that of the metadata service, which serves the credentials URI too.
        properties: the official client's configuration for the secret.
        secret: the managed secret.
        user: its RAM user.

    Returns:
        whether the config was written; False where somebody edited it.
    """
    for name in ("", "run"):
        make_passable_directory(files.directory / name)
    for name in ("app", "state", "log"):
        make_private_directory(files.directory / name)
    cloud.add_user(user, "sts:AssumeRole")
    cloud.add_role(ROLE, "kms:GetSecretValue")
    cloud.set_instance_role(ROLE)
    cloud.uri_credential = cloud.instance_session
    provider_arn = cloud.add_oidc_provider(OIDC_PROVIDER)
    write_private(files.oidc_token, cloud.oidc_token(OIDC_PROVIDER, life_s=OIDC_TOKEN_LIFE_S))
    pair = cloud.add_rsa_key_pair(user)
    pem = pair.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(files.rsa_key, pem)
    write_public(files.metadata_url, metadata_url)
    write_public(files.credentials_uri, metadata_url + CREDENTIALS_PATH)
    role_arn = cloud.role_arn(ROLE)
    credentials: dict[str, dict[str, object]] = {
        "uploader": {"type": "kms_secret", "secret_name": secret, "properties_file": properties, "poll_interval": "1s"},
        "session": {"type": "ram_role_arn", "role_arn": role_arn, "base": "uploader"},
        "instance": {"type": "ecs_ram_role", "metadata_endpoint": metadata_url},
        "neighbour": {"type": "credentials_uri", "credentials_uri": metadata_url + CREDENTIALS_PATH},
        "pod": {
            "type": "oidc_role_arn",
            "role_arn": role_arn,
            "oidc_provider_arn": provider_arn,
            "oidc_token_file_path": files.oidc_token,
        },
        "keypair": {"type": "rsa_key_pair", "public_key_id": pair.public_key_id, "private_key_file": files.rsa_key},
    }
    tables = [_agent(files.directory), _cloud(cloud.region_id, endpoints, files.directory.parent / "ca.pem")]
    tables += [_credential(files.directory, name, fields) for name, fields in credentials.items()]
    return write_config(files.config, "\n".join(tables))


def _table(header: str, fields: dict[str, object]) -> str:
    """Return a TOML table; a JSON string is a TOML basic string."""
    return f"{header}\n" + "".join(f"{key} = {json.dumps(str(value))}\n" for key, value in fields.items())


def _agent(directory: Path) -> str:
    places = {"state_directory": directory / "state", "runtime_directory": directory / "run"}
    audit = _table("[agent.audit]", {"path": directory / "log" / "audit.jsonl"})
    return _table("[agent]", dict(places)) + "\n" + audit


def _cloud(region_id: str, named: Mapping[str, str], ca_file: Path) -> str:
    endpoints = {f"{product}_endpoint": named[product] for product in ("sts", "kms", "ram", "ims")}
    return _table("[cloud]", {"region_id": region_id, **endpoints, "ca_file": ca_file})


def _credential(directory: Path, name: str, fields: dict[str, object]) -> str:
    sink = {"type": "json", "path": directory / "app" / f"{name}.json"}
    provider = _table(f"[credentials.{name}.provider]", fields)
    return provider + "\n" + _table(f"[[credentials.{name}.sinks]]", dict(sink))
