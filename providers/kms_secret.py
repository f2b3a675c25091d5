"""`kms_secret`: a secret of KMS, fetched through the shared gateway with a ClientKey.

Through the official client (aliyun-secret-manager-client, aliyun-python-sdk-kms; providers/official.py): request,
signer and credential are its classes, and `Gateway` is a `SecretManagerClient` as it asks for; the sending is
ours, because the client's own builder switches TLS verification off, blocks for 44 to 600 s, pings hosts through
a shell, and puts the signed URL into exceptions and logs (docs/dependencies.md). Its cache and default builder are
not imported: they cost 13 MB more and die of the first 5xx.

Several regions: they are asked in the order of the config, each within a fair share of the time. A region that
cannot be reached, or that does not prove who it is, is passed over with a warning. A *refusal* (no permission, no
such secret, a bad key) ends the fetch, as in the official client: the regions are copies of one secret, and an
answer that hides behind a refusal of the first would be an older value or another secret of the same name.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

from agent.cloud import failures
from agent.cloud.transport import Transport, UntrustedServerError
from agent.core.credential import Credential, rfc3339
from agent.core.errors import BadAnswerError, KeyturnError, SourceUnavailableError
from agent.core.provider import Finding, Provider, ProviderContext
from agent.core.settings import ProviderSettings
from agent.system.clock import Clock
from providers import properties
from providers.clientkey import ClientKey, ClientKeyFile
from providers.kms_settings import Access, KmsSecretSettings, Region
from providers.official import (
    ClientKeyCredential,
    ClientKeySigner,
    GetSecretValueRequest,
    RsaKeyPairCredential,
    SecretManagerClient,
    sha_hmac256,
)
from providers.secret_data import credential_of

TRY_S = 10.0
"""The most that one region gets of a fetch."""

EXPIRY_WARNING = timedelta(days=30)

_log = logging.getLogger(__name__)


class Gateway(SecretManagerClient):  # type: ignore[misc]  # the official client is not typed
    """The official client's interface to the shared gateway, sending through our transport. One per fetch."""

    def __init__(
        self, credential: ClientKeyCredential, regions: tuple[Region, ...], transport: Transport, timeout_s: float
    ) -> None:
        self._credential = credential
        self._regions = regions
        self._transport = transport
        self._ends = time.monotonic() + timeout_s

    def init(self) -> None:
        """Nothing to set up: no thread, no ping, no registration of process-wide endpoints."""

    def close(self) -> None:
        """Nothing is kept open."""

    def get_secret_value(self, request: GetSecretValueRequest) -> bytes:
        """Return the JSON of the first region that answers.

        Raises:
            KeyturnError: a region refused, or none could be reached.
        """
        passed_over: list[KeyturnError] = []
        for index, region in enumerate(self._regions):
            share_s = max(0.0, self._ends - time.monotonic()) / (len(self._regions) - index)
            try:
                return self._ask(region, request, max(0.1, min(TRY_S, share_s)))
            except (SourceUnavailableError, BadAnswerError, UntrustedServerError) as error:
                _log.warning("region %s is passed over: %s", region.region_id, error.problem)
                passed_over.append(error)
        raise _none_answered(passed_over)

    def _ask(self, region: Region, request: GetSecretValueRequest, timeout_s: float) -> bytes:
        request.set_accept_format("JSON")
        request._signer = sha_hmac256  # how the official client makes an RPC request sign with SHA256withRSA
        headers, url = self._credential.singer.sign(region.region_id, request)
        reply = self._transport.post(
            region.host,
            url.removeprefix("/?"),
            headers={**headers, "Accept": "*/*", "x-sdk-client": "python/2.0.0"},
            timeout_s=timeout_s,
        )
        if reply.status != 200:
            raise failures.explain(failures.read(region.host, reply), Clock().now())
        return reply.body


def _none_answered(passed_over: list[KeyturnError]) -> KeyturnError:
    if len(passed_over) == 1:
        return passed_over[0]
    leading = next((error for error in passed_over if error.retryable), passed_over[0])
    said = "; ".join(error.problem for error in passed_over)
    return type(leading)(f"no region answered: {said}", leading.remedy, code=leading.code)


