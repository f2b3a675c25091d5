"""The ClientKey of an application access point: a JSON file with a PKCS#12 in it, and a password beside it.

Format (KMS, "Create an AAP"; aliyun-secret-manager-client 0.1.5 `client_key_utils.py`):
`{"KeyId": "KAAP.…", "PrivateKeyData": "<base64 of PKCS#12>"}`, the PKCS#12 holding an RSA-2048 key and its
certificate. Opened with `cryptography`, because the official client's way (`OpenSSL.crypto.load_pkcs12`) is gone
since pyOpenSSL 23.3.
providers/kms/password.py says where its password is.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12
from cryptography.x509 import Certificate

from agent.cloud.failures import json_object
from agent.core.errors import CredentialFileError
from agent.core.secret import Secret
from agent.system.file_identity import FileIdentity
from agent.system.files import read_private
from providers.kms.password import PasswordSource

__all__ = ["ClientKey", "ClientKeyFile", "PasswordSource", "open_client_key"]

FILE_LIMIT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ClientKey:
    """An opened ClientKey.

    Attributes:
        private_key: base64 of the unencrypted PKCS#8, as the official signer wants it.
        expires_at: when the certificate in the file ends; None where it holds none.
    """

    key_id: str
    private_key: Secret
    expires_at: datetime | None
    rsa: RSAPrivateKey = field(repr=False, compare=False)

    def sign(self, message: bytes) -> bytes:
        """Sign with RSASSA-PKCS1-v1_5 over SHA-256 (`RSA_PKCS1_SHA_256` of the dedicated gateway): deterministic."""
        return self.rsa.sign(message, PKCS1v15(), SHA256())


class ClientKeyFile:
    """A ClientKey on disk, opened again only when one of its files changed.

    Opening costs the key derivation of the PKCS#12 (2048 to 100 000 rounds), which a poll each minute need not pay.
    """

    def __init__(self, path: str, password: PasswordSource, environ: Mapping[str, str]) -> None:
        """Keep the paths; no I/O."""
        self.path = path
        self._password = password
        self._environ = environ
        self._opened: tuple[tuple[FileIdentity | None, ...], ClientKey] | None = None

    def load(self) -> ClientKey:
        """Return the ClientKey as it is now on disk.

        Raises:
            CredentialFileError: a file or the password is missing, malformed, wrong or readable by others.
            NotPermittedError: the agent's user may not read a file.
        """
        stamps = tuple(FileIdentity.at(path) for path in (self.path, *self._password.files))
        if self._opened is None or self._opened[0] != stamps or None in stamps:
            self._opened = None
            self._opened = (stamps, self._open())
        return self._opened[1]

    def _open(self) -> ClientKey:
        content = read_private(self.path, FILE_LIMIT_BYTES, self._environ)
        password = self._password.read(self._environ)
        return open_client_key(content, password, self.path)


def open_client_key(content: bytes, password: Secret, path: str) -> ClientKey:
    """Open the content of a ClientKey file.

    Raises:
        CredentialFileError: what exactly is wrong with it; the text names `path`.
    """
    fields = json_object(content)
    if fields is None:
        raise _broken(path, "not a JSON object")
    key_id, data = fields.get("KeyId"), fields.get("PrivateKeyData")
    if not isinstance(key_id, str) or not key_id.isascii() or not key_id.isprintable() or not 0 < len(key_id) <= 128:
        raise _broken(path, "has no KeyId")
    if not isinstance(data, str) or not data:
        raise _broken(path, "has no PrivateKeyData")
    key, certificate = _open_pkcs12(_decode(data), password, path)
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return ClientKey(key_id, Secret(base64.b64encode(der).decode("ascii")), _end_of(certificate), key)


def _decode(data: str) -> bytes:
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _open_pkcs12(der: bytes, password: Secret, path: str) -> tuple[RSAPrivateKey, Certificate | None]:
    if not _is_pkcs12(der):
        raise _broken(path, "its PrivateKeyData is not a whole PKCS#12 in base64")
    try:
        key, certificate, _ = pkcs12.load_key_and_certificates(der, password.reveal().encode())
    except ValueError:
        raise CredentialFileError(
            f"{path}: the password does not open this ClientKey",
            "use the password that the console gave with this file",
        ) from None
    except UnsupportedAlgorithm:
        raise _broken(path, "its PKCS#12 is encrypted in a way that this machine's OpenSSL does not support") from None
    if not isinstance(key, RSAPrivateKey):
        raise _broken(path, "its PKCS#12 holds no RSA private key")
    return key, certificate


def _is_pkcs12(der: bytes) -> bool:
    """Return whether the bytes are one whole SEQUENCE that begins with version 3 (RFC 7292, PFX).

    `cryptography` reports a wrong password and a foreign file in the same way, but the remedies differ.
    """
    if len(der) < 4 or der[0] != 0x30:
        return False
    size, start = der[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(der[2:start], "big")
    return len(der) == start + size and der[start : start + 3] == b"\x02\x01\x03"


def _end_of(certificate: Certificate | None) -> datetime | None:
    if certificate is None:
        return None
    if hasattr(certificate, "not_valid_after_utc"):  # cryptography >= 42
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=UTC)


def _broken(path: str, what: str) -> CredentialFileError:
    return CredentialFileError(
        f"{path}: {what}", "put the clientKey_….json of the application access point there, unchanged"
    )
