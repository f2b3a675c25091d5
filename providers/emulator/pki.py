"""Certificates and key files: the emulator's CA, its server certificate, and ClientKeys as the console hands them out.

The CA and the certificate are P-256, which every SDK here accepts and which takes no time to make. A ClientKey is
RSA-2048 in a PKCS#12, base64 inside a JSON object with `KeyId` and `PrivateKeyData` (KMS doc on ClientKeys; the
official secrets-manager client 0.1.5 reads exactly these two fields).
"""

from __future__ import annotations

import base64
import json
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .hosts import ADDRESSES, PLAIN_ADDRESS, certificate_names
from .model import ClientKey
from .private_files import make_passable_directory, write_private, write_public

__all__ = ["CertificateKind", "client_key_file", "read_client_key_file", "server_context"]

_DAY = timedelta(days=1)

CertificateKind = Literal["good", "wrong_host", "unknown_ca", "expired"]
"""`wrong_host` names another host, `unknown_ca` is signed by a CA that is in no file, `expired` ended yesterday."""


def server_context(directory: Path, kind: CertificateKind = "good", region_id: str = "cn-hangzhou") -> ssl.SSLContext:
    """Return the TLS settings of a server whose certificate is signed by `directory/ca.pem`.

    The CA is made on first use and kept, so that a client that trusts it goes on trusting a restarted emulator. The
    server's own certificate (`hosts.py` has its names) is made again each time. With another `kind` than `good`, it is
    wrong in that one respect.
    """
    make_passable_directory(directory)
    ca_key, ca_certificate = _authority(directory)
    if kind == "unknown_ca":
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca_certificate = _ca_certificate(ca_key)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _server_certificate(key, ca_key, ca_certificate, kind, region_id)
    chain = directory / "server.pem"
    write_private(chain, _pem(key) + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(chain)
    return context


def _authority(directory: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_path, certificate_path = directory / "ca-key.pem", directory / "ca.pem"
    if key_path.exists() and certificate_path.exists():
        key = load_pem_private_key(key_path.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        matches = isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key() == certificate.public_key()
        if matches and datetime.now(UTC) + _DAY < certificate.not_valid_after_utc:
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            return key, certificate
    made = ec.generate_private_key(ec.SECP256R1())
    certificate = _ca_certificate(made)
    write_private(key_path, _pem(made))
    write_public(certificate_path, certificate.public_bytes(Encoding.PEM))
    return made, certificate


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: str, issuer: x509.Name, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * _DAY)
        .not_valid_after(now + days * _DAY)
    )


def _ca_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = "keyturn emulator CA"
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _builder(name, _name(name), 3650)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _server_certificate(
    key: ec.EllipticCurvePrivateKey,
    ca_key: ec.EllipticCurvePrivateKey,
    ca_certificate: x509.Certificate,
    kind: CertificateKind,
    region_id: str,
) -> x509.Certificate:
    """Make the server's certificate, with an authority key identifier, which Python 3.13 insists on."""
    names: list[x509.GeneralName] = [x509.DNSName("elsewhere.invalid")]
    if kind != "wrong_host":
        addresses = (PLAIN_ADDRESS, "::1", *ADDRESSES.values())
        names = [
            *(x509.IPAddress(ip_address(text)) for text in addresses),
            *map(x509.DNSName, certificate_names(region_id)),
        ]
    return (
        _builder("keyturn emulator", ca_certificate.subject, -1 if kind == "expired" else 365)
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def client_key_file(key: ClientKey, password: str, days: int = 1825) -> str:
    """Return the content of `clientKey.json` for `key`, whose private half must be known; its certificate ends in so many days."""
    if key.private_key is None:
        raise ValueError(f"the private key of {key.key_id} is not known")
    subject = _name(key.key_id)
    builder = _builder(key.key_id, subject, days).public_key(key.public_key)
    certificate = builder.sign(key.private_key, hashes.SHA256())
    encryption = BestAvailableEncryption(password.encode())
    der = pkcs12.serialize_key_and_certificates(b"clientkey", key.private_key, certificate, None, encryption)
    return json.dumps({"KeyId": key.key_id, "PrivateKeyData": base64.b64encode(der).decode()})


def read_client_key_file(text: str, password: str) -> tuple[str, rsa.RSAPrivateKey]:
    """Return the key id and the private key of a file that `client_key_file` made.

    Raises:
        ValueError: for another format or another password.
    """
    try:
        fields = json.loads(text)
        der = base64.b64decode(fields["PrivateKeyData"])
        key, _, _ = pkcs12.load_key_and_certificates(der, password.encode())
        key_id = fields["KeyId"]
    except (KeyError, TypeError) as err:
        raise ValueError("not a ClientKey file") from err
    if not isinstance(key, rsa.RSAPrivateKey) or not isinstance(key_id, str):
        raise ValueError("not a ClientKey file")
    return key_id, key
