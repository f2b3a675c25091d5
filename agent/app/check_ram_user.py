"""What `keyturn check` says of a RAM user whose keys keyturn itself makes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from agent.app.wiring import Factory
from agent.cloud.looks import list_access_keys
from agent.core.errors import KeyturnError
from agent.core.finding import Finding
from agent.core.ram_user import HasRamUser
from agent.refresh.managed_credential import ManagedCredential
from agent.sinks.offered import can_be_read_back


def local_findings(managed: ManagedCredential) -> Iterator[Finding]:
    """Yield what can be seen on this machine."""
    if not isinstance(managed.settings.provider, HasRamUser):
        return
    if not any(can_be_read_back(sink) for sink in managed.sinks):
        yield Finding(
            "error",
            f"credentials.{managed.name}.sinks",
            "none can be read back, and the secret of a RAM user's key stands in the sinks alone: a restart would lose it",
            "add a sink such as env_file, credentials_ini or json",
        )


def waits_for_first_key(managed: ManagedCredential) -> bool:
    """Return whether there is no value yet because keyturn will make the first one."""
    settings = managed.settings.provider
    return isinstance(settings, HasRamUser) and settings.ram_user.is_owner and managed.provider.context.in_use() is None


def findings(parts: Factory, managed: ManagedCredential, now: datetime) -> Iterator[Finding]:
    """Yield what RAM and STS say: whether the authority signs in, sees the keys, and is not the user itself."""
    settings = managed.settings.provider
    authority = parts.rotator(managed.name)
    if authority is None or not isinstance(settings, HasRamUser) or not settings.ram_user.is_owner:
        return
    place, cloud, user = (
        f"credentials.{managed.name}.provider.authority",
        parts.cloud_of(managed.name),
        settings.ram_user.user,
    )
    yield Finding.begins(place, "RAM and STS are asked")
    try:
        who = authority.fetch(now)
        arn = cloud.sts.get_caller_identity(who, now=now).arn
        yield Finding("ok", place, f"STS knows it as {arn}")
        if arn.endswith(f":user/{user}"):
            yield Finding(
                "warning",
                place,
                f"is a key of RAM user {user} itself: Alibaba restricts a key that leaked, which then cannot replace itself",
                "name another RAM user or a role",
            )
        keys = list_access_keys(cloud.ram, user, who, now=now)
        yield Finding("ok", place, f"sees {len(keys)} of at most 2 keys of RAM user {user}")
    except KeyturnError as error:
        yield Finding.of("error", place, error.as_problem())
    finally:
        authority.close()
