"""The metadata service of the emulated instance: plain HTTP, with the credentials URI as its neighbour.

The real one is `http://100.100.100.200`. Paths, headers and fields: ECS documentation on instance metadata, and what
alibabacloud-credentials 1.0.12 asks for and reads (`provider/ecs_ram_role.py`). Refusals are pages for people, as there.
"""

from __future__ import annotations

import json

from .cloud import Cloud
from .errors import ApiError
from .hosts import METADATA_HOST, PLAIN_ADDRESS
from .listener import Listener
from .model import iso
from .reception import Reply, receive
from .signatures import Request
from .uri import PATH as CREDENTIALS_PATH
from .uri import answer_uri

__all__ = ["MetadataServer"]

TOKEN_PATH = "/latest/api/token"
ROLE_PATH = "/latest/meta-data/ram/security-credentials/"
TOKEN_HEADER = "x-aliyun-ecs-metadata-token"
TTL_HEADER = "x-aliyun-ecs-metadata-token-ttl-seconds"


class MetadataServer(Listener):
    """The metadata service on `http://127.0.0.1:PORT`, as a context manager or by `start()` and `stop()`.

    Faults are ordered for `MetadataToken`, `MetadataRoleName`, `MetadataCredentials` and `CredentialsUri`.

    Attributes:
        drip_interval_s: the pause between two bytes of a dripping answer.
    """

    def __init__(self, cloud: Cloud, *, port: int = 0) -> None:
        """Bind the port (0: any free one), so that `url` is known; serve from `start()` on."""
        super().__init__(cloud, None, port)

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://{self.endpoint}"

    @property
    def credentials_uri(self) -> str:
        """An address that hands out `cloud.uri_credential`."""
        return self.url + CREDENTIALS_PATH

    def answer(self, request: Request) -> Reply:
        """Answer a request for metadata or for the credentials URI, under the names that an instance knows."""
        host, _, port = request.headers.get("host", "").lower().partition(":")
        # alibabacloud-credentials 1.0.12 leaves the port of a credentials URI out.
        if host not in (PLAIN_ADDRESS, "localhost", METADATA_HOST) or port not in ("", str(self.port)):
            return receive(self.cloud, _action(request.path), "", _refuse_host, _page)
        if request.path == CREDENTIALS_PATH:
            return answer_uri(self.cloud, request)
        return receive(self.cloud, _action(request.path), "", lambda: self._metadata(request), _page)

    def _metadata(self, request: Request) -> Reply:
        action = _action(request.path)
        if action == "Metadata":
            raise _not_found()
        if request.method != ("PUT" if action == "MetadataToken" else "GET"):
            raise ApiError(405, "MethodNotAllowed", "Method Not Allowed")
        if action == "MetadataToken":
            return _text(self.cloud.new_metadata_token(request.headers.get(TTL_HEADER, "")))
        self.cloud.check_metadata_token(request.headers.get(TOKEN_HEADER, ""))
        role = self.cloud.instance_role
        if role is None:
            raise _not_found()
        return _text(role.name) if action == "MetadataRoleName" else self._credentials(request, role.name)

    def _credentials(self, request: Request, role_name: str) -> Reply:
        if request.path.removeprefix(ROLE_PATH) != role_name:
            raise _not_found()
        session = self.cloud.instance_session()
        body = {
            "AccessKeyId": session.access_key_id,
            "AccessKeySecret": session.access_key_secret,
            "Expiration": iso(session.expires_at),
            "SecurityToken": session.security_token,
            "LastUpdated": iso(session.issued_at),
            "Code": "Success",
        }
        return Reply(200, json.dumps(body, indent=2).encode())


def _action(path: str) -> str:
    """Return the name under which faults for this path are ordered."""
    if path == TOKEN_PATH:
        return "MetadataToken"
    if path + "/" == ROLE_PATH or path == ROLE_PATH:
        return "MetadataRoleName"
    return "MetadataCredentials" if path.startswith(ROLE_PATH) else "Metadata"


def _refuse_host() -> Reply:
    raise ApiError(400, "InvalidHost", "The Host of this request is not served here.")


def _not_found() -> ApiError:
    return ApiError(404, "NotFound", "Not Found")


def _text(text: str) -> Reply:
    return Reply(200, text.encode(), {"Content-Type": "text/plain"})


def _page(error: ApiError) -> Reply:
    body = f"<html><head><title>{error.status} - {error.code}</title></head><body>{error.message}</body></html>"
    return Reply(error.status, body.encode(), {"Content-Type": "text/html"})
