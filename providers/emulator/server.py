"""The emulated cloud as a server: HTTPS on loopback in front of all services.

The `Host` of a request decides which products it may be for (`hosts.py`), its path and headers which of them it is for.
"""

from __future__ import annotations

import re
from pathlib import Path
from secrets import token_urlsafe

from .admin import PREFIX, Admin
from .cloud import Cloud
from .dedicated import answer_dedicated, is_dedicated
from .errors import ApiError
from .hosts import ADDRESSES, EVERYTHING, INSTANCE, products_at
from .listener import Listener
from .pki import CertificateKind, server_context
from .private_files import write_private
from .reception import Reply
from .services import Services
from .signatures import Request
from .uri import PATH as CREDENTIALS_PATH
from .uri import answer_uri

__all__ = ["EmulatorServer"]


class EmulatorServer(Listener):
    """The emulated cloud on `127.0.0.1:PORT`, as a context manager or by `start()` and `stop()`.

    Files in `directory`: `ca.pem` (what clients must trust), `ca-key.pem`, `server.pem`; `admin-token` and
    `admin-header`, which are kept as they stand.

    Attributes:
        drip_interval_s: the pause between two bytes of a dripping answer.
    """

    def __init__(self, cloud: Cloud, directory: Path, *, port: int = 0, certificate: CertificateKind = "good") -> None:
        """Bind the port (0: any free one), so that `endpoint` is known; serve from `start()` on.

        Args:
            cloud: the account that is served.
            directory: the place of the CA and of the admin API's token.
            port: the port to listen on.
            certificate: `good`, or one that a careful client must refuse: `wrong_host`, `unknown_ca` or `expired`.
        """
        super().__init__(cloud, server_context(directory, certificate, cloud.region_id), port, ADDRESSES.values())
        self.directory = directory
        self.ca_file = directory / "ca.pem"
        self.admin_token = _standing(directory / "admin-token") or token_urlsafe(24)
        self.services = Services(cloud)
        self.admin = Admin(cloud, self.admin_token)
        write_private(directory / "admin-token", self.admin_token)
        write_private(directory / "admin-header", f"X-Emulator-Token: {self.admin_token}\n")

    @property
    def credentials_uri(self) -> str:
        """An address that hands out `cloud.uri_credential`."""
        return f"https://{self.endpoint}{CREDENTIALS_PATH}"

    def endpoint_of(self, product: str) -> str:
        """Return the endpoint of `kms`, `sts`, `ram` or `ims`, at which no other product answers."""
        return f"{ADDRESSES[product]}:{self.port}"

    @property
    def endpoints(self) -> dict[str, str]:
        """The endpoint of each product."""
        return {product: self.endpoint_of(product) for product in ADDRESSES}

    def answer(self, request: Request) -> Reply:
        """Answer by the service that the request means."""
        try:
            products = products_at(request.headers.get("host", ""), self.port)
        except ApiError as error:
            return self.services.refuse(error, request)
        if products != EVERYTHING:
            return self._answer_as(products, request)
        if request.path.startswith(PREFIX):
            return self.admin.handle(request)
        if request.path == CREDENTIALS_PATH:
            return answer_uri(self.cloud, request)
        return answer_dedicated(self.cloud, request) if is_dedicated(request) else self.services.handle(request)

    def _answer_as(self, products: frozenset[str], request: Request) -> Reply:
        if INSTANCE in products:
            return answer_dedicated(self.cloud, request)
        return self.services.handle(request, products)


def _standing(path: Path) -> str | None:
    """Return the token that an emulator wrote before, so that who has read it goes on; None where there is none."""
    try:
        text = path.read_text()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return text if re.fullmatch(r"[A-Za-z0-9_-]{32}", text) else None
