"""The credentials URI: an address that hands out a key or a session to whoever asks.

The fields are those that alibabacloud-credentials 1.0.12 insists on (`provider/uri.py`): all five must be there, and
an AccessKey has an empty SecurityToken.
"""

from __future__ import annotations

import json

from .cloud import Cloud
from .errors import ApiError
from .model import Session, iso
from .reception import Reply, receive
from .signatures import Request

__all__ = ["ACTION", "PATH", "answer_uri"]

PATH = "/credentials"
ACTION = "CredentialsUri"


def answer_uri(cloud: Cloud, request: Request) -> Reply:
    """Answer one request; a query string is allowed, and kept in `cloud.uri_queries`."""
    cloud.uri_queries.append(request.query)
    return receive(cloud, ACTION, "", lambda: _hand_out(cloud, request), _refuse)


def _hand_out(cloud: Cloud, request: Request) -> Reply:
    if request.method != "GET":
        raise ApiError(405, "MethodNotAllowed", "Only GET is answered here.")
    found, expires_at = cloud.uri_answer()
    body = {
        "Code": "Success",
        "AccessKeyId": found.access_key_id,
        "AccessKeySecret": found.access_key_secret,
        "SecurityToken": found.security_token if isinstance(found, Session) else "",
        "Expiration": iso(expires_at),
    }
    return Reply(200, json.dumps(body).encode())


def _refuse(error: ApiError) -> Reply:
    return Reply(error.status, json.dumps({"Code": error.code, "Message": error.message}).encode())
