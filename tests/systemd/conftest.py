"""A real systemd: one machine per worker, reset between tests, with an application whose refusals are counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import eventually
from tests.support.systemd import bed, install
from tests.support.systemd.machine import Machine


@pytest.fixture(scope="session")
def possible() -> None:
    """Skip where no machine can be booted, with the reason."""
    reason = bed.missing()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def installable(possible: None) -> None:
    """Skip where keyturn cannot be installed into one."""
    reason = install.obstacle()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_machine(installable: None) -> Iterator[Machine]:
    """Booted once for each worker, with what the host has to give to keyturn (its drop-in, its polkit rule)."""
    made = Machine()
    try:
        made.configure()
        made.setup()
        yield made
    finally:
        made.close()


@pytest.fixture
def machine(shared_machine: Machine) -> Iterator[Machine]:
    """A machine with keyturn installed, configured and not started. Refused requests of the application fail the test."""
    shared_machine.reset()
    before = shared_machine.refused()
    yield shared_machine
    assert shared_machine.refused() == before == {}, "requests of the application were refused"


@pytest.fixture
def running(machine: Machine) -> Machine:
    """The same, with keyturn started, the application signing with what it published, and nothing owed."""
    machine.start()
    machine.picked_up(machine.cloud.current())
    eventually(lambda: machine.audit("notified"))
    return machine
