"""What `check` says of `[agent.endpoint]`."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from agent.core.finding import Finding
from agent.core.settings import AgentSettings
from agent.http.check import address_finding
from agent.http.listener import bind
from agent.system.tcp_peer import tcp_peer

PLACE = "agent.endpoint"


def findings(agent: AgentSettings) -> Iterator[Finding]:
    """Yield whether the address can be had, and whether the kernel says who is on the other end of a connection."""
    if agent.endpoint is None:
        return
    yield address_finding(f"{PLACE}.listen", agent.endpoint.listen)
    try:
        _ask_kernel()
    except OSError as error:
        yield Finding(
            "warning",
            PLACE,
            f"the kernel does not tell this process who asks ({error.strerror}), so nobody is let in where `serve` names users",
            "run `keyturn systemd-setup --install` as root, then `systemctl restart keyturn` (AF_NETLINK)",
        )


def _ask_kernel() -> None:
    with bind("127.0.0.1:0") as listener:
        listener.listen(1)
        with socket.create_connection(listener.getsockname()):
            accepted, _address = listener.accept()
            with accepted:
                tcp_peer(accepted)
