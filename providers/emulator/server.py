"""The emulated cloud as a server: HTTPS on loopback in front of all services.

One server for all products: the path and the headers of a request decide which of them it is for.
"""

from __future__ import annotations

from pathlib import Path
from secrets import token_urlsafe

from .admin import PREFIX, Admin
from .cloud import Cloud
from .dedicated import answer_dedicated, is_dedicated
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

    Files in `directory`: `ca.pem` (what clients must trust), `ca-key.pem`, `server.pem`, `admin-token`.

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
        super().__init__(cloud, server_context(directory, certificate), port)
        self.directory = directory
        self.ca_file = directory / "ca.pem"
        self.admin_token = token_urlsafe(24)
        self.services = Services(cloud)
        self.admin = Admin(cloud, self.admin_token)
        write_private(directory / "admin-token", self.admin_token)

    @property
    def credentials_uri(self) -> str:
        """An address that hands out `cloud.uri_credential`."""
        return f"https://{self.endpoint}{CREDENTIALS_PATH}"

    def answer(self, request: Request) -> Reply:
        """Answer by the service that the request means."""
        if request.path.startswith(PREFIX):
            return self.admin.handle(request)
        if request.path == CREDENTIALS_PATH:
            return answer_uri(self.cloud, request)
        return answer_dedicated(self.cloud, request) if is_dedicated(request) else self.services.handle(request)
