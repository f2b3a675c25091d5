"""The issue's own end: on a fresh machine, install, write a config, start, and rotate ten times; nobody is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import eventually
from tests.support.systemd.machine import INI, UNIT, Machine

ROTATIONS = 10


@pytest.fixture
def fresh(installable: None) -> Iterator[Machine]:
    """A machine of one's own."""
    made = Machine()
    yield made
    made.close()


def test_ten_rotations_on_a_fresh_machine_refuse_no_request(fresh: Machine) -> None:
    """Installed, configured, `systemd-setup --install`, `systemctl start`: ten rotations, each old key dead at once after.

    The application reloads, and signs twenty times a second. As soon as it has signed with a new key every key before
    is taken away, so that one request with an old key would be refused.
    """
    fresh.configure()
    fresh.setup()
    fresh.start()
    fresh.picked_up(fresh.cloud.current())
    for _ in range(ROTATIONS):
        newest = fresh.cloud.rotate()
        fresh.picked_up(newest)
        fresh.cloud.retire()
        sent = fresh.tally()["sent"]
        eventually(lambda sent=sent: fresh.tally()["sent"] > sent + 3, "the application works on")
    tally = fresh.tally()
    assert tally["refused"] == {}
    assert tally.get("unanswered", 0) == 0
    assert tally["answered"] == tally["sent"] >= 4 * ROTATIONS
    assert tally["told"] == ROTATIONS + 1
    assert [record["generation"] for record in fresh.audit("published")] == list(range(1, ROTATIONS + 2))
    assert newest in fresh.bed.read(INI)
    eventually(lambda: fresh.show("StatusText") == "1 of 1 credentials fresh")
    assert (fresh.show("NRestarts"), fresh.show("ActiveState")) == ("0", "active")
    assert fresh.keyturn("audit", "verify").returncode == 0
    assert fresh.journal("-o", "cat", "-p", "warning") in ("", "-- No entries --\n")
    print(fresh.systemctl("status", "--no-pager", "--lines=3", UNIT).stdout, tally)
