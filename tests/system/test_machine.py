"""Which machine a state belongs to."""

from __future__ import annotations

from pathlib import Path

from agent.system.machine import machine


def test_a_machine_is_told_by_its_id_and_not_by_less(tmp_path: Path) -> None:
    """The same id gives the same fingerprint, which does not show it; no id is one too."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("d41d8cd98f00b204e9800998ecf8427e\n")
    other.write_text("00000000000000000000000000000001\n")
    assert machine(one, {}) == machine(one, {}) != machine(other, {})
    assert machine(tmp_path / "none", {}) != machine(one, {})
    assert machine(one, {}) not in one.read_text()


def test_in_function_compute_the_function_is_the_machine(tmp_path: Path) -> None:
    """Its instances come and go, each with an id and a name of its own; account, region and function stay."""
    fc = {"FC_ACCOUNT_ID": "1", "FC_REGION": "cn-hangzhou", "FC_FUNCTION_NAME": "rotate"}
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1\n")
    other.write_text("2\n")
    assert machine(one, {**fc, "FC_INSTANCE_ID": "c-1"}) == machine(other, {**fc, "FC_INSTANCE_ID": "c-2"})
    for changed in ({"FC_FUNCTION_NAME": "other"}, {"FC_REGION": "cn-beijing"}, {"FC_ACCOUNT_ID": "2"}):
        assert machine(one, {**fc, **changed}) != machine(one, fc)
