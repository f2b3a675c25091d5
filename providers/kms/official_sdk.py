"""The official client's classes, imported without the old copies of requests and urllib3 that they bring along.

No other module imports aliyun-secret-manager-client and aliyun-python-sdk-kms. The SDK's core carries its own copies of
requests 2.18 and urllib3 1.24, from 2018, which also load pyOpenSSL. Building a request needs only one class of all that,
the dictionary that ignores case, and gets it from the installed, patched requests: that saves 4 MB resident and 90 ms
(measured with aliyun-python-sdk-core 2.16.1), and code that got no patches for years is not even loaded. The copies stay
importable for other users of the SDK in this process. How the client's sending is replaced: shared_gateway.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from agent.cloud.http_library import requests

_VENDORED = "aliyunsdkcore.vendored.requests"


@contextmanager
def _patched_requests() -> Iterator[None]:
    if _VENDORED in sys.modules:  # somebody loaded the copy already
        yield
        return
    stand_ins = {_VENDORED: requests, f"{_VENDORED}.structures": requests.structures}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


with _patched_requests():
    from alibaba_cloud_secretsmanager_client.auth.client_key_signer import ClientKeySigner
    from alibaba_cloud_secretsmanager_client.service.secret_manager_client import SecretManagerClient
    from aliyunsdkcore.auth.algorithm import sha_hmac256
    from aliyunsdkkms.request.v20160120.GetSecretValueRequest import GetSecretValueRequest

__all__ = ["ClientKeySigner", "GetSecretValueRequest", "SecretManagerClient", "sha_hmac256"]
