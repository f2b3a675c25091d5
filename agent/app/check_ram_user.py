"""What `keyturn check` says of a RAM user whose keys keyturn itself makes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from agent.app.wiring import Factory
from agent.cloud.looks import list_access_keys
from agent.core.errors import KeyturnError
from agent.core.finding import Finding
from agent.core.lease import Lease
from agent.core.ram_user import HasRamUser, RamUserPlan
from agent.core.settings import Settings
from agent.ram_rotation.tenure import others, two_owners
from agent.refresh.managed_credential import ManagedCredential
from agent.sinks.offered import can_be_read_back

LIVE_S = 90.0
"""Seconds for which a host that said that it is the owner counts as there."""
SHORT = timedelta(hours=1)
"""A shorter `disable_after` is warned of."""


def local_findings(managed: ManagedCredential, *, has_fleet: bool) -> Iterator[Finding]:
    """Yield what can be seen on this machine.

    Args:
        managed: the credential.
        has_fleet: the config has `[fleet]`.
    """
    if not isinstance(managed.settings.provider, HasRamUser):
        return
    yield from _owner(managed.name, managed.settings.provider.ram_user, has_fleet=has_fleet)
    if managed.settings.provider.ram_user.rest < SHORT:
        yield Finding(
            "warning",
            f"credentials.{managed.name}.provider.disable_after",
            "is less than an hour: a dependent that reads the file late, or a copy of the key that is used seldom, is cut off, "
            "for RAM says up to when a key rested, and not who still has it",
            'such as "24h"',
        )
    if not any(can_be_read_back(sink) for sink in managed.sinks):
        yield Finding(
            "error",
            f"credentials.{managed.name}.sinks",
            "none can be read back, and the secret of a RAM user's key stands in the sinks alone: a restart would lose it",
            "add a sink such as env_file, credentials_ini or json",
        )


def _owner(name: str, plan: RamUserPlan, *, has_fleet: bool) -> Iterator[Finding]:
    place = f"credentials.{name}.provider.owner"
    if plan.is_owner:
        what = (
            f"this host makes, disables and deletes the keys of RAM user {plan.user}, so no other host may say the same"
        )
        yield Finding("ok", place, what)
    elif plan.may_lease and has_fleet:
        yield Finding(
            "ok",
            place,
            f"is left open: the host of the fleet that has its lease makes, disables and deletes the keys of RAM user {plan.user}, "
            "and no other host has them",
        )
    else:
        what = f"this host changes nothing of RAM user {plan.user}, and no rotation happens here"
        yield Finding("warning", place, what, "set owner = true on the one host that is to rotate")


def leased_users(settings: Settings) -> dict[str, RamUserPlan]:
    """Return the RAM users, by credential, of whose rotation the fleet's board knows: all but those of `owner = false`."""
    found = {
        name: one.provider.ram_user
        for name, one in settings.credentials.items()
        if isinstance(one.provider, HasRamUser)
    }
    return {name: plan for name, plan in found.items() if plan.is_owner or plan.may_lease}


def owner_finding(name: str, plan: RamUserPlan, lease: Lease, now: datetime) -> Finding:
    """Return what the board says of who rotates a RAM user's keys."""
    place, host = f"credentials.{name}.provider.owner", lease.host
    if not host:
        return Finding("ok", place, "by the fleet's board no host rotates yet")
    if lease.is_ours:
        return Finding("ok", place, "by the fleet's board this host rotates")
    if plan.is_owner and lease.is_claimed and lease.silent_s < LIVE_S:
        rest = two_owners(lease, plan.user)
        return Finding("error", place, rest.text, rest.remedy)
    if plan.is_owner:
        return Finding("ok", place, f"host {host} rotated last, and gives way to this one as soon as keyturn runs here")
    if lease.is_claimed or lease.left_s:
        return Finding("ok", place, f"by the fleet's board host {host} rotates")
    rest = others(lease, plan.user, name, now)
    return Finding("warning", place, f"{rest.text}, unless this host has it already", rest.remedy)


def waits_for_first_key(managed: ManagedCredential, *, has_fleet: bool) -> bool:
    """Return whether there is no value yet because keyturn will make the first one, here or on another host of the fleet."""
    settings = managed.settings.provider
    return _may_rotate(settings, has_fleet=has_fleet) and managed.provider.context.in_use() is None


def _may_rotate(settings: object, *, has_fleet: bool) -> bool:
    if not isinstance(settings, HasRamUser):
        return False
    return settings.ram_user.is_owner or (settings.ram_user.may_lease and has_fleet)


def findings(parts: Factory, managed: ManagedCredential, now: datetime, *, has_fleet: bool) -> Iterator[Finding]:
    """Yield what RAM and STS say: whether the authority signs in, sees the keys, and is not the user itself."""
    settings = managed.settings.provider
    authority = parts.rotator(managed.name)
    if authority is None or not isinstance(settings, HasRamUser) or not _may_rotate(settings, has_fleet=has_fleet):
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
