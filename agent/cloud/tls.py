"""The trust store: one TLS context per set of CA files, shared by every call of the process.

The context is built here and nowhere else, so that no environment variable of a library can weaken it:
`requests` would take its roots from the certifi package, or from REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE.
`ssl.create_default_context` is not used either, because it writes the session keys to $SSLKEYLOGFILE.
A context with the system's store costs about 1 MB, hence the sharing (measured with OpenSSL 3.0, 140 roots).
"""

from __future__ import annotations

import re
import ssl
import threading

from agent.core.errors import CredentialFileError, NotPermittedError
from agent.system.file_identity import FileIdentity
from agent.system.files import read_trusted

LIMIT_BYTES = 4 * 1024 * 1024
"""The largest CA file. The bundle of a distribution has about 0.25 MB."""
_CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----.*?-----END (?:X509 )?CERTIFICATE-----", re.S)


class _Trust:
    """The context of one set of CA files, and the state of the files that it was made from.

    Each set has a lock of its own: who names a file that hangs (a dead NFS server) holds up nobody but those who name it too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: tuple[tuple[FileIdentity | None, ...], ssl.SSLContext] | None = None

    def context(self, ca_files: tuple[str, ...], stamps: tuple[FileIdentity | None, ...]) -> ssl.SSLContext:
        """Return the context, made anew where the files changed: 20 ms, which the first of many pays for all."""
        with self._lock:
            if self._made is None or self._made[0] != stamps:
                self._made = (stamps, _build(ca_files))
            return self._made[1]


_by_files: dict[tuple[str, ...], _Trust] = {}


def context_for(ca_files: tuple[str, ...]) -> ssl.SSLContext:
    """Return the context that trusts the system's store and the authorities in `ca_files`.

    A file that changed, the system's bundle included, is read again.

    Raises:
        CredentialFileError: a CA file is missing, holds no certificate, or can be written by somebody besides root
            and the agent's user, who could have any server trusted; the text names it.
        NotPermittedError: a CA file may not be read.
    """
    stamps = tuple(FileIdentity.at(path) for path in (*ca_files, ssl.get_default_verify_paths().cafile or ""))
    return _by_files.setdefault(ca_files, _Trust()).context(ca_files, stamps)


def _build(ca_files: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the chain and the host name from the start
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs()
    for path in ca_files:
        _add(context, path)
    return context


def _add(context: ssl.SSLContext, path: str) -> None:
    remedy = "name a PEM file with the certificate of the authority in `ca_file`"
    try:
        # What was judged is what is trusted: the content of one descriptor, not the file that has the name a moment later.
        found = _CERTIFICATE.findall(read_trusted(path, LIMIT_BYTES))
        context.load_verify_locations(cadata=b"\n".join(found).decode("ascii", "replace"))
    except (ssl.SSLError, ValueError):  # ValueError: of an empty text
        raise CredentialFileError(f"{path}: holds no PEM certificate", remedy) from None
    except PermissionError:
        raise NotPermittedError(f"{path}: may not be read", f"let keyturn's user read it: chmod a+r {path}") from None
    except OSError as error:
        raise CredentialFileError(f"{path}: {(error.strerror or 'cannot be read').lower()}", remedy) from None
