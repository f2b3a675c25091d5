"""The rotations of RAM users' keys of one application: what agent/ram_rotation is made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.app.fleet import lease_opener
from agent.app.wiring import Application, Factory
from agent.cloud.openapi import Cloud
from agent.core.provider import Provider
from agent.core.settings import Settings
from agent.ram_rotation.rotations import RamRotations
from agent.ram_rotation.tenure import Terms


def rotations_of(application: Application, change: Callable[[Cloud], Cloud] = lambda real: real) -> RamRotations:
    """Return the rotations; nothing is looked at before `follow`.

    Args:
        application: whose RAM users they are.
        change: puts something in the place of the clients, in tests.
    """

    def means(name: str) -> tuple[Provider | None, Cloud]:
        return application.factory.rotator(name), change(application.factory.cloud_of(name))

    return RamRotations(application.engine, application.audit, means)


def terms_in_force(application: Application) -> dict[str, Terms]:
    """Return by what this host rotates the keys of RAM users, by credential. On the loop's thread."""
    return all_terms(application.settings, application.factory, application.environ)


def all_terms(settings: Settings, factory: Factory, environ: Mapping[str, str]) -> dict[str, Terms]:
    """Return by what a host of this config rotates the keys of RAM users, by credential.

    Args:
        settings: the config.
        factory: of its parts.
        environ: the environment of the agent.
    """
    found = {}
    for name, plan in factory.ram_users().items():
        takes_part = plan.is_owner or plan.may_lease
        opener = lease_opener(settings, factory.hostname, environ, plan.user) if takes_part else None
        found[name] = Terms(plan, opener)
    return found
