"""`rsa_key_pair`: a session AccessKey for an RSA key pair of a RAM user, from GenerateSessionAccessKey.

Alibaba has offered this on its Japanese site only: the credentials libraries (Python 1.0.12, Go, Java) ask
`sts.ap-northeast-1.aliyuncs.com` unless told otherwise, aliyun-python-sdk-core 2.16.1 `sts.aliyuncs.com`. Here it is the
STS endpoint of `[cloud]`, unless `sts_endpoint` is set.

The request is that of aliyun-python-sdk-core (`rsa_key_pair_signer.py`): RPC style, signed with SHA256withRSA. It is not
that of alibabacloud_credentials 1.0.12 for Python, which signs by HMAC with the private key's text, as for an AccessKey.
`PublicKeyId` is sent besides `AccessKeyId`, as by Alibaba's SDK and credentials library for Go. The SDK of STS has no
such call, and the core's signer opens a client of its own with 2018's requests, so nothing of theirs is imported here.

The reply is an AccessKey with an expiration and without a token.
"""

from __future__ import annotations

import base64
import binascii
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from agent.cloud.acs3 import canonical_query
from agent.cloud.failures import ServiceError, request_id_of
from agent.cloud.openapi import Sts
from agent.cloud.transport import Transport
from agent.core.credential import Credential
from agent.core.errors import CredentialFileError, KeyturnError, SourceRefusedError
from agent.core.finding import Finding
from agent.core.provider import Provider, ProviderContext
from agent.core.settings import Duration, FilePath, Problems, ProviderSettings
from agent.system.clock import Clock
from agent.system.files import read_private
from providers.static_parts import PART_LIMIT_BYTES, text_of, told_as
from providers.sts_sessions import SessionReader, endpoint_problems, life_problems

ACTION = "GenerateSessionAccessKey"
LONGEST_S = 3600
"""The longest session by aliyun-python-sdk-core 2.16.1, `RsaKeyPairSigner._MAX_SESSION_PERIOD`; the shortest is 900."""

_PUBLIC_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ARMOUR = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class RsaKeyPairSettings(ProviderSettings):
    """The settings of `type = "rsa_key_pair"`."""

    public_key_id: str
    private_key_file: FilePath
    session_period: Duration = Duration(3600)
    sts_endpoint: str | None = None  # None: the one of `[cloud]`

    def problems(self) -> Problems:
        """Yield (key, sentence) for what the types cannot rule out."""
        yield from super().problems()
        if not _PUBLIC_KEY_ID.fullmatch(self.public_key_id):
            yield "public_key_id", "want the id that RAM gave the public key, such as LTRSA.…"
        yield from life_problems("session_period", self.session_period, LONGEST_S)
        yield from endpoint_problems(self.sts_endpoint)


class RsaKeyPair(Provider):
    """The provider of `type = "rsa_key_pair"`."""

    type_name: ClassVar[str] = "rsa_key_pair"
    Settings: ClassVar[type[ProviderSettings]] = RsaKeyPairSettings
    settings: RsaKeyPairSettings

    def __init__(self, settings: Any, context: ProviderContext) -> None:
        super().__init__(settings, context)
        self._sts = Sts(Transport(context.cloud.ca_file), settings.sts_endpoint or context.cloud.sts)

    def _fetch(self, timeout_s: float) -> Credential:
        with told_as(f"credentials.{self.context.credential}"):
            return self._ask(self._load(), timeout_s)

    def _load(self) -> RSAPrivateKey:
        """Read the key from its file. This happens at each fetch, about once an hour, so a replaced file is found."""
        path = self.settings.private_key_file
        return open_private_key(text_of(path, read_private(path, PART_LIMIT_BYTES, self.context.environ)), path)

    def _ask(self, key: RSAPrivateKey, timeout_s: float) -> Credential:
        now = Clock().now()
        params = self._sts.rpc_params(ACTION, now) | {
            "AccessKeyId": self.settings.public_key_id,
            "DurationSeconds": str(int(self.settings.session_period)),
            "PublicKeyId": self.settings.public_key_id,
            "SignatureMethod": "SHA256withRSA",
            "SignatureType": "PRIVATEKEY",
            "SignatureVersion": "1.0",
        }
        query = canonical_query(params | {"Signature": signature(params, key)})
        headers = {"accept": "application/json"}
        answer = self._sts.send(ACTION, query, headers, now=now, timeout_s=timeout_s, judge=_unknown_key)
        return self._read(answer)

    def _read(self, answer: Mapping[str, Any]) -> Credential:
        reader = SessionReader(ACTION, self._sts.endpoint)
        found = answer.get("SessionAccessKey")
        if not isinstance(found, dict):
            raise reader.bad("has no SessionAccessKey")
        key_id, secret = found.get("SessionAccessKeyId"), found.get("SessionAccessKeySecret")
        return reader.read(key_id, secret, found.get("Expiration"), request_id=request_id_of(answer))

    def inspect(self) -> Iterator[Finding]:
        """Open the private key, and yield whether that worked. Uses no network."""
        place = f"credentials.{self.context.credential}.provider.private_key_file"
        try:
            key = self._load()
        except KeyturnError as error:
            yield Finding.of("error", place, error.as_problem())
        else:
            yield Finding("ok", place, f"{self.settings.private_key_file}: holds an RSA key of {key.key_size} bits")


def signature(params: Mapping[str, str], key: RSAPrivateKey) -> str:
    """Sign the parameters of a POST in the RPC style, version 1.0 (Alibaba, "RPC request syntax and signature")."""
    text = f"POST&%2F&{quote(canonical_query(params), safe='~')}"
    return base64.b64encode(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())).decode("ascii")


def open_private_key(text: str, path: str) -> RSAPrivateKey:
    """Open a key in PEM (PKCS#1 or PKCS#8), or its bare base64, as Alibaba's examples have it.

    The label of the PEM is ignored, since some tools write PKCS#8 keys under an RSA label.

    Raises:
        CredentialFileError: it is none; the text names `path` and shows nothing of it.
    """
    armour = _ARMOUR.search(text)
    if "ENCRYPTED" in (text if armour else ""):
        raise CredentialFileError(
            f"{path}: the private key is encrypted", f"decrypt it: openssl rsa -in {shlex.quote(path)}"
        )
    try:
        key = load_der_private_key(
            base64.b64decode("".join((armour[2] if armour else text).split()), validate=True), None
        )
    except (binascii.Error, ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise CredentialFileError(
            f"{path}: holds no RSA private key", "put the private key there as PEM, or its base64"
        )
    return key


def _unknown_key(failed: ServiceError) -> KeyturnError | None:
    """Return the error for an unknown key: STS of another region knows neither the key pair nor, perhaps, the call."""
    if not failed.code.startswith(("InvalidAccessKeyId.NotFound", "InvalidAction")):
        return None
    return SourceRefusedError(
        f"{failed.host} does not know this public key: {failed.name}",
        "check public_key_id, and sts_endpoint: Alibaba offers RSA key pairs at sts.ap-northeast-1.aliyuncs.com only",
        code=failed.code,
    )
