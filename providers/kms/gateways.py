"""The gateways of an access, each with the ClientKey or the RAM identity that asks it.

The modules for a kind of access are imported when the first gateway of that kind is made: a ClientKey costs 14 MB resident
(docs/performance.md), 2.3 are to assume a role, nothing for an AccessKey.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.cloud.tls import context_for
from agent.cloud.transport import Transport
from agent.core.alarms import days_before, ends
from agent.core.client_keys import ClientKeyEnd
from agent.core.errors import KeyturnError
from agent.core.finding import Finding
from agent.core.provider import ProviderContext
from agent.core.timestamps import rfc3339
from agent.system.clock import Clock
from providers.kms.access import Access, ByClientKey, Region, RegionOfFile
from providers.kms.dedicated_config import Instance
from providers.kms.failover import Gateway
from providers.kms.identity import RamIdentity, base_of
from providers.kms.password import PasswordSource
from providers.kms.ram_gateway import Identity, RamGateway

if TYPE_CHECKING:
    from providers.kms.client_key import ClientKey, ClientKeyFile


@dataclass(frozen=True, slots=True)
class Gateways:
    """The gateways of one access in the order in which they are asked, with their keys and identity.

    Attributes:
        in_order: the dedicated instances, then the regions.
        key_files: each ClientKey once.
        ca_files: of the instances and the regions.
        identity: the RAM identity that asks the regions, where it is one.
    """

    in_order: tuple[Gateway, ...]
    key_files: tuple[ClientKeyFile, ...]
    ca_files: tuple[str, ...]
    identity: Identity | None

    @property
    def client_keys(self) -> tuple[ClientKeyEnd, ...] | None:
        """The ClientKeys that end, as opened last; None where one has yet to be opened."""
        if not all(key_file.is_opened for key_file in self.key_files):
            return None
        return tuple(key_file.end for key_file in self.key_files if key_file.end is not None)

    def inspect(self, place: str) -> Iterator[Finding]:
        """Open keys and authorities, and yield the findings. Uses no network."""
        for key_file in self.key_files:
            yield _opened(key_file, place)
        for ca_file in self.ca_files:
            yield from _untrustworthy(ca_file, place)
        if self.identity is not None:
            for found in self.identity.inspect():
                yield Finding(found.level, place, found.text, found.remedy)

    def close(self) -> None:
        """Close the identity."""
        if self.identity is not None:
            self.identity.close()


def make(access: Access, context: ProviderContext, ca_file: str | None) -> Gateways:
    """Make the gateways of an access; no I/O.

    Args:
        access: who asks, and where.
        context: of the provider.
        ca_file: an authority to trust besides those of `context.cloud`.

    Raises:
        CredentialFileError: what the properties file says of an identity is impossible.
    """
    maker = _Maker(context, ca_file)
    dedicated = tuple(maker.dedicated(each) for each in access.instances)
    shared, identity = maker.shared(access)
    ca_files = (*(each.ca_file for each in access.instances), *(_authority_of(region) for region in access.regions))
    named = tuple(dict.fromkeys(filter(None, ca_files)))
    return Gateways((*dedicated, *shared), tuple(maker.key_files.values()), named, identity)


def _authority_of(region: Region) -> str | None:
    return region.ca_file if isinstance(region, RegionOfFile) else None


class _Maker:
    """A maker of gateways that share the ClientKeys they have in common."""

    def __init__(self, context: ProviderContext, ca_file: str | None) -> None:
        self.key_files: dict[tuple[str, PasswordSource], ClientKeyFile] = {}
        self._context = context
        self._ca_files = (context.cloud.ca_file, ca_file)

    def dedicated(self, instance: Instance) -> Gateway:
        from providers.kms.dedicated_gateway import DedicatedGateway

        key_file = self._key_file(instance.key_file, instance.password, self._context.environ)
        transport = Transport(*self._ca_files, instance.ca_file, shares=True)
        return DedicatedGateway(instance.endpoint, key_file, transport)

    def shared(self, access: Access) -> tuple[tuple[Gateway, ...], Identity | None]:
        if access.identity is None:
            return (), None
        if isinstance(access.identity, ByClientKey):
            return self._by_client_key(access, access.identity), None
        return self._by_ram(access, access.identity)

    def _transport(self, region: Region) -> Transport:
        return Transport(*self._ca_files, _authority_of(region), shares=True)

    def _by_client_key(self, access: Access, who: ByClientKey) -> tuple[Gateway, ...]:
        from providers.kms.shared_gateway import SharedGateway

        key_file = self._key_file(who.key_file, who.password, self._context.environ)
        return tuple(SharedGateway(region, key_file, self._transport(region)) for region in access.regions)

    def _by_ram(self, access: Access, who: RamIdentity) -> tuple[tuple[Gateway, ...], Identity]:
        clock = Clock()
        identity = Identity(base_of(who, self._context), clock)
        return tuple(
            RamGateway(region, identity, self._transport(region), clock) for region in access.regions
        ), identity

    def _key_file(self, path: str, password: PasswordSource, environ: Mapping[str, str]) -> ClientKeyFile:
        from providers.kms.client_key import ClientKeyFile

        return self.key_files.setdefault((path, password), ClientKeyFile(path, password, environ))


def _opened(key_file: ClientKeyFile, place: str) -> Finding:
    try:
        key = key_file.load()
    except KeyturnError as error:
        return Finding.of("error", place, error.as_problem())
    return _judge_expiry(key, key_file.path, f"{place}.client_key_private_key_path")


def _untrustworthy(ca_file: str, place: str) -> Iterator[Finding]:
    try:
        context_for((ca_file,))
    except KeyturnError as error:
        yield Finding.of("error", place, error.as_problem())


def _judge_expiry(key: ClientKey, path: str, place: str) -> Finding:
    if key.expires_at is None:
        return Finding("ok", place, f"{path}: ClientKey {key.key_id} opens")
    now = Clock().now()
    days, until = days_before(key.expires_at, now), rfc3339(key.expires_at)
    if days is None:
        return Finding("ok", place, f"{path}: ClientKey {key.key_id} is valid until {until}")
    said = f"{path}: ClientKey {key.key_id} {ends(key.expires_at, now)}: {until}"
    remedy = "make a new ClientKey for the application access point, and put its file in the place of this one"
    return Finding("warning" if days else "error", place, said, remedy)
