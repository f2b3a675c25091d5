"""The unit that a process runs in is what an operator restarts."""

from __future__ import annotations

import pytest

from agent.system.procfs import unit_in


@pytest.mark.parametrize(
    ("cgroups", "unit"),
    [
        ("0::/system.slice/web.service\n", "web.service"),
        ("0::/system.slice/web.service/worker\n", "web.service"),
        ("0::/system.slice/system-worker.slice/worker@1.service\n", "worker@1.service"),
        ("9:pids:/other.service\n1:name=systemd:/system.slice/web.service\n0::/\n", "web.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/mine.service\n", ""),
        ("0::/user.slice/user-1000.slice/session-2.scope\n", ""),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_the_service_of_a_process_is_found_in_its_cgroup(cgroups: str, unit: str) -> None:
    """With either version of cgroups; none for a login, a container, or a service of a user's own manager."""
    assert unit_in(cgroups) == unit
