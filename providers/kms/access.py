"""The access to a secret, that is who asks KMS and where: the meaning of `credentials_type` and its related keys.

The types are those of aliyun-secret-manager-client 0.1.5 (`credentials_properties_utils.init_credentials_provider`), and
`oidc_role_arn` of the V2 clients:

* `client_key`: a ClientKey of an application access point.
* `ak`: an AccessKey; `token`: the same under other names, because the official client makes an AccessKeyCredential
  of the two and signs as with any AccessKey. KMS documents nothing else behind it.
* `ram_role` and `sts`: two names for AssumeRole with an AccessKey; `credentials_policy` narrows the session (Go, JDBC).
* `ecs_ram_role`: the RAM role of the instance; here by the metadata service's hardened mode.
* `oidc_role_arn`: AssumeRoleWithOIDC; each key from its `ALIBABA_CLOUD_*` variable by default.

`UNSUPPORTED` has the types that other clients document and keyturn does not speak.

Dedicated instances (`cache_client_dkms_config_info`) bring their own ClientKeys and come before the regions of the
shared gateway, as in the official client; without regions no `credentials_type` is needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from agent.core.credential import Credential
from agent.core.errors import CredentialFileError
from agent.core.settings import endpoint_fault
from agent.core.text import nearest
from providers.kms.dedicated_config import KEY as INSTANCES
from providers.kms.dedicated_config import Instance, instances
from providers.kms.password import PasswordSource
from providers.kms.properties import REGION_KEYS, WITHOUT_EFFECT, Properties, client_key_password, shown

_REGION_ID = re.compile(r"[a-z0-9-]{2,64}")


@dataclass(frozen=True, kw_only=True)
class Region:
    """A region in which the secret is asked for."""

    region_id: str
    endpoint: str | None = None  # None: the public or, with vpc, the VPC gateway of the region
    vpc: bool = False

    @property
    def host(self) -> str:
        """The endpoint, by the rule of the official client's `kms_end_point_utils.py`."""
        return self.endpoint or f"{'kms-vpc' if self.vpc else 'kms'}.{self.region_id}.aliyuncs.com"

    def problem(self) -> str | None:
        """Return what is wrong with it, None when nothing is."""
        if not _REGION_ID.fullmatch(self.region_id):
            return 'region_id: want a region such as "cn-hangzhou"'
        found = endpoint_fault(self.host)
        return f"endpoint: {found}" if found else None


@dataclass(frozen=True, kw_only=True)
class RegionOfFile(Region):
    """A region of a properties file, which may have an authority of its own."""

    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class ByClientKey:
    """Access by a ClientKey on disk."""

    key_file: str
    password: PasswordSource


@dataclass(frozen=True, slots=True)
class ByAccessKey:
    """Access by an AccessKey in the properties file."""

    file: str
    key: Credential


@dataclass(frozen=True, slots=True)
class ByRole:
    """Access by a session of a RAM role, assumed with an AccessKey in the properties file."""

    file: str
    key: Credential
    role_arn: str
    session_name: str
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class ByInstanceRole:
    """Access by the session that the metadata service hands out."""

    file: str
    role_name: str


@dataclass(frozen=True, slots=True)
class ByOidcRole:
    """Access by a session of a RAM role that a token in a file may assume. What is None comes from its variable."""

    file: str
    role_arn: str | None
    provider_arn: str | None
    token_file: str | None
    session_name: str | None
    policy: str | None
    duration_s: int | None
    sts_endpoint: str | None


Identity = ByClientKey | ByAccessKey | ByRole | ByInstanceRole | ByOidcRole


@dataclass(frozen=True, slots=True)
class Access:
    """The identity that asks, and the places in their order: the dedicated instances, then the regions.

    Attributes:
        identity: the identity that asks the regions; None where there are none.
    """

    identity: Identity | None
    regions: tuple[Region, ...] = ()
    instances: tuple[Instance, ...] = ()


def access_of(read: Properties, environ: Mapping[str, str]) -> Access:
    """Return the access that a properties file describes.

    Args:
        read: the file.
        environ: where what it names is looked up.

    Raises:
        CredentialFileError: something is missing or impossible; the text names file and key.
    """
    dedicated = instances(read, environ)
    if dedicated and not read.get("cache_client_region_id"):
        return Access(None, (), dedicated)
    regions = _regions(read)
    kind = read.need("credentials_type")
    if kind not in _TYPES:
        why = "keyturn does not support it" if kind in UNSUPPORTED else "none of those that Alibaba's clients document"
        raise CredentialFileError(
            f"{read.path}: credentials_type={shown_type(kind)}: {why}", f"use one of: {', '.join(_TYPES)}"
        )
    return Access(_TYPES[kind].identity(read, environ), regions, dedicated)


def shown_type(kind: str) -> str:
    """Return the value of `credentials_type` as a message may show it: what is no word may be a secret."""
    return kind if re.fullmatch(r"[a-z0-9_]{1,32}", kind) else "…"


def idle_keys(read: Properties) -> Iterator[tuple[str, str]]:
    """Yield the keys that are set but have no effect, each with the reason."""
    for key, reason in WITHOUT_EFFECT.items():
        if read.get(key):
            yield key, f"it is without effect in keyturn: {reason}"
    kind, dedicated = read.get("credentials_type") or "", bool(read.get(INSTANCES))
    if dedicated and kind and not read.get("cache_client_region_id"):
        yield "credentials_type", "only dedicated instances are asked, by their own ClientKeys"
    elif kind in _TYPES:
        used = {*_TYPES[kind].keys, *(PASSWORD_KEYS if dedicated else ())}
        for key in sorted(IDENTITY_KEYS - used):
            if read.get(key):
                yield key, f"it means nothing to credentials_type={kind}"


