"""Several VMs of one fleet: one cloud, one redis-server, and a daemon on each.

fleet = FleetRig(make_vm, RedisServer(tmp_path / "redis")); fleet.add("web-1"); fleet.start()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import redis

from tests.support.processes import Daemon
from tests.support.redis_server import RedisServer
from tests.support.vm import PASSWORD, Vm


class FleetRig:
    """The VMs of a fleet by the names of their hosts; the first one's cloud is everybody's."""

    def __init__(self, make_vm: Callable[..., Vm], server: RedisServer) -> None:
        self._make_vm, self.server = make_vm, server
        self.vms: dict[str, Vm] = {}
        self.daemons: dict[str, Daemon] = {}

    @property
    def first(self) -> Vm:
        return next(iter(self.vms.values()))

    def add(
        self,
        host: str,
        *tables: str,
        poll: str = "1h",
        jitter: str = "0s",
        notify: str = "",
        fleet: str = "",
        agent: str = "",
    ) -> Vm:
        """One more host; its config as `configure` writes it."""
        self.vms[host] = self._make_vm(host)
        self.configure(host, *tables, poll=poll, jitter=jitter, notify=notify, fleet=fleet, agent=agent)
        return self.vms[host]

    def configure(
        self,
        host: str,
        *tables: str,
        poll: str = "1h",
        jitter: str = "0s",
        notify: str = "",
        fleet: str = "",
        agent: str = "",
    ) -> None:
        """Write a host's config: `tables` besides the agent's, the fleet's and the credential `uploader`."""
        vm, server = self.vms[host], self.first.server
        vm.configure(
            vm.agent(
                agent, **{f"{product}_endpoint": server.endpoint_of(product) for product in ("sts", "kms", "ram")}
            ),
            f'[fleet]\nurl = "{self.server.url}"\nhost = "{host}"\nannounce_jitter = "{jitter}"\n{fleet}',
            vm.credential(poll=poll, endpoint=server.endpoint, notify=notify),
            *tables,
        )

    def start(self, *hosts: str) -> None:
        """Start the daemons of these hosts, or of all."""
        for host in hosts or self.vms:
            self.daemons[host] = self.vms[host].daemon()
        for host in hosts or self.vms:
            self.daemons[host].ready()


def secrets_on(server: RedisServer, vms: Iterable[Vm]) -> list[str]:
    """Return each secret of these VMs and their clouds that stands anywhere on the server, or in a daemon's log."""
    with redis.Redis(port=server.port) as client:
        dump = b"".join(b"%r %r" % (key, _content(client, key)) for key in client.keys("*"))
    said = dump.decode() + "".join(daemon.log for vm in vms for daemon in vm.daemons)
    assert "keyturn:" in said, "a dump that holds nothing proves nothing"
    secrets = {PASSWORD} | {key.access_key_secret for vm in vms for key in vm.cloud._access_keys.values()}
    return [secret for secret in secrets if secret in said]


def _content(client: Any, key: bytes) -> Any:
    kind = client.type(key)
    if kind == b"stream":
        return client.xrange(key)
    return client.hgetall(key) if kind == b"hash" else client.zrange(key, 0, -1, withscores=True)
