"""A stand-in for Function Compute's runtimes: their interface, as documented, and nothing of the platform behind it.

* A built-in runtime (pages "Event handlers", "Context" of Python): the handler is named `FILE.FUNCTION`; it is called with the
  event as bytes and an FCContext; an exception is a failed invocation.
* A custom runtime (pages "Principles", "Event handlers", "Common request headers"): a process that the platform starts, and that
  serves POST /invoke with the event as body and the context in headers, over a connection that stays open.
* The event of a time trigger: page "Formats of event for different triggers". Variables: page "Environment variables".

What is not played: freezing, scaling, retries, NAS.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

FC_PARTS = ("access_key_id", "access_key_secret", "security_token")


class Credentials:
    """As documented."""

    def __init__(self, access_key_id: str, access_key_secret: str, security_token: str) -> None:
        self.access_key_id = access_key_id
        self.access_key_secret = access_key_secret
        self.security_token = security_token


class FunctionMeta:
    """As documented."""

    def __init__(self, name: str, handler: str) -> None:
        self.name, self.handler, self.memory, self.timeout = name, handler, "128", "60"


class FCContext:
    """As documented: `context.to_json` and the tracing part are left out."""

    def __init__(self, credentials: Credentials, name: str, handler: str, account_id: str, region: str) -> None:
        self.request_id = "1-692c0000-15000000-000000000001"
        self.credentials = credentials
        self.function = FunctionMeta(name, handler)
        self.region, self.account_id = region, account_id


def timer_event() -> bytes:
    """What a time trigger sends."""
    event = {"triggerTime": "2026-11-30T15:00:00Z", "triggerName": "every-ten-minutes", "payload": ""}
    return json.dumps(event).encode()


def variables(code: Path, number: int) -> dict[str, str]:
    """The variables of an instance."""
    return {
        "FC_FUNC_CODE_PATH": str(code),
        "FC_ACCOUNT_ID": "1234567890123456",
        "FC_REGION": "cn-hangzhou",
        "FC_FUNCTION_NAME": "rotate",
        "FC_INSTANCE_ID": f"c-{number:08d}",
    }


def invoke_built_in(code: Path, handler: str, session: dict[str, str], event: bytes) -> object:
    """Load the handler anew and call it, as a new instance does; return what it returns.

    In this process, to be fast: tests that want a process for each instance take CustomRuntime.
    """
    name, _dot, function = handler.partition(".")
    spec = importlib.util.spec_from_file_location(name, code / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    known = os.environ
    context = FCContext(
        Credentials(**session), known["FC_FUNCTION_NAME"], handler, known["FC_ACCOUNT_ID"], known["FC_REGION"]
    )
    return getattr(module, function)(event, context)


class CustomRuntime:
    """An instance of a custom runtime, which the platform has started and holds one connection to."""

    def __init__(self, code: Path, number: int, **more: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        root = Path(__file__).parent.parent.parent
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(root),  # keyturn, as a layer of the function
            "FC_CUSTOM_LISTEN_PORT": str(self.port),
            **variables(code, number),
            **more,
        }
        self._process = subprocess.Popen(
            [sys.executable, "server.py"],
            env=environ,
            cwd=code,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def invoke(self, session: dict[str, str], event: bytes) -> tuple[int, str, str]:
        """Send one event; return the status, the `x-fc-status` and the body."""
        headers = {f"x-fc-{part.replace('_', '-')}": value for part, value in session.items()}
        headers |= {
            "content-type": "application/octet-stream",
            "x-fc-request-id": "1-692c",
            "x-fc-region": "cn-hangzhou",
        }
        self._connection.request("POST", "/invoke", event, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.headers["x-fc-status"], answer.read().decode()

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 120  # as the platform: the server is to be ready within 120 s
        while True:
            try:
                self._connection.connect()
                return self
            except ConnectionRefusedError:
                assert time.monotonic() < deadline and self._process.poll() is None, "the server did not start"
                time.sleep(0.05)

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.terminate()
        self.log = self._process.communicate()[0]