def unknown_keys_of_regions(read: Properties) -> Iterator[tuple[str, str | None]]:
    """Yield the keys of the regions that no client documents, each as it may be shown and with the nearest known one."""
    if read.get("cache_client_region_id"):
        for key in dict.fromkeys(key for entry in read.regions() for key in entry.unknown):
            yield shown(key), nearest(key, REGION_KEYS)


def _regions(read: Properties) -> tuple[Region, ...]:
    regions = tuple(
        RegionOfFile(region_id=e.region_id, endpoint=e.endpoint, vpc=e.vpc, ca_file=e.ca_file) for e in read.regions()
    )
    for region in regions:
        if problem := region.problem():
            raise CredentialFileError(f"{read.path}: cache_client_region_id: {problem}", "correct that region")
    return regions


def _client_key(read: Properties, environ: Mapping[str, str]) -> Identity:
    key_file = read.path_of("client_key_private_key_path") or read.need("client_key_private_key_path")
    return ByClientKey(key_file, client_key_password(read, environ))


def _access_key(read: Properties, environ: Mapping[str, str]) -> Identity:
    return ByAccessKey(read.path, _key(read, "credentials_access_key_id", "credentials_access_secret"))


def _token(read: Properties, environ: Mapping[str, str]) -> Identity:
    return ByAccessKey(read.path, _key(read, "credentials_access_token_id", "credentials_access_token"))


def _role(read: Properties, environ: Mapping[str, str]) -> Identity:
    key = _key(read, "credentials_access_key_id", "credentials_access_secret")
    role_arn, session_name = read.need("credentials_role_arn"), read.need("credentials_role_session_name")
    return ByRole(read.path, key, role_arn, session_name, read.get("credentials_policy"))


def _instance_role(read: Properties, environ: Mapping[str, str]) -> Identity:
    return ByInstanceRole(read.path, read.need("credentials_role_name"))


def _oidc_role(read: Properties, environ: Mapping[str, str]) -> Identity:
    sts_region = read.get("credentials_sts_region_id")
    return ByOidcRole(
        file=read.path,
        role_arn=read.get("credentials_role_arn"),
        provider_arn=read.get("credentials_oidc_provider_arn"),
        token_file=read.path_of("credentials_oidc_token_file_path"),
        session_name=read.get("credentials_role_session_name"),
        policy=read.get("credentials_policy"),
        duration_s=_seconds(read, "credentials_duration_seconds"),
        sts_endpoint=read.get("credentials_sts_endpoint") or (f"sts.{sts_region}.aliyuncs.com" if sts_region else None),
    )


def _seconds(read: Properties, key: str) -> int | None:
    text = read.get(key)
    if text is not None and not re.fullmatch("[0-9]{1,9}", text):
        raise CredentialFileError(f"{read.path}: {key}: want whole seconds", "correct that line")
    return None if text is None else int(text)


def _key(read: Properties, id_key: str, secret_key: str) -> Credential:
    """Return an AccessKey of the file.

    Its id and secret go into headers and signatures, so a blank or a line break in one is refused here, with the key's name.
    """
    access_key_id = read.need(id_key)
    for key in (id_key, secret_key):
        if not _is_one_word(read.need(key)):
            raise CredentialFileError(
                f"{read.path}: {key} has a blank or a character outside ASCII", "copy it again, unquoted"
            )
    return Credential(access_key_id=access_key_id, access_key_secret=read.secret(secret_key))


def _is_one_word(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


@dataclass(frozen=True, slots=True)
class _Type:
    """The reader of a `credentials_type`, and the keys that it uses."""

    identity: Callable[[Properties, Mapping[str, str]], Identity]
    keys: tuple[str, ...]


PASSWORD_KEYS = (
    "client_key_password_from_env_variable",
    "client_key_password_from_file_path",
    "client_key_password",
)
_AK_KEYS = ("credentials_access_key_id", "credentials_access_secret")
_ASSUMED = ("credentials_role_arn", "credentials_role_session_name", "credentials_policy")
_ROLE_KEYS = (*_AK_KEYS, *_ASSUMED)
_OIDC_KEYS = (
    *_ASSUMED,
    "credentials_oidc_provider_arn",
    "credentials_oidc_token_file_path",
    "credentials_duration_seconds",
    "credentials_sts_endpoint",
    "credentials_sts_region_id",
)

_TYPES = {
    "client_key": _Type(_client_key, ("client_key_private_key_path", *PASSWORD_KEYS)),
    "ak": _Type(_access_key, _AK_KEYS),
    "token": _Type(_token, ("credentials_access_token_id", "credentials_access_token")),
    "ram_role": _Type(_role, _ROLE_KEYS),
    "sts": _Type(_role, _ROLE_KEYS),
    "ecs_ram_role": _Type(_instance_role, ("credentials_role_name",)),
    "oidc_role_arn": _Type(_oidc_role, _OIDC_KEYS),
}
"""`credentials_type` of the properties file -> its reader and keys."""

UNSUPPORTED = frozenset(
    {
        "ack_oidc_jwt",
        "aws_ec2_pkcs7",
        "aws_eks_oidc",
        "azure_aks_oidc",
        "azure_vm_oidc",
        "ecs_instance_identity",
        "gcp_gke_oidc",
        "gcp_vm_oidc",
        "generic_kubernetes_oidc",
    }
)
"""The types of the V2 client for Go that ask KMS for a bearer token, by an exchange that Alibaba documents nowhere else."""

IDENTITY_KEYS = frozenset(key for each in _TYPES.values() for key in each.keys)
"""Every key that belongs to some type."""
