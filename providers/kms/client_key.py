"""The ClientKey of an application access point: a JSON file with a PKCS#12 in it, and a password beside it.

Format (KMS, "Create an AAP"; aliyun-secret-manager-client 0.1.5 `client_key_utils.py`):
`{"KeyId": "KAAP.…", "PrivateKeyData": "<base64 of PKCS#12>"}`, the PKCS#12 holding an RSA-2048 key and its
certificate. Opened with `cryptography`, because the official client's way (`OpenSSL.crypto.load_pkcs12`) is gone
since pyOpenSSL 23.3.
providers/kms/password.py says where its password is.

Opening takes 40 ms and more, with the interpreter's lock held all the while (cryptography 50, RSA-2048, 2048 rounds), so
each content is opened once in the process, however many credentials name it: `_opened` below.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from weakref import WeakValueDictionary

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509 import Certificate

from agent.cloud.failures import json_object
from agent.core.client_keys import ClientKeyEnd
from agent.core.errors import CredentialFileError, SourceUnavailableError
from agent.core.problem import Problem
from agent.core.secret import Secret
from agent.system.file_identity import FileIdentity
from agent.system.files import read_private
from providers.kms.password import PasswordSource

__all__ = ["ClientKey", "ClientKeyFile", "PasswordSource", "open_client_key"]

FILE_LIMIT_BYTES = 64 * 1024


OPEN_S = 30.0
"""Seconds that a caller without a deadline waits for others to be done with opening theirs."""


@dataclass(frozen=True, slots=True)
class ClientKey:
    """An opened ClientKey.

    Attributes:
        expires_at: when the certificate in the file ends; None where it holds none.
    """

    key_id: str
    expires_at: datetime | None
    rsa: RSAPrivateKey = field(repr=False, compare=False)

    def sign(self, message: bytes) -> bytes:
        """Sign with RSASSA-PKCS1-v1_5 over SHA-256: deterministic.

        That is `SHA256withRSA` of the shared gateway and `RSA_PKCS1_SHA_256` of a dedicated one.
        """
        return self.rsa.sign(message, PKCS1v15(), SHA256())


class ClientKeyFile:
    """A ClientKey on disk, read again only when one of its files changed.

    Attributes:
        end: of the ClientKey that was opened last; None where none was, or it does not end.
        is_opened: whether one was opened.
    """

    def __init__(self, path: str, password: PasswordSource, environ: Mapping[str, str]) -> None:
        """Keep the paths; no I/O."""
        self.path = path
        self._password = password
        self._environ = environ
        self._read: tuple[tuple[FileIdentity | None, ...], _Opened] | None = None
        self.end: ClientKeyEnd | None = None
        self.is_opened = False

    def load(self, timeout_s: float = OPEN_S) -> ClientKey:
        """Return the ClientKey as it is now on disk.

        Args:
            timeout_s: seconds to wait while other ClientKeys are being opened.

        Raises:
            CredentialFileError: a file or the password is missing, malformed, wrong or readable by others.
            NotPermittedError: the agent's user may not read a file.
            SourceUnavailableError: the others took too long.
        """
        stamps = tuple(FileIdentity.at(path) for path in (self.path, *self._password.files))
        read = self._read
        if read is None or read[0] != stamps or None in stamps:
            self._read = None
            content = read_private(self.path, FILE_LIMIT_BYTES, self._environ)
            read = self._read = (stamps, _opened(content, self._password.read(self._environ), self.path, timeout_s))
            key = read[1].key()
            self.end = ClientKeyEnd(key.key_id, self.path, key.expires_at) if key.expires_at else None
            self.is_opened = True
        return read[1].key()


class _Opened:
    """What came of opening a content with a password: the key, or why it does not open. Neither changes with another try."""

    def __init__(self, content: bytes, password: Secret, path: str) -> None:
        self._found: ClientKey | Problem
        try:
            self._found = open_client_key(content, password, path)
        except CredentialFileError as error:
            self._found = error.as_problem()  # not the error itself, whose frames hold the password

    def key(self) -> ClientKey:
        """Return the key.

        Raises:
            CredentialFileError: it does not open.
        """
        if isinstance(self._found, Problem):
            raise CredentialFileError.of(self._found)
        return self._found


_one_at_a_time = threading.Lock()
_by_content: WeakValueDictionary[bytes, _Opened] = WeakValueDictionary()
"""What was opened, for as long as some ClientKeyFile holds it."""

_FINGERPRINT_KEY = secrets.token_bytes(32)


def _opened(content: bytes, password: Secret, path: str, timeout_s: float) -> _Opened:
    """Open a content, or return what came of it where another ClientKeyFile has opened the same with the same password.

    By content, not by path: each credential reads its files with its own eyes, so that a file that it may not read, or
    that others may, is refused to it however often another credential has opened it. One is opened at a time: two would
    only take turns at the interpreter's lock, and of a thousand that start at once the first opens it for all.

    Raises:
        SourceUnavailableError: the others took too long.
    """
    fingerprint = _fingerprint(content, password, path)
    found = _by_content.get(fingerprint)
    if found is not None:
        return found
    if not _one_at_a_time.acquire(timeout=timeout_s):
        raise SourceUnavailableError(
            f"{path}: waited {timeout_s:g} s for other ClientKeys to be opened", "it is tried again by itself"
        )
    try:
        found = _by_content.get(fingerprint)
        if found is None:
            found = _by_content[fingerprint] = _Opened(content, password, path)
        return found
    finally:
        _one_at_a_time.release()


def _fingerprint(content: bytes, password: Secret, path: str) -> bytes:
    """Return what stands for these three; neither password nor content can be tried against it outside of this process."""
    state = hashlib.blake2b(key=_FINGERPRINT_KEY)
    for part in (content, password.reveal().encode(), path.encode()):
        state.update(len(part).to_bytes(8, "big") + part)
    return state.digest()


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
    return ClientKey(key_id, _end_of(certificate), key)


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
