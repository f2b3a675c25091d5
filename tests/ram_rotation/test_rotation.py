"""A RAM user's keys against an emulated RAM: made, proved, published, told; and the old one disabled and deleted in time."""

from __future__ import annotations

from agent.ram_rotation.view import Rest, Wanted
from tests.support.ram_station import RamStation


def test_the_first_key_is_made_and_published(ram_station: RamStation) -> None:
    """A user without a key gets one, which the sinks hold and the dependents are told of."""
    ram_station.start()
    assert ram_station.keys == {ram_station.published: "Active"}
    assert ram_station.vm.holds(ram_station.published)
    assert all(one.generations == [1] for one in ram_station.dependents)


def test_a_rotation_replaces_the_key_and_leaves_the_old_one_for_a_while(ram_station: RamStation) -> None:
    """Both work; the record says which was replaced, and nothing is disabled before disable_after."""
    old = ram_station.start().published
    rest = ram_station.errand(Wanted.DUE)
    assert isinstance(rest, Rest) and rest.until is not None and not rest.is_wrong
    assert ram_station.published != old
    assert ram_station.keys == {old: "Active", ram_station.published: "Active"}
    replaced = ram_station.record.key(old)
    assert replaced is not None and replaced.replaced_at is not None