class KmsSecret(Provider):
    """The provider."""

    type_name: ClassVar[str] = "kms_secret"
    Settings: ClassVar[type[ProviderSettings]] = KmsSecretSettings
    settings: KmsSecretSettings

    def __init__(self, settings: Any, context: ProviderContext) -> None:
        super().__init__(settings, context)
        self._transport = Transport(context.cloud.ca_file, settings.ca_file)
        self._key_file: tuple[Access, ClientKeyFile] | None = None

    @property
    def poll_interval_s(self) -> float:
        """As configured."""
        return float(self.settings.poll_interval)

    @property
    def secret_name(self) -> str:
        """The name or ARN of the secret, as the emergency rotates it."""
        return self.settings.secret_name

    def fetch_previous(self, timeout_s: float = TRY_S) -> Credential:
        """Ask for the value before the current one: the emergency proves with it that the old key is refused.

        It is taken as it is, expired or not, since it is never published.

        Raises:
            KeyturnError: KMS could not be asked, or has the value no more: it drops that of a RAM secret with the key.
        """
        return self._ask_for("ACSPrevious", timeout_s)

    def _fetch(self, timeout_s: float) -> Credential:
        return self._ask_for(self.settings.version_stage, timeout_s)

    def _ask_for(self, stage: str, timeout_s: float) -> Credential:
        try:
            access = self.settings.access()
            credential = _official(self._client_key_file(access).load())
            gateway = Gateway(credential, access.regions, self._transport, timeout_s)
            reply = gateway.get_secret_value(self._request(stage))
            return credential_of(reply, self.secret_name, self.settings.fields)
        except KeyturnError as error:
            problem = f"credentials.{self.context.credential}: {error.problem}"
            raise type(error)(problem, error.remedy, code=error.code) from None

    def _request(self, stage: str) -> GetSecretValueRequest:
        request = GetSecretValueRequest()
        request.set_SecretName(self.secret_name)
        request.set_VersionStage(stage)
        request.set_FetchExtendedConfig(True)
        return request

    def _client_key_file(self, access: Access) -> ClientKeyFile:
        """The file of `access`, kept between two fetches so that it need not be opened each time."""
        if self._key_file is None or self._key_file[0] != access:
            self._key_file = (access, ClientKeyFile(access.key_file, access.password, self.context.environ))
        return self._key_file[1]

    def inspect(self) -> Iterator[Finding]:
        """Read the properties file and open the ClientKey; no network."""
        place = f"credentials.{self.context.credential}.provider"
        try:
            yield from self._inspect_properties(f"{place}.properties_file")
            access = self.settings.access()
            key = self._client_key_file(access).load()
        except KeyturnError as error:
            yield Finding("error", place, error.problem, error.remedy)
        else:
            yield _judge_expiry(key, access.key_file, f"{place}.client_key_private_key_path")

    def _inspect_properties(self, place: str) -> Iterator[Finding]:
        if not self.settings.properties_file:
            return
        read = properties.read(self.settings.properties_file)
        for key, nearest in read.unknown():
            hint = f"write {nearest} if that is meant" if nearest else "remove it"
            yield Finding("warning", place, f"{read.path}: {key} is not a key of this file and is ignored", hint)
        if read.get("ignoreSSLCerts"):
            yield Finding(
                "warning", place, f"{read.path}: ignoreSSLCerts is ignored: TLS is always verified", "remove it"
            )


def _official(key: ClientKey) -> ClientKeyCredential:
    """The official client's form of a ClientKey; 900 s is what its own loader puts in."""
    private_key = key.private_key.reveal()
    signer = ClientKeySigner(key.key_id, private_key)
    return ClientKeyCredential(signer, RsaKeyPairCredential(key.key_id, private_key, 900))


def _judge_expiry(key: ClientKey, path: str, place: str) -> Finding:
    if key.expires_at is None:
        return Finding("ok", place, f"{path}: ClientKey {key.key_id} opens")
    left = key.expires_at - Clock().now()
    said = f"{path}: ClientKey {key.key_id} {'expired' if left < timedelta(0) else 'is valid until'} "
    said += rfc3339(key.expires_at)
    level = "error" if left < timedelta(0) else "warning" if left < EXPIRY_WARNING else "ok"
    return Finding(level, place, said, "" if level == "ok" else "make a new ClientKey for the application access point")
