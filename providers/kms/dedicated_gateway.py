"""The gateway of a dedicated KMS instance, asked with a ClientKey of that instance: protobuf over our transport.

Protocol: alibabacloud-dkms-gcs 1.0.2 (`openapi/client.py`, API version dkms-gcs-0.2); the tests compare the bytes.
Rejected: its client, which takes up to 206 s to give up on a silent host, cannot sign with a current `cryptography`, and
has a switch against TLS verification. An instance's certificate comes from its own authority, named by `caFilePath`,
which is trusted besides the system's store, for that instance only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime

from agent.cloud import failures
from agent.cloud.permissions import Asked
from agent.cloud.transport import Reply, Transport
from agent.core.errors import BadAnswerError
from agent.system.clock import Clock
from providers.kms.client_key import ClientKey, ClientKeyFile
from providers.kms.dedicated_wire import ERROR, REPLY, MalformedError, get_secret_value_request, read_texts
from providers.kms.failover import Question

CONTENT_TYPE = "application/x-protobuf"


class DedicatedGateway:
    """The gateway of one instance."""

    def __init__(self, endpoint: str, key_file: ClientKeyFile, transport: Transport) -> None:
        """Keep what every call needs; no I/O.

        Args:
            endpoint: "host" or "host:port".
            transport: trusts the instance's authority.
        """
        self.name = f"instance {endpoint}"
        self._endpoint = endpoint
        self._key_file = key_file
        self._transport = transport

    def ask(self, question: Question, timeout_s: float) -> Mapping[str, object]:
        """Return the reply, under the names of the shared gateway's JSON.

        Raises:
            KeyturnError: no answer, a refusal, an answer that is none, or the ClientKey cannot be used.
        """
        ends = time.monotonic() + timeout_s
        body = get_secret_value_request(question.secret_name, question.version_stage)
        key = self._key_file.load(timeout_s)
        headers = signed_headers(key, body, Clock().now())
        left_s = max(0.1, ends - time.monotonic())
        reply = self._transport.post(self._endpoint, "", headers=headers, body=body, timeout_s=left_s)
        if reply.status != 200:
            asked = Asked("GetSecretValue", {"SecretName": question.secret_name}, key.key_id)
            raise failures.explain(_failed(self._endpoint, reply), Clock().now(), asked)
        try:
            return read_texts(reply.body, REPLY)
        except MalformedError:
            raise BadAnswerError(
                f"{self._endpoint}: the answer is not the protobuf of GetSecretValue",
                "check that the endpoint is a KMS instance's",
            ) from None


def signed_headers(key: ClientKey, body: bytes, at: datetime) -> dict[str, str]:
    """Return the headers of a GetSecretValue with `body`, signed at the time `at`; more than 15 minutes of skew are refused.

    `x-kms-acccesskeyid` is spelled with three c in the protocol.
    """
    headers = {
        "accept": CONTENT_TYPE,
        "content-type": CONTENT_TYPE,
        "content-sha256": hashlib.sha256(body).hexdigest().upper(),
        "date": format_datetime(at, usegmt=True),
        "x-kms-acccesskeyid": key.key_id,
        "x-kms-apiname": "GetSecretValue",
        "x-kms-apiversion": "dkms-gcs-0.2",
        "x-kms-signaturemethod": "RSA_PKCS1_SHA_256",
    }
    signature = base64.b64encode(key.sign(_string_to_sign(headers).encode())).decode("ascii")
    return {**headers, "authorization": f"Bearer {signature}"}


def _string_to_sign(headers: Mapping[str, str]) -> str:
    ours = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-kms-"))
    return f"POST\n{headers['content-sha256']}\n{headers['content-type']}\n{headers['date']}\n{ours}/"


def _failed(endpoint: str, reply: Reply) -> failures.ServiceError:
    """Return an error reply in the form of those in JSON; of one that is no protobuf only the status is known."""
    try:
        told = read_texts(reply.body, ERROR)
    except MalformedError:
        told = {}
    return failures.read(endpoint, Reply(reply.status, reply.headers, json.dumps(told).encode()))
