"""The program that walks the default chain of `alibabacloud_credentials`, once, in a process of its own.

providers/default_chain.py starts it and says why. The request comes on standard input and the answer goes to standard
output, so that no secret is in an argument or a variable. It exits right after the answer: no cache, no scheduler
thread and no environment that was read at import time outlives one fetch.

Changes to the library (1.0.12), and there are no others:

* `TeaCore.do_action`, through which every link sends, sends by keyturn's Transport: TLS always verified and with
  `cloud.ca_file`, no redirects, a limit in time and bytes, no proxy and no other machine for plain http. `cloud.sts_endpoint`,
  where set, is asked instead of STS's public host.
* Nothing is written: the library writes what an External or OAuth profile gave back into ~/.aliyun/config.json, in the
  clear. OAuth's refresh token changes with each use, so that one is not used: such a profile works while its session
  in the file lives, or its access token does.
* The secrets are taken out of the environment once they were read, before a profile's command inherits it.
* The expiration of every credential that a link makes is recorded, because the chain drops it.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, NoReturn
from urllib.parse import urlencode

from agent.cloud import failures
from agent.cloud.transport import Reply, Transport
from agent.core.errors import BadAnswerError, KeyturnError, SourceUnavailableError
from agent.core.timestamps import rfc3339
from agent.system import core_dumps
from agent.system.clock import Clock

METADATA = "100.100.100.200"
SECRET_VARIABLES = ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN", "ALIBABA_CLOUD_CREDENTIALS_URI")

_STS = re.compile(r"sts(-vpc)?(\.[a-z0-9-]+)?\.aliyuncs\.com")
_PUBLIC_ERRORS = (
    "SourceUnavailableError", "BadAnswerError", "SourceRefusedError", "NotPermittedError", "UntrustedServerError",
    "CredentialFileError",
)  # fmt: skip


class Sender:
    """The replacement for `TeaCore.do_action`. It records failures, in words that hold no secret."""

    def __init__(self, transport: Transport, sts_endpoint: str | None, ends: float) -> None:
        """Keep what every call needs; `ends` is an instant of the monotonic clock."""
        self._transport, self._sts_endpoint, self._ends = transport, sts_endpoint, ends
        self._answered: dict[str, bool] = {}
        self.troubles: list[dict[str, Any]] = []

    def do_action(self, request: Any, runtime_option: Mapping[str, Any] | None = None) -> Any:
        """Send a request of the library and return its kind of response.

        Raises:
            KeyturnError: no reply.
        """
        options, host = runtime_option or {}, self._host(request)
        try:
            reply = self._send(request, host, options)
        except KeyturnError as error:
            self._note(host, error, absent=isinstance(error, SourceUnavailableError))
            raise
        self._answered[host] = reply.status == 200
        if reply.status != 200:
            explained = failures.explain(failures.read(host, reply), Clock().now())
            self._note(host, explained, absent=reply.status == 404)
        return _response(reply)

    def _host(self, request: Any) -> str:
        host = str(request.headers.get("host", "")).rstrip("/")
        if self._sts_endpoint and _STS.fullmatch(host):
            return self._sts_endpoint
        host = f"[{host}]" if ":" in host else host
        return host if request.port in (None, 80) else f"{host}:{request.port}"

    def _send(self, request: Any, host: str, options: Mapping[str, Any]) -> Reply:
        left_s = self._ends - time.monotonic()
        if left_s <= 0:
            raise SourceUnavailableError(f"{host}: there was no time left to ask it", "it is tried again by itself")
        query = {name: str(value) for name, value in (request.query or {}).items() if value is not None}
        url = f"{request.protocol.lower()}://{host}/{(request.pathname or '').removeprefix('/')}"
        body = request.body or b""
        return self._transport.request(
            request.method.upper(),
            f"{url}?{urlencode(query)}" if query else url,
            headers={name: str(value) for name, value in request.headers.items() if name.lower() != "host"},
            body=body.encode() if isinstance(body, str) else body,
            timeout_s=left_s,
            connect_s=int(options.get("connectTimeout") or 5000) / 1000,
            read_s=int(options.get("readTimeout") or 10000) / 1000,
            plain=True,
        )

    def note_unusable(self) -> None:
        """Record, for each host that answered, that its answer held no usable credential."""
        for host, answered in self._answered.items():
            if answered:
                said = f"the answer of {host} holds no usable credential"
                self._note(
                    host, BadAnswerError(said, "look at what answers there; the value in use stays"), absent=False
                )

    def _note(self, host: str, error: KeyturnError, *, absent: bool) -> None:
        """Record a failure. A metadata server that is not there, or has no role, is the normal case outside of ECS."""
        kind = type(error).__name__
        self.troubles.append(
            {
                "kind": kind if kind in _PUBLIC_ERRORS else "SourceRefusedError",
                "problem": error.problem,
                "remedy": error.remedy,
                "code": error.code,
                "absent": absent and host == METADATA,
            }
        )


def _response(reply: Reply) -> Any:
    response = import_module("Tea.response").TeaResponse()
    response.status_code, response.headers, response.body = reply.status, dict(reply.headers), reply.body
    return response


def _refuse(*_: object) -> NoReturn:
    raise SourceUnavailableError("a refresh token is not used up here", "sign in again: aliyun configure --mode OAuth")


def _adapt(sender: Sender, expirations: dict[str, int]) -> None:
    """Make the changes to the library that the module's docstring lists."""
    import_module("Tea.core").TeaCore.do_action = staticmethod(sender.do_action)
    profile = import_module("alibabacloud_credentials.provider.cli_profile").CLIProfileCredentialsProvider
    profile._update_external_credentials = profile._update_oauth_tokens = lambda *_: None
    oauth = import_module("alibabacloud_credentials.provider.oauth").OAuthCredentialsProvider
    oauth._try_refresh_oauth_token = _refuse
    made = import_module("alibabacloud_credentials.provider.refreshable").Credentials
    make = made.__init__

    def noted(self: Any, **parts: Any) -> None:
        if parts.get("expiration"):
            expirations[str(parts.get("access_key_id"))] = int(parts["expiration"])
        make(self, **parts)

    made.__init__ = noted


