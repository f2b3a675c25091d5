"""`kms_secret`: a secret of KMS, fetched with a ClientKey or a RAM identity, from the shared gateway or an instance's.

Inline settings name a ClientKey and regions; a properties file can describe everything that the official client's file
can (providers/kms/access.py). The file is read again for each fetch, so that a change in it needs no restart; what was
made of it (an opened ClientKey, a session) is kept while it is unchanged.

Several gateways: providers/kms/failover.py. The kinds of gateway: shared_gateway.py (ClientKey), ram_gateway.py (RAM
identity), dedicated_gateway.py (dedicated instance).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from agent.core.client_keys import ClientKeyEnd
from agent.core.credential import Credential
from agent.core.errors import KeyturnError
from agent.core.finding import Finding
from agent.core.provider import Provider, ProviderContext
from agent.core.settings import ProviderSettings
from providers.kms import gateways, properties
from providers.kms.access import Access, idle_keys, unknown_keys_of_regions
from providers.kms.dedicated_config import instances
from providers.kms.failover import TRY_S, Order, Question
from providers.kms.gateways import Gateways
from providers.kms.properties import Properties
from providers.kms.secret_data import credential_of
from providers.kms.settings import KmsSecretSettings

_LEAVE_IT = "nothing, if another client reads it; correct it, if it was meant for keyturn"


def _hint(meant: str | None) -> str:
    return f"write {meant} if that is meant" if meant else _LEAVE_IT


class KmsSecret(Provider):
    """The provider of `type = "kms_secret"`."""

    type_name: ClassVar[str] = "kms_secret"
    Settings: ClassVar[type[ProviderSettings]] = KmsSecretSettings
    settings: KmsSecretSettings

    def __init__(self, settings: Any, context: ProviderContext) -> None:
        super().__init__(settings, context)
        self._made: tuple[Access, Gateways] | None = None
        self._order = Order(context.credential)

    @property
    def poll_interval_s(self) -> float:
        """The configured interval."""
        return float(self.settings.poll_interval)

    @property
    def secret_name(self) -> str:
        """The name or ARN of the secret, for the emergency's rotation."""
        return self.settings.secret_name

    @property
    def client_keys(self) -> tuple[ClientKeyEnd, ...] | None:
        """The ClientKeys that end, as the newest fetch opened them; None while that is not known."""
        made = self._made
        return made[1].client_keys if made is not None else None

    def fetch_previous(self, timeout_s: float = TRY_S) -> Credential:
        """Ask for the value before the current one, with which the emergency proves that the old key is refused.

        The answer is not checked for expiry, since it is never published.

        Raises:
            KeyturnError: KMS could not be asked, or no longer has the value: that of a RAM secret goes with its key.
        """
        return self._ask_for("ACSPrevious", timeout_s)

    def _fetch(self, timeout_s: float) -> Credential:
        return self._ask_for(self.settings.version_stage, timeout_s)

    def _ask_for(self, stage: str, timeout_s: float) -> Credential:
        try:
            gateways = self._gateways().in_order
            reply = self._order.first_answer(gateways, Question(self.secret_name, stage), timeout_s)
            return credential_of(reply, self.secret_name, self.settings.fields)
        except KeyturnError as error:
            raise error.at(f"credentials.{self.context.credential}") from None

    def _gateways(self) -> Gateways:
        """Return the gateways of the present access. They are kept between fetches, with opened ClientKeys and sessions."""
        access = self.settings.access(self.context.environ)
        kept = self._made
        if kept is not None and kept[0] == access:
            return kept[1]
        made = gateways.make(access, self.context, self.settings.ca_file)
        self._made = (access, made)
        if kept is not None:
            kept[1].close()
        return made

    def inspect(self) -> Iterator[Finding]:
        """Read the properties file, open keys and authorities, and yield the findings. Uses no network."""
        place = f"credentials.{self.context.credential}.provider"
        properties_place = f"{place}.properties_file" if self.settings.properties_file else place
        try:
            if self.settings.properties_file:
                read = properties.look(self.settings.properties_file, self.context.environ)
                yield from self._inspect_properties(read, properties_place)
            found = self._gateways()
        except KeyturnError as error:
            yield Finding.of("error", properties_place, error.as_problem())
            return
        yield from found.inspect(place)

    def _inspect_properties(self, read: Properties, place: str) -> Iterator[Finding]:
        for key, meant in read.unknown():
            yield Finding(
                "warning", place, f"{read.path}: {key} is not a key of this file and is ignored", _hint(meant)
            )
        if read.get("ignoreSSLCerts"):
            yield Finding(
                "warning", place, f"{read.path}: ignoreSSLCerts is ignored: TLS is always verified", "remove it"
            )
        for key, reason in idle_keys(read):
            yield Finding("warning", place, f"{read.path}: {key} is ignored: {reason}", _LEAVE_IT)
        for key, meant in unknown_keys_of_regions(read):
            said = f"{read.path}: cache_client_region_id: {key} is not a key of a region and is ignored"
            yield Finding("warning", place, said, _hint(meant))
        for instance in instances(read, self.context.environ):
            for problem in instance.warnings():
                yield Finding.of("warning", place, problem.at(read.path))

    def close(self) -> None:
        """Close the gateways."""
        made, self._made = self._made, None
        if made is not None:
            made[1].close()
