"""Who signs what in a config: the providers, their bases, the authorities of emergencies, and the collector of the log.

An identity that is used in several places is one identity with one policy. What the applications themselves do with
their credentials is not known here, and in no policy.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping

from agent.core.errors import KeyturnError
from agent.core.ram_user import HasRamUser
from agent.core.settings import CredentialSettings, ProviderSettings, Settings
from agent.ram_policy import calls
from agent.ram_policy.documents import Identity
from providers.ecs_ram_role import EcsRamRoleSettings
from providers.function_compute import FunctionComputeSettings
from providers.kms.access import ByAccessKey, ByClientKey, ByInstanceRole, ByOidcRole, ByRole
from providers.kms.access import Identity as Asker
from providers.kms.settings import KmsSecretSettings
from providers.oidc_role_arn import OidcRoleArnSettings
from providers.ram_role_arn import RamRoleArnSettings
from providers.static_parts import StaticSettings

_RAM_SECRET = "acs/ram/user/"
"""How KMS names the secret of a RAM user by default (KMS, CreateSecret: `$Auto`); the user's name follows."""


def identities(settings: Settings, environ: Mapping[str, str], only: str | None = None) -> list[Identity]:
    """Return everybody who signs calls for a config, with what they must be allowed.

    Args:
        settings: the config.
        environ: where the properties files' variables are looked up.
        only: the name of one credential; None for the whole config and the collector of its audit log.
    """
    found = _Found(settings, environ)
    for name, entry in settings.credentials.items():
        if only in (None, name):
            found.of_credential(name, entry)
    if only is None:
        found.collectors()
    return found.all()


