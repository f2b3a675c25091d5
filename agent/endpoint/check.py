"""What `check` says of `[agent.endpoint]`."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from agent.core.finding import Finding
from agent.core.settings import FileSinkSettings, Settings
from agent.http.check import address_finding
from agent.http.listener import bind
from agent.system.tcp_peer import tcp_peer

PLACE = "agent.endpoint"


def findings(settings: Settings) -> Iterator[Finding]:
    """Yield whether the address can be had, who may ask, and whether the kernel says who is at the other end of a connection."""
    if settings.agent.endpoint is None:
        return
    yield address_finding(f"{PLACE}.listen", settings.agent.endpoint.listen)
    yield from _opened_by_token(settings)
    try:
        _ask_kernel()
    except OSError as error:
        yield Finding(
            "warning",
            PLACE,
            f"the kernel does not tell this process who asks ({error.strerror}), so nobody is let in where `serve` names users",
            "run `keyturn systemd-setup --install` as root, then `systemctl restart keyturn` (AF_NETLINK)",
        )


def _opened_by_token(settings: Settings) -> Iterator[Finding]:
    """Warn of credentials to which the token alone opens: what each SDK prints is in docs/endpoint.md."""
    for name, credential in settings.credentials.items():
        sinks = [one for one in credential.sinks if isinstance(one, FileSinkSettings) and one.needs_endpoint]
        if sinks and credential.serve is None:
            yield Finding(
                "warning",
                f"credentials.{name}.serve",
                "whoever has the token of the credentials URI gets the key, and most SDKs put the URI with its token into their "
                "exceptions when keyturn cannot be reached",
                f"say who may ask: [credentials.{name}.serve] with users = [...] or groups = [...]",
            )


def _ask_kernel() -> None:
    with bind("127.0.0.1:0") as listener:
        listener.listen(1)
        with socket.create_connection(listener.getsockname()):
            accepted, _address = listener.accept()
            with accepted:
                tcp_peer(accepted)
