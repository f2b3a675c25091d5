"""The shared gateway of a region, asked with a ClientKey.

It uses the official client (aliyun-secret-manager-client, aliyun-python-sdk-kms; providers/kms/official_sdk.py): request and
signer are its classes, and `SharedGateway` is one of its `SecretManagerClient`s. Two things are ours:

* The sending, because the client's own builder switches TLS verification off, blocks for 44 to 600 s, pings hosts through
  a shell, and puts the signed URL into exceptions and logs (docs/dependencies.md). Its cache and default builder are not
  imported: they cost 13 MB more and fail at the first 5xx.
* The algorithm that its request signs by, an object that the SDK's requests take as an argument. The SDK's own loads and
  checks the private key for each signature, 37 ms with the interpreter's lock held; with the key held it is 0.3
  (bench/calls.py).
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping

from agent.cloud import failures
from agent.cloud.permissions import Asked
from agent.cloud.transport import Transport
from agent.core.errors import BadAnswerError
from agent.system.clock import Clock
from providers.kms.access import Region
from providers.kms.client_key import ClientKey, ClientKeyFile
from providers.kms.failover import Question
from providers.kms.official_sdk import ClientKeySigner, GetSecretValueRequest, SecretManagerClient, sha_hmac256


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
        """Do nothing: no connection belongs to it."""

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
        ends = time.monotonic() + timeout_s
        request.set_accept_format("JSON")
        key = self._key_file.load(timeout_s)
        request._signer = HeldKeyAlgorithm(key)  # where the official client puts its own, `sha_hmac256`
        headers, url = ClientKeySigner(key.key_id, _NOT_HANDED_OVER).sign(self._region.region_id, request)
        reply = self._transport.post(
            self._region.host,
            url.removeprefix("/?"),
            headers={**headers, "Accept": "*/*", "x-sdk-client": "python/2.0.0"},
            timeout_s=max(0.1, ends - time.monotonic()),
        )
        if reply.status != 200:
            asked = Asked("GetSecretValue", {"SecretName": request.get_SecretName()}, key.key_id)
            raise failures.explain(failures.read(self._region.host, reply), Clock().now(), asked)
        return reply.body

    def _read(self, body: bytes) -> dict[str, object]:
        reply = failures.json_object(body)
        if reply is None:
            raise BadAnswerError(
                f"{self._region.host}: the reply of KMS is not a JSON object", "check that the endpoint is KMS"
            )
        return reply


_NOT_HANDED_OVER = ""
"""What the official signer gets for the private key, to pass it on to the algorithm: that has it already."""


class HeldKeyAlgorithm:
    """The official client's algorithm `SHA256withRSA`, its names included, with a key that is loaded already."""

    get_signer_name = staticmethod(sha_hmac256.get_signer_name)
    get_signer_type = staticmethod(sha_hmac256.get_signer_type)
    get_signer_version = staticmethod(sha_hmac256.get_signer_version)

    def __init__(self, key: ClientKey) -> None:
        self._key = key

    def get_sign_string(self, source: str, access_secret: str) -> str:
        """Return the signature of `source` in base64, the same as `sha_hmac256` makes of it."""
        return base64.b64encode(self._key.sign(source.encode())).decode("ascii")