class _Found:
    """The identities so far, each by what tells it from the others."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings, self._environ = settings, environ
        self._region = settings.cloud.region_id
        self._known: dict[Hashable, Identity] = {}

    def all(self) -> list[Identity]:
        return list(self._known.values())

    def of_credential(self, name: str, entry: CredentialSettings) -> None:
        place = f"credentials.{name}.provider"
        self._provider(place, entry.provider)
        if isinstance(entry.provider, HasRamUser):
            self._rotator(f"{place}.authority", entry.provider.authority, entry.provider.ram_user.user)
        if entry.canary and (user := self._user_of(name)):
            whose = self._whose(name, place)
            whose.use(f"credentials.{name}.canary", calls.see_own_keys(user))
        if entry.emergency is not None:
            self._authority(name, entry)

    def collectors(self) -> None:
        place = "agent.audit.path"
        note = "log:TLSVersion can be a condition of it; its values are documented nowhere, so try them before you rely on one"
        by_api = self._identity(
            "LoongCollector", "LoongCollector, where it ships the audit log with an AccessKey or a role"
        )
        by_api.use(place, calls.write_logs(self._region))
        by_kafka = self._identity(
            "Kafka", "a collector that ships the audit log by the Kafka protocol (Vector, Fluent Bit, rsyslog)"
        )
        by_kafka.use(place, *calls.write_logs_by_kafka(self._region))
        for one in (by_api, by_kafka):
            one.note(note)
            one.is_collector = True

    # What is asked of the cloud

    def _provider(self, place: str, settings: ProviderSettings) -> None:
        """Find what it takes to fetch from a provider."""
        if isinstance(settings, KmsSecretSettings):
            self._secret(place, settings)
        elif isinstance(settings, RamRoleArnSettings):
            self._assumed(place, settings)
        elif isinstance(settings, OidcRoleArnSettings):
            self._by_token(place, settings.role_arn, settings.oidc_provider_arn)
        elif isinstance(settings, EcsRamRoleSettings):
            self._of_instance(place, settings.role_name)
        elif isinstance(settings, FunctionComputeSettings):
            self._of_function(place)

    def _secret(self, place: str, settings: KmsSecretSettings) -> None:
        try:
            access = settings.access(self._environ)
        except KeyturnError as error:
            whose = self._identity(("file", settings.properties_file), f"whoever {settings.properties_file} names")
            whose.use(place, *calls.read_secret(settings.secret_name, self._region))
            whose.note(
                f"that file could not be read ({error.problem}); a ClientKey takes a rule of its access point instead"
            )
            return
        for instance in access.instances:
            self._client_key(place, instance.key_file).access_point.append(
                calls.secret_rule(settings.secret_name, instance=instance.endpoint)
            )
        for region in access.regions:
            if isinstance(access.identity, ByClientKey):
                vpc = region.vpc or region.host.startswith("kms-vpc.")
                rule = calls.secret_rule(settings.secret_name, vpc=vpc)
                point = self._client_key(place, access.identity.key_file).access_point
                point += [rule] * (rule not in point)
            elif access.identity is not None:
                reader = self._asker(place, access.identity)
                reader.use(place, *calls.read_secret(settings.secret_name, region.region_id))

    def _asker(self, place: str, who: Asker) -> Identity:
        """Return the RAM identity of a properties file that reads the secret, and find what it takes to become it."""
        if isinstance(who, ByRole):
            role = self._role(who.role_arn)
            role.trust({"RAM": [f"acs:ram::{calls.ACCOUNT}:user/<USER_OF_THE_KEY>"]})
            self._key_in(who.file, who.key.access_key_id).use(place, calls.assume(who.role_arn))
            return self._narrowed(role, who.policy)
        if isinstance(who, ByInstanceRole):
            return self._of_instance(place, who.role_name)
        if isinstance(who, ByOidcRole):
            return self._narrowed(self._by_token(place, who.role_arn, who.provider_arn), who.policy)
        assert isinstance(who, ByAccessKey)
        return self._key_in(who.file, who.key.access_key_id)

    def _assumed(self, place: str, settings: RamRoleArnSettings) -> None:
        base = self._whose(settings.base, f"{place}.base")
        base.use(f"{place}.base", calls.assume(settings.role_arn))
        condition = {"StringEquals": {"sts:ExternalId": settings.external_id}} if settings.external_id else None
        role = self._role(settings.role_arn)
        role.use(place)
        role.trust({"RAM": [self._principal(settings.base)]}, condition)
        if isinstance(settings.base, ProviderSettings):
            self._provider(f"{place}.base", settings.base)

    def _authority(self, name: str, entry: CredentialSettings) -> None:
        """Find what the emergency's authority needs; it rotates secrets of KMS, and users whose keys keyturn makes."""
        emergency, place = entry.emergency, f"credentials.{name}.emergency.authority"
        if emergency is not None and isinstance(entry.provider, HasRamUser):
            self._rotator(place, emergency.authority, entry.provider.ram_user.user)
        if emergency is None or not isinstance(entry.provider, KmsSecretSettings):
            return
        if isinstance(emergency.authority, ProviderSettings):
            self._provider(place, emergency.authority)
        user = self._user_of(name) or "<RAM_USER>"
        whose = self._whose(emergency.authority, place)
        secret = entry.provider.secret_name
        whose.use(place, calls.rotate_secret(secret, self._region), *calls.end_old_key(user))
        whose.use(place, *calls.foresee(secret, self._region, user))

    def _rotator(self, place: str, authority: ProviderSettings | str, user: str) -> None:
        if isinstance(authority, ProviderSettings):
            self._provider(place, authority)
        self._whose(authority, place).use(place, *calls.rotate_user(user))

    # Who somebody is

    def _whose(self, source: ProviderSettings | str, place: str) -> Identity:
        """Return the identity whose key a credential of this config, or an inline provider, gives."""
        if isinstance(source, str):
            settings, place = self._settings.credentials[source].provider, f"credentials.{source}.provider"
        else:
            settings = source
        if isinstance(settings, RamRoleArnSettings | OidcRoleArnSettings):
            return self._role(settings.role_arn)
        if isinstance(settings, EcsRamRoleSettings):
            return self._instance_role(settings.role_name)
        if isinstance(settings, FunctionComputeSettings):
            return self._function_role()
        if isinstance(settings, KmsSecretSettings):
            name = f"the RAM user of secret {settings.secret_name}"
            return self._identity(("secret", settings.secret_name), name)
        if isinstance(settings, StaticSettings):
            return self._identity(repr(settings), f"the RAM identity whose key {_source(settings)} holds")
        return self._identity(place, f"the RAM identity that {place} (type {settings.type}) gives")

    def _principal(self, source: ProviderSettings | str) -> str:
        """Return the ARN by which a trust policy names somebody."""
        settings = self._settings.credentials[source].provider if isinstance(source, str) else source
        if isinstance(settings, RamRoleArnSettings | OidcRoleArnSettings):
            return settings.role_arn or _role_arn(None)
        if isinstance(settings, EcsRamRoleSettings):
            return _role_arn(settings.role_name)
        user = self._user_of(source) if isinstance(source, str) else None
        return f"acs:ram::{calls.ACCOUNT}:user/{user or '<USER_OF_THE_KEY>'}"

    def _user_of(self, name: str) -> str | None:
        """Return the RAM user of a credential's secret, where the config says it."""
        entry = self._settings.credentials[name]
        if isinstance(entry.provider, HasRamUser):
            return entry.provider.ram_user.user
        if entry.emergency is not None and entry.emergency.ram_user_name:
            return entry.emergency.ram_user_name
        if not isinstance(entry.provider, KmsSecretSettings):
            return None
        return entry.provider.secret_name.partition(_RAM_SECRET)[2] or "<RAM_USER>"

    def _role(self, arn: str | None) -> Identity:
        return self._identity(("role", arn), f"the RAM role {arn or _role_arn(None)}")

    def _instance_role(self, name: str | None) -> Identity:
        return self._role(_role_arn(name))

    def _of_instance(self, place: str, name: str | None) -> Identity:
        role = self._instance_role(name)
        role.use(place)
        role.trust({"Service": ["ecs.aliyuncs.com"]})
        return role

    def _function_role(self) -> Identity:
        return self._identity("function", "the RAM role of the function in Function Compute")

    def _of_function(self, place: str) -> None:
        role = self._function_role()
        role.use(place)
        role.trust({"Service": ["fc.aliyuncs.com"]})

    def _by_token(self, place: str, role_arn: str | None, provider_arn: str | None) -> Identity:
        """Return a role that an OIDC token may assume (RAM, "Create a RAM role for a trusted IdP": iss and aud are required)."""
        role = self._role(role_arn)
        role.use(place)
        federated = provider_arn or f"acs:ram::{calls.ACCOUNT}:oidc-provider/<OIDC_PROVIDER>"
        claims = {"oidc:iss": ["<OIDC_ISSUER>"], "oidc:aud": ["<OIDC_AUDIENCE>"], "oidc:sub": ["<OIDC_SUBJECT>"]}
        role.trust({"Federated": [federated]}, {"StringEquals": claims})
        return role

    def _narrowed(self, role: Identity, policy: str | None) -> Identity:
        if policy is not None:
            role.note("the sessions are narrowed by a policy in the properties file, which must allow the same")
        return role

    def _key_in(self, file: str, access_key_id: str) -> Identity:
        return self._identity(("key", access_key_id), f"the RAM user of AccessKey {access_key_id} in {file}")

    def _client_key(self, place: str, file: str) -> Identity:
        point = self._identity(("client key", file), f"the application access point of the ClientKey {file}")
        point.use(place)
        return point

    def _identity(self, key: Hashable, name: str) -> Identity:
        return self._known.setdefault(key, Identity(name))


def _role_arn(name: str | None) -> str:
    return f"acs:ram::{calls.ACCOUNT}:role/{name or '<ROLE>'}"


def _source(settings: StaticSettings) -> str:
    """Return where the id of a static key comes from; settings without one are named by their type."""
    sources: Iterator[str] = (
        f"{'variable ' if 'variable' in key else ''}{value}"
        for key, value in vars(settings).items()
        if key.startswith("access_key_id_from") and value
    )
    return next(sources, f"type {settings.type}")
