"""The same for a custom runtime: Function Compute sends an event as POST /invoke, with the session in the headers.

Start it with `python3 server.py`. It has to listen on every address, and to keep connections alive (Function Compute,
"Principles" of custom runtimes). One invocation at a time: the function's instance concurrency is 1.
"""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, HTTPServer

from index import InvocationFailed, perform

from agent.core.errors import KeyturnError


class Invocations(BaseHTTPRequestHandler):
    """One connection of Function Compute."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer an invocation; `x-fc-status` says whether it went well (Function Compute, "Event handlers")."""
        event = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path != "/invoke":
            self._answer(404, "only /invoke is served")
            return
        try:
            self._answer(200, perform(event, self.headers))
        except (InvocationFailed, KeyturnError) as error:
            self._answer(404, str(error))

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("x-fc-status", str(status))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Log nothing: the platform has the requests, and headers have the session."""


if __name__ == "__main__":
    HTTPServer(("0.0.0.0", int(os.environ.get("FC_CUSTOM_LISTEN_PORT") or 9000)), Invocations).serve_forever()