def walk(told: Mapping[str, Any], transport: Transport) -> dict[str, Any]:
    """Ask the chain once.

    Args:
        told: the request of providers/default_chain.py: `environ`, `sts_endpoint` and `timeout_s`.
        transport: sends every call.

    Returns:
        The answer in the external form and its `link`; or `troubles`, where no link had a credential.
    """
    os.environ.update(told["environ"])
    sender = Sender(transport, told["sts_endpoint"], time.monotonic() + told["timeout_s"])
    expirations: dict[str, int] = {}
    chain = import_module("alibabacloud_credentials.provider.default").DefaultCredentialsProvider
    _adapt(sender, expirations)
    # The library read them at its import; a profile's command must not inherit them.
    for name in SECRET_VARIABLES:
        os.environ.pop(name, None)
    refused = import_module("alibabacloud_credentials.exceptions").CredentialException
    try:
        found = chain().get_credentials()
    except refused:
        sender.note_unusable()
        return {"troubles": sender.troubles}
    expires_at = expirations.get(found.get_access_key_id())
    return {
        "link": found.get_provider_name(),
        "access_key_id": found.get_access_key_id(),
        "access_key_secret": found.get_access_key_secret(),
        "sts_token": found.get_security_token(),
        "expiration": rfc3339(datetime.fromtimestamp(expires_at, UTC)) if expires_at else None,
    }


def main(told: Mapping[str, Any]) -> NoReturn:
    """Answer on standard output, to which nothing else may write, and exit."""
    core_dumps.forbid()
    answers = os.dup(1)
    os.dup2(2, 1)
    try:
        answer = walk(told, Transport(told["ca_file"]))
    except Exception as error:  # its text may hold anything that the library read
        answer = {"broken": type(error).__name__}
    with os.fdopen(answers, "w") as out:
        json.dump(answer, out)
    os._exit(0)  # the library's scheduler and thread pool are not waited for
