"""The credentials-URI JSON, judged by Alibaba's own URI provider over a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from alibabacloud_credentials.provider.uri import URLCredentialsProvider

from agent.core.credential import Credential
from agent.core.errors import SinkError
from tests.support.sinks import bearer, json_file, key, publish, session


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def served(directory: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("value", [key(4), session(4)], ids=["key", "session"])
def test_the_sdk_reads_it_from_a_web_server(tmp_path: Path, value: Credential) -> None:
    """A long-term key and a session both pass through Alibaba's URI provider; a key has no token."""
    publish([json_file(tmp_path / "credentials.json")], value)
    with served(tmp_path) as base:
        read = URLCredentialsProvider(uri=f"{base}/credentials.json").get_credentials()
    assert value.access_key_secret is not None
    assert read.get_access_key_id() == value.access_key_id
    assert read.get_access_key_secret() == value.access_key_secret.reveal()
    assert read.get_security_token() == (value.security_token.reveal() if value.security_token else "")


def test_the_file_is_ours_as_a_whole() -> None:
    """Foreign content is not kept: half of another file would not be JSON."""
    assert b"junk" not in json_file(Path("/x")).render(b"junk", key(), 1)


def test_a_bearer_token_has_no_place_here() -> None:
    """The protocol cannot carry one."""
    with pytest.raises(SinkError, match="/x: the value is of kind bearer"):
        json_file(Path("/x")).render(None, bearer(), 1)
