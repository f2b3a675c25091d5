"""The shared gateway of a region, asked with a ClientKey.

It uses the official client (aliyun-secret-manager-client, aliyun-python-sdk-kms; providers/kms/official_sdk.py): request,
signer and credential are its classes, and `SharedGateway` is one of its `SecretManagerClient`s. Only the sending is ours,
because the client's own builder switches TLS verification off, blocks for 44 to 600 s, pings hosts through a shell, and
puts the signed URL into exceptions and logs (docs/dependencies.md). Its cache and default builder are not imported: they
cost 13 MB more and fail at the first 5xx.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.cloud import failures
from agent.cloud.transport import Transport
from agent.core.errors import BadAnswerError
from agent.system.clock import Clock
from providers.kms.access import Region
from providers.kms.client_key import ClientKey, ClientKeyFile
from providers.kms.failover import Question
from providers.kms.official_sdk import (
    ClientKeyCredential,
    ClientKeySigner,
    GetSecretValueRequest,
    RsaKeyPairCredential,
    SecretManagerClient,
    sha_hmac256,
)


class SharedGateway(SecretManagerClient):  # type: ignore[misc]  # the official client is not typed
    """The gateway of one region, which sends through our transport."""

    def __init__(self, region: Region, key_file: ClientKeyFile, transport: Transport) -> None:
        self.name = f"region {region.region_id}"
        self._region = region
        self._key_file = key_file
        self._transport = transport

    def init(self) -> None:
        """Do nothing: there is no thread to start, no host to ping and no process-wide endpoint to register."""

    def close(self) -> None:
        """Do nothing: no connection is kept open."""

    def ask(self, question: Question, timeout_s: float) -> Mapping[str, object]:
        """Return the reply.

        Raises:
            KeyturnError: no answer, a refusal, an answer that is none, or the ClientKey cannot be used.
        """
        request = GetSecretValueRequest()
        request.set_SecretName(question.secret_name)
        request.set_VersionStage(question.version_stage)
        request.set_FetchExtendedConfig(True)
        return self._read(self.get_secret_value(request, timeout_s))

    def get_secret_value(self, request: GetSecretValueRequest, timeout_s: float = 10.0) -> bytes:
        """Return the JSON of the region's reply.

        Raises:
            KeyturnError: no answer, or a refusal.
        """
        request.set_accept_format("JSON")
        request._signer = sha_hmac256  # how the official client makes an RPC request sign with SHA256withRSA
        signer = _official(self._key_file.load()).singer
        headers, url = signer.sign(self._region.region_id, request)
        reply = self._transport.post(
            self._region.host,
            url.removeprefix("/?"),
            headers={**headers, "Accept": "*/*", "x-sdk-client": "python/2.0.0"},
            timeout_s=timeout_s,
        )
        if reply.status != 200:
            raise failures.explain(failures.read(self._region.host, reply), Clock().now())
        return reply.body

    def _read(self, body: bytes) -> dict[str, object]:
        reply = failures.json_object(body)
        if reply is None:
            raise BadAnswerError(
                f"{self._region.host}: the reply of KMS is not a JSON object", "check that the endpoint is KMS"
            )
        return reply


def _official(key: ClientKey) -> ClientKeyCredential:
    """Return the official client's form of a ClientKey, with the 900 s that its own loader sets."""
    private_key = key.private_key.reveal()
    signer = ClientKeySigner(key.key_id, private_key)
    return ClientKeyCredential(signer, RsaKeyPairCredential(key.key_id, private_key, 900))
