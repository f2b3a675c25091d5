"""The settings of `kms_secret`, and who asks where: inline, or by the official client's `secretsmanager.properties`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from agent.core.errors import CredentialFileError
from agent.core.settings import Duration, FilePath, ProviderSettings, endpoint_fault
from providers import properties
from providers.clientkey import PasswordSource
from providers.secret_data import FIELD_NAMES

_SECRET_NAME = re.compile(r"[A-Za-z0-9_/+=.@:-]{1,512}")  # a name (KMS: 1 to 192 characters) or an ARN
_REGION_ID = re.compile(r"[a-z0-9-]{2,64}")


@dataclass(frozen=True, kw_only=True)
class Region:
    """One of `regions`: where the secret is asked for."""

    region_id: str
    endpoint: str | None = None  # None: the public or, with vpc, the VPC gateway of the region
    vpc: bool = False

    @property
    def host(self) -> str:
        """The endpoint, by the rule of the official client's `kms_end_point_utils.py`."""
        return self.endpoint or f"{'kms-vpc' if self.vpc else 'kms'}.{self.region_id}.aliyuncs.com"

    def problem(self) -> str | None:
        """Say what is wrong with it, None when nothing is."""
        if not _REGION_ID.fullmatch(self.region_id):
            return 'region_id: want a region such as "cn-hangzhou"'
        found = endpoint_fault(self.host)
        return f"endpoint: {found}" if found else None


@dataclass(frozen=True, kw_only=True)
class KmsSecretSettings(ProviderSettings):
    """`type = "kms_secret"`."""

    secret_name: str
    poll_interval: Duration = field(default=Duration(60))
    version_stage: str = "ACSCurrent"
    properties_file: FilePath | None = None
    client_key_private_key_path: FilePath | None = None
    client_key_password_from_file_path: FilePath | None = None
    client_key_password_from_env_variable: str | None = None
    regions: tuple[Region, ...] = ()
    ca_file: FilePath | None = None
    fields: Mapping[str, str] = field(default_factory=dict)

    def access(self) -> Access:
        """Who asks and where, from the properties file as it is now, or from these settings.

        Raises:
            CredentialFileError: the properties file is missing, malformed or asks for what is not supported.
            NotPermittedError: the agent's user may not read it.
        """
        if self.properties_file:
            return _access_of(properties.read(self.properties_file))
        password = PasswordSource(self.client_key_password_from_env_variable, self.client_key_password_from_file_path)
        return Access(str(self.client_key_private_key_path), password, self.regions)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Say what is wrong with these settings, as (key, sentence)."""
        if not _SECRET_NAME.fullmatch(self.secret_name):
            yield "secret_name", "want the name or the ARN of a secret"
        if not self.version_stage:
            yield "version_stage", 'want a stage such as "ACSCurrent"'
        yield from self._problems_of_properties() if self.properties_file else self._problems_inline()
        yield from self._problems_of_fields()

    def _problems_of_properties(self) -> Iterator[tuple[str, str]]:
        for key in _INLINE_KEYS:
            if getattr(self, key):
                yield key, "stands in the properties file already; want either properties_file or the inline keys"

    def _problems_inline(self) -> Iterator[tuple[str, str]]:
        if not self.client_key_private_key_path:
            yield "properties_file", "missing; want either properties_file or client_key_private_key_path"
            return
        if not (self.client_key_password_from_file_path or self.client_key_password_from_env_variable):
            yield "client_key_password_from_file_path", "missing; say where the ClientKey's password is"
        if not self.regions:
            yield "regions", 'missing; want for example [{ region_id = "cn-hangzhou" }]'
        for index, region in enumerate(self.regions):
            if problem := region.problem():
                yield f"regions[{index}]", problem

    def _problems_of_fields(self) -> Iterator[tuple[str, str]]:
        for name in self.fields:
            if name not in FIELD_NAMES:
                yield f"fields.{name}", f"unknown; want one of {', '.join(FIELD_NAMES)}"
        for name in ("access_key_id", "access_key_secret"):
            if self.fields and not self.fields.get(name):
                yield f"fields.{name}", "missing; say which key of the secret's JSON it is"


_INLINE_KEYS = (
    "client_key_private_key_path",
    "client_key_password_from_file_path",
    "client_key_password_from_env_variable",
    "regions",
)


@dataclass(frozen=True, slots=True)
class Access:
    """Who asks, and where: from the config or from a properties file."""

    key_file: str
    password: PasswordSource
    regions: tuple[Region, ...]


def _access_of(read: properties.Properties) -> Access:
    if read.get("cache_client_dkms_config_info"):
        raise CredentialFileError(
            f"{read.path}: cache_client_dkms_config_info (the dedicated instance gateway) is not supported yet by "
            "this version of keyturn",
            "name the shared gateway in cache_client_region_id instead",
        )
    kind = read.need("credentials_type")
    if kind not in _ACCESS:
        raise CredentialFileError(
            f"{read.path}: credentials_type={kind} is not supported yet by this version of keyturn",
            f"use one of: {', '.join(_ACCESS)}",
        )
    return _ACCESS[kind](read)


def _client_key_access(read: properties.Properties) -> Access:
    key_file = read.path_of("client_key_private_key_path") or read.need("client_key_private_key_path")
    password = PasswordSource(
        read.get("client_key_password_from_env_variable"), read.path_of("client_key_password_from_file_path")
    )
    regions = tuple(Region(region_id=e.region_id, endpoint=e.endpoint, vpc=e.vpc) for e in read.regions())
    for region in regions:
        if problem := region.problem():
            raise CredentialFileError(f"{read.path}: cache_client_region_id: {problem}", "correct that region")
    return Access(key_file, password, regions)


_ACCESS: dict[str, Callable[[properties.Properties], Access]] = {"client_key": _client_key_access}
"""`credentials_type` of the properties file -> how it is read: the place for the other documented types."""
