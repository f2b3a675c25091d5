"""The rotations of RAM users' keys of one application: what agent/ram_rotation is made with."""

from __future__ import annotations

from collections.abc import Callable

from agent.app.wiring import Application
from agent.cloud.openapi import Cloud
from agent.core.provider import Provider
from agent.ram_rotation.rotations import RamRotations


def rotations_of(application: Application, change: Callable[[Cloud], Cloud] = lambda real: real) -> RamRotations:
    """Return the rotations; nothing is looked at before `follow`.

    Args:
        application: whose RAM users they are.
        change: puts something in the place of the clients, in tests.
    """

    def means(name: str) -> tuple[Provider | None, Cloud]:
        return application.factory.rotator(name), change(application.factory.cloud_of(name))

    return RamRotations(application.engine, application.audit, means)
